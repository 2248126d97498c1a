# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.

"""Volumes and their snapshots."""

from __future__ import annotations

import typing

from nova import context as nova_context
from nova import exception as nova_exception
from nova import objects
from nova.volume import cinder

from nova_rescue_ext import claims
from nova_rescue_ext.i18n import _

# By default, Cinder shows it to administrators and to the owner.
_OWNER = 'os-vol-tenant-attr:tenant_id'


def read(context: nova_context.RequestContext, instance: objects.Instance,
         volume_api: cinder.API, volume_id: object) -> dict[str, typing.Any]:
    """Read a volume that belongs to the project of a server.

    It may have been transferred to another project since the server was
    created. Volumes are never public.

    :param context: the RequestContext to ask with
    :param instance: the Instance
    :param volume_api: Nova's client of Cinder
    :param volume_id: what should be the id of a volume
    :returns: the volume
    :raises: ClaimRefused; VolumeNotFound
    """
    if not claims.is_id(volume_id):
        raise nova_exception.VolumeNotFound(volume_id=volume_id)
    volume = volume_api.get(context, volume_id)
    owner = getattr(cinder.cinderclient(context).volumes.get(volume_id),
                    _OWNER, None)
    _check_owner(context, instance, owner, 'volume', _('volume'), volume_id)
    return volume


def read_snapshot(
        context: nova_context.RequestContext, instance: objects.Instance,
        volume_api: cinder.API,
        snapshot_id: object) -> dict[str, typing.Any]:
    """The same for a snapshot of a volume.

    :raises: ClaimRefused; SnapshotNotFound
    """
    if not claims.is_id(snapshot_id):
        raise nova_exception.SnapshotNotFound(snapshot_id=snapshot_id)
    snapshot = volume_api.get_snapshot(context, snapshot_id)
    _check_owner(context, instance, snapshot.get('project_id'), 'snapshot',
                 _('snapshot'), snapshot_id)
    return snapshot


def _check_owner(context: nova_context.RequestContext,
                 instance: objects.Instance, owner: str | None, what: str,
                 words: str, claimed_id: object) -> None:
    """Refuse what belongs to another project, or may do so."""
    if owner is None and claims.has_only_rights_of(context, instance):
        return  # Cinder shows such a caller only volumes of the project
    if owner != instance.project_id:
        claims.log_refusal(instance, what, claimed_id)
        raise claims.refusal(context, instance, words, claimed_id)

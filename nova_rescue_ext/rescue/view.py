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

"""What nova-api shows of the rescue of a server.

From compute-rescue 1.4. Nova's schema of the answer has been checked by then.
"""

from __future__ import annotations

import datetime
import typing

from nova import context as nova_context
from nova import objects
from oslo_log import log as logging
from oslo_utils import timeutils

from nova_rescue_ext import instance_metadata
from nova_rescue_ext import microversion

LOG = logging.getLogger(__name__)

_View = dict[str, typing.Any]

# novaclient makes an attribute of each, so not the name of a method there.
_NAME = 'rescue_session'


def add_rescues(request: typing.Any, answer: typing.Any) -> None:
    """Add ``rescue_session`` to each server in an answer of nova-api.

    Only for a caller who names the version: a client that does not know the
    package may refuse the field. It is null for a server that is not in
    rescue. A server of which Nova
    itself shows no state, or whose cell does not answer, gets none.

    :param request: a wsgi.Request of Nova
    :param answer: what Nova's controller returned for it
    """
    # Nova's own tests dispatch with no request.
    context = request.environ.get('nova.context') if request else None
    if not microversion.is_named(context, microversion.RESCUE_SESSION):
        return
    body = getattr(answer, 'obj', answer)
    servers = [server for server in _servers(body) if 'status' in server]
    rescued = [server['id'] for server in servers
               if server['status'] == 'RESCUE']
    views = _views(rescued) if rescued else {}
    for server in servers:
        if server['id'] in views:
            server[_NAME] = views[server['id']]
        elif server['id'] not in rescued and server['status'] != 'UNKNOWN':
            server[_NAME] = None


def _servers(body: typing.Any) -> list[_View]:
    if not isinstance(body, dict):
        return []
    found = [body.get('server'), *(body.get('servers') or ())]
    return [server for server in found if isinstance(server, dict)]


def _views(uuids: list[str]) -> dict[str, _View | None]:
    """Views of servers that the caller sees to be in rescue.

    :returns: by UUID, without those that cannot be read
    """
    context = nova_context.get_admin_context()
    cells: dict[str, tuple[objects.CellMapping, list[str]]] = {}
    for mapping in objects.InstanceMappingList.get_by_instance_uuids(
            context, uuids):
        if mapping.cell_mapping:
            cells.setdefault(mapping.cell_mapping.uuid, (
                mapping.cell_mapping, []))[1].append(mapping.instance_uuid)
    views: dict[str, _View | None] = {}
    for cell, found in cells.values():
        try:
            with nova_context.target_cell(context, cell) as cell_context:
                views.update(_views_in_cell(cell_context, found))
        except Exception as exc:
            LOG.warning('The rescues of servers in cell %(cell)s are not '
                        'shown, as it does not answer: %(exc)s',
                        {'cell': cell.identity, 'exc': exc})
    return views


def _views_in_cell(context: nova_context.RequestContext,
                   uuids: list[str]) -> dict[str, _View | None]:
    instances = objects.InstanceList.get_by_filters(
        context, {'uuid': uuids, 'deleted': False},
        expected_attrs=['system_metadata'])
    bdms = objects.BlockDeviceMappingList.bdms_by_instance_uuid(
        context, [instance.uuid for instance in instances])
    return {instance.uuid: _view(instance, bdms.get(instance.uuid, ()))
            for instance in instances}


def _view(instance: objects.Instance,
          bdms: typing.Iterable[objects.BlockDeviceMapping]) -> _View | None:
    if not instance_metadata.is_in_rescue(instance):
        return None  # it was unrescued since
    record = instance_metadata.rescue_of(instance)
    access = instance_metadata.access_to_rescue(instance)
    return {
        'since': _text(instance.launched_at),
        'until': _text(instance_metadata.end_of_rescue(instance)),
        'image_id': record.image_id if record else None,
        'layout': record.mode if record else None,
        'key_name': access.key_name if record and access else None,
        'ready_line': instance_metadata.readiness_of(instance),
        'disks': _disks(record, bdms),
    }


def _text(moment: datetime.datetime | None) -> str | None:
    if moment is None:
        return None
    return '%sZ' % timeutils.normalize_time(moment).isoformat(
        timespec='seconds')


def _disks(record: instance_metadata.RescueRecord | None,
           bdms: typing.Iterable[objects.BlockDeviceMapping]) -> list[_View]:
    """The server's own disks that its rescue system has, by serial number.

    Without stable devices it has the root disk only.
    """
    if record is None:
        return []
    disks = []
    for bdm in bdms:
        if not bdm.is_volume and not record.serials:
            continue
        role = _role(bdm)
        if role == 'root' or record.mode == instance_metadata.STABLE:
            disks.append({
                'role': role,
                'serial': bdm.volume_id if bdm.is_volume else bdm.uuid})
    return disks


def _role(bdm: objects.BlockDeviceMapping) -> str:
    if bdm.boot_index == 0:
        return 'root'
    if bdm.is_volume:
        return 'volume'
    return 'swap' if bdm.guest_format == 'swap' else 'ephemeral'

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

"""What would belong to the caller instead of the project of the server.

Nova creates volumes and secrets with the token of the caller, and looks up key
pairs among those of the caller (hazard: rights-of-the-caller).
"""

from __future__ import annotations

import copy
import typing

from nova import context as nova_context
from nova import objects
from nova.virt import hardware

from nova_rescue_ext import claims
from nova_rescue_ext import exception


def in_project(context: nova_context.RequestContext,
               instance: objects.Instance) -> nova_context.RequestContext:
    """Make a context with the caller's rights in the project of the server.

    For what Nova counts or looks up by the project of the context.

    :param context: the RequestContext of the caller
    :param instance: the Instance
    """
    if not claims.is_foreign(context, instance):
        return context
    context = copy.copy(context)
    context.project_id = instance.project_id
    return context


def check_volumes(context: nova_context.RequestContext,
                  instance: objects.Instance,
                  bdms: typing.Iterable[objects.BlockDeviceMapping]) -> None:
    """Refuse volumes that would belong to the caller's project.

    :param bdms: the block devices that the server is built with
    :raises: VolumeWouldBeYours
    """
    if (claims.is_foreign(context, instance)
            and any(makes_volume(bdm) for bdm in bdms)):
        raise exception.VolumeWouldBeYours(project=instance.project_id)


def makes_volume(bdm: objects.BlockDeviceMapping) -> bool:
    """Whether Nova makes a volume of this when it builds the server."""
    return bool(bdm.destination_type == 'volume' and not bdm.volume_id
                and not bdm.no_device)


def check_key_pair(context: nova_context.RequestContext,
                   instance: objects.Instance,
                   name: typing.Optional[str]) -> None:
    """Refuse a key pair that would be another user's.

    :param name: the key pair that the request names, or None
    :raises: KeyPairWouldBeYours
    """
    if claims.is_foreign(context, instance) and name:
        raise exception.KeyPairWouldBeYours(name=name)


def check_secrets(context: nova_context.RequestContext,
                  instance: objects.Instance, image_meta: objects.ImageMeta,
                  bdms: typing.Iterable[objects.BlockDeviceMapping]) -> None:
    """Refuse secrets that the server's owner could not read.

    The key manager gives them to whoever makes them.

    :param image_meta: the ImageMeta to build with
    :param bdms: the block devices that the server is built with
    :raises: SecretWouldBeYours
    """
    if claims.is_foreign(context, instance) and (
            _makes_tpm_secret(instance, image_meta)
            or any(_makes_secret(bdm) for bdm in bdms)):
        raise exception.SecretWouldBeYours(project=instance.project_id)


def _makes_tpm_secret(instance: objects.Instance,
                      image_meta: objects.ImageMeta) -> bool:
    if not hardware.get_vtpm_constraint(instance.flavor, image_meta):
        return False
    # Nova itself makes and reads one of security "deployment" (Nova 33).
    return (instance.flavor.extra_specs.get('hw:tpm_secret_security')
            != 'deployment'
            and not instance.system_metadata.get('vtpm_secret_uuid'))


def _makes_secret(bdm: objects.BlockDeviceMapping) -> bool:
    return bool(bdm.obj_attr_is_set('encrypted') and bdm.encrypted
                and not bdm.encryption_secret_uuid)

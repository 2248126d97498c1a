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


"""New objects out of those of a server that never booted.

Nova's builder takes objects that were never saved, with every field changed.
"""

from __future__ import annotations

import typing

from nova.compute import power_state
from nova.compute import task_states
from nova.compute import vm_states
from nova import context as nova_context
from nova.network import model as network_model
from nova import objects

# What is read with an instance to clone it, beside its metadata.
ATTRIBUTES = ['flavor', 'numa_topology', 'pci_requests', 'keypairs',
              'trusted_certs', 'vcpu_model', 'tags']

# Not of the request, but of the row or of the attempt that failed. With an id,
# pci_devices, services or tags Nova's create() fails.
_OF_THE_ATTEMPT = {
    'id', 'created_at', 'updated_at', 'deleted', 'deleted_at',
    'host', 'node', 'compute_id', 'launched_at', 'launched_on',
    'terminated_at', 'pci_devices', 'services', 'tags', 'fault', 'ec2_ids',
    'migration_context', 'info_cache', 'security_groups', 'device_metadata',
    'resources', 'cleaned'}
_SYSTEM_METADATA_OF_THE_ATTEMPT = {'network_allocated', 'boot_roles',
                                   'clean_attempts'}

_OF_THE_ROW = {'id', 'uuid', 'created_at', 'updated_at', 'deleted',
               'deleted_at', 'instance'}


def instance(context: nova_context.RequestContext, old: objects.Instance,
             availability_zone: str | None) -> objects.Instance:
    """A new Instance that is what its owner asked for.

    :param old: the Instance, with ATTRIBUTES and its metadata loaded
    :param availability_zone: the zone of the RequestSpec: a failed attempt
        has left that of its host in the instance
    """
    new = objects.Instance(context)
    for field in old.fields:
        if field not in _OF_THE_ATTEMPT and old.obj_attr_is_set(field):
            setattr(new, field, getattr(old, field))
    new.system_metadata = {
        key: value for key, value in old.system_metadata.items()
        if key not in _SYSTEM_METADATA_OF_THE_ATTEMPT}
    new.info_cache = objects.InstanceInfoCache(
        instance_uuid=old.uuid, network_info=network_model.NetworkInfo())
    new.security_groups = objects.SecurityGroupList()
    new.availability_zone = availability_zone
    new.vm_state = vm_states.BUILDING
    new.task_state = task_states.SCHEDULING
    new.power_state = power_state.NOSTATE
    new.progress = 0
    return new


def block_device_mappings(
        context: nova_context.RequestContext,
        bdms: typing.Iterable[objects.BlockDeviceMapping]
) -> objects.BlockDeviceMappingList:
    """New BlockDeviceMappings.

    With an id, a DELETE while the server is built would lose half of it, and
    without changed fields the conductor would fail midway.
    """
    return objects.BlockDeviceMappingList(
        context, objects=[_bdm(context, bdm) for bdm in bdms])


def _bdm(context: nova_context.RequestContext,
         old: objects.BlockDeviceMapping) -> objects.BlockDeviceMapping:
    new = objects.BlockDeviceMapping(context)
    for field in old.fields:
        if field not in _OF_THE_ROW and old.obj_attr_is_set(field):
            setattr(new, field, getattr(old, field))
    new.connection_info = None
    return new


def tags(context: nova_context.RequestContext,
         old: objects.Instance) -> objects.TagList:
    """New Tags of a server.

    :param old: the Instance
    """
    return objects.TagList(context, objects=[
        objects.Tag(context, tag=tag.tag, resource_id=old.uuid)
        for tag in old.tags])

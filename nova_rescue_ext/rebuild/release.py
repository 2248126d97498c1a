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


"""Servers that never booted but are still assigned to a host.

nova-compute was killed during a build, or could not clean up after it, so the
host may have a guest of the server. nova-compute looks for such guests, and
records with the server that there is none. Then, or if the host is gone for
good, an operator takes the server off the host.
"""

from nova.compute import vm_states
from nova.conductor import manager
from nova import context as nova_context
from nova import exception as nova_exception
from nova import objects

from nova_rescue_ext import capabilities
from nova_rescue_ext import exception
from nova_rescue_ext import instance_metadata
from nova_rescue_ext import placement
from nova_rescue_ext import rebuild


def release(context: nova_context.RequestContext, uuid: str,
            host_is_gone: bool, no_guest: bool = False) -> str:
    """Take a never-booted server off its host.

    :param context: an admin RequestContext
    :param uuid: of the server
    :param host_is_gone: whether the caller says that the host runs nothing
        and never will
    :param no_guest: whether the caller says that the host has no guest of the
        server; only for a host whose nova-compute does not look by itself
    :returns: the name of the host
    :raises: CannotRelease; InstanceMappingNotFound, InstanceNotFound; another
        exception of Nova if the server is changed meanwhile
    """
    task_manager = manager.ComputeTaskManager()
    mapping = objects.InstanceMapping.get_by_instance_uuid(context, uuid)
    if mapping.cell_mapping is None:
        raise exception.CannotRelease(reason='It is being built.')
    with nova_context.target_cell(context, mapping.cell_mapping) as cctxt:
        instance = objects.Instance.get_by_uuid(
            cctxt, uuid, expected_attrs=['system_metadata'])
        host = _host_of(instance)
        _check_host(instance, host, _is_up(task_manager, cctxt, host),
                    host_is_gone, no_guest and not _looks(cctxt, host))
        # First: without a host the command could not be repeated.
        if mapping.queued_for_delete:
            # By a DELETE that failed. A rebuild would look for no server.
            mapping.queued_for_delete = False
            mapping.save()
        placement.delete_allocation(task_manager.report_client, context,
                                    uuid, force=True)
        instance_metadata.forget_left_guest(instance)
        instance_metadata.record_no_guest(instance, host)
        # What it has allocated is released by the next rebuild.
        instance.system_metadata['network_allocated'] = 'False'
        instance.host = instance.node = None
        if 'compute_id' in instance.fields:
            instance.compute_id = None
        instance.save(expected_vm_state=[vm_states.ERROR],
                      expected_task_state=[None])
    return host


def _host_of(instance: objects.Instance) -> str:
    """The host that may have a guest of the server.

    :raises: CannotRelease
    """
    if not rebuild.never_booted(instance) or instance.task_state is not None:
        raise exception.CannotRelease(
            reason='It has booted, or is not in ERROR and at rest.')
    host = instance.host or instance_metadata.host_with_left_guest(instance)
    if host is None:
        raise exception.CannotRelease(
            reason='No host has it: it can be rebuilt.')
    return host


def _is_up(task_manager: manager.ComputeTaskManager,
           context: nova_context.RequestContext, host: str) -> bool:
    """Whether nova-compute runs on a host."""
    try:
        return task_manager.servicegroup_api.service_is_up(
            objects.Service.get_by_compute_host(context, host))
    except nova_exception.ComputeHostNotFound:
        return False


def _looks(context: nova_context.RequestContext, host: str) -> bool:
    """Whether the nova-compute of a host looks for guests by itself."""
    return any(capabilities.keeps_volumes(node)
               for node in objects.ComputeNodeList.get_all(context)
               if node.host == host)


def _check_host(instance: objects.Instance, host: str, is_up: bool,
                host_is_gone: bool, no_guest: bool) -> None:
    """Check that the host has no guest, or that the operator says so."""
    if no_guest:
        return
    if host_is_gone:
        if is_up:
            raise exception.CannotRelease(
                reason='nova-compute runs on host %s.' % host)
        return
    if not is_up:
        raise exception.CannotRelease(
            reason='nova-compute does not run on host %s. Start it; or, if '
                   'the host is gone for good or its guests are destroyed, '
                   'use --host-is-gone.' % host)
    if not instance_metadata.has_no_guest_on(instance, host):
        raise exception.CannotRelease(
            reason='Host %s has a guest of it, or has not looked yet, which '
                   'it does when nova-compute starts, and every ten minutes. '
                   'Check "virsh list --all" there, remove the guest, and '
                   'restart nova-compute. If nova-rescue-ext is not active '
                   'there, use --no-guest.' % host)

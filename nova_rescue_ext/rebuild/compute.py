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


"""Builds in nova-compute: what a failed one keeps, and what it may leave.

A failed rebuild must keep the volumes that existed before it. If its clean-up
fails it may leave its guest: Nova forgets the host, and a rebuild would start
a second guest on the same volumes and ports. That is recorded with the server
until the host has no such guest.
"""

from __future__ import annotations

import typing
import weakref

from nova.compute import build_results
from nova.compute import task_states
from nova.compute import vm_states
from nova import context as nova_context
from nova import exception
from nova import objects
from nova.objects import fields
from oslo_concurrency import lockutils
from oslo_log import log as logging
from oslo_utils import excutils
from oslo_utils import timeutils

from nova_rescue_ext import capabilities
from nova_rescue_ext import instance_metadata
from nova_rescue_ext import nova_types
from nova_rescue_ext.rebuild import notifications

if typing.TYPE_CHECKING:
    from nova.compute import manager as compute_manager
    from nova.compute import resource_tracker
    from nova.virt import driver as virt_driver

LOG = logging.getLogger(__name__)

# Seconds between two searches for guests of failed builds.
INTERVAL = 600
INTERVAL_AFTER_FAILURE = 60

# Seconds. In less nobody takes a host for dead, and has a server rebuilt.
_LONG = 60

_OF_A_BUILD = [None, task_states.SCHEDULING, task_states.NETWORKING,
               task_states.BLOCK_DEVICE_MAPPING, task_states.SPAWNING]

# ComputeManager -> StopWatch since it has looked. There is one in a process.
_last_look: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def cleanup_volumes(original: nova_types.Original,
                    self: compute_manager.ComputeManager,
                    context: nova_context.RequestContext,
                    instance: objects.Instance,
                    bdms: objects.BlockDeviceMappingList,
                    raise_exc: bool = True, detach: bool = True) -> None:
    """Clean up after an aborted build, or after a server that is deleted.

    Nova deletes volumes with delete_on_termination in both cases, which only
    the second terminates.
    """
    if detach:
        bdms = [_without_deletion(bdm)
                if instance_metadata.existed_before_rebuild(
                    instance, bdm.volume_id) else bdm for bdm in bdms]
    return original(context, instance, bdms, raise_exc=raise_exc,
                    detach=detach)


def _without_deletion(
        bdm: objects.BlockDeviceMapping) -> objects.BlockDeviceMapping:
    """A copy of a BlockDeviceMapping, not to be saved."""
    copy = bdm.obj_clone()
    copy.delete_on_termination = False
    copy.obj_reset_changes(['delete_on_termination'])
    return copy


def do_build_and_run_instance(
        original: nova_types.Original, self: compute_manager.ComputeManager,
        context: nova_context.RequestContext, instance: objects.Instance,
        image: dict[str, typing.Any], request_spec: objects.RequestSpec,
        filter_properties: dict[str, typing.Any], admin_password: str,
        injected_files: list[typing.Any],
        requested_networks: objects.NetworkRequestList | None,
        security_groups: objects.SecurityGroupList,
        block_device_mapping: objects.BlockDeviceMappingList,
        *args: typing.Any, **kwargs: typing.Any) -> str:
    """Build a server, and notify of the result if that was a rebuild."""
    if ((instance_metadata.is_rebuilt(instance) or _has_waited(instance))
            and _is_late(context, instance, self.host)):
        LOG.warning('A doubled or late message to build this server is '
                    'dropped, as the build was given up, or the server was '
                    'built or rebuilt since. Nothing needs to be done.',
                    instance=instance)
        # With this Nova leaves the allocation alone, which may be another's.
        return build_results.RESCHEDULED_BY_POLICY
    try:
        result = original(context, instance, image, request_spec,
                          filter_properties, admin_password, injected_files,
                          requested_networks, security_groups,
                          block_device_mapping, *args, **kwargs)
    except Exception:
        if _was_rebuilt(instance):
            # Nova would take the allocation away from a server that runs.
            LOG.exception('The server was rebuilt and runs, but the end of '
                          'the build was not recorded with its instance '
                          'actions. Nothing needs to be done.',
                          instance=instance)
            result = build_results.ACTIVE
        elif _is_given_up(instance):
            LOG.exception('The server was not built, and is set to ERROR.',
                          instance=instance)
            result = build_results.FAILED
        else:
            raise
    if result == build_results.FAILED and _had_booted(instance):
        _take_boot_back(self, instance)
    if instance_metadata.is_rebuilt(instance):
        if result == build_results.ACTIVE:
            notifications.ended(context, instance, block_device_mapping)
        elif (result in (build_results.FAILED, build_results.FAILED_BY_POLICY)
              and instance.vm_state == vm_states.ERROR):
            # Not if its owner has deleted it, or somebody else builds it.
            notifications.failed(context, instance,
                                 fields.NotificationSource.COMPUTE)
    return result


def _has_waited(instance: objects.Instance) -> bool:
    """Whether a message to build a new server has been on its way for long.

    So long that it may have been rebuilt since: others are not looked up.

    :param instance: the Instance of the message
    """
    created_at = instance.created_at if 'created_at' in instance else None
    return (created_at is not None
            and timeutils.is_older_than(created_at, _LONG))


def _is_late(context: nova_context.RequestContext,
             instance: objects.Instance, host: str) -> bool:
    """Whether a server was given up while its message waited for this host.

    Or was built: Nova would start it again, as it has no task then.

    :param instance: the Instance of the message
    :param host: the name of this host
    """
    is_rebuilt = instance_metadata.is_rebuilt(instance)
    try:
        found = objects.Instance.get_by_uuid(
            context, instance.uuid, expected_attrs=['system_metadata'])
    except exception.InstanceNotFound:
        # Whoever deletes a server frees what was claimed. After another
        # rebuild it is that of a server in another cell, and Nova frees it.
        return is_rebuilt
    except Exception:
        LOG.exception('Whether the rebuild of the server was given up cannot '
                      'be told. It is built.', instance=instance)
        return False
    # With a task it is tried on this host, whatever its state was reset to.
    given_up = found.vm_state == vm_states.ERROR and found.task_state is None
    return ((is_rebuilt and given_up)
            or found.launched_at is not None
            or found.host not in (None, host)
            or instance_metadata.rebuild_attempt(found)
            != instance_metadata.rebuild_attempt(instance))


def _was_rebuilt(instance: objects.Instance) -> bool:
    """Whether a rebuild has come to its end, and the database says so."""
    return (instance_metadata.is_rebuilt(instance)
            and instance.vm_state == vm_states.ACTIVE
            and 'vm_state' not in instance.obj_what_changed())


def _is_given_up(instance: objects.Instance) -> bool:
    """Set a server to ERROR whose build has ended with nobody to say so.

    Nova would leave it in BUILD. Its owner can rebuild it, and an operator
    release it from its host, if it is on one.

    :returns: False if that is not a rebuild, or it could not be saved
    """
    if not instance_metadata.is_rebuilt(instance):
        return False
    instance.vm_state, instance.task_state = vm_states.ERROR, None
    try:
        # Nova may have saved a part of it.
        instance.save(expected_vm_state=[vm_states.BUILDING, vm_states.ERROR],
                      expected_task_state=_OF_A_BUILD)
    except Exception as exc:
        LOG.warning('The server cannot be set to ERROR: %s', exc,
                    instance=instance)
        return False
    return True


def _had_booted(instance: objects.Instance) -> bool:
    """Whether a failed build has come so far that its guest was started."""
    return (instance.vm_state == vm_states.ERROR and instance.host is None
            and instance.launched_at is not None)


def _take_boot_back(manager: compute_manager.ComputeManager,
                    instance: objects.Instance) -> None:
    """Record the guest of a build that failed when it had been started.

    Somebody has reset the state of the server then, or it could not be saved.
    Nova forgets the host and frees the allocation, and leaves the guest. For
    the API the server never booted: it can be rebuilt when the guest is gone.
    """
    instance.launched_at = None
    _record_failed_clean_up(manager, instance)
    try:
        instance.save(expected_vm_state=[vm_states.ERROR],
                      expected_task_state=[None])
    except Exception:
        LOG.exception('That the guest may be left was not recorded. The '
                      'server cannot be rebuilt.', instance=instance)


def shutdown_instance(original: nova_types.Original,
                      self: compute_manager.ComputeManager,
                      context: nova_context.RequestContext,
                      instance: objects.Instance, *args: typing.Any,
                      **kwargs: typing.Any) -> typing.Any:
    """Destroy a guest, and record if that of a failed build may be left.

    Nova saves the instance when it sets it to ERROR.
    """
    try:
        return original(context, instance, *args, **kwargs)
    except Exception:
        with excutils.save_and_reraise_exception():
            if _is_being_built(instance):
                _record_failed_clean_up(self, instance)


def _record_failed_clean_up(manager: compute_manager.ComputeManager,
                            instance: objects.Instance) -> None:
    if not _may_have_guest(manager.driver, instance):
        # The fault will tell that the clean-up has failed.
        instance_metadata.record_no_guest(instance, manager.host)
        return
    instance_metadata.record_left_guest(instance, manager.host)
    LOG.error('The guest of a failed build may be left on this host. The '
              'server cannot be rebuilt until you remove it; nova-compute '
              'notices that within %d minutes, or when it is restarted.',
              INTERVAL // 60, instance=instance)


def _is_being_built(instance: objects.Instance) -> bool:
    return (instance.vm_state == vm_states.BUILDING
            and instance.task_state != task_states.DELETING)


def _may_have_guest(driver: virt_driver.ComputeDriver,
                    instance: objects.Instance) -> bool:
    """Whether a host has a guest, or cannot tell.

    One of Nova's methods may not exist or may answer from a cache; the other
    says no if the hypervisor does not answer.
    """
    try:
        return (driver.instance_exists(instance)
                or instance.uuid in driver.list_instance_uuids())
    except NotImplementedError:
        return False
    except Exception:
        LOG.exception('The hypervisor did not answer whether this host has a '
                      'guest of the server.', instance=instance)
        return True


def update_available_resource_for_node(original: nova_types.Original,
                                       self: compute_manager.ComputeManager,
                                       context: nova_context.RequestContext,
                                       nodename: str,
                                       startup: bool = False) -> None:
    """Look for guests in Nova's periodic resource update, also at start."""
    original(context, nodename, startup=startup)
    try:
        _look_for_guests(self, context)
    except Exception:
        LOG.exception('Guests of failed builds could not be looked for. '
                      'Until that succeeds, rebuilds of servers that failed '
                      'on this host may be refused.')


def copy_resources(original: nova_types.Original,
                   self: resource_tracker.ResourceTracker,
                   compute_node: objects.ComputeNode,
                   resources: dict[str, typing.Any],
                   initial: bool = False) -> None:
    """Report with any driver that failed rebuilds keep their volumes."""
    from nova.virt import driver as virt_driver

    if isinstance(self.driver, virt_driver.ComputeDriver):
        # No double, as in Nova's own tests, which compare what is reported.
        resources = capabilities.report_builds(resources)
    original(compute_node, resources, initial=initial)


def _look_for_guests(manager: compute_manager.ComputeManager,
                     context: nova_context.RequestContext) -> None:
    """Look once for all nodes of a host, which may have a thousand."""
    watch = _last_look.get(manager)
    if watch is not None and not watch.expired():
        return
    _last_look[manager] = timeutils.StopWatch(INTERVAL_AFTER_FAILURE).start()
    for instance in _left_servers(context, manager.host):
        _record_whether_there_is_a_guest(
            instance, manager.host, _may_have_guest(manager.driver, instance))
    _last_look[manager] = timeutils.StopWatch(INTERVAL).start()


def _left_servers(context: nova_context.RequestContext,
                  host: str) -> list[objects.Instance]:
    """Servers of failed builds that this host may have a guest of.

    :returns: a list of Instance
    """
    failed = {'vm_state': vm_states.ERROR, 'deleted': False}
    given_up = objects.InstanceList.get_by_filters(
        context, dict(failed, host=None, system_metadata={
            instance_metadata.GUEST_LEFT_ON: host}),
        expected_attrs=['system_metadata'])
    not_given_up = objects.InstanceList.get_by_filters(
        context, dict(failed, host=host), expected_attrs=['system_metadata'])
    return ([instance for instance in given_up if host
             == instance_metadata.host_with_left_guest(instance)]
            + [instance for instance in not_given_up
               if instance.launched_at is None])


def _record_whether_there_is_a_guest(instance: objects.Instance, host: str,
                                     has_guest: bool) -> None:
    """Record what the hypervisor has said, if it is of the same build.

    :param instance: the Instance that it was asked about
    """
    lock = lockutils.internal_lock(instance.uuid)
    if not lock.acquire(blocking=False):
        return  # it is being built, or deleted
    try:
        found = _read_again(instance)
        if has_guest:
            LOG.warning('The guest of a failed build may still be on this '
                        'host. The server cannot be rebuilt until you remove '
                        'it.', instance=instance)
        if found is not None:
            _record(found, host, has_guest)
    except (exception.InstanceNotFound, exception.InstanceUpdateConflict):
        pass  # it was deleted or is being rebuilt
    finally:
        lock.release()


def _read_again(instance: objects.Instance) -> objects.Instance | None:
    """What is to be saved; None if the server was released or rebuilt since.

    The hypervisor may have been slow.

    :raises: InstanceNotFound
    """
    found = objects.Instance.get_by_uuid(
        instance._context, instance.uuid, expected_attrs=['system_metadata'])
    is_same = all(
        getattr(found, field) == getattr(instance, field)
        for field in ('id', 'host', 'vm_state', 'system_metadata'))
    return found if is_same else None


def _record(instance: objects.Instance, host: str, has_guest: bool) -> None:
    """Record whether a host has a guest of a failed build.

    :raises: InstanceNotFound; InstanceUpdateConflict
    """
    if instance.host is None:
        if has_guest:
            return
        instance_metadata.forget_left_guest(instance)
        instance_metadata.record_no_guest(instance, host)
    elif not instance_metadata.record_no_guest(
            instance, None if has_guest else host):
        return
    instance.save(expected_vm_state=[vm_states.ERROR],
                  expected_task_state=[None])
    if not has_guest:
        LOG.info('This host has no guest of the server, which failed to '
                 'build here.', instance=instance)

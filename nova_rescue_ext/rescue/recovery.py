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


"""Rescues and unrescues that a restart of nova-compute interrupted.

Only imported where the libvirt driver runs.
"""

from __future__ import annotations

import os
import time
import typing

from nova.compute import instance_actions
from nova.compute import power_state
from nova.compute import task_states
from nova.compute import utils as compute_utils
from nova.compute import vm_states
from nova import context as nova_context
from nova import exception
from nova import objects
from oslo_log import log as logging
from oslo_utils import timeutils

from nova_rescue_ext.host import guests
from nova_rescue_ext.host import hard_reboot
from nova_rescue_ext.host import rescue_files
from nova_rescue_ext.host import tpm as host_tpm
from nova_rescue_ext.i18n import _
from nova_rescue_ext import instance_metadata
from nova_rescue_ext.rescue import notifications
from nova_rescue_ext.rescue import operation
from nova_rescue_ext.task import events
from nova_rescue_ext.task import host_task
from nova_rescue_ext.unrescue import operation as unrescue_operation

if typing.TYPE_CHECKING:
    from nova.compute import manager as compute_manager
    from nova.virt.libvirt import driver as libvirt_driver

LOG = logging.getLogger(__name__)


def recover(manager: compute_manager.ComputeManager,
            context: nova_context.RequestContext,
            instance: objects.Instance) -> bool:
    """End the task of a server.

    :param manager: the ComputeManager
    :param context: a RequestContext
    :param instance: the Instance, whose task is to rescue or to unrescue
    :returns: False if the server was deleted meanwhile
    """
    task_state = instance.task_state
    try:
        # Nova before 34 does not load it at start, and an unrescue does not
        # load it either.
        if not instance.obj_attr_is_set('system_metadata'):
            instance.obj_load_attr('system_metadata')
        if task_state == task_states.RESCUING:
            _recover_rescue(manager, context, instance)
        else:
            _recover_unrescue(manager, context, instance)
    except Exception:
        LOG.exception('nova-compute was restarted while the server was '
                      '%(task)s, and the recovery failed. The server stays '
                      '%(state)s: %(remedy)s it.',
                      {'task': task_state, 'state': instance.vm_state,
                       'remedy': _remedy(instance)}, instance=instance)
    try:
        _save_end(instance, task_state)
    except exception.NotFound as exc:
        # If this were raised, nova-compute would not start.
        LOG.info('The server was deleted while nova-compute recovered it '
                 'after a restart: %s', exc, instance=instance)
        return False
    return True


def _remedy(instance: objects.Instance) -> str:
    # Nova hard reboots servers only if they are not in rescue.
    return ('unrescue' if instance.vm_state == vm_states.RESCUED
            else 'hard reboot')


def _save_end(instance: objects.Instance, task_state: str) -> None:
    # Not the power state: from that of before Nova sees whether the host was
    # rebooted, and the guest is to be started.
    instance.task_state = None
    try:
        instance.save(expected_task_state=[task_state])
    except exception.UnexpectedTaskStateError:
        # What somebody else has saved counts, also for what Nova does next.
        instance.refresh()
        LOG.warning('The state of the server was changed while nova-compute '
                    'recovered it from %(before)s after a restart. The '
                    'server stays %(state)s, with task %(task)s. If its '
                    'guest does not have the disks of this state, hard '
                    'reboot the server.',
                    {'before': task_state, 'state': instance.vm_state,
                     'task': instance.task_state}, instance=instance)


def _recover_rescue(manager: compute_manager.ComputeManager,
                    context: nova_context.RequestContext,
                    instance: objects.Instance) -> None:
    """Finish the rescue if its guest runs, else put the server back."""
    image_id = instance_metadata.recorded_image_id(instance)
    error: Exception | None
    rescue = operation.Rescue(manager, context, instance)
    try:
        with rescue, rescue.turn():
            error = _undo_unless_up(manager, context, instance)
            if error is None:
                _finish(instance)
            else:
                _add_fault(context, instance, error)
    except Exception as exc:
        if not rescue.is_lost:
            raise
        error = exc
        _log_lost(rescue, exc)
    if not rescue.has_moved:
        events.end(context, instance, instance_actions.RESCUE, error)
    notifications.close(manager, context, instance, image_id, error)


def _log_lost(task: host_task.HostTask, error: Exception) -> None:
    # The result is logged if the end cannot be saved.
    LOG.info('The %(action)s of the server need not be recovered after the '
             'restart of nova-compute: %(reason)s',
             {'action': task.ACTION, 'reason': error}, instance=task.instance)


def _undo_unless_up(
        manager: compute_manager.ComputeManager,
        context: nova_context.RequestContext,
        instance: objects.Instance) -> exception.InstanceNotRescuable | None:
    """Put the server back, or into ERROR if that fails, as at other times.

    :returns: the InstanceNotRescuable that tells the user, or None if the
        rescue guest runs
    """
    try:
        if (guests.is_running(manager.driver, instance)
                and guests.is_in_rescue(manager.driver, instance)):
            return None
        is_as_before = roll_back(manager, context, instance)
    except Exception:
        LOG.exception('nova-compute was restarted during the rescue, and the '
                      'server could not be put back. No disk of it was '
                      'changed: hard reboot it.', instance=instance)
        instance.vm_state = vm_states.ERROR
        reason = _('nova-compute was restarted, and the server could not be '
                   'put back. Hard reboot it.')
    else:
        LOG.warning('nova-compute was restarted during the rescue, which '
                    'was rolled back.', instance=instance)
        reason = (_('nova-compute was restarted. The server is as it was '
                    'before; rescue it again.') if is_as_before else
                  _('nova-compute was restarted. The server is off, as '
                    'starting it takes a user who may read the secret of its '
                    'TPM: start it, or rescue it again.'))
    return exception.InstanceNotRescuable(instance_id=instance.uuid,
                                          reason=reason)


def _add_fault(context: nova_context.RequestContext,
               instance: objects.Instance, error: Exception) -> None:
    try:
        compute_utils.add_instance_fault_from_exc(context, instance, error)
    except Exception:
        LOG.exception('The fault of the server, which tells the user what '
                      'became of it, is not saved.', instance=instance)


def _finish(instance: objects.Instance) -> None:
    LOG.info('nova-compute was restarted after the rescue guest had been '
             'started. The rescue is finished now.', instance=instance)
    instance.vm_state = vm_states.RESCUED
    # As in every rescue: rescue_timeout counts from it.
    instance.launched_at = timeutils.utcnow()
    instance_metadata.complete_record(instance)
    if instance_metadata.rescue_of(instance):
        rescue_files.try_to_remove_stock_domain(instance)


def roll_back(manager: compute_manager.ComputeManager,
              context: nova_context.RequestContext,
              instance: objects.Instance) -> bool:
    """Put a server back whose rescue was interrupted.

    An untouched guest keeps running. If the host was rebooted, the guest is
    down, and Nova decides whether it is started. The caller holds the lock of
    the instance.

    :param manager: the ComputeManager
    :param context: a RequestContext
    :param instance: the Instance
    :returns: False if it had to be left off
    :raises: whatever the driver or the database raises
    """
    driver = manager.driver
    runs = instance_metadata.ran_before_rescue(instance)
    if runs and _was_host_rebooted(instance):
        LOG.info('The host was rebooted during the rescue. The guest is '
                 'started if resume_guests_state_on_host_boot is set.',
                 instance=instance)
        runs = False
    operation.forget_switch(instance)
    lacks_secret = False
    if not _is_untouched(driver, instance, runs):
        lacks_secret = runs and not host_tpm.is_secret_readable(
            driver, context, instance)
        _restore_guest(manager, context, instance, runs and not lacks_secret)
    instance_metadata.forget_rescue(instance)
    rescue_files.remove_all(driver, instance)
    if lacks_secret:
        _stop_for_lack_of_secret(instance)
    return not lacks_secret


def _restore_guest(manager: compute_manager.ComputeManager,
                   context: nova_context.RequestContext,
                   instance: objects.Instance, start: bool) -> None:
    if start or not _restore_stock_domain(manager.driver, context, instance):
        # Not the saved domain, which would be started: its device paths may
        # belong to other volumes by now (hazard: stale-saved-domain).
        hard_reboot.HardReboot(manager, instance,
                               leave_off=not start).run(context)


def _stop_for_lack_of_secret(instance: objects.Instance) -> None:
    """Have a server STOPPED that needs the token of a user to be started."""
    LOG.warning('The server is left off, as the secret of its TPM cannot be '
                'read without the token of a user of its project. They have '
                'to start it.', instance=instance)
    if instance.vm_state == vm_states.ACTIVE:
        instance.vm_state = vm_states.STOPPED
    # Otherwise Nova assumes that the host rebooted, and starts the guest.
    instance.power_state = power_state.SHUTDOWN


def _was_host_rebooted(instance: objects.Instance) -> bool:
    """Whether the host was booted after a server was last saved.

    Its task was saved then or before.
    """
    booted_at = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    return instance.updated_at.timestamp() < booted_at


def _restore_stock_domain(driver: libvirt_driver.LibvirtDriver,
                          context: nova_context.RequestContext,
                          instance: objects.Instance) -> bool:
    """Define the saved domain, without starting it.

    :returns: False if there is none, or none that is whole: Nova does not
        sync the file, which a power loss may leave empty
    """
    if not os.path.exists(rescue_files.stock_domain_path(instance)):
        return False
    try:
        rescue_files.restore_stock_domain(driver, context, instance,
                                          start=False)
    except Exception as exc:
        LOG.warning('The saved domain of the server cannot be defined: %s. It '
                    'is rebuilt from the database.', exc, instance=instance)
        return False
    return True


def _is_untouched(driver: libvirt_driver.LibvirtDriver,
                  instance: objects.Instance, runs: bool) -> bool:
    if (not guests.exists(driver, instance)
            or guests.is_in_rescue(driver, instance)):
        return False
    return (not runs
            or guests.is_running(driver, instance)
            # Made before anything else is, but the power off that unmounts
            # shares.
            or not (os.path.exists(rescue_files.stock_domain_path(instance))
                    or guests.has_shares(instance)))


def _recover_unrescue(manager: compute_manager.ComputeManager,
                      context: nova_context.RequestContext,
                      instance: objects.Instance) -> None:
    """Unrescue again, but for a guest that is on its own disks again.

    Its user may have begun to work with it.
    """
    unrescue = unrescue_operation.Unrescue(manager, instance)
    try:
        with unrescue:
            if not unrescue.leaves_off and _is_unrescued(manager.driver,
                                                         instance):
                with unrescue.turn():
                    hard_reboot.HardReboot(
                        manager, instance, leave_off=False).finish(context)
            else:
                manager.driver.unrescue(context, instance)
    except Exception as exc:
        if not unrescue.is_lost:
            _add_fault(context, instance, exc)
        if not unrescue.has_moved:
            events.end(context, instance, instance_actions.UNRESCUE, exc)
        notifications.close_unrescue(manager, context, instance, exc)
        if not unrescue.is_lost:
            raise
        _log_lost(unrescue, exc)
        return
    instance.vm_state = vm_states.ACTIVE
    if unrescue.leaves_off:
        instance.vm_state = vm_states.STOPPED
        # Otherwise Nova assumes that the host rebooted, and starts the guest.
        instance.power_state = power_state.SHUTDOWN
    LOG.info('nova-compute was restarted during the unrescue of the server. '
             'The unrescue is finished now.', instance=instance)
    events.end(context, instance, instance_actions.UNRESCUE)
    notifications.close_unrescue(manager, context, instance)


def _is_unrescued(driver: libvirt_driver.LibvirtDriver,
                  instance: objects.Instance) -> bool:
    return (guests.exists(driver, instance)
            and not guests.is_in_rescue(driver, instance)
            # It is paused while its network is plugged.
            and guests.state(driver, instance) == power_state.RUNNING)

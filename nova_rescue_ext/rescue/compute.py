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


"""Rescue in nova-compute's manager."""

from nova.compute import instance_actions
from nova.compute import power_state
from nova.compute import task_states
from nova.compute import utils as compute_utils
from nova.compute import vm_states
from nova import conf
from nova import exception
from nova import objects
from oslo_log import log as logging

from nova_rescue_ext import capabilities
from nova_rescue_ext.i18n import _
from nova_rescue_ext import instance_metadata
from nova_rescue_ext import microversion
from nova_rescue_ext.rescue import image
from nova_rescue_ext.rescue import progress
from nova_rescue_ext.task import final_save
from nova_rescue_ext.task import save_hook
from nova_rescue_ext.task import stale_message

CONF = conf.CONF
LOG = logging.getLogger(__name__)


def get_rescue_image(original, self, context, instance,
                     rescue_image_ref=None):
    """The rescue image, and how its disk is attached.

    nova-api has chosen and checked the image. Only a stock nova-api sends none
    for a boot-from-volume server: then it is found as nova-api would have
    found it, and only one that the server's project may read is used, as this
    context is elevated (spec: bfv-rescue).

    :returns: an ImageMeta
    :raises: InstanceNotRescuable
    """
    if not rescue_image_ref:
        # What ours told of an earlier rescue is left, and does not hold.
        instance_metadata.forget_rescue_request(instance)
    bdms = objects.BlockDeviceMappingList.get_by_instance_uuid(
        context, instance.uuid)
    volume_backed = compute_utils.is_volume_backed_instance(
        context, instance, bdms)
    if volume_backed and not rescue_image_ref:
        rescue_image_ref = image.of_root_volume(
            context.elevated(), instance, bdms, self.volume_api,
            self.image_api)
    if instance_metadata.is_offered_image(instance, rescue_image_ref):
        context = image.operator_context(instance)
    image_meta = original(context, instance, rescue_image_ref)
    if volume_backed or _stable_devices_always(instance):
        image.use_stable_devices(image_meta.properties)
    return image_meta


def _stable_devices_always(instance):
    return (CONF.rescue_ext.stable_devices == 'always'
            and CONF.libvirt.virt_type != 'lxc'
            and instance_metadata.rescue_asks_for(
                instance, microversion.RESCUE))


def rescue_instance(original, self, context, instance, *args, **kwargs):
    """Rescue, unless a restart of nova-compute has ended the task."""
    return stale_message.act_in_time(
        self, instance, instance_actions.RESCUE, task_states.RESCUING,
        lambda: _rescue(original, self, context, instance, *args, **kwargs))


def _rescue(original, self, context, instance, *args, **kwargs):
    """Let the manager and the driver know of each other in a rescue.

    The domain that was kept for the way back goes when the server is RESCUED:
    unrescue does without (spec: live-migrate-rescued).
    """
    with final_save.ensured(instance), progress.track(instance) as current:
        current.context = context
        try:
            with _undone_if_unfinished(self, context, instance, current):
                return original(context, instance, *args, **kwargs)
        finally:
            _forget_way_back(self, instance)


def _undone_if_unfinished(manager, context, instance, current):
    """In here, no server is saved as it was while its rescue guest runs.

    That is what Nova does if it fails after the driver has done its part.
    Before the task is saved as ended, as nothing else must begin until then.
    """
    def undo():
        if (current.rescue_guest_runs and instance.task_state is None
                and instance.vm_state != vm_states.RESCUED):
            _roll_back(manager, context, instance, current)
            if not current.rolled_back:
                instance.vm_state = vm_states.ERROR

    return save_hook.before_each_save(instance, undo)


def _roll_back(manager, context, instance, current):
    from nova_rescue_ext.rescue import libvirt

    libvirt.roll_back(manager.driver, context, instance, current)


def _forget_way_back(manager, instance):
    if (capabilities.is_libvirt(manager.driver)
            and instance_metadata.rescue_of(instance)):
        from nova_rescue_ext.host import rescue_files

        rescue_files.remove_stock_domain(instance)


def power_off_instance(original, self, *args, **kwargs):
    """In a rescue, leave the guest up until the rescue disk is ready.

    The libvirt driver powers it off when all else is prepared. A server with
    shares goes down first, as in stock: powering off unmounts its shares.
    """
    instance = next(value for value in (*args, *kwargs.values())
                    if isinstance(value, objects.Instance))
    current = progress.of(instance)
    if current is None:
        return original(*args, **kwargs)
    if capabilities.is_libvirt(self.driver):
        from nova_rescue_ext.rescue import libvirt

        current.was_running = libvirt.is_running(self.driver, instance)
        current.has_shares = _has_shares(instance)
        if not current.has_shares:
            current.power_off = lambda: original(*args, **kwargs)
            return None
    current.guest_touched = True
    return original(*args, **kwargs)


def _has_shares(instance):
    return bool(objects.ShareMappingList.get_by_instance_uuid(
        instance._context, instance.uuid))


def set_instance_obj_error_state(original, self, instance, *args, **kwargs):
    """A rescue that was rolled back leaves the server in its state."""
    current = progress.of(instance)
    if current is None:
        return original(instance, *args, **kwargs)
    if capabilities.is_libvirt(self.driver) and not current.driver_called:
        _roll_back(self, instance._context, instance, current)
    if not current.rolled_back:
        return original(instance, *args, **kwargs)
    LOG.warning('The rescue failed and was rolled back: the server is as it '
                'was before. The reason is above, and in the events of its '
                'rescue action.', instance=instance)


def init_instance(original, self, context, instance):
    """Finish or roll back what a restart of nova-compute interrupted.

    Stock Nova leaves the server in RESCUING or UNRESCUING for ever
    (hazard: restart-in-rescue).
    """
    how = {task_states.RESCUING: _recover_rescue,
           task_states.UNRESCUING: _recover_unrescue}.get(
               instance.task_state)
    if (how and instance.host == self.host
            and capabilities.is_libvirt(self.driver)
            and not _recover(self, context, instance, how)):
        return None
    return original(context, instance)


def _recover(manager, context, instance, how):
    """End the task of a server.

    :returns: whether the server is there: it may have been deleted meanwhile
    """
    task_state = instance.task_state
    try:
        how(manager, context, instance)
    except Exception:
        LOG.exception('nova-compute was restarted while the server was '
                      '%(task)s, and it could not be brought back. It stays '
                      '%(state)s: hard reboot or unrescue it.',
                      {'task': task_state, 'state': instance.vm_state},
                      instance=instance)
    try:
        _save_end(instance, task_state)
    except exception.NotFound as exc:
        # Raised, it would keep nova-compute from being started.
        LOG.info('The server was deleted while nova-compute, which was '
                 'restarted, brought it back: %s', exc, instance=instance)
        return False
    return True


def _save_end(instance, task_state):
    # Not the power state: from that of before Nova sees whether the host was
    # rebooted, and the guest is to be started.
    instance.task_state = None
    try:
        instance.save(expected_task_state=[task_state])
    except exception.UnexpectedTaskStateError:
        # What somebody else has saved counts, also for what Nova does next.
        instance.refresh()
        LOG.warning('The state of the server was changed while nova-compute, '
                    'which was restarted, brought it back from %(before)s. '
                    'It stays %(state)s, with task %(task)s. Look at the '
                    'disks of its guest: if they are not those that the '
                    'server has in this state, hard reboot it.',
                    {'before': task_state, 'state': instance.vm_state,
                     'task': instance.task_state}, instance=instance)


def _recover_rescue(manager, context, instance):
    """Finish the rescue if its guest runs, else put the server back."""
    from nova_rescue_ext.rescue import libvirt

    if libvirt.rescue_guest_is_running(manager.driver, instance):
        LOG.info('nova-compute was restarted after the rescue guest had been '
                 'started: the rescue is finished.', instance=instance)
        instance.vm_state = vm_states.RESCUED
        _forget_way_back(manager, instance)
        return
    error = exception.InstanceNotRescuable(
        instance_id=instance.uuid,
        reason=_('nova-compute was restarted. The server is as it was '
                 'before; rescue it again.'))
    compute_utils.add_instance_fault_from_exc(context, instance, error)
    libvirt.roll_back_interrupted(manager.driver, context, instance)
    LOG.warning('nova-compute was restarted during the rescue, which was '
                'rolled back.', instance=instance)


def _recover_unrescue(manager, context, instance):
    """Unrescue again: nothing of it is done for good before its end."""
    state = instance_metadata.state_after_unrescue(instance)
    manager.driver.unrescue(context, instance)
    instance.vm_state = state
    if state == vm_states.STOPPED:
        # Or Nova takes the host for rebooted, and starts the guest.
        instance.power_state = power_state.SHUTDOWN
    LOG.info('nova-compute was restarted during the unrescue, which is '
             'finished.', instance=instance)

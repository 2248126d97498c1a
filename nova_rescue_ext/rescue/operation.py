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


"""A rescue, as nova-compute runs it, and the way back from it.

Only imported where the libvirt driver runs.
"""

from __future__ import annotations

import contextlib
import typing

from nova.compute import instance_actions
from nova.compute import task_states
from nova.compute import vm_states
from nova import conf
from nova import context as nova_context
from nova import exception
from nova import objects
from oslo_log import log as logging
from oslo_serialization import jsonutils

from nova_rescue_ext import exception as ext_exception
from nova_rescue_ext.host import guests
from nova_rescue_ext.host import hard_reboot
from nova_rescue_ext.host import rescue_files
from nova_rescue_ext.host import tpm as host_tpm
from nova_rescue_ext.i18n import _
from nova_rescue_ext import instance_metadata
from nova_rescue_ext import microversion
from nova_rescue_ext import nova_types
from nova_rescue_ext.rescue import image
from nova_rescue_ext.rescue import notifications
from nova_rescue_ext.task import final_save
from nova_rescue_ext.task import host_task
from nova_rescue_ext import tpm

if typing.TYPE_CHECKING:
    from nova.compute import manager as compute_manager
    from nova.virt.libvirt import driver as libvirt_driver

CONF = conf.CONF
LOG = logging.getLogger(__name__)


class Rescue(host_task.SavingTask):
    """A rescue, from its message to its end.

    Nova's own rescue powers the guest off, prepares all there is to prepare,
    destroys the guest, and starts the rescue guest. Here the guest stays up
    until the disk is prepared. The lock of the instance is held while files of
    an earlier rescue are removed, and again from when the disk is prepared
    until the rescue guest is up; not during a download, which a DELETE must
    not wait for.

    Whatever fails, the server is put back as it was before (roll_back()).

    :param manager: the ComputeManager
    :param context: the RequestContext of the caller, before Nova elevates it
    :param instance: the Instance
    :ivar was_running: whether the guest ran before the rescue
    :ivar image_meta: the ImageMeta of the rescue image, while the driver makes
        the rescue guest
    :ivar block_device_info: of the server, in the same time
    """

    ACTION = instance_actions.RESCUE
    TASK_STATE = task_states.RESCUING

    def __init__(self, manager: compute_manager.ComputeManager,
                 context: nova_context.RequestContext,
                 instance: objects.Instance) -> None:
        super().__init__(instance)
        self.manager = manager
        self.context = context
        self.was_running = False
        self.image_meta = None
        self.block_device_info: nova_types.BlockDeviceInfo | None = None
        self._vm_state = instance.vm_state
        self._has_shares = False
        self._power_off: typing.Callable[[], None] | None = None
        self._is_announced = False
        self._nova_has_told = False
        self._is_refused = False
        self._is_recorded = False
        self._is_switched = False
        self._is_switch_recorded = False
        self._is_guest_touched = False
        self._are_volumes_in_doubt = False
        self._rescue_guest_runs = False
        self._way_back_is_taken = False
        self._is_rolled_back = False
        self._of_rescue_guest = contextlib.ExitStack()

    def before_save(self) -> None:
        """Tie the record to the rescue when that is complete."""
        # The manager sets both, and saves.
        if (self.instance.vm_state == vm_states.RESCUED
                and 'launched_at' in self.instance.obj_what_changed()):
            instance_metadata.complete_record(self.instance)

    def see_return(self) -> None:
        """See that the manager has done all, and told of it."""
        self._nova_has_told = True

    # Step by step.

    def power_off_when_ready(
            self, power_off: typing.Callable[[], None]) -> None:
        """Note how to power the guest off once the rescue disk is ready.

        A server with shares is powered off at once, which unmounts them.

        :param power_off: powers the guest off cleanly, as Nova would
        :raises: InstanceNotRescuable; what reading the database raises
        """
        self._is_announced = True  # by Nova, just before
        self._refuse_second_rescue()
        self._refuse_to_lose_tpm()
        self.was_running = guests.is_running(self._driver, self.instance)
        self._has_shares = guests.has_shares(self.instance)
        if self._has_shares:
            self._is_guest_touched = True
            power_off()
        else:
            self._power_off = power_off

    def remove_earlier(self) -> None:
        """Remove what is left of an earlier rescue.

        Nova would boot that again (hazard: files-of-an-earlier-rescue).

        :raises: InstanceNotRescuable, TaskEnded, InstanceNotFound
        """
        with self.turn():
            self._refuse_second_rescue()
            rescue_files.remove(self._driver, self.instance)
            remaining = rescue_files.remaining_volumes(self.instance)
        if remaining:
            image.refuse(self.instance, _(
                'volumes of an earlier rescue could not be removed: %s. Ask '
                'the operator to remove them.') % ', '.join(remaining))

    def record(self, image_id: str, kernel_id: str, ramdisk_id: str,
               mode: str) -> None:
        """Record what the server is rescued with.

        Called before the guest goes down: a nova-compute that is killed during
        the rescue finds the record when it starts again.

        :raises: TaskEnded; what saving the instance raises
        """
        self._is_recorded = True
        if not CONF.rescue_ext.ready_timeout:
            instance_metadata.forget_requested_ready_line(self.instance)
        instance_metadata.record_rescue(
            self.instance, image_id, kernel_id, ramdisk_id, mode,
            self.was_running)
        firmware = guests.firmware(self._driver, self.instance)
        if firmware is not None:
            instance_metadata.record_firmware(self.instance, firmware)
        try:
            self.instance.save(expected_task_state=[self.TASK_STATE])
        except (exception.UnexpectedTaskStateError,
                exception.InstanceNotFound) as exc:
            self.is_lost = True
            self._is_deleted = isinstance(exc, exception.InstanceNotFound)
            raise
        except Exception:
            # It may be saved all the same: have it saved again when it is
            # forgotten.
            self.instance.obj_reset_changes(['system_metadata'])
            raise

    @contextlib.contextmanager
    def connecting(
            self, volumes: list[typing.Any]) -> typing.Iterator[None]:
        """The disk is prepared, and volumes of the server are connected.

        To no guest that has them open: when it fails, Nova and os-brick
        disconnect them.

        :param volumes: those that the driver connects, DriverBlockDevices
        :raises: TaskEnded, InstanceNotFound; InstanceNotRescuable
        """
        self.take_turn()
        if volumes:
            self._refuse_replaced(volumes)
            self.switch_guests()
            self._are_volumes_in_doubt = True
        yield
        self._are_volumes_in_doubt = False

    def _refuse_replaced(self, volumes: list[typing.Any]) -> None:
        """Refuse volumes that were replaced since the driver was called.

        A migration of a volume changes no task of the server. The connection
        of before may be that of somebody else's volume by now.

        :raises: InstanceNotRescuable
        """
        now = {bdm.volume_id: _connection(bdm.connection_info)
               for bdm in objects.BlockDeviceMappingList.get_by_instance_uuid(
                   self.context, self.instance_uuid) if bdm.is_volume}
        for volume in volumes:
            if (volume.volume_id not in now
                    or now[volume.volume_id]
                    != volume['connection_info'].get('data')):
                image.refuse(self.instance, _(
                    'its volume %s was replaced while the rescue disk was '
                    'prepared. Rescue it again.') % volume.volume_id)

    def switch_guests(self) -> None:
        """Power the guest off, now that everything is prepared.

        The lock of the instance is held from here until the driver is done.

        :raises: TaskEnded, InstanceNotFound
        """
        if self._is_switched:
            return
        self.take_turn()
        self._is_switched = self._is_guest_touched = True
        power_off, self._power_off = self._power_off, None
        if power_off:
            power_off()
        if instance_metadata.rescue_asks_for(self.instance,
                                             microversion.RESCUE_SESSION):
            self._record_switch()

    def _record_switch(self) -> None:
        """Have the metadata API serve the rescue guest from its start.

        :raises: UnexpectedTaskStateError, InstanceNotFound; what else reading
            and saving raises
        """
        # In memory it has what the driver is to find there.
        fresh = self._read()
        instance_metadata.record_switch(fresh)
        self._is_switch_recorded = True
        fresh.save(expected_task_state=[self.TASK_STATE])

    @classmethod
    def in_driver_of_this_thread(cls, instance_uuid: str) -> 'Rescue | None':
        """Find the rescue whose guest the driver builds in this thread.

        :param instance_uuid: the UUID of the server
        :returns: None outside of a rescue, and while it is rolled back
        """
        rescue = cls.of_this_thread(instance_uuid)
        return rescue if rescue and rescue.image_meta is not None else None

    @contextlib.contextmanager
    def in_driver(
            self, image_meta: objects.ImageMeta,
            block_device_info: nova_types.BlockDeviceInfo | None
    ) -> typing.Iterator[None]:
        """The driver's part of the rescue, which is undone if it fails.

        :param image_meta: the ImageMeta of the rescue image
        :param block_device_info: what the driver is told of the server's disks
        """
        self.image_meta = image_meta
        self.block_device_info = block_device_info
        try:
            with contextlib.ExitStack() as self._of_rescue_guest:
                yield
            self._rescue_guest_runs = True
        except Exception:
            # From here on the driver builds the server's own domain.
            self.image_meta = None
            self._roll_back_and_log()
            raise
        finally:
            self.image_meta = None
            self.end_turn()

    def leave_tpm_out(self) -> None:
        """Give the guest that the driver builds from here on no TPM."""
        self._of_rescue_guest.enter_context(tpm.LeftOut(self.instance_uuid))

    # The end.

    def may_set_error(self) -> bool:
        """Whether to set ERROR: not if the server is as it was before."""
        self._roll_back_and_log()
        if self.is_lost or not self._is_rolled_back:
            return super().may_set_error()
        LOG.warning('The rescue failed and was rolled back: the server is as '
                    'it was before. The reason is above, and in the events '
                    'of its rescue action.', instance=self.instance)
        return False

    def may_end(self) -> bool:
        """Roll the rescue back before the end of the task is saved.

        Until then, nothing else can begin. What failed before there was
        anything to roll back has its request forgotten only.
        """
        if self._rescue_guest_runs and not self._may_be_saved:
            self._roll_back_and_log()
            self.instance.vm_state = (self._vm_state if self._is_rolled_back
                                      else vm_states.ERROR)
        elif self.instance.vm_state != vm_states.RESCUED:
            instance_metadata.forget_rescue_request(self.instance)
        return super().may_end()

    def settle(self) -> None:
        """Clean up after the manager's last save failed: the task was lost.

        A rescue guest must not run for a server that is not in rescue.
        """
        self.is_lost = True
        if self._rescue_guest_runs:
            self._roll_back_and_log()

    @property
    def _may_be_saved(self) -> bool:
        # The manager sets launched_at last, and saves: that may have reached
        # the database, whatever came back.
        unsaved = self.instance.obj_what_changed()
        return (self.instance.vm_state == vm_states.RESCUED
                and ('launched_at' in unsaved or 'vm_state' not in unsaved))

    def notify_of_end(self, image_id: str | None, error: Exception) -> None:
        """Notify of the end of a rescue that Nova considers failed.

        :param image_id: the ID of the image that was requested, or None
        :param error: what Nova's manager raised
        """
        if not self._is_announced:
            return
        is_saved = (self.instance.vm_state == vm_states.RESCUED
                    and 'vm_state' not in self.instance.obj_what_changed())
        if is_saved and self._nova_has_told:
            return  # the end of the event could not be written
        notifications.close(self.manager, self.context, self.instance,
                            image_id, None if is_saved else error)

    # The way back.

    def _roll_back_and_log(self) -> None:
        """Call roll_back() once, and remember whether it succeeded."""
        if self._way_back_is_taken:
            return
        self._way_back_is_taken = True
        try:
            self.roll_back()
            self._is_rolled_back = True
        except Exception:
            LOG.exception('The rescue failed, and so did its roll-back. No '
                          'disk of the server was changed. Hard reboot the '
                          'server.', instance=self.instance)

    def roll_back(self) -> None:
        """Put the server back as it was before its rescue.

        No guest is started if the server was deleted or has another task by
        now, and only what this rescue has made is removed.

        :raises: whatever the driver or the database raises
        """
        instance_metadata.forget_own_rescue_request(self.instance,
                                                    self.context.request_id)
        if self._is_refused:
            return
        if self._is_recorded:
            instance_metadata.forget_rescue(self.instance)
        had_turn = self.has_turn
        try:
            if self._is_guest_touched and self._take_turn_back():
                if self._is_switch_recorded:
                    forget_switch(self.instance)
                self._restore_guest()
            elif not self.has_turn:
                self._lock()
                self._look_again_in_turn()
            self._remove_files()
        finally:
            if not had_turn:
                self.end_turn()
        self._rescue_guest_runs = False

    def _take_turn_back(self) -> bool:
        """Take the lock of the instance for the way back.

        :returns: whether to replace the current guest
        :raises: DatabaseAway
        """
        if self.has_turn:
            self._look_again_in_turn()
            return not self.has_moved
        try:
            if final_save.read(self.instance) is None:
                raise ext_exception.DatabaseAway()
            self._lock()
            fresh = self._read()
        except exception.InstanceNotFound:
            self.is_lost = self._is_deleted = True
            return False
        if self._is_still_in(fresh):
            return True
        self._lose(fresh)
        return (not self.has_moved
                and guests.is_in_rescue(self._driver, self.instance)
                and self._may_undo_in(fresh))

    def _look_again_in_turn(self) -> None:
        """Check whether the guest should still be started.

        A soft delete or a reset of the state does not wait for the lock.
        """
        try:
            fresh = self._read()
        except exception.InstanceNotFound:
            self.is_lost = self._is_deleted = True
            self.was_running = False
        except Exception as exc:
            # Do not keep the guest down for as long as the database.
            LOG.warning('The rescue is rolled back although the state of the '
                        'server cannot be read: %s', exc,
                        instance=self.instance)
        else:
            if not self._is_still_in(fresh):
                self._lose(fresh)

    def _lose(self, fresh: objects.Instance) -> None:
        """Note that the task is lost, and whether the guest may be started.

        Whoever has the task now, or set the state, starts the guest if needed.

        :param fresh: the Instance, which has lost the task or moved
        """
        self.is_lost = True
        if self.has_moved:
            LOG.warning('The server is now on host %s. Its guest and the '
                        'files of its rescue are left alone on this host. '
                        'Check that only one of the hosts runs a guest of '
                        'it.', fresh.host, instance=self.instance)
        if (fresh.task_state is not None
                or fresh.vm_state not in (vm_states.ACTIVE, vm_states.ERROR)):
            self.was_running = False

    def _may_undo_in(self, fresh: objects.Instance) -> bool:
        """Whether to undo the rescue of a server that has lost its task."""
        if fresh.vm_state == vm_states.RESCUED:
            # It was saved; only the answer was lost.
            self.instance.refresh()
            return False
        if fresh.task_state is None:
            self._tell_of_reset(fresh)
            instance_metadata.forget_rescue(fresh)
            fresh.save(expected_task_state=[None])
            return True
        if fresh.task_state == task_states.SOFT_DELETING:
            LOG.info('The server is being soft deleted, and was being '
                     'rescued. Its guest, that of the rescue, is left to the '
                     'soft delete. Restored, the server starts from its own '
                     'disks.', instance=self.instance)
            # Its own power off may have come before the guest was started.
            self._driver.power_off(self.instance)
        elif fresh.task_state != task_states.DELETING:
            LOG.warning('The server is %(task)s: its state was reset during '
                        'its rescue. Its guest may be that of the rescue. '
                        'Hard reboot the server.',
                        {'task': fresh.task_state}, instance=self.instance)
        return False

    def _tell_of_reset(self, fresh: objects.Instance) -> None:
        if fresh.vm_state == vm_states.SOFT_DELETED:
            LOG.info('The server was soft deleted during its rescue. The '
                     'rescue is rolled back, and the guest stays off.',
                     instance=self.instance)
        else:
            LOG.warning('The state of the server was reset to %s during its '
                        'rescue. The rescue is rolled back. If it is still '
                        'wanted, rescue the server again.',
                        fresh.vm_state, instance=self.instance)

    def _restore_guest(self) -> None:
        if self.was_running and (self._are_volumes_in_doubt
                                 or self._has_shares):
            self._restore_connected_guest()
        elif self._is_switched:
            self._restore_stock_domain()

    def _restore_connected_guest(self) -> None:
        """Start the guest with its volumes and shares connected anew."""
        reboot = hard_reboot.HardReboot(self.manager, self.instance,
                                        leave_off=False)
        try:
            reboot.run(self.context)
        except Exception as exc:
            if reboot.has_begun or self._has_shares:
                raise
            # It needs the database, whose failure may be why the rescue
            # failed: then the volumes are connected.
            LOG.warning('The guest is started with the volumes as they are, '
                        'as they cannot be looked up: %s', exc,
                        instance=self.instance)
            self._restore_stock_domain()

    def _restore_stock_domain(self) -> None:
        rescue_files.restore_stock_domain(
            self._driver, self.context, self.instance, start=self.was_running)

    def _remove_files(self) -> None:
        """Remove what this rescue has made, unless a guest uses it."""
        # The server's current host may share the directory.
        if self.has_moved or guests.is_in_rescue(self._driver,
                                                 self.instance):
            return
        rescue_files.remove_all(self._driver, self.instance)
        if self._is_deleted and not guests.exists(self._driver,
                                                  self.instance):
            # The rescue recreated the directory after it had been deleted.
            self._driver.delete_instance_files(self.instance)

    def _refuse_second_rescue(self) -> None:
        """Refuse a server whose guest is that of an earlier rescue.

        That is after a reset of the state or a failed unrescue. The guest
        would lose the disk that it runs on.

        :raises: InstanceNotRescuable
        """
        if guests.is_in_rescue(self._driver, self.instance):
            self._is_refused = True
            image.refuse(self.instance, _(
                'its guest is that of an earlier rescue, as its state was '
                'reset or its unrescue failed. Hard reboot it first.'))

    def _refuse_to_lose_tpm(self) -> None:
        """Refuse to lose a TPM, and what its server cannot go back from.

        :raises: InstanceNotRescuable
        """
        if not tpm.has_tpm(self.instance):
            return
        if not host_tpm.is_kept(self._driver):
            # It was downgraded since it reported to nova-api.
            image.refuse(self.instance, _(
                'it has a TPM, which this host could lose. Ask the operator '
                'to upgrade Nova and libvirt there.'))
        try:
            host_tpm.check_secret(self._driver, self.context, self.instance)
        except ext_exception.TPMSecretNotReadable as exc:
            image.refuse(self.instance, exc.format_message())

    @property
    def _driver(self) -> libvirt_driver.LibvirtDriver:
        return self.manager.driver


def forget_switch(instance: objects.Instance) -> None:
    """Have the metadata API serve the server's own guest before its start.

    Never raises: without the database, that serves nobody.

    :param instance: the Instance, of which nothing else is saved
    """
    try:
        fresh = objects.Instance.get_by_uuid(instance._context, instance.uuid)
        if instance_metadata.forget_switch(fresh):
            fresh.save(expected_task_state=[fresh.task_state])
    except exception.InstanceNotFound:
        return
    except Exception as exc:
        LOG.warning('Until the end of the rescue, which failed, is saved, the '
                    'metadata API may give the system of the server what was '
                    'for its rescue system: %s', exc, instance=instance)


def _connection(connection_info: str | None) -> typing.Any:
    """What tells a volume's target, of what the database has of it."""
    return jsonutils.loads(connection_info or '{}').get('data')

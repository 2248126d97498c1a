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


"""A task of a server that is in rescue, and stays there.

Only imported where the libvirt driver runs.
"""

from __future__ import annotations

import contextlib
import typing

from nova.compute import instance_actions
from nova.compute import task_states
from nova.compute import utils as compute_utils
from nova.compute import vm_states
from nova import conf
from nova import context as nova_context
from nova import exception
from nova import objects
from oslo_concurrency import lockutils
from oslo_log import log as logging

from nova_rescue_ext import exception as ext_exception
from nova_rescue_ext.host import guests
from nova_rescue_ext.host import rescue_guest
from nova_rescue_ext import nova_types
from nova_rescue_ext.task import host_task

if typing.TYPE_CHECKING:
    from nova.compute import manager as compute_manager
    from nova.network import model as network_model

CONF = conf.CONF
LOG = logging.getLogger(__name__)

# States in which nova-api accepts a change of volumes and of ports.
_WITH_DEVICES = (vm_states.ACTIVE, vm_states.PAUSED, vm_states.STOPPED,
                 vm_states.RESCUED)


class StaysInRescue(host_task.HostTask):
    """A task from its message to its end, which leaves the server RESCUED.

    Also if it fails: then the guest of the rescue may be off, but its domain
    and its disks are there. So the task can be tried again, and the server be
    unrescued.

    :param manager: the ComputeManager
    :param instance: the Instance
    """

    def __init__(self, manager: compute_manager.ComputeManager,
                 instance: objects.Instance) -> None:
        super().__init__(instance)
        self.manager = manager

    def check(self) -> None:
        """Check the server and its guest. The caller holds the lock.

        :raises: TaskEnded, InstanceNotFound; GuestNotInRescue
        """
        self._check()
        if not guests.is_in_rescue(self.manager.driver, self.instance):
            raise ext_exception.GuestNotInRescue(action=self.ACTION)

    def replace_hard_reboot(
            self, context: nova_context.RequestContext,
            network_info: network_model.NetworkInfo,
            block_device_info: nova_types.BlockDeviceInfo | None) -> bool:
        """Start the guest of the rescue, where Nova would make the server's.

        :returns: True
        :raises: TaskEnded, InstanceNotFound; GuestNotInRescue; whatever the
            driver raises
        """
        self.check()
        rescue_guest.start(self.manager.driver, context, self.instance,
                           network_info, block_device_info)
        return True

    def _is_still_in(self, fresh: objects.Instance) -> bool:
        return (super()._is_still_in(fresh)
                and fresh.vm_state == vm_states.RESCUED)

    def may_set_error(self) -> bool:
        """Never: the server is no worse than in a rescue that is stopped."""
        if not self.is_lost:
            LOG.warning('The %s of the rescue system failed. The server '
                        'stays in rescue. Try it again, or unrescue the '
                        'server. The reason is above, and in the events of '
                        'the action.', self.ACTION, instance=self.instance)
        return False

    def may_end(self) -> bool:
        """Have the power state saved with the end of a task that failed."""
        if not self.is_lost:
            self.instance.power_state = self.manager._get_power_state(
                self.instance)
        return super().may_end()


class _DeviceChange(host_task.HostTask):
    """The attach or the detach of a device, for which Nova sets no task.

    Between nova-api and the lock the guest may be replaced by one that does
    not have the device, and the server be deleted or migrated.
    """

    def _check(self) -> None:
        """Check that nothing else has begun since nova-api has checked it.

        The server may have been unrescued: then it is for its own guest.

        :raises: InstanceInvalidState, which nova-api answers with 409
        """
        try:
            fresh = self._read()
        except exception.InstanceNotFound:
            state = task_states.DELETING
        else:
            state = fresh.task_state
            if state is None and fresh.host != self.instance.host:
                state = task_states.MIGRATING  # it was, until just now
            if state is None and fresh.vm_state not in _WITH_DEVICES:
                self._refuse('vm_state', fresh.vm_state)
        if state is not None:
            self._refuse('task_state', state)

    def _refuse(self, attribute: str, state: str) -> typing.NoReturn:
        raise exception.InstanceInvalidState(
            attr=attribute, instance_uuid=self.instance_uuid, state=state,
            method=self.ACTION)


class _VolumeChange(_DeviceChange):
    """The attach or the detach of a volume, for which Nova takes the lock."""

    def check(self) -> None:
        """Check that nothing else has begun. Nova holds the lock.

        :raises: InstanceInvalidState
        """
        self._check()


class AttachVolume(_VolumeChange):
    """The attach of a volume to a server in rescue."""

    ACTION = instance_actions.ATTACH_VOLUME


class DetachVolume(_VolumeChange):
    """The detach of a volume from a server in rescue."""

    ACTION = instance_actions.DETACH_VOLUME


class AttachPort(_DeviceChange):
    """The attach of a port to a server in rescue; Nova has no lock for it."""

    ACTION = instance_actions.ATTACH_INTERFACE

    @contextlib.contextmanager
    def _lock_of_instance(self) -> typing.Iterator[None]:
        """Wait for the lock, but not longer than nova-api does for the answer.

        A volume may be attached or detached meanwhile, which takes its time.

        :raises: InstanceInvalidState
        """
        lock = lockutils.internal_lock(self.instance_uuid)
        if not lock.acquire(timeout=CONF.rpc_response_timeout / 2):
            self._refuse('use', 'by another request')
        try:
            yield
        finally:
            lock.release()


class DetachPort(_DeviceChange):
    """The detach of a port from a server in rescue; nor for this."""

    ACTION = instance_actions.DETACH_INTERFACE


class Reboot(StaysInRescue):
    """A reboot of the rescue system."""

    ACTION = instance_actions.REBOOT
    TASK_STATES = (*task_states.soft_reboot_states,
                   *task_states.hard_reboot_states)


class _PowerChange(StaysInRescue, host_task.SavingTask):
    """A stop or a start, at whose end Nova saves another state.

    The state stays RESCUED, and the power state tells. So the power sync lets
    such a server be, as it does with everything that is RESCUED, also in stock
    Nova; it is not started when its host boots, can be unrescued and deleted,
    and cannot be live-migrated until it is started.
    """

    def before_save(self) -> None:
        """Have the server stay RESCUED."""
        self.instance.vm_state = vm_states.RESCUED
        # Not to overwrite a state that was reset.
        self.instance.obj_reset_changes(['vm_state'])


class Stop(_PowerChange):
    """A power off of the rescue system."""

    ACTION = instance_actions.STOP
    TASK_STATE = task_states.POWERING_OFF


class Start(_PowerChange):
    """A power on of the rescue system."""

    ACTION = instance_actions.START
    TASK_STATE = task_states.POWERING_ON

    def replace_hard_reboot(
            self, context: nova_context.RequestContext,
            network_info: network_model.NetworkInfo,
            block_device_info: nova_types.BlockDeviceInfo | None) -> bool:
        """Start the guest of the rescue, unless it runs.

        Nova has not taken the lock.
        """
        with self.turn():
            if guests.is_running(self.manager.driver, self.instance):
                return True
            # A port may have been detached until it was our turn.
            compute_utils.refresh_info_cache_for_instance(context,
                                                          self.instance)
            return super().replace_hard_reboot(
                context, self.instance.get_network_info(), block_device_info)

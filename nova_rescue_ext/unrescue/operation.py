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


"""An unrescue, as nova-compute runs it."""

from __future__ import annotations

import typing

from nova.compute import instance_actions
from nova.compute import power_state
from nova.compute import task_states
from nova.compute import vm_states
from nova import exception
from nova import objects
from oslo_log import log as logging

from nova_rescue_ext import instance_metadata
from nova_rescue_ext.task import host_task

if typing.TYPE_CHECKING:
    from nova.compute import manager as compute_manager

LOG = logging.getLogger(__name__)


class Unrescue(host_task.HostTask):
    """An unrescue, from its RPC message to its end.

    A server that was stopped before its rescue is stopped afterwards, if the
    caller requested that.

    :param manager: the ComputeManager
    :param instance: the Instance
    :ivar is_refused: whether the guest of the rescue was left as it is
    """

    ACTION = instance_actions.UNRESCUE
    TASK_STATE = task_states.UNRESCUING

    def __init__(self, manager: compute_manager.ComputeManager,
                 instance: objects.Instance) -> None:
        super().__init__(instance)
        self.manager = manager
        self.is_refused = False
        # nova-api noted that on this very object: no query is needed.
        self.leaves_off = (
            instance.obj_attr_is_set('system_metadata')
            and instance_metadata.state_after_unrescue(instance)
            == vm_states.STOPPED)

    def may_set_error(self) -> bool:
        """Not if the server is in rescue as before."""
        if not self.is_refused or self.is_lost:
            return super().may_set_error()
        LOG.warning('The server was not unrescued, and stays in rescue: the '
                    'secret of its TPM cannot be read with the rights of the '
                    'request. A user of its project can unrescue it.',
                    instance=self.instance)
        return False

    def power_off_if_soft_deleted(self) -> None:
        """Power off the guest of a server that was soft deleted meanwhile.

        A soft delete does not wait for the lock of the instance, so it may
        have powered the server off before the guest was started.
        """
        try:
            fresh = self._read()
        except exception.InstanceNotFound:
            return
        except Exception as exc:
            LOG.warning('The state of the server cannot be read. If the '
                        'server was soft deleted during its unrescue, its '
                        'guest still runs: power it off. %s', exc,
                        instance=self.instance)
            return
        if (fresh.vm_state == vm_states.SOFT_DELETED
                or fresh.task_state == task_states.SOFT_DELETING):
            self.manager.driver.power_off(self.instance)

    def see_power_state(self, state: int) -> None:
        """Have a server that was left off saved as STOPPED.

        Once ACTIVE has been saved it is too late: users see it, and the power
        sync stops the server.
        """
        # If libvirt does not tell it, it is as the driver has left it.
        if (self.leaves_off
                and state in (power_state.SHUTDOWN, power_state.NOSTATE)
                and self.instance.vm_state == vm_states.ACTIVE):
            self.instance.vm_state = vm_states.STOPPED

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


"""Instances for nova-api: what it checks of their state, and saves."""

import typing

from nova.compute import vm_states
import wrapt


class AsRead(wrapt.ObjectProxy):
    """An instance that is saved only if its state is still what was read.

    Its system metadata is saved as a whole. Else what an unrescue has removed
    from that meanwhile would be back, and what a rescue has recorded lost.
    """

    def save(self, **kwargs: typing.Any) -> None:
        """Save the instance.

        :raises: InstanceUpdateConflict; whatever Instance.save() raises
        """
        self.__wrapped__.save(expected_vm_state=[self.__wrapped__.vm_state],
                              **kwargs)


class AsActive(AsRead):
    """A rescued instance that passes Nova's check of the state.

    It is only for that check: what is saved, or sent to another service, is
    the real instance.
    """

    vm_state = vm_states.ACTIVE


class AsStopped(AsRead):
    """The same for actions that Nova allows on a stopped server only."""

    vm_state = vm_states.STOPPED

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


"""Instances that pass Nova's checks of the state."""

import wrapt

from nova.compute import vm_states


class AsActive(wrapt.ObjectProxy):
    """A rescued instance that passes Nova's check of the state.

    It is only for that check: what is saved, or sent to another service, is
    the real instance.
    """

    vm_state = vm_states.ACTIVE


class AsStopped(wrapt.ObjectProxy):
    """The same for actions that Nova allows on a stopped server only."""

    vm_state = vm_states.STOPPED

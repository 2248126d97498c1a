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


"""Unrescue in nova-compute's manager."""

import contextlib

from nova.compute import instance_actions
from nova.compute import power_state
from nova.compute import task_states
from nova.compute import vm_states

from nova_rescue_ext import instance_metadata
from nova_rescue_ext.task import final_save
from nova_rescue_ext.task import save_hook
from nova_rescue_ext.task import stale_message


def unrescue_instance(original, self, context, instance):
    """Unrescue, unless a restart of nova-compute has ended the task."""
    return stale_message.act_in_time(
        self, instance, instance_actions.UNRESCUE, task_states.UNRESCUING,
        lambda: _unrescue(original, context, instance), _is_unrescued)


def _is_unrescued(instance):
    # A state that was reset says nothing: the record is left then.
    return (instance.vm_state in (vm_states.ACTIVE, vm_states.STOPPED)
            and instance_metadata.MODE not in instance.system_metadata)


def _unrescue(original, context, instance):
    """A server that was stopped before its rescue is stopped afterwards.

    From compute-rescue 1.1. The libvirt driver has left its guest off.
    """
    as_it_was = (_saved_as_stopped(instance)
                 if _goes_back_to_stopped(instance)
                 else contextlib.nullcontext())
    with final_save.ensured(instance), as_it_was:
        return original(context, instance)


def _goes_back_to_stopped(instance):
    # nova-api has asked for it on this very object, so that no query is due.
    return (instance.obj_attr_is_set('system_metadata')
            and instance_metadata.state_after_unrescue(instance)
            == vm_states.STOPPED)


def _saved_as_stopped(instance):
    """In here, an instance that is off is not saved as ACTIVE.

    Nova sets the state and saves it at once; afterwards would be too late:
    the power sync stops an ACTIVE server that is off, and users have seen it.
    """
    def correct():
        if (instance.vm_state == vm_states.ACTIVE
                and instance.power_state == power_state.SHUTDOWN):
            instance.vm_state = vm_states.STOPPED

    return save_hook.before_each_save(instance, correct)

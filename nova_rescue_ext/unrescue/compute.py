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

from __future__ import annotations

import typing

from nova.compute import instance_actions
from nova.compute import task_states
from nova.compute import vm_states
from nova import context as nova_context
from nova import objects

from nova_rescue_ext import capabilities
from nova_rescue_ext import instance_metadata
from nova_rescue_ext import nova_types
from nova_rescue_ext.task import final_save
from nova_rescue_ext.task import stale_message
from nova_rescue_ext.unrescue import operation

if typing.TYPE_CHECKING:
    from nova.compute import manager as compute_manager


def unrescue_instance(original: nova_types.Original,
                      self: compute_manager.ComputeManager,
                      context: nova_context.RequestContext,
                      instance: objects.Instance) -> None:
    """Unrescue, unless the task has ended, e.g. by a restart."""
    return stale_message.act_in_time(
        self, instance, instance_actions.UNRESCUE, task_states.UNRESCUING,
        lambda: _unrescue(original, self, context, instance), _is_unrescued)


def _is_unrescued(instance: objects.Instance) -> bool:
    # After a reset of the state, which proves nothing, the record remains.
    return (instance.vm_state in (vm_states.ACTIVE, vm_states.STOPPED)
            and not instance_metadata.has_record(instance))


def _unrescue(original: nova_types.Original,
              manager: compute_manager.ComputeManager,
              context: nova_context.RequestContext,
              instance: objects.Instance) -> None:
    with final_save.ensured(instance):
        if not capabilities.is_libvirt(manager.driver):
            return original(context, instance)
        with operation.Unrescue(manager, instance):
            return original(context, instance)

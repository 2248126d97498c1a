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


"""The end of a task in nova-compute's manager."""

from __future__ import annotations

import typing

from nova.compute import power_state
from nova.compute import vm_states
from nova import context as nova_context
from nova import objects

from nova_rescue_ext import nova_types
from nova_rescue_ext.task import host_task

if typing.TYPE_CHECKING:
    from nova.compute import manager as compute_manager


def set_instance_obj_error_state(original: nova_types.Original,
                                 self: compute_manager.ComputeManager,
                                 instance: objects.Instance, *args: typing.Any,
                                 **kwargs: typing.Any) -> None:
    """Leave a server in its state if the task has cost it nothing."""
    task = host_task.HostTask.on(instance)
    if task is None:
        return original(instance, *args, **kwargs)
    if task.may_set_error() and task.save_if_ours(vm_state=vm_states.ERROR):
        return original(instance, *args, **kwargs)


def instance_update(original: nova_types.Original,
                    self: compute_manager.ComputeManager,
                    context: nova_context.RequestContext,
                    instance: objects.Instance, **kwargs: typing.Any) -> None:
    """Save the end of a failed task only if the server still has that task.

    Nova checks that only when a task succeeds.
    """
    task = host_task.HostTask.on(instance)
    if task is None or 'task_state' not in kwargs:
        return original(context, instance, **kwargs)
    if task.may_end() and task.save_if_ours(**kwargs):
        return original(context, instance, **kwargs)


def get_power_state(original: nova_types.Original,
                    self: compute_manager.ComputeManager,
                    instance: objects.Instance) -> int:
    """Tell the task its power state: Nova saves the task's end next."""
    task = host_task.HostTask.on(instance)
    state = power_state.NOSTATE
    try:
        state = original(instance)
        return state
    finally:
        if task is not None:
            task.see_power_state(state)

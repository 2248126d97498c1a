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


"""Actions on servers in rescue, in nova-compute's manager.

They come with the messages of Nova. For a server in rescue only ours sends
them.
"""

from __future__ import annotations

import contextlib
import typing

from nova.compute import vm_states
from nova import context as nova_context
from nova import objects
from oslo_log import log as logging
from oslo_utils import excutils

from nova_rescue_ext import capabilities
from nova_rescue_ext import nova_types
from nova_rescue_ext.task import stale_message

if typing.TYPE_CHECKING:
    from nova.compute import manager as compute_manager

    from nova_rescue_ext.in_rescue import operation

LOG = logging.getLogger(__name__)


def reboot_instance(original: nova_types.Original,
                    self: compute_manager.ComputeManager,
                    context: nova_context.RequestContext,
                    instance: objects.Instance, *args: typing.Any,
                    **kwargs: typing.Any) -> None:
    """Reboot the rescue system of a server in rescue."""
    if not _is_in_rescue(self, instance):
        return original(context, instance, *args, **kwargs)
    from nova_rescue_ext.in_rescue import operation

    return _act(operation.Reboot(self, instance),
                lambda: original(context, instance, *args, **kwargs))


def stop_instance(original: nova_types.Original,
                  self: compute_manager.ComputeManager,
                  context: nova_context.RequestContext,
                  instance: objects.Instance, *args: typing.Any,
                  **kwargs: typing.Any) -> None:
    """Power off the rescue system of a server in rescue."""
    if not _is_in_rescue(self, instance):
        return original(context, instance, *args, **kwargs)
    from nova_rescue_ext.in_rescue import operation

    return _act(operation.Stop(self, instance),
                lambda: original(context, instance, *args, **kwargs))


def start_instance(original: nova_types.Original,
                   self: compute_manager.ComputeManager,
                   context: nova_context.RequestContext,
                   instance: objects.Instance, *args: typing.Any,
                   **kwargs: typing.Any) -> None:
    """Power on the rescue system of a server in rescue."""
    if not _is_in_rescue(self, instance):
        return original(context, instance, *args, **kwargs)
    from nova_rescue_ext.in_rescue import operation

    return _act(operation.Start(self, instance),
                lambda: original(context, instance, *args, **kwargs))


def detach_volume(original: nova_types.Original,
                  self: compute_manager.ComputeManager,
                  context: nova_context.RequestContext, volume_id: str,
                  instance: objects.Instance, *args: typing.Any,
                  **kwargs: typing.Any) -> None:
    """Detach a volume from a server in rescue, whose guest may not have it."""
    if not _is_in_rescue(self, instance):
        return original(context, volume_id, instance, *args, **kwargs)
    from nova_rescue_ext.in_rescue import operation

    with operation.DetachVolume(instance):
        return original(context, volume_id, instance, *args, **kwargs)


def detach_volume_in_turn(original: nova_types.Original,
                          self: compute_manager.ComputeManager,
                          context: nova_context.RequestContext,
                          bdm: objects.BlockDeviceMapping,
                          instance: objects.Instance, *args: typing.Any,
                          **kwargs: typing.Any) -> None:
    """Detach a volume, in rescue only from a guest that is here.

    Nova takes a guest that is not here for one that is gone, and frees the
    volume that it writes to.

    :raises: InstanceInvalidState, if something else has begun meanwhile
    """
    if capabilities.is_libvirt(self.driver):
        from nova_rescue_ext.in_rescue import operation

        task = operation.DetachVolume.on(instance)
        if task is not None:
            with _detach_rolled_back(self, context, bdm, instance):
                task.check()
    return original(context, bdm, instance, *args, **kwargs)


@contextlib.contextmanager
def _detach_rolled_back(manager: compute_manager.ComputeManager,
                        context: nova_context.RequestContext,
                        bdm: objects.BlockDeviceMapping,
                        instance: objects.Instance) -> typing.Iterator[None]:
    """In here, whatever fails leaves the volume in use."""
    try:
        yield
    except Exception as exc:
        with excutils.save_and_reraise_exception():
            LOG.warning('Volume %(volume)s is not detached: %(reason)s. It '
                        'stays in use. Detach it again when that is over.',
                        {'volume': bdm.volume_id, 'reason': exc},
                        instance=instance)
            manager.volume_api.roll_detaching(context, bdm.volume_id)


def attach_interface(original: nova_types.Original,
                     self: compute_manager.ComputeManager,
                     context: nova_context.RequestContext,
                     instance: objects.Instance, *args: typing.Any,
                     **kwargs: typing.Any) -> typing.Any:
    """Attach a port to a server in rescue, in its turn."""
    if not _is_in_rescue(self, instance):
        return original(context, instance, *args, **kwargs)
    from nova_rescue_ext.in_rescue import operation

    with operation.AttachPort(instance).turn():
        return original(context, instance, *args, **kwargs)


def detach_interface(original: nova_types.Original,
                     self: compute_manager.ComputeManager,
                     context: nova_context.RequestContext,
                     instance: objects.Instance, *args: typing.Any,
                     **kwargs: typing.Any) -> None:
    """Detach a port from a server in rescue, in its turn."""
    if not _is_in_rescue(self, instance):
        return original(context, instance, *args, **kwargs)
    from nova_rescue_ext.in_rescue import operation

    with operation.DetachPort(instance).turn():
        return original(context, instance, *args, **kwargs)


def _is_in_rescue(manager: compute_manager.ComputeManager,
                  instance: objects.Instance) -> bool:
    return (capabilities.is_libvirt(manager.driver)
            and instance.vm_state == vm_states.RESCUED)


def _act(task: operation.StaysInRescue,
         act: typing.Callable[[], typing.Any]) -> typing.Any:
    """Do what a message asks for, unless its task has ended."""

    def act_on_task() -> typing.Any:
        with task:
            return act()

    return stale_message.act_in_time(
        task.manager, task.instance, task.ACTION, task.instance.task_state,
        act_on_task)

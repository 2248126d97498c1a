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

from __future__ import annotations

import inspect
import typing

from nova.compute import instance_actions
from nova.compute import task_states
from nova.compute import utils as compute_utils
from nova.compute import vm_states
from nova import conf
from nova import context as nova_context
from nova import exception
from nova import objects

from nova_rescue_ext import capabilities
from nova_rescue_ext import instance_metadata
from nova_rescue_ext import microversion
from nova_rescue_ext import nova_types
from nova_rescue_ext.rescue import image
from nova_rescue_ext.task import final_save
from nova_rescue_ext.task import stale_message

if typing.TYPE_CHECKING:
    from nova.compute import manager as compute_manager

    from nova_rescue_ext.rescue import operation as rescue_operation

CONF = conf.CONF


def get_rescue_image(original: nova_types.Original,
                     self: compute_manager.ComputeManager,
                     context: nova_context.RequestContext,
                     instance: objects.Instance,
                     rescue_image_ref: str | None = None) -> objects.ImageMeta:
    """Get the rescue image, and decide how its disk is attached.

    nova-api has chosen and checked the image. Only a stock nova-api sends none
    for a boot-from-volume server: then it is found as ours would have found
    it. As this context is elevated, only an image that the server's project
    may read is used (spec: bfv-rescue).

    :returns: an ImageMeta
    :raises: InstanceNotRescuable
    """
    bdms = objects.BlockDeviceMappingList.get_by_instance_uuid(
        context, instance.uuid)
    volume_backed = compute_utils.is_volume_backed_instance(
        context, instance, bdms)
    if volume_backed and not rescue_image_ref:
        rescue_image_ref, _found = image.of_root_volume(
            context.elevated(), instance, bdms, self.volume_api,
            self.image_api)
    if instance_metadata.is_offered_image(instance, rescue_image_ref):
        context = image.operator_context(instance)
    image_meta = original(context, instance, rescue_image_ref)
    if volume_backed or _stable_devices_always(instance):
        image.use_stable_devices(image_meta.properties)
    return image_meta


def _stable_devices_always(instance: objects.Instance) -> bool:
    return (CONF.rescue_ext.stable_devices == 'always'
            and CONF.libvirt.virt_type != 'lxc'
            and instance_metadata.rescue_asks_for(
                instance, microversion.RESCUE))


def rescue_instance(original: nova_types.Original,
                    self: compute_manager.ComputeManager,
                    context: nova_context.RequestContext,
                    instance: objects.Instance, *args: typing.Any,
                    **kwargs: typing.Any) -> None:
    """Rescue, unless the task has ended, e.g. by a restart."""
    sent = instance.obj_clone()
    if instance.vm_state != vm_states.RESCUED:
        instance_metadata.forget_other_rescue_request(instance,
                                                      context.request_id)
    return stale_message.act_in_time(
        self, instance, instance_actions.RESCUE, task_states.RESCUING,
        lambda: _rescue(original, self, context, instance, *args, **kwargs),
        is_replaced=lambda fresh: not (
            instance_metadata.has_same_rescue_request(sent, fresh)))


def _rescue(original: nova_types.Original,
            manager: compute_manager.ComputeManager,
            context: nova_context.RequestContext, instance: objects.Instance,
            *args: typing.Any, **kwargs: typing.Any) -> None:
    """Rescue, with a state that the manager and the driver share.

    The domain that Nova saves is removed once the server is RESCUED, as our
    unrescue does not need it (spec: live-migrate-rescued).
    """
    if not capabilities.is_libvirt(manager.driver):
        with final_save.ensured(instance):
            return original(context, instance, *args, **kwargs)
    from nova_rescue_ext.host import rescue_files
    from nova_rescue_ext.rescue import operation
    from nova_rescue_ext.rescue import readiness

    with operation.Rescue(manager, context, instance) as rescue:
        try:
            with final_save.ensured(instance):
                original(context, instance, *args, **kwargs)
        except Exception as exc:
            if isinstance(exc, (exception.InstanceNotFound,
                                exception.UnexpectedTaskStateError)):
                rescue.settle()
            rescue.notify_of_end(
                inspect.signature(original).bind(
                    context, instance, *args,
                    **kwargs).arguments['rescue_image_ref'], exc)
            raise
        finally:
            if instance_metadata.rescue_of(instance):
                rescue_files.try_to_remove_stock_domain(instance)
    readiness.watch(manager, instance)


def power_off_instance(original: nova_types.Original,
                       self: compute_manager.ComputeManager, *args: typing.Any,
                       **kwargs: typing.Any) -> None:
    """In a rescue, keep the guest running until the rescue disk is ready."""
    instance = inspect.signature(original).bind(
        *args, **kwargs).arguments['instance']
    rescue = _rescue_of_this_thread(self, instance)
    if rescue is None:
        return original(*args, **kwargs)
    rescue.power_off_when_ready(lambda: original(*args, **kwargs))


def _rescue_of_this_thread(
        manager: compute_manager.ComputeManager,
        instance: objects.Instance) -> rescue_operation.Rescue | None:
    if not capabilities.is_libvirt(manager.driver):
        return None
    from nova_rescue_ext.host import hard_reboot
    from nova_rescue_ext.rescue import operation

    # The way back powers the guest off itself.
    if hard_reboot.HardReboot.of_this_thread(instance.uuid):
        return None
    return operation.Rescue.of_this_thread(instance.uuid)


def init_instance(original: nova_types.Original,
                  self: compute_manager.ComputeManager,
                  context: nova_context.RequestContext,
                  instance: objects.Instance) -> None:
    """Finish or roll back what a restart of nova-compute interrupted.

    Stock Nova leaves the server RESCUING or UNRESCUING forever
    (hazard: restart-in-rescue).
    """
    # Nova checks in this order: a partly deleted server may have no task.
    if (instance.host == self.host
            and instance.vm_state not in (vm_states.SOFT_DELETED,
                                          vm_states.DELETED)
            and instance.task_state in (task_states.RESCUING,
                                        task_states.UNRESCUING)
            and capabilities.is_libvirt(self.driver)):
        from nova_rescue_ext.rescue import recovery

        if not recovery.recover(self, context, instance):
            return None
    if (instance.host == self.host
            and instance.vm_state == vm_states.RESCUED
            and capabilities.is_libvirt(self.driver)):
        from nova_rescue_ext.in_rescue import recovery as in_rescue_recovery

        if (in_rescue_recovery.is_needed(instance)
                and not in_rescue_recovery.recover(self, context, instance)):
            return None
    return original(context, instance)

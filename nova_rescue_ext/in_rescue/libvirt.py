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


"""Actions on servers in rescue, in the libvirt driver."""

from __future__ import annotations

import typing

from nova.compute import vm_states
from nova import context as nova_context
from nova import objects
from nova.virt.libvirt import config as libvirt_config

from nova_rescue_ext.host import guests
from nova_rescue_ext.host import rescue_guest
from nova_rescue_ext.in_rescue import operation
from nova_rescue_ext import nova_types

if typing.TYPE_CHECKING:
    from nova.virt.libvirt import driver as libvirt_driver


def reboot(original: nova_types.Original, self: libvirt_driver.LibvirtDriver,
           context: nova_context.RequestContext, instance: objects.Instance,
           *args: typing.Any, **kwargs: typing.Any) -> None:
    """Reboot a guest, in rescue only one that is the guest of the rescue.

    A soft reboot starts whatever domain is defined.
    """
    task = operation.Reboot.on(instance)
    if task is not None:
        task.check()
    return original(context, instance, *args, **kwargs)


def get_device_name_for_instance(original: nova_types.Original,
                                 self: libvirt_driver.LibvirtDriver,
                                 instance: objects.Instance,
                                 *args: typing.Any,
                                 **kwargs: typing.Any) -> str:
    """Name a volume, about to be attached, as no disk of the guest is named.

    In a rescue, the guest has other disks than the server. The name counts in
    both. Nova holds the lock.

    :raises: InstanceInvalidState, if something else has begun meanwhile
    """
    # Some of Nova's tests have instances without a state.
    if (not instance.obj_attr_is_set('vm_state')
            or instance.vm_state != vm_states.RESCUED):
        return original(instance, *args, **kwargs)
    operation.AttachVolume(instance).check()
    with rescue_guest.Naming(instance.uuid,
                             guests.disk_targets(self, instance)):
        return original(instance, *args, **kwargs)


def get_guest_disk_device(
        original: nova_types.Original, self: libvirt_driver.LibvirtDriver,
        guest: typing.Any, disk_dev: str, volume_uuid: str | None = None,
        *args: typing.Any, **kwargs: typing.Any
) -> libvirt_config.LibvirtConfigGuestDisk | None:
    """Find a volume that is detached in rescue, and no other disk.

    Nova goes by the name if the guest does not have the volume, as in a rescue
    without stable devices. There, that is the name of another disk.
    """
    disk = original(guest, disk_dev, volume_uuid, *args, **kwargs)
    if (disk is not None and volume_uuid is not None
            and operation.DetachVolume.is_run_by_this_thread()
            and disk.serial != volume_uuid
            and disk.alias != libvirt_config.make_libvirt_device_alias(
                volume_uuid)):
        return None
    return disk

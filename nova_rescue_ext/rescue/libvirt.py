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


"""Rescue in the libvirt driver."""

from __future__ import annotations

import contextlib
import inspect
import re
import typing

from nova.compute import vm_states
from nova import conf
from nova import context as nova_context
from nova import objects
from nova.virt import driver as virt_driver
from nova.virt import hardware
from nova.virt.libvirt import blockinfo
from nova.virt.libvirt import config as libvirt_config
from nova.virt.libvirt import utils as libvirt_utils

from nova_rescue_ext import capabilities
from nova_rescue_ext import claims
from nova_rescue_ext.host import guests
from nova_rescue_ext.host import hard_reboot
from nova_rescue_ext.host import rescue_guest
from nova_rescue_ext.host import tpm as host_tpm
from nova_rescue_ext.i18n import _
from nova_rescue_ext import instance_metadata
from nova_rescue_ext import microversion
from nova_rescue_ext import nova_types
from nova_rescue_ext.rescue import image
from nova_rescue_ext.rescue import metadata
from nova_rescue_ext.rescue import operation

if typing.TYPE_CHECKING:
    from nova.network import model as network_model
    from nova.virt.libvirt import driver as libvirt_driver
    from nova.virt.libvirt import imagebackend

CONF = conf.CONF

# Part of the name of a machine type -> the buses that it lacks. The first
# match counts; type pc has all of them.
_MISSING_BUSES = {
    'q35': ('ide',),
    's390-ccw-virtio': ('ide', 'fdc', 'sata', 'usb'),
    'virt': ('ide', 'fdc'),
    'pseries': ('ide', 'fdc'),
}


def get_available_resource(original: nova_types.Original,
                           self: libvirt_driver.LibvirtDriver,
                           nodename: str) -> dict[str, typing.Any]:
    """Report what this host can do along with its resources."""
    resources = original(nodename)
    capabilities.report(resources, host_tpm.is_kept(self))
    return resources


def rescue(original: nova_types.Original, self: libvirt_driver.LibvirtDriver,
           context: nova_context.RequestContext, instance: objects.Instance,
           network_info: network_model.NetworkInfo,
           image_meta: objects.ImageMeta, rescue_password: str,
           block_device_info: nova_types.BlockDeviceInfo, *args: typing.Any,
           **kwargs: typing.Any) -> None:
    """Rescue; a failure puts the server back as it was.

    Without an operation, as in Nova's own tests of the driver, it is stock
    Nova's rescue.
    """
    ours = operation.Rescue.of_this_thread(instance.uuid)
    if ours is None:
        return original(context, instance, network_info, image_meta,
                        rescue_password, block_device_info, *args, **kwargs)
    with (ours.in_driver(image_meta, block_device_info),
          _image_of_server_kept(instance)):
        ours.remove_earlier()
        _choose_bus(instance, image_meta)
        _refuse_unfit_bus(instance, image_meta)
        kernel_id, ramdisk_id = _kernel_and_ramdisk(
            self, ours.context, instance, image_meta)
        ours.record(
            _image_id(instance, image_meta),
            CONF.libvirt.rescue_kernel_id or kernel_id,
            CONF.libvirt.rescue_ramdisk_id or ramdisk_id,
            instance_metadata.STABLE
            if hardware.check_hw_rescue_props(image_meta)
            else instance_metadata.LEGACY)
        # Nova takes them from the instance.
        instance.kernel_id, instance.ramdisk_id = kernel_id, ramdisk_id
        original(context, instance, network_info, image_meta,
                 rescue_password, block_device_info, *args, **kwargs)


@contextlib.contextmanager
def _image_of_server_kept(instance: objects.Instance) -> typing.Iterator[None]:
    """Undo changes to what is recorded of the server's image.

    Nova records the machine type of the rescue system there
    (hazard: machine-type).
    """
    properties = _image_properties(instance)
    kernel_id, ramdisk_id = instance.kernel_id, instance.ramdisk_id
    try:
        yield
    finally:
        for key in _image_properties(instance):
            del instance.system_metadata[key]
        instance.system_metadata.update(properties)
        instance.kernel_id, instance.ramdisk_id = kernel_id, ramdisk_id


def _image_properties(instance: objects.Instance) -> dict[str, str]:
    return {key: value for key, value in instance.system_metadata.items()
            if key.startswith('image_')}


def _image_id(instance: objects.Instance,
              image_meta: objects.ImageMeta) -> str:
    return (image_meta.id if image_meta.obj_attr_is_set('id')
            else instance.image_ref)


def _choose_bus(instance: objects.Instance,
                image_meta: objects.ImageMeta) -> None:
    """Choose the bus of the rescue disk, if the image does not name it.

    It is the bus on which the server itself would have such a disk (spec:
    stable-device-rescue). Stock Nova goes by the rescue image, which knows
    nothing of the server's machine type. From compute-rescue 1.1.
    """
    properties = image_meta.properties
    if (instance_metadata.rescue_asks_for(instance, microversion.RESCUE)
            and hardware.check_hw_rescue_props(image_meta)
            and not properties.obj_attr_is_set('hw_rescue_bus')):
        properties.hw_rescue_bus = blockinfo.get_disk_bus_for_device_type(
            instance, CONF.libvirt.virt_type, instance.image_meta,
            properties.hw_rescue_device)


def _refuse_unfit_bus(instance: objects.Instance,
                      image_meta: objects.ImageMeta) -> None:
    """Refuse a bus that the virt type or the machine type does not have.

    libvirt would refuse it only when the guest is already down.

    :raises: InstanceNotRescuable, UnsupportedRescueBus
    """
    if (not hardware.check_hw_rescue_props(image_meta)
            or CONF.libvirt.virt_type == 'lxc'  # Nova refuses stable devices
            # Otherwise the machine type is that of Glance and nova.conf now.
            or not _is_ours(instance)):
        return
    device = blockinfo.get_rescue_device(image_meta)
    bus = blockinfo.get_rescue_bus(instance, CONF.libvirt.virt_type,
                                   image_meta, device)
    if bus in ('virtio', 'scsi'):  # all machine types have these
        return
    machine = libvirt_utils.get_machine_type(instance.image_meta) or ''
    missing = next((buses for name, buses in _MISSING_BUSES.items()
                    if name in machine), ())
    if bus in missing:
        image.refuse(instance, _(
            'its machine type %(machine)s has no %(bus)s bus, which the '
            'rescue image needs for its %(device)s. A disk can be on '
            '%(buses)s.') % {
                'machine': machine, 'bus': bus, 'device': device,
                'buses': ', '.join(other for other in image.BUSES['disk']
                                   if other not in missing)})


def _kernel_and_ramdisk(driver: libvirt_driver.LibvirtDriver,
                        context: nova_context.RequestContext,
                        instance: objects.Instance,
                        image_meta: objects.ImageMeta) -> tuple[str, str]:
    """The IDs of the kernel and the ramdisk that the rescue boots with.

    From compute-rescue 1.1 they are those of the rescue image, not of the
    server.

    :raises: InstanceNotRescuable
    """
    image_id = _image_id(instance, image_meta)
    if (not instance_metadata.rescue_asks_for(instance, microversion.RESCUE)
            or image_id == instance.image_ref):
        return instance.kernel_id, instance.ramdisk_id
    origin = claims.Origin.CALLER
    if instance_metadata.is_offered_image(instance, image_id):
        origin = claims.Origin.OPERATOR
        context = image.operator_context(instance)
    found = image.get(context, instance, driver._image_api, image_id, origin)
    # Its owner may have changed it since nova-api checked it.
    return image.get_kernel_and_ramdisk(
        context, instance, driver._image_api, found, origin)


def create_image(original: nova_types.Original,
                 self: libvirt_driver.LibvirtDriver,
                 context: nova_context.RequestContext,
                 instance: objects.Instance, *args: typing.Any,
                 **kwargs: typing.Any) -> bool:
    """Download the operator's rescue image with the operator's rights."""
    if operation.Rescue.in_driver_of_this_thread(instance.uuid) is not None:
        if instance_metadata.is_offered_image(
                instance, kwargs['disk_images']['image_id']):
            context = image.operator_context(instance)
    return original(context, instance, *args, **kwargs)


def create_lvm_image(original: nova_types.Original, self: imagebackend.Lvm,
                     prepare_template: typing.Callable[..., None],
                     *args: typing.Any, **kwargs: typing.Any) -> None:
    """Read the key of an encrypted rescue disk with the caller's rights.

    The operator's rights are only for their image.
    """
    # The name of the volume begins with the UUID of the server.
    ours = operation.Rescue.in_driver_of_this_thread(
        self.lv.partition('_')[0])
    if ours is None or 'context' not in kwargs:
        return original(prepare_template, *args, **kwargs)
    context = kwargs.pop('context')

    def prepare(*args: typing.Any, **kwargs: typing.Any) -> None:
        return prepare_template(*args, **dict(kwargs, context=context))

    return original(prepare, *args, context=ours.context, **kwargs)


def get_disk_info(
        original: nova_types.Original, virt_type: str,
        instance: objects.Instance, image_meta: objects.ImageMeta,
        block_device_info: nova_types.BlockDeviceInfo | None = None,
        rescue: bool = False,
        rescue_image_meta: objects.ImageMeta | None = None
) -> dict[str, typing.Any]:
    """Put the disks of the server where they are in its own domain.

    Nova goes by nova.conf and the server's image in Glance, whose properties
    may have changed. From compute-rescue 1.1 the properties recorded with the
    server count, as in every other domain of it.
    """
    if rescue_image_meta is not None and _is_ours(instance):
        image_meta = instance.image_meta
    with _as_in_rescue(instance, rescue):
        info = original(virt_type, instance, image_meta, block_device_info,
                        rescue, rescue_image_meta)
    naming = rescue_guest.Naming.on(instance)
    if naming is not None:
        naming.reserve_in(info['mapping'])
    return info


def create_configdrive(original: nova_types.Original,
                       self: libvirt_driver.LibvirtDriver,
                       context: nova_context.RequestContext,
                       instance: objects.Instance, injection_info: typing.Any,
                       rescue: bool = False) -> None:
    """Make the config drive of a rescue with what was requested for it.

    From compute-rescue 1.4, also of a server that has none itself.
    """
    with _as_in_rescue(instance, rescue):
        original(context, instance, injection_info, rescue=rescue)


def _as_in_rescue(
        instance: objects.Instance,
        rescue: bool) -> contextlib.AbstractContextManager[None]:
    if (rescue and operation.Rescue.in_driver_of_this_thread(instance.uuid)
            is not None):
        access = instance_metadata.access_to_rescue(instance)
        if access is not None:
            return metadata.as_in_rescue(instance, access)
    return contextlib.nullcontext()


def _is_ours(instance: objects.Instance) -> bool:
    """Whether this thread rescues a server for a caller who opted in."""
    ours = operation.Rescue.in_driver_of_this_thread(instance.uuid)
    return (ours is not None
            and instance_metadata.rescue_asks_for(
                instance, microversion.RESCUE))


def get_guest_config(
        original: nova_types.Original, self: libvirt_driver.LibvirtDriver,
        instance: objects.Instance, network_info: network_model.NetworkInfo,
        image_meta: objects.ImageMeta, disk_info: dict[str, typing.Any],
        *args: typing.Any,
        **kwargs: typing.Any) -> libvirt_config.LibvirtConfigGuest:
    """The domain of a rescue: the server's own, with the rescue disk.

    The rescue disk is ready: from here on nobody else is at the guest, as Nova
    connects the server's volumes in here.
    """
    arguments = inspect.signature(original).bind(
        instance, network_info, image_meta, disk_info, *args,
        **kwargs).arguments
    if arguments.get('old_guest') is not None:  # from Nova 33
        hard_reboot.keep_firmware(instance, arguments['old_guest'])
    ours = operation.Rescue.in_driver_of_this_thread(instance.uuid)
    # The own domain of a server that has none is made first, to go back to.
    if ours is None or 'disk.rescue' not in disk_info['mapping']:
        return original(instance, network_info, image_meta, disk_info, *args,
                        **kwargs)
    is_ours = _is_ours(instance)
    if is_ours and hardware.check_hw_rescue_props(ours.image_meta):
        image_meta = _hardware_of_server(instance, ours.image_meta,
                                         disk_info['mapping'])
    ours.leave_tpm_out()
    with ours.connecting(virt_driver.block_device_info_get_mapping(
            arguments.get('block_device_info'))):
        guest = original(instance, network_info, image_meta, disk_info, *args,
                         **kwargs)
    if is_ours:
        _boot_kernel_with_rescue_disk(guest, ours.image_meta,
                                      disk_info['mapping'])
    if instance_metadata.rescue_asks_for(instance,
                                         microversion.RESCUE_SESSION):
        # Nova passes on none of it in a rescue without stable devices.
        _number_disks(guest, disk_info['mapping'], ours.block_device_info)
    return guest


def _hardware_of_server(instance: objects.Instance,
                        rescue_image_meta: objects.ImageMeta,
                        mapping: dict[str, typing.Any]) -> objects.ImageMeta:
    """The server's recorded image, with what the rescue disk needs on top.

    That is the model of a SCSI controller, if the server has no such
    controller.
    """
    image_meta = instance.image_meta
    buses = {name: disk.get('bus') for name, disk in mapping.items()
             if isinstance(disk, dict)}
    rescue_bus = buses.pop('disk.rescue', None)
    model = rescue_image_meta.properties.get('hw_scsi_model')
    if model and rescue_bus == 'scsi' and 'scsi' not in buses.values():
        image_meta.properties.hw_scsi_model = model
    return image_meta


def _number_disks(
        guest: libvirt_config.LibvirtConfigGuest,
        mapping: dict[str, typing.Any],
        block_device_info: nova_types.BlockDeviceInfo | None) -> None:
    """Give the server's own local disks serial numbers.

    They are the UUIDs of its block devices, as those of its volumes are theirs
    already: the rescue system finds each under /dev/disk/by-id.

    :param guest: the LibvirtConfigGuest; changed in place
    """
    local = {'disk': device for device
             in virt_driver.block_device_info_get_image(block_device_info)}
    ephemerals = virt_driver.block_device_info_get_ephemerals(
        block_device_info)
    local.update((blockinfo.get_eph_disk(number), device)
                 for number, device in enumerate(ephemerals))
    swap = virt_driver.block_device_info_get_swap(block_device_info)
    if virt_driver.swap_is_usable(swap):
        local['disk.swap'] = swap
    serials = {mapping[name]['dev']: device.uuid
               for name, device in local.items() if name in mapping}
    for device in guest.devices:
        if isinstance(device, libvirt_config.LibvirtConfigGuestDisk):
            device.serial = device.serial or serials.get(device.target_dev)


def _boot_kernel_with_rescue_disk(guest: libvirt_config.LibvirtConfigGuest,
                                  rescue_image_meta: objects.ImageMeta,
                                  mapping: dict[str, typing.Any]) -> None:
    """Have a kernel mount the rescue disk as its root, not the server's.

    :param guest: the LibvirtConfigGuest; changed in place
    """
    if not guest.os_kernel or 'disk.rescue' not in mapping:
        return
    command_line = rescue_image_meta.properties.get('os_command_line')
    if command_line and not CONF.libvirt.rescue_kernel_id:
        guest.os_cmdline = command_line
        return
    guest.os_cmdline = re.sub(
        r'^root=\S+', 'root=/dev/' + mapping['disk.rescue']['dev'],
        guest.os_cmdline)


def destroy(original: nova_types.Original, self: libvirt_driver.LibvirtDriver,
            instance: objects.Instance) -> None:
    """Power the guest off cleanly now that the rescue disk is ready."""
    ours = operation.Rescue.in_driver_of_this_thread(instance.uuid)
    if ours is not None:
        ours.switch_guests()
    return original(instance)


def get_guest_disk_config(
        original: nova_types.Original, self: libvirt_driver.LibvirtDriver,
        instance: objects.Instance, name: str,
        disk_mapping: dict[str, typing.Any], *args: typing.Any,
        **kwargs: typing.Any) -> libvirt_config.LibvirtConfigGuestDisk | None:
    """Attach the config drive that was made for the rescue.

    With stable devices Nova makes it, with the password that the caller was
    given, but attaches the server's own with the server's first password. From
    compute-rescue 1.1 it is attached at the address of the server's own.
    """
    if (name != 'disk.config' or 'disk.rescue' not in disk_mapping
            or operation.Rescue.in_driver_of_this_thread(instance.uuid) is None
            or not instance_metadata.rescue_asks_for(
                instance, microversion.RESCUE)):
        return original(instance, name, disk_mapping, *args, **kwargs)
    name = 'disk.config.rescue'
    # In place: Nova counts the units of the SCSI bus in the mapping.
    disk_mapping[name] = disk_mapping['disk.config']
    try:
        return original(instance, name, disk_mapping, *args, **kwargs)
    finally:
        del disk_mapping[name]


def resume_state_on_host_boot(original: nova_types.Original,
                              self: libvirt_driver.LibvirtDriver,
                              context: nova_context.RequestContext,
                              instance: objects.Instance,
                              network_info: network_model.NetworkInfo,
                              *args: typing.Any, **kwargs: typing.Any) -> None:
    """Start a rescued server in rescue after its host was rebooted.

    Stock Nova boots its own, broken disks (hazard: restart-in-rescue).
    """
    if (instance.vm_state != vm_states.RESCUED
            or guests.is_running(self, instance)
            or not guests.is_in_rescue(self, instance)):
        return original(context, instance, network_info, *args, **kwargs)
    rescue_guest.start(
        self, context, instance, network_info, inspect.signature(
            original).bind(context, instance, network_info, *args,
                           **kwargs).arguments.get('block_device_info'))

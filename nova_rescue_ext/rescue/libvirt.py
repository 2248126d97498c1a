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

import inspect
import os

from lxml import etree
from nova.compute import vm_states
from nova import conf
from nova import exception
from nova.virt import hardware
from nova.virt.libvirt import blockinfo
from nova.virt.libvirt import utils as libvirt_utils
from oslo_log import log as logging
from oslo_utils import excutils

from nova_rescue_ext import capabilities
from nova_rescue_ext.host import rescue_files
from nova_rescue_ext.i18n import _
from nova_rescue_ext import instance_metadata
from nova_rescue_ext import microversion
from nova_rescue_ext.rescue import image
from nova_rescue_ext.rescue import progress

CONF = conf.CONF
LOG = logging.getLogger(__name__)

# Part of the name of a machine type -> the buses that it lacks; the first that
# fits counts. Type pc has all of them.
_MISSING_BUSES = {
    'q35': ('ide',),
    's390-ccw-virtio': ('ide', 'fdc', 'sata', 'usb'),
    'virt': ('ide', 'fdc'),
    'pseries': ('ide', 'fdc'),
}


def get_available_resource(original, self, nodename):
    """Report what this host can do with the rest of its resources."""
    resources = original(nodename)
    capabilities.report(resources)
    return resources


def rescue(original, self, context, instance, network_info, image_meta,
           rescue_password, block_device_info, *args, **kwargs):
    """Rescue; a failure puts the server back as it was.

    Nova's own rescue prepares all there is to prepare, then destroys the
    guest, then starts the rescue guest. The manager has left it to us to
    power the guest off in between (destroy() below).

    Files of an earlier rescue are removed first: Nova would boot them again
    (hazard: files-of-an-earlier-rescue). The properties of the server's image
    stay as they were (hazard: machine-type).
    """
    current = progress.of(instance)
    if current is None:
        current = progress.Progress()
        current.was_running = is_running(self, instance)
    current.driver_called = True
    properties = _image_properties(instance)
    kernel_id, ramdisk_id = instance.kernel_id, instance.ramdisk_id
    try:
        rescue_files.remove(self, instance)
        _choose_bus(instance, image_meta)
        _refuse_unfit_bus(instance, image_meta)
        kernel = _kernel_and_ramdisk(self, current.context or context,
                                     instance, image_meta)
        _write_record(instance, image_meta, *kernel)
        if progress.of(instance) is not None:
            # Before the guest goes down: a nova-compute that is killed in the
            # rescue finds it when it is started again.
            instance.save()
        # Nova reads them off the instance; they are not saved.
        instance.kernel_id, instance.ramdisk_id = kernel
        original(context, instance, network_info, image_meta,
                 rescue_password, block_device_info, *args, **kwargs)
        current.rescue_guest_runs = True
    except Exception:
        with excutils.save_and_reraise_exception():
            roll_back(self, context, instance, current)
    finally:
        for key in _image_properties(instance):
            del instance.system_metadata[key]
        instance.system_metadata.update(properties)
        instance.kernel_id, instance.ramdisk_id = kernel_id, ramdisk_id


def is_running(driver, instance):
    """Whether a server's guest is up.

    :param driver: the LibvirtDriver
    :param instance: the Instance
    """
    try:
        return driver._host.get_guest(instance).is_active()
    except exception.InstanceNotFound:
        return False


def _image_properties(instance):
    return {key: value for key, value in instance.system_metadata.items()
            if key.startswith('image_')}


def _image_id(instance, image_meta):
    return (image_meta.id if image_meta.obj_attr_is_set('id')
            else instance.image_ref)


def _choose_bus(instance, image_meta):
    """The bus of the rescue disk, where the image does not name it.

    The one that the server itself would have such a disk on
    (spec: stable-device-rescue). Stock Nova asks the rescue
    image, which knows nothing of the server's machine type. From
    compute-rescue 1.1.
    """
    properties = image_meta.properties
    if (instance_metadata.rescue_asks_for(instance, microversion.RESCUE)
            and hardware.check_hw_rescue_props(image_meta)
            and not properties.obj_attr_is_set('hw_rescue_bus')):
        properties.hw_rescue_bus = blockinfo.get_disk_bus_for_device_type(
            instance, CONF.libvirt.virt_type, instance.image_meta,
            properties.get('hw_rescue_device', 'disk'))


def _refuse_unfit_bus(instance, image_meta):
    """Refuse a bus that the virt type or the machine type does not have.

    libvirt says so when the domain is defined, with the guest down.

    :raises: InstanceNotRescuable, UnsupportedRescueBus
    """
    if (not hardware.check_hw_rescue_props(image_meta)
            or CONF.libvirt.virt_type == 'lxc'):  # Nova refuses all of it
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
            'its machine type %(machine)s has no %(bus)s bus, which a '
            '%(device)s of the rescue image is for. A disk can be on '
            '%(buses)s') % {
                'machine': machine, 'bus': bus, 'device': device,
                'buses': ', '.join(other for other in image.BUSES['disk']
                                   if other not in missing)})


def _write_record(instance, image_meta, kernel_id, ramdisk_id):
    instance_metadata.record_rescue(
        instance, _image_id(instance, image_meta),
        CONF.libvirt.rescue_kernel_id or kernel_id,
        CONF.libvirt.rescue_ramdisk_id or ramdisk_id,
        instance_metadata.STABLE if hardware.check_hw_rescue_props(image_meta)
        else instance_metadata.LEGACY)


def _kernel_and_ramdisk(driver, context, instance, image_meta):
    """The ids of the kernel and the ramdisk that the rescue boots with.

    From compute-rescue 1.1 those of the rescue image, not of the server.

    :raises: InstanceNotRescuable
    """
    image_id = _image_id(instance, image_meta)
    if (not instance_metadata.rescue_asks_for(instance, microversion.RESCUE)
            or image_id == instance.image_ref):
        return instance.kernel_id, instance.ramdisk_id
    origin = image.NAMED
    if instance_metadata.is_offered_image(instance, image_id):
        origin, context = image.OFFERED, image.operator_context(instance)
    metadata = image.get(context, instance, driver._image_api, image_id)
    # Its owner may have changed it since nova-api looked.
    image.check_kernel_and_ramdisk(
        context, instance, driver._image_api, image_id, metadata, origin)
    return image.kernel_and_ramdisk(metadata)


def create_image(original, self, context, instance, *args, **kwargs):
    """Download the operator's rescue image with the operator's rights."""
    if progress.of(instance) is not None:
        images = kwargs.get('disk_images') or {}
        if instance_metadata.is_offered_image(
                instance, images.get('image_id')):
            context = image.operator_context(instance)
    return original(context, instance, *args, **kwargs)


def destroy(original, self, instance):
    """Power the guest off cleanly now that the rescue disk is ready."""
    current = progress.of(instance)
    if current is not None:
        current.guest_touched = True
        power_off, current.power_off = current.power_off, None
        if power_off:
            power_off()
    return original(instance)


def get_guest_disk_config(original, self, instance, name, disk_mapping,
                          *args, **kwargs):
    """Show a rescue system the config drive that was made for it.

    With stable devices Nova makes it, with the password that the caller was
    told, and attaches the server's own, which has the server's first password.
    From compute-rescue 1.1, at the address of the server's own.
    """
    if (name != 'disk.config' or progress.of(instance) is None
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


def roll_back(driver, context, instance, current):
    """Put a server back as it was before its rescue.

    Whether that has worked is in its Progress.

    :param driver: the LibvirtDriver
    :param context: a RequestContext
    :param instance: the Instance
    :param current: its Progress
    """
    current.rescue_guest_runs = False
    try:
        instance_metadata.forget_rescue(instance)
        if current.guest_touched:
            _restore_guest(driver, context, instance, current)
    except Exception:
        LOG.exception('The rescue failed, and so did the way back. No disk '
                      'of the server was changed: hard reboot it.',
                      instance=instance)
        return
    current.rolled_back = True
    rescue_files.remove_all(driver, instance)


def _restore_guest(driver, context, instance, current):
    if current.has_shares and current.was_running:
        driver.unrescue(context, instance)  # mounts them
    elif current.driver_called:
        _restore_stock_domain(driver, context, instance, current.was_running)


def _restore_stock_domain(driver, context, instance, start):
    with open(rescue_files.stock_domain_path(instance),
              encoding='utf-8') as domain:
        xml = domain.read()
    driver._destroy(instance)
    driver._create_guest(context, xml, instance, power_on=start)


def rescue_guest_is_running(driver, instance):
    """Whether what runs is the rescue guest.

    :param driver: the LibvirtDriver
    :param instance: the Instance
    """
    return is_running(driver, instance) and _has_rescue_disk(driver, instance)


def _has_rescue_disk(driver, instance):
    domain = etree.fromstring(
        driver._host.get_guest(instance).get_xml_desc())
    names = (value for source in domain.findall('devices/disk/source')
             for value in source.attrib.values())
    return any(name.endswith(rescue_files.SUFFIX) for name in names)


def roll_back_interrupted(driver, context, instance):
    """Put a server back whose rescue a restart of nova-compute interrupted.

    A guest that was not touched runs on.

    :param driver: the LibvirtDriver
    :param context: a RequestContext
    :param instance: the Instance
    """
    if _is_untouched(driver, instance):
        pass
    elif (instance.vm_state != vm_states.ACTIVE
            and os.path.exists(rescue_files.stock_domain_path(instance))):
        _restore_stock_domain(driver, context, instance, start=False)
    else:
        # From the database: the host may have been rebooted, and in the domain
        # of before a device path may be another volume
        # (hazard: stale-saved-domain).
        driver.unrescue(context, instance)
    instance_metadata.forget_rescue(instance)
    rescue_files.remove(driver, instance)
    rescue_files.remove_stock_domain(instance)


def _is_untouched(driver, instance):
    try:
        if _has_rescue_disk(driver, instance):
            return False
    except exception.InstanceNotFound:
        return False
    return (instance.vm_state != vm_states.ACTIVE
            or is_running(driver, instance)
            # Made before anything else is.
            or not os.path.exists(rescue_files.stock_domain_path(instance)))


def resume_state_on_host_boot(original, self, context, instance,
                              network_info, *args, **kwargs):
    """Bring a rescued server up in rescue after its host was rebooted.

    Stock Nova boots its own, broken disks (hazard: restart-in-rescue). The
    domain is the one that was defined for the rescue, with its volumes
    connected anew: a device path of before the reboot may be another volume by
    now (hazard: stale-saved-domain).
    """
    if (instance.vm_state != vm_states.RESCUED
            or is_running(self, instance)
            or not _rescue_domain_exists(self, instance)):
        return original(context, instance, network_info, *args, **kwargs)
    block_device_info = kwargs.get('block_device_info') or next(
        (value for value in args if isinstance(value, dict)), None)
    xml = _with_volumes(self, context, instance, block_device_info)
    self._create_guest_with_network(
        context, xml, instance, network_info, block_device_info,
        vifs_already_plugged=True)


def _rescue_domain_exists(driver, instance):
    try:
        return _has_rescue_disk(driver, instance)
    except exception.InstanceNotFound:
        return False


def _with_volumes(driver, context, instance, block_device_info):
    """The defined domain, with the sources of volumes as they are now."""
    domain = etree.fromstring(
        driver._host.get_guest(instance).get_xml_desc())
    disks = {disk.findtext('serial'): disk
             for disk in domain.findall('devices/disk')}
    for bdm in (block_device_info or {}).get('block_device_mapping', []):
        disk = disks.get(bdm['connection_info'].get('serial'))
        if disk is None:
            continue  # not in a rescue without stable devices
        driver._connect_volume(context, bdm['connection_info'], instance)
        _renew_source(driver, instance, bdm['connection_info'], disk)
        bdm.save()
    return etree.tostring(domain, encoding='unicode')


def _renew_source(driver, instance, connection_info, disk):
    target = disk.find('target')
    arguments = (connection_info, {'bus': target.get('bus'),
                                   'dev': target.get('dev'),
                                   'type': disk.get('device')})
    if 'instance' in inspect.signature(driver._get_volume_config).parameters:
        arguments = (instance, *arguments)  # Nova 29 and 30
    volume = etree.fromstring(
        driver._get_volume_config(*arguments).to_xml())
    disk.set('type', volume.get('type'))
    disk.replace(disk.find('source'), volume.find('source'))

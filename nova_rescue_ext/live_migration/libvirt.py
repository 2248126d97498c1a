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


"""Live migration of rescued servers in the libvirt driver."""

from __future__ import annotations

import contextlib
import copy
import os
import typing

from nova.compute import task_states
from nova.compute import vm_states
from nova import conf
from nova.console import serial as serial_console
from nova import context as nova_context
from nova import exception
from nova import objects
from nova.virt import block_device as driver_block_device
from nova.virt import driver as virt_driver
from nova.virt.libvirt import driver as libvirt_driver
from nova.virt.libvirt import imagecache
from nova.virt.libvirt.volume import fs as volume_fs
from oslo_log import log as logging
from oslo_utils import excutils

from nova_rescue_ext import capabilities
from nova_rescue_ext import exception as ext_exception
from nova_rescue_ext.host import disks
from nova_rescue_ext.host import guests
from nova_rescue_ext.host import qcow2
from nova_rescue_ext.host import rescue_files
from nova_rescue_ext.host import tpm as host_tpm
from nova_rescue_ext.i18n import _
from nova_rescue_ext import instance_metadata
from nova_rescue_ext.live_migration import checks
from nova_rescue_ext.live_migration import destination
from nova_rescue_ext.live_migration import manifest as manifests
from nova_rescue_ext.live_migration import source
from nova_rescue_ext.live_migration import staging
from nova_rescue_ext import microversion
from nova_rescue_ext import nova_types

if typing.TYPE_CHECKING:
    from nova.network import model as network_model
    from nova.virt.libvirt import config as libvirt_config
    from nova.virt.libvirt import guest as libvirt_guest

CONF = conf.CONF
LOG = logging.getLogger(__name__)


def init_host(original: nova_types.Original,
              self: libvirt_driver.LibvirtDriver, host: str) -> None:
    """Set the capability, if the package offers it."""
    original(host)
    self.capabilities[capabilities.LIVE_MIGRATE_RESCUED] = (
        microversion.MAX_VERSION >= microversion.LIVE_MIGRATE_RESCUED)


def check_source(
        original: nova_types.Original, self: libvirt_driver.LibvirtDriver,
        context: nova_context.RequestContext, instance: objects.Instance,
        dest_check_data: objects.LibvirtLiveMigrateData,
        block_device_info: nova_types.BlockDeviceInfo | None = None
) -> objects.LibvirtLiveMigrateData:
    """Refuse what is not safe, and list what QEMU does not copy.

    :raises: MigrationPreCheckError
    """
    if instance.vm_state != vm_states.RESCUED:
        _check_no_rescue_runs(self, instance)
        return original(context, instance, dest_check_data,
                        block_device_info=block_device_info)
    with checks.harmless():
        return _check_rescued(original, self, context, instance,
                              dest_check_data, block_device_info)


def _check_no_rescue_runs(driver: libvirt_driver.LibvirtDriver,
                          instance: objects.Instance) -> None:
    """Refuse a server that is in rescue, although the database denies it.

    Nova would move only the disks that the rescue system has, and delete the
    others with the directory on the source (hazard: state-reset).
    """
    try:
        running = guests.read_domain(driver, instance)
    except exception.InstanceNotFound:
        return
    checks.check_no_rescue_runs(instance, running)


def _check_rescued(
        original: nova_types.Original, driver: libvirt_driver.LibvirtDriver,
        context: nova_context.RequestContext, instance: objects.Instance,
        dest_check_data: objects.LibvirtLiveMigrateData,
        block_device_info: nova_types.BlockDeviceInfo | None
) -> objects.LibvirtLiveMigrateData:
    checked = checks.check_vouched_for(
        instance_metadata.take_checked_destination(instance))
    running = guests.read_domain(driver, instance)
    checks.check(driver, instance, dest_check_data, running)
    result = original(context, instance, dest_check_data,
                      block_device_info=block_device_info)
    # May be left if nova-compute was stopped at the end of the rescue
    # (hazard: stale-saved-domain).
    rescue_files.remove_stock_domain(instance)
    if not result.is_shared_instance_path:
        _check_not_tunnelled(driver, result)
        manifest = manifests.build(instance, running, result.block_migration,
                                   checked.attempt, driver.get_host_ip_addr())
        staging.fill(manifest).send_with(result)
    return result


def _check_not_tunnelled(driver: libvirt_driver.LibvirtDriver,
                         migrate_data: objects.LibvirtLiveMigrateData) -> None:
    """Refuse tunnelling, in which QEMU copies every writable disk."""
    tunnelled = libvirt_driver.libvirt.VIR_MIGRATE_TUNNELLED
    if (migrate_data.block_migration
            and driver._block_migration_flags & tunnelled):
        checks.refuse(_('[libvirt] live_migration_tunnelled cannot be used '
                        'for rescued servers'))


def pre_live_migration(
        original: nova_types.Original, self: libvirt_driver.LibvirtDriver,
        context: nova_context.RequestContext, instance: objects.Instance,
        block_device_info: nova_types.BlockDeviceInfo,
        network_info: network_model.NetworkInfo,
        disk_info: dict[str, typing.Any],
        migrate_data: objects.LibvirtLiveMigrateData
) -> objects.LibvirtLiveMigrateData:
    """Copy to the destination what QEMU does not copy.

    :raises: MigrationSuperseded if this is no longer the current migration
    """
    arrival = destination.Arrival.on(instance)
    if arrival is None:
        return original(context, instance, block_device_info, network_info,
                        disk_info, migrate_data)
    # First, so that a copy that fails or takes too long leaves no volumes to
    # disconnect and no ports to release.
    try:
        arrival.fetch()
    except Exception:
        # Nova would disconnect them all the same, and a volume may be
        # connected for another server.
        block_device_info['block_device_mapping'] = []
        raise
    try:
        with arrival.begun(), _undone_if_it_fails(
                self, context, instance, block_device_info, network_info,
                migrate_data), arrival.late_failures_are_superseded():
            result = original(context, instance, block_device_info,
                              network_info, disk_info, migrate_data)
            arrival.place()
            return result
    finally:
        arrival.forget()


def should_disconnect_target(
        original: nova_types.Original, self: libvirt_driver.LibvirtDriver,
        context: nova_context.RequestContext, instance: objects.Instance,
        multiattach: bool, vol_driver: typing.Any, volume_id: str) -> bool:
    """Keep a volume connected that another server on the destination uses.

    Nova counts the servers of the source, where the instance is until the end
    of its migration.
    """
    if not original(context, instance, multiattach, vol_driver, volume_id):
        return False
    if (not multiattach or instance.vm_state != vm_states.RESCUED
            or instance.host == CONF.host
            or isinstance(vol_driver,
                          volume_fs.LibvirtMountedFileSystemVolumeDriver)):
        return True
    users = self._volume_api.get(context, volume_id).get('attachments', {})
    others = set(objects.InstanceList.get_uuids_by_host(context, CONF.host))
    return not others.difference([instance.uuid]).intersection(users)


@contextlib.contextmanager
def _undone_if_it_fails(
        driver: libvirt_driver.LibvirtDriver,
        context: nova_context.RequestContext, instance: objects.Instance,
        block_device_info: nova_types.BlockDeviceInfo,
        network_info: network_model.NetworkInfo,
        migrate_data: objects.LibvirtLiveMigrateData) -> typing.Iterator[None]:
    """Undo what was done on this host, of which the source does not know."""
    try:
        yield
    except Exception:
        with excutils.save_and_reraise_exception():
            _release_serial_ports(migrate_data)
            # Before their attachments are deleted: Nova 29.0.0 to 29.2.1,
            # 30.0.0 and 31.0.0 leave the volumes connected.
            driver.post_live_migration(context, instance, block_device_info)
            block_device_info['block_device_mapping'] = []
    except ext_exception.MigrationSuperseded as exc:
        if isinstance(exc.__cause__, exception.DestinationDiskExists):
            raise  # nothing there is ours
        # The roll-back of the source came before there was anything to roll
        # back. No other migration has begun here since.
        driver.rollback_live_migration_at_destination(
            context, instance, network_info, block_device_info,
            destroy_disks=False, migrate_data=migrate_data)
        raise


def rollback_live_migration_at_destination(
        original: nova_types.Original, self: libvirt_driver.LibvirtDriver,
        context: nova_context.RequestContext, instance: objects.Instance,
        network_info: network_model.NetworkInfo,
        block_device_info: dict[str, typing.Any], destroy_disks: bool = True,
        migrate_data: objects.LibvirtLiveMigrateData | None = None) -> None:
    """Check again before the files of another attempt are destroyed."""
    roll_back = destination.RollBack.on(instance)
    if roll_back is None:
        return original(context, instance, network_info, block_device_info,
                        destroy_disks=destroy_disks,
                        migrate_data=migrate_data)
    # Nova 29.0.0 to 29.2.1, 30.0.0 and 31.0.0 would disconnect volumes by what
    # the storage has told the source.
    block_device_info = dict(block_device_info, block_device_mapping=[])
    with roll_back.alone(context, instance) as may_go_on:
        if may_go_on:
            return original(context, instance, network_info,
                            block_device_info, destroy_disks=destroy_disks,
                            migrate_data=migrate_data)


def _release_serial_ports(
        migrate_data: objects.LibvirtLiveMigrateData) -> None:
    if not migrate_data.obj_attr_is_set('serial_listen_ports'):
        return
    for port in migrate_data.serial_listen_ports:
        serial_console.release_port(host=migrate_data.serial_listen_addr,
                                    port=port)


def live_migration(
        original: nova_types.Original, self: libvirt_driver.LibvirtDriver,
        context: nova_context.RequestContext, instance: objects.Instance,
        dest: str, post_method: typing.Callable[..., None],
        recover_method: typing.Callable[..., None],
        block_migration: bool = False,
        migrate_data: objects.LibvirtLiveMigrateData | None = None) -> None:
    """Migrate the guest if its files are on the destination.

    Afterwards the directory on the source is deleted.
    """
    ours = source.Migration.on(instance)
    if ours is None:
        return original(context, instance, dest, post_method, recover_method,
                        block_migration=block_migration,
                        migrate_data=migrate_data)
    ours.take_over(self, post_method, recover_method)
    if ours.begin_or_give_up(migrate_data):
        with ours.moving(migrate_data):
            original(context, instance, dest, ours.post, ours.recover,
                     block_migration=block_migration,
                     migrate_data=migrate_data)


def live_migration_operation(original: nova_types.Original,
                             self: libvirt_driver.LibvirtDriver,
                             context: nova_context.RequestContext,
                             instance: objects.Instance, dest: str,
                             block_migration: bool,
                             migrate_data: objects.LibvirtLiveMigrateData,
                             *args: typing.Any, **kwargs: typing.Any) -> None:
    """Remember whether libvirt says that the guest has moved.

    Nova runs this in a separate thread (hazard: dead-guest).
    """
    ours = source.Migration.handed_on_with(migrate_data)
    with ours.libvirt_moves_it() if ours else contextlib.nullcontext():
        return original(context, instance, dest, block_migration,
                        migrate_data, *args, **kwargs)


def cleanup(original: nova_types.Original, self: libvirt_driver.LibvirtDriver,
            context: nova_context.RequestContext, instance: objects.Instance,
            network_info: network_model.NetworkInfo,
            block_device_info: nova_types.BlockDeviceInfo | None = None,
            destroy_vifs: bool = True, cleanup_instance_dir: bool = False,
            cleanup_instance_disks: bool = False,
            destroy_secrets: bool = True) -> None:
    """Never delete the directory on the source without proof.

    Hazard: disks-not-in-the-domain. And delete the TPM of a server that is
    deleted in rescue.
    """
    ours = source.Migration.on(instance)
    if (ours is not None and (cleanup_instance_dir or cleanup_instance_disks)
            and not ours.may_delete_source()):
        LOG.error('There is no proof that the destination has all files of '
                  'this rescued server, so its directory on this host is '
                  'kept. Compare it with the one on the destination, then '
                  'remove it by hand.', instance=instance)
        cleanup_instance_dir = cleanup_instance_disks = False
    if cleanup_instance_disks:
        host_tpm.give_back_to_domain(self, instance)
    return original(context, instance, network_info,
                    block_device_info=block_device_info,
                    destroy_vifs=destroy_vifs,
                    cleanup_instance_dir=cleanup_instance_dir,
                    cleanup_instance_disks=cleanup_instance_disks,
                    destroy_secrets=destroy_secrets)


def get_instance_disk_info_from_config(
        original: nova_types.Original, self: libvirt_driver.LibvirtDriver,
        guest_config: libvirt_config.LibvirtConfigGuest,
        block_device_info: nova_types.BlockDeviceInfo
) -> list[dict[str, typing.Any]]:
    """Recognise volumes by their serial in a rescue.

    Nova recognises a volume by its device name in the server's own domain; in
    a rescue other disks have those names (hazard: device-name-collision).
    Unrescue calls this, too.
    """
    if disks.need_nothing(guest_config):
        return []
    if not _is_rescue(guest_config.devices):
        return original(guest_config, block_device_info)
    volumes = {volume['connection_info'].get('serial') or
               driver_block_device.get_volume_id(volume['connection_info'])
               for volume in virt_driver.block_device_info_get_mapping(
                   block_device_info)}
    config = copy.copy(guest_config)
    config.devices, ours = [], []
    for device in guest_config.devices:
        if getattr(device, 'serial', None) not in volumes:
            info = _read_disk_info(device)
            if info:
                ours.append(info)
            else:
                config.devices.append(device)
    if block_device_info:
        block_device_info = dict(block_device_info, block_device_mapping=[])
    return ours + original(config, block_device_info)


def _read_disk_info(
        device: libvirt_config.LibvirtConfigGuestDevice
) -> dict[str, typing.Any] | None:
    """Read what Nova would start qemu-img for, twice.

    :returns: a dict as in Nova, or None if the device is not a disk with a
        readable header
    """
    if (device.root_name != 'disk' or device.source_type != 'file'
            or device.driver_format != 'qcow2' or not device.source_path):
        return None
    try:
        header = qcow2.read(device.source_path)
        size = os.stat(device.source_path).st_blocks * 512
    except (OSError, ValueError):
        return None
    base = header.backing_file
    return {'type': 'qcow2', 'path': device.source_path,
            'virt_disk_size': header.virtual_size, 'disk_size': size,
            'backing_file': base and os.path.basename(base),
            'over_committed_disk_size': max(0, header.virtual_size - size)}


def _is_rescue(
        devices: typing.Iterable[libvirt_config.LibvirtConfigGuestDevice]
) -> bool:
    """Whether these devices are those of a rescue (hazard: running-domain)."""
    return any(str(getattr(device, 'source_path', None)).endswith(
        rescue_files.SUFFIX) for device in devices)


def copy_disk_paths(original: nova_types.Original,
                    self: libvirt_driver.LibvirtDriver,
                    context: nova_context.RequestContext,
                    instance: objects.Instance,
                    guest: libvirt_guest.Guest) -> tuple[list[str], list[str]]:
    """The disks that QEMU copies, with volumes recognised by their serial.

    Hazard: device-name-collision.
    """
    disks = guest.get_all_disks()
    if not _is_rescue(disks):
        return original(context, instance, guest)
    volumes = {
        bdm.volume_id for bdm
        in objects.BlockDeviceMappingList.get_by_instance_uuid(
            context, instance.uuid) if bdm.is_volume}
    disks = [disk for disk in disks
             if disk.source_type in ('file', 'block')
             and not disk.readonly and not disk.shareable
             and disk.serial not in volumes]
    return ([disk.source_path for disk in disks],
            [disk.target_dev for disk in disks])


def try_fetch_image_cache(original: nova_types.Original,
                          self: libvirt_driver.LibvirtDriver,
                          image: typing.Any,
                          fetch_func: typing.Callable[..., None],
                          context: nova_context.RequestContext, filename: str,
                          image_id: str, instance: objects.Instance,
                          size: int | None,
                          fallback_from_host: str | None = None) -> None:
    """Fetch the backing file of a rescue disk from the rescue image.

    Nova would fetch the server's image and cache it under the name of the
    rescue image, for all servers of the host (hazard: wrong-backing-image).

    :raises: MigrationError if the file belongs to neither image
    """
    record = instance_metadata.rescue_of(instance)
    if (record is not None
            and instance.task_state == task_states.MIGRATING):
        image_id = _image_behind(filename, image_id, record.image_id)
    return original(image, fetch_func, context, filename, image_id, instance,
                    size, fallback_from_host=fallback_from_host)


def fetch_kernel_and_ramdisk(original: nova_types.Original,
                             self: libvirt_driver.LibvirtDriver,
                             context: nova_context.RequestContext,
                             instance: objects.Instance,
                             fallback_from_host: str | None = None) -> None:
    """Leave kernel and ramdisk to pre_live_migration, which copies them.

    Nova 34 inspects a kernel as if it were a disk, and refuses it. The image
    service may no longer have them, either (hazard: kernel-and-ramdisk).
    """
    if (instance_metadata.rescue_of(instance) is not None
            and instance.task_state == task_states.MIGRATING):
        return
    original(context, instance, fallback_from_host=fallback_from_host)


def _image_behind(filename: str, *image_ids: str | None) -> str:
    for image_id in image_ids:
        if image_id and imagecache.get_cache_fname(image_id) == filename:
            return image_id
    raise exception.MigrationError(reason=_(
        'base file %s belongs to no known image') % filename)

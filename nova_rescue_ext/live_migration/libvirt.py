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

import contextlib
import copy
import threading

from nova.compute import task_states
from nova.compute import vm_states
from nova import exception
from nova import objects
from nova.virt import block_device as driver_block_device
from nova.virt import driver as virt_driver
from nova.virt.libvirt import driver as libvirt_driver
from nova.virt.libvirt import imagecache
from oslo_log import log as logging

from nova_rescue_ext import capabilities
from nova_rescue_ext.host import disks
from nova_rescue_ext.host import rescue_files
from nova_rescue_ext.i18n import _
from nova_rescue_ext import instance_metadata
from nova_rescue_ext.live_migration import checks
from nova_rescue_ext.live_migration import transfer
from nova_rescue_ext import microversion

LOG = logging.getLogger(__name__)

# libvirt's VIR_DOMAIN_SHUTOFF_MIGRATED; Nova's double of it lacks the name.
_SHUTOFF_MIGRATED = 4

# Seconds from the end of a migration to the end of the call that it is.
_OPERATION_TIMEOUT = 60


def init_host(original, self, host):
    """Have the capability, as far as it is offered."""
    original(host)
    self.capabilities[capabilities.LIVE_MIGRATE_RESCUED] = (
        microversion.MAX_VERSION >= microversion.LIVE_MIGRATE_RESCUED)


def check_source(original, self, context, instance, dest_check_data,
                 block_device_info=None):
    """Refuse what is not safe, and list what QEMU will not copy.

    :raises: MigrationPreCheckError
    """
    if instance.vm_state != vm_states.RESCUED:
        _check_no_rescue_runs(self, instance)
        return original(context, instance, dest_check_data,
                        block_device_info=block_device_info)
    with checks.harmless():
        checks.check_vouched_for(
            instance_metadata.take_checked_destination(instance))
        return _check_rescued(original, self, context, instance,
                              dest_check_data, block_device_info)


def _check_no_rescue_runs(driver, instance):
    """Refuse a server that only the database says is not in rescue.

    Nova would move what the rescue system shows, and delete the other disks
    of the server with the source's directory (hazard: state-reset).
    """
    try:
        domain = _read_domain(driver, instance)
    except exception.InstanceNotFound:
        return
    checks.check_no_rescue_runs(instance, domain)


def _read_domain(driver, instance):
    return transfer.parse(driver._host.get_guest(instance).get_xml_desc())


def _check_rescued(original, driver, context, instance, dest_check_data,
                   block_device_info):
    domain = _read_domain(driver, instance)
    checks.check(driver, instance, dest_check_data, domain)
    result = original(context, instance, dest_check_data,
                      block_device_info=block_device_info)
    transfer.forget_proof(instance)
    # Left if nova-compute was stopped at the end of the rescue
    # (hazard: stale-saved-domain).
    rescue_files.remove_stock_domain(instance)
    if not result.is_shared_instance_path:
        based = _disks_on_own_base(driver, instance, block_device_info)
        _check_not_tunnelled(driver, result)
        transfer.write_manifest(instance, domain, result.block_migration,
                                based)
    return result


def _check_not_tunnelled(driver, migrate_data):
    """Tunnelled, QEMU copies every disk that it can write."""
    tunnelled = libvirt_driver.libvirt.VIR_MIGRATE_TUNNELLED
    if (migrate_data.block_migration
            and driver._block_migration_flags & tunnelled):
        checks.refuse(_('[libvirt] live_migration_tunnelled cannot be used '
                        'for rescued servers'))


def _disks_on_own_base(driver, instance, block_device_info):
    """The disks that QEMU copies whose base only this host has.

    QEMU copies what is above the base. That is the image of the server or of
    its rescue, which the destination gets from Glance
    (hazard: wrong-backing-image), or the output of mkfs or mkswap, of which no
    two are the same (hazard: disks-not-in-the-domain).

    :returns: paths of the latter
    :raises: MigrationPreCheckError if the destination cannot get a base
    """
    record = instance_metadata.rescue_of(instance)
    known = {imagecache.get_cache_fname(image_id) for image_id
             in (instance.image_ref, record.image_id) if image_id}
    own = []
    for disk in driver._get_instance_disk_info(instance, block_device_info):
        # Without one after an earlier migration: None if it is qcow2
        # (hazard: disks-without-a-base).
        base = disk['backing_file'] or ''
        if base.startswith(transfer.MADE_BY_HOST):
            own.append(disk['path'])
        elif base and base not in known:
            checks.refuse(_(
                'disk %(path)s is based on %(base)s, which the destination '
                'cannot get. Unrescue the server first')
                % {'path': disk['path'], 'base': base})
    return own


def check_destination(original, self, ctxt, instance, migrate_data,
                      migration, limits, allocs):
    """Check that the destination can get all, and that nothing is in its way.

    :raises: MigrationPreCheckError
    """
    if (instance.vm_state == vm_states.RESCUED
            and not migrate_data.is_shared_instance_path):
        with checks.harmless():
            transfer.check_destination(instance, migrate_data)
    return original(ctxt, instance, migrate_data, migration, limits, allocs)


def pre_live_migration(original, self, context, instance, block_device_info,
                       network_info, disk_info, migrate_data):
    """Copy to the destination what QEMU will not copy.

    Nova has made the directory, and empty files in place of CD-ROMs
    (hazard: zero-filled-cdroms), by then.
    """
    result = original(context, instance, block_device_info, network_info,
                      disk_info, migrate_data)
    if (instance.vm_state == vm_states.RESCUED
            and not migrate_data.is_shared_instance_path):
        transfer.copy(context, instance, migrate_data)
    return result


def live_migration(original, self, context, instance, dest, post_method,
                   recover_method, block_migration=False, migrate_data=None):
    """Start the migration of the guest if its files are at the destination.

    After it the source's directory is deleted.
    """
    if migrate_data is None or instance.vm_state != vm_states.RESCUED:
        return original(context, instance, dest, post_method, recover_method,
                        block_migration=block_migration,
                        migrate_data=migrate_data)
    transfer.remove_staged(instance)
    task_state = _task_of(context, instance)
    if task_state == vm_states.DELETED:
        _give_up_deleted(context, instance, dest, recover_method,
                         migrate_data)
    elif task_state != task_states.MIGRATING:
        _give_up(context, instance, dest, recover_method, migrate_data)
    elif _needs_proof(instance, migrate_data) and not transfer.is_proven(
            context, instance):
        LOG.error('The destination %(dest)s has not recorded that it got the '
                  'files of this rescued server. Its migration is rolled '
                  'back and the server stays in rescue on this host. Check '
                  'that nova-rescue-ext is active on %(dest)s.',
                  {'dest': dest}, instance=instance)
        recover_method(context, instance, dest, migrate_data)
    else:
        with _running(self, _Migration(
                self, instance, dest, post_method, recover_method)) as ours:
            original(context, instance, dest, ours.post, ours.recover,
                     block_migration=block_migration,
                     migrate_data=migrate_data)


def _task_of(context, instance):
    """The task that a server has by now, DELETED if it is gone."""
    try:
        fresh = objects.Instance.get_by_uuid(context, instance.uuid)
    except exception.InstanceNotFound:
        return vm_states.DELETED
    return fresh.task_state


def _give_up(context, instance, dest, recover_method, migrate_data):
    """Roll back what a restart of nova-compute has taken the task from.

    What was copied may be stale by now, and the guest another
    (hazard: restart-before-migration).
    """
    LOG.warning('The live migration to %(dest)s is not started: nova-compute '
                'was restarted since it was asked for, and the server may be '
                'used. Migrate it again.', {'dest': dest}, instance=instance)
    try:
        recover_method(context, instance, dest, migrate_data)
    except exception.InstanceNotFound:  # of its guest, too
        _give_up_deleted(context, instance, dest, recover_method,
                         migrate_data)
        return
    except exception.UnexpectedTaskStateError:
        pass  # the destination is cleaned before Nova looks at the task
    _set_failed(migrate_data)


def _give_up_deleted(context, instance, dest, recover_method, migrate_data):
    LOG.warning('The live migration to %(dest)s is not started: the server '
                'was deleted since it was asked for. What was copied is '
                'removed from %(dest)s. If the server had volumes, check '
                'that nothing is attached to them, and that %(dest)s has '
                'disconnected them.', {'dest': dest}, instance=instance)
    # As if the destination had failed to prepare itself: else Nova looks for
    # the guest on this host first. The destination comes before the database.
    with contextlib.suppress(exception.InstanceNotFound,
                             exception.UnexpectedTaskStateError):
        recover_method(context, instance, dest, migrate_data,
                       pre_live_migration=True)
    _set_failed(migrate_data)


def _set_failed(migrate_data):
    migrate_data.migration.status = 'failed'
    migrate_data.migration.save()


class _Migration:
    """What becomes of the migration of a rescued server, on its source.

    Nova takes a guest that is not on the source any more for one that has
    moved, also if its QEMU has died in the middle of it, and deletes what the
    destination has a part of (hazard: dead-guest).

    :ivar ended: set when libvirt's call has ended
    :ivar has_moved: whether it says that the guest has moved
    """

    def __init__(self, driver, instance, dest, post_method, recover_method):
        self._driver = driver
        self.instance = instance
        self.dest = dest
        self._post_method = post_method
        self._recover_method = recover_method
        self.ended = threading.Event()
        self.has_moved = self.is_rolled_back = False

    def recover(self, *args, **kwargs):
        """Nova's roll-back."""
        self._recover_method(*args, **kwargs)
        self.is_rolled_back = True

    def post(self, context, instance, dest, block_migration, migrate_data):
        """Nova's work after the guest has moved, if it has."""
        self.ended.wait(_OPERATION_TIMEOUT)
        if self.has_moved or not _is_left_behind(self._driver, instance):
            self._post_method(context, instance, dest, block_migration,
                              migrate_data)
            return
        LOG.error('The guest ended in the middle of its live migration to '
                  '%(dest)s. The migration is rolled back and the server is '
                  'off, in rescue on this host: unrescue or rescue it.',
                  {'dest': dest}, instance=instance)
        self.recover(context, instance, dest, migrate_data)


def _migrations(driver):
    """The migrations that this driver runs, by the server's UUID."""
    return driver.__dict__.setdefault('rescue_ext_migrations', {})


@contextlib.contextmanager
def _running(driver, migration):
    """A migration that is rolled back to its end is no error.

    From Nova 32.2 the driver raises what QEMU said even then, and the manager
    sets the server to ERROR.
    """
    _migrations(driver)[migration.instance.uuid] = migration
    try:
        yield migration
    except Exception as exc:
        if not migration.is_rolled_back:
            raise
        LOG.warning('The live migration to %(dest)s ended with "%(error)s" '
                    'and was rolled back: the server is in rescue on this '
                    'host as before. Migrate it again.',
                    {'dest': migration.dest, 'error': exc},
                    instance=migration.instance)
    finally:
        del _migrations(driver)[migration.instance.uuid]


def live_migration_operation(original, self, context, instance, *args,
                             **kwargs):
    """Keep what libvirt says of a rescued server's migration.

    Hazard: dead-guest.
    """
    ours = _migrations(self).get(instance.uuid)
    if ours is None:
        return original(context, instance, *args, **kwargs)
    try:
        original(context, instance, *args, **kwargs)
        ours.has_moved = True
    finally:
        ours.ended.set()


def _is_left_behind(driver, instance):
    """Whether the domain is here, off, and has not gone to another host."""
    try:
        domain = driver._host.get_guest(instance)._domain
    except exception.InstanceNotFound:
        return False
    state, reason = domain.state()
    return (state == libvirt_driver.libvirt.VIR_DOMAIN_SHUTOFF
            and reason != _SHUTOFF_MIGRATED)


def cleanup(original, self, context, instance, network_info,
            block_device_info=None, destroy_disks=True, migrate_data=None,
            destroy_vifs=True, destroy_secrets=True):
    """Never delete the source's directory without proof.

    Hazard: disks-not-in-the-domain.

    That is the destination's record of the files that it got, and libvirt's
    word for the disks that QEMU copies.
    """
    if (_needs_proof(instance, migrate_data)
            and instance.task_state == task_states.MIGRATING
            and not _is_proven(self, context, instance)):
        LOG.error('Nothing shows that the destination got all files of this '
                  'rescued server. The directory of the server on this host '
                  'is kept: compare it with that on the destination, and '
                  'remove it by hand.', instance=instance)
        destroy_disks, migrate_data = False, None
    return original(context, instance, network_info,
                    block_device_info=block_device_info,
                    destroy_disks=destroy_disks, migrate_data=migrate_data,
                    destroy_vifs=destroy_vifs,
                    destroy_secrets=destroy_secrets)


def _is_proven(driver, context, instance):
    ours = _migrations(driver).get(instance.uuid)
    return ((ours is None or ours.has_moved)
            and transfer.is_proven(context, instance))


def _needs_proof(instance, migrate_data):
    return (migrate_data is not None
            and instance.vm_state == vm_states.RESCUED
            and not migrate_data.is_shared_instance_path)


def get_instance_disk_info_from_config(original, self, guest_config,
                                       block_device_info):
    """Tell volumes by their serial in a rescue.

    Hazard: device-name-collision.

    Nova takes a disk for a volume when it has the name that a volume has in
    the server; in a rescue other disks have those names. Unrescue, too, comes
    here.
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
    config.devices = [device for device in guest_config.devices
                      if getattr(device, 'serial', None) not in volumes]
    if block_device_info:
        block_device_info = dict(block_device_info, block_device_mapping=[])
    return original(config, block_device_info)


def _is_rescue(devices):
    """Whether a domain with these devices is that of a rescue.

    Hazard: running-domain.
    """
    return any(str(getattr(device, 'source_path', None)).endswith(
        rescue_files.SUFFIX) for device in devices)


def copy_disk_paths(original, self, context, instance, guest):
    """The disks that QEMU copies: the same, by their serial.

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


def try_fetch_image_cache(original, self, image, fetch_func, context,
                          filename, image_id, instance, size,
                          fallback_from_host=None):
    """Fetch what is behind a rescue disk by the rescue's image.

    Hazard: wrong-backing-image.

    Nova fetches the server's image and keeps it under the name of the other,
    for every server of the host.

    :raises: MigrationError if the file is of neither image
    """
    record = instance_metadata.rescue_of(instance)
    if (record is not None
            and instance.task_state == task_states.MIGRATING):
        image_id = _image_behind(filename, image_id, record.image_id)
    return original(image, fetch_func, context, filename, image_id, instance,
                    size, fallback_from_host=fallback_from_host)


def fetch_kernel_and_ramdisk(original, self, context, instance,
                             fallback_from_host=None):
    """Leave them to pre_live_migration, which copies them.

    Hazard: kernel-and-ramdisk.

    Nova inspects a kernel here as if it were a disk, and refuses it (seen with
    Nova 34). They may be in no image service any more, either.
    """
    if (instance_metadata.rescue_of(instance) is not None
            and instance.task_state == task_states.MIGRATING):
        return
    original(context, instance, fallback_from_host=fallback_from_host)


def _image_behind(filename, *image_ids):
    for image_id in image_ids:
        if image_id and imagecache.get_cache_fname(image_id) == filename:
            return image_id
    raise exception.MigrationError(reason=_(
        'no image is known that belongs to base file %s') % filename)

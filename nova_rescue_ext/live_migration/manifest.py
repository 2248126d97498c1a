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


"""What the destination must copy, as the source lists it.

In a rescue without stable devices the ephemeral disks, swap and config drive
are not in the domain, QEMU never copies a CD-ROM, and Nova does not copy the
kernel of the rescue system (hazards: disks-not-in-the-domain,
zero-filled-cdroms, kernel-and-ramdisk). None of these files changes while the
server is in rescue.

The source makes the manifest when it checks a migration. It travels with the
data of the migration: to the destination, which counts what will arrive, and
back to the source, which prepares the files.
"""

from __future__ import annotations

import fnmatch
import os
import typing

from lxml import etree
from nova import conf
from nova import exception
from nova import objects
from nova.virt.libvirt import imagecache
from nova.virt.libvirt import utils as libvirt_utils
from oslo_serialization import jsonutils
from oslo_utils import units

from nova_rescue_ext.host import qcow2
from nova_rescue_ext.host import rescue_files
from nova_rescue_ext.i18n import _
from nova_rescue_ext import instance_metadata
from nova_rescue_ext.live_migration import disk_info
from nova_rescue_ext.live_migration import domain

CONF = conf.CONF

# How a file gets to the destination. Small files are sent together, as a
# connection takes longer than their transfer.
TOGETHER = 'together'
ALONE = 'alone'
# Flattened first: the disk with its base, or only the base.
DISK_FLATTENED = 'disk flattened'
BASE_FLATTENED = 'base flattened'

# Bigger files are not copied on the source.
_SMALL = 16 * units.Mi

# How Nova names the bases that it makes itself in the image cache of a host.
_MADE_BY_HOST = ('ephemeral_', 'swap_')

# Files that each host makes for itself.
_NOT_CARRIED = (disk_info.NAME + '*', 'console.log*', 'libvirt.xml',
                rescue_files.STOCK_DOMAIN)

# A dictionary of strings that Nova empties before it uses it.
_FIELD = 'old_vol_attachment_ids'
_KEY = 'rescue_ext_manifest'


class Entry(typing.NamedTuple):
    """A file: its name, the bytes that arrive, its format, how it goes."""

    name: str
    size: int
    format: str
    way: str

    @property
    def is_flattened(self) -> bool:
        """Whether its content is made first."""
        return self.way in (DISK_FLATTENED, BASE_FLATTENED)


class Manifest(typing.NamedTuple):
    """What the destination must copy.

    ``attempt`` is the UUID of the migration, ``address`` that of the source,
    ``directory`` the server's on the source, ``disks`` the number of bytes
    that QEMU copies.
    """

    attempt: str
    address: str
    directory: str
    disks: int
    entries: list[Entry]

    @property
    def needed(self) -> int:
        """How many bytes the destination needs."""
        return self.disks + sum(entry.size for entry in self.entries)

    def send_with(self, migrate_data: objects.LibvirtLiveMigrateData) -> None:
        """Have the data of the migration take it along.

        :param migrate_data: the LibvirtLiveMigrateData
        """
        setattr(migrate_data, _FIELD, {_KEY: jsonutils.dumps(dict(
            self._asdict(), entries=[entry._asdict()
                                     for entry in self.entries]))})


def received(migrate_data: objects.LibvirtLiveMigrateData) -> Manifest | None:
    """The manifest that came with the data of a migration, or None.

    :param migrate_data: the LibvirtLiveMigrateData
    """
    if not migrate_data.obj_attr_is_set(_FIELD):
        return None
    text = getattr(migrate_data, _FIELD).get(_KEY)
    if text is None:
        return None
    values = jsonutils.loads(text)
    return Manifest(**dict(values, entries=[
        Entry(**entry) for entry in values['entries']]))


def build(instance: objects.Instance, running: etree._Element,
          block_migration: bool, attempt: str, address: str) -> Manifest:
    """List what the destination must copy, on the source.

    :param instance: the Instance
    :param running: its running domain, an lxml element
    :param block_migration: whether QEMU copies the disks
    :param attempt: the UUID of the migration
    :param address: of the source, for the destination
    :raises: MigrationPreCheckError if something cannot be carried
    """
    directory = libvirt_utils.get_instance_path(instance)
    files = domain.Files(running, directory)
    if files.writable and not block_migration:
        _refuse(_('disks %s are local to the host, but this is not a block '
                  'migration') % ', '.join(sorted(files.writable)))
    formats = disk_info.read(directory)
    entries = [_carried(directory, name, formats)
               for name in sorted(os.listdir(directory))
               if _is_carried(name, files)]
    entries += _based(instance, directory, files)
    _check_space(directory, entries)
    return Manifest(
        attempt, address, directory,
        sum(_allocated(os.path.join(directory, name))
            for name in files.writable), entries)


def _refuse(reason: str) -> typing.NoReturn:
    raise exception.MigrationPreCheckError(reason=reason)


def _is_carried(name: str, files: domain.Files) -> bool:
    if (name in files.writable
            or any(fnmatch.fnmatchcase(name, pattern)
                   for pattern in _NOT_CARRIED)):
        return False
    # Of the rescue, only what it uses: Nova makes more
    # (hazard: unused-rescue-files).
    return (not name.endswith(rescue_files.SUFFIX)
            or name in files.readable)


def _carried(directory: str, name: str, formats: dict[str, str]) -> Entry:
    path = os.path.join(directory, name)
    if not os.path.isfile(path) or os.path.islink(path):
        _refuse(_('%s in the directory of the server is not a plain file')
                % path)
    _check_readable(path)
    disk_format = formats.get(path) or _default_format(name)
    header = _header(path) if disk_format == 'qcow2' else None
    if header is None or header.backing_file is None:
        size = os.path.getsize(path)
        return Entry(name, size, disk_format,
                     TOGETHER if size <= _SMALL else ALONE)
    base = _check_base(path, header)
    return Entry(name, _allocated(path) + _allocated(base),
                 disk_format, DISK_FLATTENED)


def _check_readable(path: str) -> None:
    try:
        with open(path, 'rb'):
            pass
    except OSError as exc:
        _refuse(_('nova-compute has to copy %(path)s but cannot read it: '
                  '%(error)s') % {'path': path, 'error': exc})


def _default_format(name: str) -> str:
    if not name.startswith('disk') or name.startswith('disk.config'):
        return 'raw'
    if storage_class(CONF.libvirt.images_type) == 'qcow2':
        return 'qcow2'
    return _refuse(_('the format of disk %(name)s is not in %(file)s')
                   % {'name': name, 'file': disk_info.NAME})


def storage_class(images_type: str | None) -> str | None:
    """What stores the disks of an images_type: two may name the same.

    :param images_type: of [libvirt]
    """
    if images_type == 'default':
        # Also of another host, where this option may differ, but is not said.
        images_type = 'qcow2' if CONF.use_cow_images else 'raw'
    return 'raw' if images_type == 'flat' else images_type


def _header(path: str) -> qcow2.Header:
    try:
        return qcow2.read(path)
    except (OSError, ValueError) as exc:
        return _refuse(_('the header of disk %(path)s cannot be read: '
                         '%(error)s') % {'path': path, 'error': exc})


def _check_base(path: str, header: qcow2.Header) -> str:
    """Only a file of the image cache is copied as the base of a disk.

    :returns: the path of the base
    """
    base = header.backing_file
    cache = os.path.join(CONF.instances_path,
                         CONF.image_cache.subdirectory_name)
    if (base is None or os.path.dirname(base) != cache
            or header.backing_format is None):
        _refuse(_('disk %(path)s is based on %(base)s, which is not in the '
                  'image cache or has an unknown format')
                % {'path': path, 'base': base})
    return base


def _based(instance: objects.Instance, directory: str,
           files: domain.Files) -> list[Entry]:
    """The disks that QEMU copies whose base only this host has.

    QEMU copies what is above the base. That is the image of the server or of
    its rescue, which the destination gets from Glance
    (hazard: wrong-backing-image), or the output of mkfs or mkswap, of which no
    two are the same (hazard: disks-not-in-the-domain).

    :raises: MigrationPreCheckError if the destination cannot get a base
    """
    known = {imagecache.get_cache_fname(image_id) for image_id in (
        instance.image_ref, instance_metadata.recorded_image_id(instance))
        if image_id}
    entries = []
    for name in sorted(files.writable):
        path = os.path.join(directory, name)
        if files.writable[name] != 'qcow2':
            continue
        # None after an earlier migration
        # (hazard: disks-without-a-base).
        header = _header(path)
        base = os.path.basename(header.backing_file or '')
        if base.startswith(_MADE_BY_HOST):
            entries.append(Entry(name, _allocated(_check_base(path, header)),
                                 'qcow2', BASE_FLATTENED))
        elif base and base not in known:
            _refuse(_('disk %(path)s is based on %(base)s, which the '
                      'destination cannot get. Unrescue the server first')
                    % {'path': path, 'base': base})
    return entries


def _check_space(directory: str, entries: list[Entry]) -> None:
    needed = sum(entry.size for entry in entries if entry.is_flattened)
    # Guests go on writing to them.
    free = max(0, free_bytes(directory)
               - CONF.reserved_host_disk_mb * units.Mi)
    if needed > free:
        _refuse(_('flattened disks need %(needed)d bytes on the source, '
                  'which has only %(free)d')
                % {'needed': needed, 'free': free})


def free_bytes(directory: str) -> int:
    """How many bytes are free where a directory is."""
    status = os.statvfs(directory)
    return status.f_bavail * status.f_frsize


def _allocated(path: str) -> int:
    return os.stat(path).st_blocks * 512

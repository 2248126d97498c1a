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


"""Files of a rescued server that QEMU does not copy to the destination.

In a rescue without stable devices ephemeral disks, swap and config drive are
not in the domain, QEMU never copies a CD-ROM, and nobody copies the kernel of
the rescue system (hazards: disks-not-in-the-domain, zero-filled-cdroms,
kernel-and-ramdisk, disk-info). All of them are static while the server is in
rescue.

The source writes a manifest of them into a folder in the server's directory
when it checks a migration. The destination gets that, and then the files, in
the way in which Nova copies disks in a cold migration. It records what it got
with the server, and the source does not start the guest's migration without
that.

Each copy is a connection of its own, which takes longer than the transfer of a
small file. So the source puts copies of those into the folder, and the
destination gets them together.
"""

import contextlib
import hashlib
import os
import shutil
import tempfile

from lxml import etree
from nova import conf
from nova import exception
from nova import objects
from nova.privsep import qemu
from nova.virt.libvirt import utils as libvirt_utils
from oslo_concurrency import processutils
from oslo_log import log as logging
from oslo_serialization import jsonutils
from oslo_utils import units

from nova_rescue_ext.host import rescue_files
from nova_rescue_ext.i18n import _
from nova_rescue_ext import instance_metadata

CONF = conf.CONF
LOG = logging.getLogger(__name__)

# What Nova calls the bases that it makes itself, in each host's image cache.
MADE_BY_HOST = ('ephemeral_', 'swap_')

# Removed with the other files of a rescue, whatever becomes of the migration.
FOLDER = 'migration' + rescue_files.SUFFIX
MANIFEST = 'manifest.json'

# Of bigger files nobody wants a second copy on the source.
_SMALL = 16 * units.Mi

_FORMATS = 'disk.info'
# Nova makes or needs these anew on each host.
_NOT_CARRIED = {_FORMATS, _FORMATS + '.tmp', 'console.log',
                rescue_files.STOCK_DOMAIN}


class _Domain:
    """The files of a running domain that are in the server's directory.

    :ivar writable: names of those that QEMU copies in a block migration
    :ivar readable: names of those that nobody copies
    """

    def __init__(self, domain, directory):
        self.writable, self.readable = set(), set()
        for disk in domain.findall('devices/disk'):
            source = disk.find('source')
            if source is None or source.get('file') is None:
                continue
            self._add(source.get('file'), directory, disk.get(
                'device') == 'cdrom' or disk.find('readonly') is not None)
        for name in ('kernel', 'initrd'):
            self._add(domain.findtext('os/' + name) or '', directory, True)

    def _add(self, path, directory, read_only):
        if os.path.dirname(path) == directory:
            (self.readable if read_only else self.writable).add(
                os.path.basename(path))


def write_manifest(instance, domain, block_migration, based=()):
    """List what the destination must copy, on the source.

    :param instance: the Instance
    :param domain: its running domain, an lxml element
    :param block_migration: whether QEMU copies the disks
    :param based: paths of disks that QEMU copies and whose base it does not
    :raises: MigrationPreCheckError if something cannot be carried
    """
    directory = libvirt_utils.get_instance_path(instance)
    in_domain = _Domain(domain, directory)
    if in_domain.writable and not block_migration:
        raise exception.MigrationPreCheckError(reason=_(
            'disks %s are on the host itself, and this is no block '
            'migration') % ', '.join(sorted(in_domain.writable)))
    formats = _read_formats(directory)
    folder = _make_folder(directory)
    manifest = {
        'based': [_describe_base(directory, os.path.basename(path), formats)
                  for path in sorted(based)],
        'files': [_stage(folder, directory,
                         _describe(directory, name, formats))
                  for name in sorted(os.listdir(directory))
                  if _is_carried(name, in_domain)],
        'disks': sum(_allocated(os.path.join(directory, name))
                     for name in in_domain.writable)}
    with open(os.path.join(folder, MANIFEST), 'w', encoding='utf-8') as file:
        file.write(jsonutils.dumps(manifest, sort_keys=True))


def _make_folder(directory):
    """Begin anew: nothing of an earlier attempt may go along."""
    folder = os.path.join(directory, FOLDER)
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder)
    os.mkdir(folder, 0o700)
    return folder


def _stage(folder, directory, entry):
    """Put a copy of a small file into the folder, if there is room for it.

    No hard link: most files belong to the user of QEMU, and a kernel with
    fs.protected_hardlinks gives nobody else a link to them.

    :returns: the entry, with whether that was done
    """
    if entry['size'] > _SMALL:
        return dict(entry, staged=False)
    target = os.path.join(folder, entry['name'])
    try:
        libvirt_utils.copy_image(os.path.join(directory, entry['name']),
                                 target)
    except (processutils.ProcessExecutionError, OSError) as exc:
        LOG.info('%(name)s is copied to the destination by itself: %(error)s',
                 {'name': entry['name'], 'error': exc})
        with contextlib.suppress(FileNotFoundError):
            os.unlink(target)
        return dict(entry, staged=False)
    return dict(entry, staged=True)


def remove_staged(instance):
    """Remove the copies from the source, when the destination has them.

    The manifest stays, for the proof.

    :param instance: the Instance, on its source
    """
    folder = os.path.join(libvirt_utils.get_instance_path(instance), FOLDER)
    # What is left goes with the files of the rescue.
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            if name != MANIFEST:
                os.unlink(os.path.join(folder, name))


def _is_carried(name, in_domain):
    if name in _NOT_CARRIED or name in in_domain.writable:
        return False
    # Of the rescue, only what it uses: Nova makes more
    # (hazard: unused-rescue-files).
    return (not name.endswith(rescue_files.SUFFIX)
            or name in in_domain.readable)


def _describe(directory, name, formats):
    path = os.path.join(directory, name)
    if not os.path.isfile(path) or os.path.islink(path):
        raise exception.MigrationPreCheckError(reason=_(
            '%s in the directory of the server is not a plain file') % path)
    disk_format = formats.get(path) or _default_format(name)
    base, base_format = (_base_of(path) if disk_format == 'qcow2'
                         else (None, None))
    return {'name': name, 'size': os.path.getsize(path),
            'format': disk_format, 'base': base, 'base_format': base_format}


def _describe_base(directory, name, formats):
    """The same, with the size of its base, which is what is copied."""
    disk = _describe(directory, name, formats)
    return dict(disk, size=os.path.getsize(disk['base']))


def _default_format(name):
    if not name.startswith('disk') or name.startswith('disk.config'):
        return 'raw'
    if CONF.libvirt.images_type in ('default', 'qcow2'):
        return 'qcow2'
    raise exception.MigrationPreCheckError(reason=_(
        'the format of disk %s is in no %s') % (name, _FORMATS))


def _base_of(path):
    """What a qcow2 disk is based on, and the format of that.

    :returns: a path and a format, or None twice
    :raises: MigrationPreCheckError if it is not a file of the image cache
    """
    header = jsonutils.loads(qemu.unprivileged_qemu_img_info(
        path, format='qcow2'))
    base = header.get('full-backing-filename')
    if base is None:
        return None, None
    base_format = header.get('backing-filename-format')
    cache = os.path.join(CONF.instances_path,
                         CONF.image_cache.subdirectory_name)
    if os.path.dirname(base) != cache or base_format is None:
        raise exception.MigrationPreCheckError(reason=_(
            'disk %(path)s is based on %(base)s, which is no file of the '
            'image cache or has no known format')
            % {'path': path, 'base': base})
    return base, base_format


def _allocated(path):
    return os.stat(path).st_blocks * 512


def _read_formats(directory):
    try:
        with open(os.path.join(directory, _FORMATS),
                  encoding='utf-8') as file:
            return jsonutils.loads(file.read() or '{}')
    except FileNotFoundError:
        return {}


def check_destination(instance, migrate_data):
    """Check on the destination that all can be copied.

    Copies the manifest, so a host that cannot copy from the source refuses
    before anything has moved.

    :param instance: the Instance
    :param migrate_data: the LibvirtLiveMigrateData
    :raises: MigrationPreCheckError
    """
    directory = libvirt_utils.get_instance_path_at_destination(
        instance, migrate_data)
    if os.path.exists(directory):
        raise exception.MigrationPreCheckError(reason=_(
            '%s exists on the destination, and a migration that failed would '
            'delete it. Find out whose it is, and move it away') % directory)
    try:
        with tempfile.TemporaryDirectory() as folder:
            manifest = _read(_fetch(instance, os.path.join(
                directory, FOLDER), MANIFEST, folder))
    except (processutils.ProcessExecutionError, OSError) as exc:
        raise exception.MigrationPreCheckError(reason=_(
            'the destination cannot copy files from %(host)s, as in a cold '
            'migration: %(error)s') % {'host': instance.host, 'error': exc})
    needed = manifest['disks'] + sum(
        entry['size'] for entry in manifest['files'] + manifest['based'])
    status = os.statvfs(CONF.instances_path)
    free = status.f_bavail * status.f_frsize
    if needed > free:
        raise exception.MigrationPreCheckError(reason=_(
            'the disks of the rescued server need %(needed)d bytes on the '
            'destination, which has %(free)d')
            % {'needed': needed, 'free': free})


class _Progress:
    """How much of the files is copied, as the API shows a migration's disks.

    QEMU's own numbers take its place when the guest's migration starts.

    :param files: the entries of the manifest
    """

    def __init__(self, context, instance, files):
        self._migrations = objects.MigrationList.get_in_progress_by_instance(
            context, instance.uuid, 'live-migration')
        self._total = sum(entry['size'] for entry in files)
        self._copied = 0
        self._save()

    def add(self, size):
        """Some more bytes are copied."""
        self._copied += size
        self._save()

    def _save(self):
        for migration in self._migrations:  # one
            # Nova's schema of the answer has null, and no 0, from 33 on.
            migration.disk_total = self._total or None
            migration.disk_processed = self._copied or None
            migration.disk_remaining = self._total - self._copied or None
            migration.save()


def copy(context, instance, migrate_data):
    """Copy the files to this host, the destination, and record that.

    :param context: a RequestContext
    :param instance: the Instance
    :param migrate_data: the LibvirtLiveMigrateData
    :raises: MigrationError, OSError or ProcessExecutionError; nothing has
        moved then, and Nova rolls the migration back
    """
    directory = libvirt_utils.get_instance_path_at_destination(
        instance, migrate_data)
    folder = _fetch(instance, directory, FOLDER, directory)
    path = os.path.join(folder, MANIFEST)
    manifest = _read(path)
    formats = _read_formats(directory)
    todo = [(_copy_file, entry) for entry in manifest['files']] + [
        (_copy_base, entry) for entry in manifest['based']]
    progress = _Progress(context, instance,
                         manifest['files'] + manifest['based'])
    for number, (copy_one, entry) in enumerate(todo, 1):
        LOG.info('Copying file %(number)d of %(count)d, %(name)s of %(size)d '
                 'bytes, which QEMU does not copy, from %(host)s.',
                 dict(entry, number=number, count=len(todo),
                      host=instance.host), instance=instance)
        copy_one(instance, directory, entry)
        progress.add(entry['size'])
        if entry['name'].startswith('disk'):
            formats[os.path.join(directory, entry['name'])] = entry['format']
    if formats:
        with open(os.path.join(directory, _FORMATS), 'w',
                  encoding='utf-8') as file:
            file.write(jsonutils.dumps(formats) + '\n')
    digest = _digest(path)
    shutil.rmtree(folder)
    _record(context, instance, digest)


def _copy_file(instance, directory, entry):
    path = os.path.join(directory, entry['name'])
    if entry['staged']:
        os.rename(os.path.join(directory, FOLDER, entry['name']), path)
    else:
        _fetch(instance, directory, entry['name'], directory)
    if os.path.getsize(path) != entry['size']:
        raise exception.MigrationError(reason=_(
            '%(path)s has %(found)d bytes on the destination and had '
            '%(size)d on the source') % {
                'path': path, 'found': os.path.getsize(path),
                'size': entry['size']})
    if entry['base']:
        _flatten(instance, path, entry)


def _flatten(instance, path, entry):
    """Make a disk independent of its base, which is of the source.

    The file of that name in this host's cache may be the output of another
    mkfs (hazard: disks-not-in-the-domain).
    """
    with _fetched_base(instance, path, entry['base']) as base:
        processutils.execute('qemu-img', 'rebase', '-u', '-f', 'qcow2', '-F',
                             entry['base_format'], '-b', base, path)
        _replace(path, 'qcow2', path)


def _copy_base(instance, directory, entry):
    """Put the content of the source's base in the place of a disk.

    Over it QEMU writes what is above the base on the source.
    """
    path = os.path.join(directory, entry['name'])
    with _fetched_base(instance, path, entry['base']) as base:
        _replace(path, entry['base_format'], base)


@contextlib.contextmanager
def _fetched_base(instance, path, base):
    target = path + '.base'
    libvirt_utils.copy_image(src=base, dest=target, host=instance.host,
                             receive=True)
    try:
        yield target
    finally:
        os.unlink(target)


def _replace(path, source_format, source):
    """Replace a disk by a qcow2 that has the content of another."""
    flat = path + '.flat'
    processutils.execute('qemu-img', 'convert', '-f', source_format, '-O',
                         'qcow2', source, flat)
    os.rename(flat, path)


def _fetch(instance, directory, name, target):
    """Copy a file, or a folder, of the source into a folder that is there."""
    libvirt_utils.copy_image(src=os.path.join(directory, name), dest=target,
                             host=instance.host, receive=True)
    return os.path.join(target, name)


def _read(path):
    with open(path, encoding='utf-8') as file:
        return jsonutils.loads(file.read())


def _digest(path):
    with open(path, 'rb') as file:
        return hashlib.sha256(file.read()).hexdigest()


def _record(context, instance, digest):
    fresh = objects.Instance.get_by_uuid(
        context, instance.uuid, expected_attrs=['system_metadata'])
    instance_metadata.record_transfer(fresh, digest)
    fresh.save()


def forget_proof(instance):
    """Forget what a destination of an earlier attempt got.

    :param instance: the Instance; saved if need be
    """
    if instance_metadata.forget_transfer(instance):
        instance.save()


def is_proven(context, instance):
    """Whether a destination has recorded that it got all of the manifest.

    :param context: a RequestContext
    :param instance: the Instance, on its source
    """
    path = os.path.join(libvirt_utils.get_instance_path(instance), FOLDER,
                        MANIFEST)
    fresh = objects.Instance.get_by_uuid(
        context, instance.uuid, expected_attrs=['system_metadata'])
    proof = instance_metadata.transfer_of(fresh)
    try:
        return proof is not None and proof == _digest(path)
    except FileNotFoundError:
        return False


def parse(xml):
    """A domain as an lxml element."""
    return etree.fromstring(xml)

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


"""The folder on the source in which files wait for the destination.

It has copies of small files, which are sent together, and flattened disks: a
base that this host has made may differ from the file with the same name in the
image cache of the destination (hazard: disks-not-in-the-domain).
"""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import typing

from nova import conf
from nova.virt.libvirt import utils as libvirt_utils
from oslo_concurrency import processutils
from oslo_log import log as logging
from oslo_utils import uuidutils

from nova_rescue_ext.host import qcow2
from nova_rescue_ext.host import rescue_files
from nova_rescue_ext.live_migration import manifest as manifests
from nova_rescue_ext.live_migration import stoppable

LOG = logging.getLogger(__name__)

CONF = conf.CONF

_PREFIX = 'migration_'


def folder(attempt: str) -> str:
    """The name of the folder, which is removed with the files of the rescue.

    :param attempt: the UUID of the migration
    """
    return _PREFIX + attempt + rescue_files.SUFFIX


def attempt_of(name: str) -> str | None:
    """The UUID of the migration that a folder with a name is for, or None.

    :param name: of a file
    """
    attempt = name[len(_PREFIX):-len(rescue_files.SUFFIX)]
    if name == folder(attempt) and uuidutils.is_uuid_like(attempt):
        return attempt
    return None


def find_all() -> typing.Iterator[tuple[str, str]]:
    """Yield directories of servers of this host that have such a folder.

    Each comes with the UUID of the migration.
    """
    for path in glob.iglob(os.path.join(glob.escape(CONF.instances_path),
                                        '*', folder('*'))):
        attempt = attempt_of(os.path.basename(path))
        if attempt is not None:
            yield os.path.dirname(path), attempt


def fill(manifest: manifests.Manifest) -> manifests.Manifest:
    """Put copies of the small files into the folder, if there is room.

    Not hard links: most files belong to the user of QEMU, and a kernel with
    fs.protected_hardlinks lets no other user link them. The folder is that of
    this attempt, without anything of an earlier one.

    :param manifest: the Manifest
    :returns: the same, where what could not be copied goes alone
    """
    path = _path(manifest)
    remove(manifest.directory, manifest.attempt)
    os.mkdir(path, 0o700)
    return manifest._replace(entries=[
        _stage(path, manifest.directory, entry)
        for entry in manifest.entries])


def _path(manifest: manifests.Manifest) -> str:
    return os.path.join(manifest.directory, folder(manifest.attempt))


def _stage(path: str, directory: str,
           entry: manifests.Entry) -> manifests.Entry:
    if entry.way != manifests.TOGETHER:
        return entry
    target = os.path.join(path, entry.name)
    try:
        libvirt_utils.copy_image(os.path.join(directory, entry.name), target)
    except (processutils.ProcessExecutionError, OSError) as exc:
        LOG.info('%(name)s is copied to the destination by itself: %(error)s',
                 {'name': entry.name, 'error': exc})
        with contextlib.suppress(FileNotFoundError):
            os.unlink(target)
        return entry._replace(way=manifests.ALONE)
    return entry


def flatten(manifest: manifests.Manifest,
            is_wanted: stoppable.IsWanted) -> manifests.Manifest:
    """Flatten the disks whose base the destination cannot get.

    :param manifest: the Manifest
    :param is_wanted: whether to go on
    :returns: the same, with the sizes that they have
    :raises: CopyUnwanted, OSError, ValueError, ProcessExecutionError
    """
    return manifest._replace(entries=[
        _flatten(manifest, entry, is_wanted)
        if entry.is_flattened else entry for entry in manifest.entries])


def _flatten(manifest: manifests.Manifest, entry: manifests.Entry,
             is_wanted: stoppable.IsWanted) -> manifests.Entry:
    source, source_format = (
        os.path.join(manifest.directory, entry.name), 'qcow2')
    if entry.way == manifests.BASE_FLATTENED:
        # QEMU writes on top of it what the disk has above its base.
        header = qcow2.read(source)
        if header.backing_file is None or header.backing_format is None:
            raise ValueError('%s no longer has a base' % source)
        source, source_format = header.backing_file, header.backing_format
    target = os.path.join(_path(manifest), entry.name)
    with stoppable.process(is_wanted) as on_execute:
        processutils.execute(
            'qemu-img', 'convert', '-f', source_format, '-O', 'qcow2',
            source, target, on_execute=on_execute)
    return entry._replace(size=os.path.getsize(target))


def remove(directory: str, attempt: str) -> None:
    """Remove the folder, when the destination has all.

    What is left goes with the files of the rescue.

    :param directory: of the server
    :param attempt: the UUID of the migration
    """
    shutil.rmtree(os.path.join(directory, folder(attempt)),
                  ignore_errors=True)

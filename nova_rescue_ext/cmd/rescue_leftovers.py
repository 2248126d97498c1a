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


"""``nova-rescue-ext-manage rescue-leftovers``: what rescues left on a host.

Stock Nova boots a rescue disk that it finds, whatever image is asked for. So
none may be left when the package has been switched off.
"""

from __future__ import annotations

import argparse
import os
import stat
import sys
import time
import types
import typing

from oslo_utils import uuidutils

from nova_rescue_ext.cmd import compute_api

if typing.TYPE_CHECKING:
    from lxml import etree

_SUFFIX = '.rescue'
_STOCK_DOMAIN = 'unrescue.xml'
_URIS = {'lxc': 'lxc:///', 'parallels': 'parallels:///system'}

_LVM = ('Volumes on LVM are not looked at. "lvs VOLUME_GROUP" shows those '
        'whose names end in _disk.rescue or _disk.config.rescue. Remove them '
        'with lvremove if "virsh dumpxml" of the server does not name them.')
_KEPT_DOMAIN = ('kept: a server that stock Nova has rescued needs it to be '
                'unrescued')
_VOLUME = ('left: unless the server is being rescued, remove it with '
           '"rbd rm"')
_IN_USE = 'in use'
_REMOVED = 'removed'


class Left(typing.NamedTuple):
    """What was found, and what was done with it."""

    server_id: str
    name: str
    result: str
    remains: bool  # and has to be seen to


def add_parser(
        commands: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the command to those of the program."""
    parser = commands.add_parser(
        'rescue-leftovers',
        help='find files of former rescues on this compute host')
    parser.add_argument('--remove', action='store_true',
                        help='remove them (default: only list them)')
    parser.add_argument(
        '--older-than', type=compute_api.positive(int), default=3600,
        metavar='SECONDS',
        help='leave servers alone whose rescue files were written less than '
             'SECONDS ago, as a rescue may be in progress (default 3600)')
    parser.add_argument('--config-file', action='append', help='of Nova')
    parser.set_defaults(action=run, local=False)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Find what rescues have left on this host; remove it if requested.

    Run as the user of nova-compute, with the package on or off.

    :returns: the exit code: 0, or 1 if something is left
    :raises: Refused
    """
    conf = _configure(arguments.config_file)
    connection = _connect(conf)
    try:
        found = [left for server_id in _servers(conf.instances_path)
                 for left in _look(connection, conf, server_id, arguments)]
    finally:
        connection.close()
    print(compute_api.table(['Server', 'File or volume', 'Result'], [
        [left.server_id, left.name, left.result] for left in found]))
    if conf.libvirt.images_type == 'lvm':
        print(_LVM)
    return int(any(left.remains for left in found))


def _configure(config_files: list[str] | None) -> typing.Any:
    """Read nova.conf, as nova-compute does.

    :returns: Nova's configuration
    :raises: Refused
    """
    try:
        from nova import conf
        from nova import config
        from oslo_config import cfg
    except ImportError as exc:
        raise compute_api.Refused(
            'Run this command where nova-compute runs, with the Python of '
            'Nova (%s).' % exc)

    try:
        config.parse_args(['nova-rescue-ext-manage'],
                          default_config_files=config_files,
                          configure_db=False, init_rpc=False)
    except cfg.Error as exc:
        raise compute_api.Refused('%s. Run the command as the user of '
                                  'nova-compute.' % exc)
    return conf.CONF


def _connect(conf: typing.Any) -> typing.Any:
    """A connection to libvirt that can only read, a libvirt.virConnect.

    :param conf: Nova's configuration
    :raises: Refused
    """
    try:
        import libvirt
    except ImportError as exc:
        raise compute_api.Refused(
            'There is no libvirt in this Python (%s). Run the command with '
            'that of nova-compute.' % exc)

    uri = conf.libvirt.connection_uri or _URIS.get(conf.libvirt.virt_type,
                                                   'qemu:///system')
    try:
        return libvirt.openReadOnly(uri)
    except libvirt.libvirtError as exc:
        raise compute_api.Refused('libvirt does not answer at %s (%s). '
                                  'Nothing was done.' % (uri, exc))


def _servers(instances_path: str) -> list[str]:
    """The UUIDs of the servers that have a directory.

    :raises: Refused
    """
    try:
        with os.scandir(instances_path) as entries:
            return sorted(entry.name for entry in entries
                          if uuidutils.is_uuid_like(entry.name)
                          and entry.is_dir(follow_symlinks=False))
    except OSError as exc:
        raise compute_api.Refused('[DEFAULT] instances_path cannot be read '
                                  '(%s). Run the command as the user of '
                                  'nova-compute.' % exc)


def _look(connection: typing.Any, conf: typing.Any, server_id: str,
          arguments: argparse.Namespace) -> list[Left]:
    """Check one server; remove what it does not need if requested.

    :param connection: a libvirt.virConnect
    :param conf: Nova's configuration
    """
    path = os.path.join(conf.instances_path, server_id)
    try:
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY
                            | os.O_NOFOLLOW)
    except OSError as exc:
        return [Left(server_id, '', 'cannot be read: %s' % exc.strerror,
                     True)]
    try:
        files = {name: os.lstat(name, dir_fd=directory)
                 for name in sorted(os.listdir(directory))
                 if name.endswith(_SUFFIX) or name == _STOCK_DOMAIN}
        volumes = _rbd_volumes(conf, server_id)
        if not files and not volumes:
            return []
        reason = _reason_to_leave(connection, server_id, files,
                                  arguments.older_than)
        if reason == _IN_USE:
            return []
        if reason:
            return [Left(server_id, name, 'left: ' + reason, True)
                    for name in (*files, *volumes)]
        found = [_settle(directory, server_id, name, status, arguments.remove)
                 for name, status in files.items()]
    except OSError as exc:
        return [Left(server_id, '', 'cannot be read: %s' % exc.strerror,
                     True)]
    finally:
        os.close(directory)
    if any(left.result == _REMOVED for left in found):
        _forget_formats(path)
    return found + [Left(server_id, name, _VOLUME, True) for name in volumes]


def _reason_to_leave(connection: typing.Any, server_id: str,
                     files: dict[str, os.stat_result],
                     older_than: float) -> str | None:
    """Why the files of a server cannot be removed, in words.

    A guest must run here, on other disks. On shared storage, a domain that is
    off may be what has stayed of a server that is in rescue on another host.

    :param older_than: seconds since the last of them was written
    :returns: None if they can
    """
    import libvirt
    from lxml import etree

    try:
        domain = connection.lookupByUUIDString(server_id)
        is_running = domain.isActive()
        xml = [domain.XMLDesc(0)]
        if domain.isPersistent():
            xml.append(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
    except libvirt.libvirtError as exc:
        if exc.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return 'libvirt on this host has no domain of the server'
        return 'libvirt does not answer (%s)' % exc
    if any(_uses_rescue_files(etree.fromstring(text)) for text in xml):
        return _IN_USE
    if not is_running:
        return 'the server is off. Start it and run the command again'
    # A time in the future, from a clock that is ahead, counts as recent.
    written = max((status.st_mtime for status in files.values()), default=0)
    if time.time() - written < older_than:
        return ('a rescue may be in progress. Run the command again when '
                'they are older')
    return None


def _uses_rescue_files(domain: etree._Element) -> bool:
    """Whether a domain has a disk, a kernel or a ramdisk of a rescue."""
    for part in ('os', 'devices'):
        for element in domain.iterfind(part + '//*'):
            for text in (element.text or '', *element.attrib.values()):
                # An encrypted volume: NAME.rescue-dmcrypt
                if text.strip().endswith((_SUFFIX, _SUFFIX + '-dmcrypt')):
                    return True
    return False


def _settle(directory: int, server_id: str, name: str,
            status: os.stat_result, remove: bool) -> Left:
    """Remove a file if that is requested and safe.

    :param directory: a descriptor
    :param status: that of the file itself, if it is a link
    """
    if name == _STOCK_DOMAIN:
        return Left(server_id, name, _KEPT_DOMAIN, False)
    if not stat.S_ISREG(status.st_mode):
        return Left(server_id, name, 'left: not a regular file', True)
    if not remove:
        return Left(server_id, name, 'left over: use --remove', True)
    try:
        if os.lstat(name, dir_fd=directory) != status:
            return Left(server_id, name, 'left: it is being changed', True)
        os.unlink(name, dir_fd=directory)
    except OSError as exc:
        return Left(server_id, name, 'cannot be removed: %s' % exc.strerror,
                    True)
    return Left(server_id, name, _REMOVED, False)


def _forget_formats(path: str) -> None:
    """Drop the formats of removed disks from disk.info.

    :param path: of the server's directory
    """
    from nova_rescue_ext.host import rescue_files

    if os.path.islink(os.path.join(path, 'disk.info')):
        return
    try:
        rescue_files.forget_formats(path)
    except (OSError, ValueError) as exc:
        print('%s: the formats of the removed disks are still in disk.info '
              '(%s).' % (path, exc), file=sys.stderr)


def _rbd_volumes(conf: typing.Any, server_id: str) -> list[str]:
    """The rescue volumes of a server on RBD, as POOL/NAME.

    :param conf: Nova's configuration
    :raises: Refused
    """
    if conf.libvirt.images_type != 'rbd':
        return []
    from nova_rescue_ext.host import rescue_files

    try:
        names = rescue_files.remaining_volumes(
            types.SimpleNamespace(uuid=server_id))
    except Exception as exc:  # what rados raises
        raise compute_api.Refused('RBD does not answer (%s). Nothing was '
                                  'done.' % exc)
    return ['%s/%s' % (conf.libvirt.images_rbd_pool, name) for name in names]

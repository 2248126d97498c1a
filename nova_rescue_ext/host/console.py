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

"""The console log of a server's guest, as far as libvirt keeps it."""

from __future__ import annotations

import os
import typing

from nova import objects
import nova.privsep.path

from nova_rescue_ext.host import guests

if typing.TYPE_CHECKING:
    from nova.virt.libvirt import driver as libvirt_driver

_MOST = 102400  # bytes of one file: as many as Nova shows of a console log

# What Nova's domains have, with a pty as with a serial port over TCP.
_DEVICES = ('serial', 'console')


def log_path(driver: libvirt_driver.LibvirtDriver,
             instance: objects.Instance) -> str | None:
    """Where libvirt keeps what the guest prints.

    :param driver: the LibvirtDriver
    :param instance: the Instance
    :returns: None if it keeps no such file, or does not empty it when a guest
        is started: then it has what guests before have printed
    :raises: InstanceNotFound
    """
    domain = guests.read_domain(driver, instance)
    for device in domain.findall('devices/*'):
        log = device.find('log')
        if (device.tag in _DEVICES and log is not None and log.get('file')
                and log.get('append') != 'on'):
            return log.get('file')
    return None


class Log:
    """A console log that is looked at again and again.

    :param path: of the file
    :ivar has_begun_anew: whether the last call of read_new() found another or
        a shorter file than the one before, or none any more: it was rotated,
        or belongs to a guest that was started since
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._status: os.stat_result | None = None
        self.has_begun_anew = False

    def read_new(self) -> bytes:
        """The end of the log, if anything was printed since the last call.

        Costs no more than a stat() if not. Only so much is read as Nova shows
        of a log; virtlogd limits the file itself.

        :raises: OSError
        """
        before, now = self._status, self._stat(self._path)
        self.has_begun_anew = before is not None and (
            now is None or now.st_ino != before.st_ino
            or now.st_size < before.st_size)
        data = b''
        if now is not None and _version(now) != _version(before):
            if self.has_begun_anew:
                data = self._read_rotated(before)
            data += self._read(self._path)
        self._status = now  # not if it could not be read
        return data

    def _read_rotated(self, before: os.stat_result | None) -> bytes:
        """What was printed until virtlogd began a new file."""
        path = self._path + '.0'
        now = self._stat(path)
        if before is None or now is None or now.st_ino != before.st_ino:
            return b''
        return self._read(path)

    @staticmethod
    def _read(path: str) -> bytes:
        # It belongs to root.
        data: bytes
        data, _remaining = nova.privsep.path.last_bytes(path, _MOST)
        return data[-_MOST:]

    @staticmethod
    def _stat(path: str) -> os.stat_result | None:
        try:
            return os.stat(path)
        except FileNotFoundError:
            return None


def _version(status: os.stat_result | None) -> tuple[int, ...] | None:
    """What differs when something was printed."""
    return status and (status.st_ino, status.st_size, status.st_mtime_ns)

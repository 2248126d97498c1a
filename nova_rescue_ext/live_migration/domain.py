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


"""Where the domain of a server is, and which disk files it has."""

from __future__ import annotations

import os

from lxml import etree
from nova import exception
from nova import objects
from nova.virt.libvirt import driver as libvirt_driver

# libvirt's VIR_DOMAIN_SHUTOFF_MIGRATED, VIR_DOMAIN_PAUSED_POSTCOPY and
# ..._POSTCOPY_FAILED; Nova's double of it lacks the names.
_SHUTOFF_MIGRATED = 4
_HANDED_OVER = (11, 12)


def is_left_behind(driver: libvirt_driver.LibvirtDriver,
                   instance: objects.Instance) -> bool:
    """Whether the domain is here and off, and did not move to another host.

    :param driver: the LibvirtDriver
    :param instance: the Instance
    """
    try:
        domain = driver._host.get_guest(instance)._domain
    except exception.InstanceNotFound:
        return False
    state, reason = domain.state()
    return (state == libvirt_driver.libvirt.VIR_DOMAIN_SHUTOFF
            and reason != _SHUTOFF_MIGRATED)


def is_handed_over(driver: libvirt_driver.LibvirtDriver,
                   instance: objects.Instance) -> bool:
    """Whether the domain is paused here as its guest goes on elsewhere.

    That is so in post-copy, even if it failed: only the destination has what
    the guest did since.

    :param driver: the LibvirtDriver
    :param instance: the Instance
    """
    try:
        state, reason = driver._host.get_guest(instance)._domain.state()
    except exception.InstanceNotFound:
        return False
    except libvirt_driver.libvirt.libvirtError:
        return False  # Nova rolls back what libvirt says nothing of
    return (state == libvirt_driver.libvirt.VIR_DOMAIN_PAUSED
            and reason in _HANDED_OVER)


def is_moving(driver: libvirt_driver.LibvirtDriver,
              instance: objects.Instance) -> bool:
    """Whether QEMU is at work on a migration of the domain.

    :param driver: the LibvirtDriver
    :param instance: the Instance
    """
    try:
        job = driver._host.get_guest(instance).get_job_info()
    except exception.InstanceNotFound:
        return False
    libvirt = libvirt_driver.libvirt
    return job.type in (libvirt.VIR_DOMAIN_JOB_BOUNDED,
                        libvirt.VIR_DOMAIN_JOB_UNBOUNDED)


class Files:
    """The files of a running domain that are in the server's directory.

    :param domain: an lxml element
    :param directory: of the server
    :ivar writable: those that QEMU copies in a block migration: the format of
        each, by its name
    :ivar readable: names of those that nobody copies
    """

    def __init__(self, domain: etree._Element, directory: str) -> None:
        self._directory = directory
        self.writable: dict[str, str | None] = {}
        self.readable: set[str] = set()
        for disk in domain.findall('devices/disk'):
            source = disk.find('source')
            if source is not None:
                self._add_disk(source.get('file') or '', disk)
        for element in ('kernel', 'initrd'):
            path = domain.findtext('os/' + element) or ''
            if self._is_here(path):
                self.readable.add(os.path.basename(path))

    def _add_disk(self, path: str, disk: etree._Element) -> None:
        if not self._is_here(path):
            return
        name = os.path.basename(path)
        if (disk.get('device') == 'cdrom'
                or disk.find('readonly') is not None):
            self.readable.add(name)
        else:
            driver = disk.find('driver')
            self.writable[name] = (driver.get('type') if driver is not None
                                   else None)

    def _is_here(self, path: str) -> bool:
        return os.path.dirname(path) == self._directory

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


"""The guest of a server in libvirt."""

from __future__ import annotations

import typing

from lxml import etree
from nova import exception
from nova import objects
from nova.virt.libvirt.storage import dmcrypt

from nova_rescue_ext.host import rescue_files
from nova_rescue_ext import instance_metadata

if typing.TYPE_CHECKING:
    from nova.virt.libvirt import driver as libvirt_driver


def is_running(driver: libvirt_driver.LibvirtDriver,
               instance: objects.Instance) -> bool:
    """Whether the guest of a server is running.

    :param driver: the LibvirtDriver
    :param instance: the Instance
    """
    try:
        return driver._host.get_guest(instance).is_active()
    except exception.InstanceNotFound:
        return False


def firmware(driver: libvirt_driver.LibvirtDriver, instance: objects.Instance
             ) -> instance_metadata.Firmware | None:
    """The files of the firmware in a server's domain.

    :param driver: the LibvirtDriver
    :param instance: the Instance
    :returns: None without files that have to fit, or without a domain
    """
    try:
        system = read_domain(driver, instance).find('os')
    except exception.InstanceNotFound:
        return None
    if system is None:
        return None
    loader, nvram = system.find('loader'), system.find('nvram')
    # Other kinds of firmware have no files that must match.
    if (loader is None or nvram is None or loader.get('type') != 'pflash'
            or not (loader.text and nvram.text and nvram.get('template'))):
        return None
    return instance_metadata.Firmware(loader.text, loader.get('secure'),
                                      nvram.text, nvram.get('template'))


def state(driver: libvirt_driver.LibvirtDriver,
          instance: objects.Instance) -> int:
    """The state of a server's guest, of nova.compute.power_state.

    A guest that waits for its network to be plugged is paused, and is_running.

    :param driver: the LibvirtDriver
    :param instance: the Instance
    :raises: InstanceNotFound
    """
    return driver._host.get_guest(instance).get_power_state(driver._host)


def exists(driver: libvirt_driver.LibvirtDriver,
           instance: objects.Instance) -> bool:
    """Whether a server has a domain, running or not.

    :param driver: the LibvirtDriver
    :param instance: the Instance
    """
    try:
        driver._host.get_guest(instance)
    except exception.InstanceNotFound:
        return False
    return True


def read_domain(driver: libvirt_driver.LibvirtDriver,
                instance: objects.Instance) -> etree._Element:
    """The domain of a server, as libvirt has it.

    :param driver: the LibvirtDriver
    :param instance: the Instance
    :raises: InstanceNotFound
    """
    return etree.fromstring(driver._host.get_guest(instance).get_xml_desc())


def read_definition(driver: libvirt_driver.LibvirtDriver,
                    instance: objects.Instance) -> etree._Element:
    """The domain of a server as it will be when it is started next.

    :param driver: the LibvirtDriver
    :param instance: the Instance
    :raises: InstanceNotFound
    """
    return etree.fromstring(driver._host.get_guest(instance).get_xml_desc(
        dump_inactive=True, dump_sensitive=True))


def disk_targets(driver: libvirt_driver.LibvirtDriver,
                 instance: objects.Instance) -> list[str]:
    """The names of the disks of a server's guest, such as vda.

    :param driver: the LibvirtDriver
    :param instance: the Instance
    :returns: an empty list if it has no domain
    """
    try:
        domain = read_definition(driver, instance)
    except exception.InstanceNotFound:
        return []
    return [target.get('dev') for target in domain.findall(
        'devices/disk/target')]


def is_in_rescue(driver: libvirt_driver.LibvirtDriver,
                 instance: objects.Instance) -> bool:
    """Whether a server's domain, running or not, is that of a rescue.

    :param driver: the LibvirtDriver
    :param instance: the Instance
    """
    try:
        domain = read_domain(driver, instance)
    except exception.InstanceNotFound:
        return False
    names = (value for source in domain.findall('devices/disk/source')
             for value in source.attrib.values())
    return any(name.endswith((rescue_files.SUFFIX,
                              dmcrypt.volume_name(rescue_files.SUFFIX)))
               for name in names)


def has_shares(instance: objects.Instance) -> bool:
    """Whether a server has shares of Manila.

    :param instance: the Instance
    """
    return bool(objects.ShareMappingList.get_by_instance_uuid(
        instance._context, instance.uuid))

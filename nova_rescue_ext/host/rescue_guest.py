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


"""Start the guest of a rescue, as it was."""

from __future__ import annotations

import inspect
import typing

from lxml import etree
from nova import conf
from nova.console import serial as serial_console
from nova import context as nova_context
from nova import objects
from nova.virt import driver as virt_driver

from nova_rescue_ext.host import guests
from nova_rescue_ext import nova_types
from nova_rescue_ext.task import operation
from nova_rescue_ext import tpm

if typing.TYPE_CHECKING:
    from nova.network import model as network_model
    from nova.virt.libvirt import driver as libvirt_driver

CONF = conf.CONF


class Naming(operation.Operation):
    """A search for a name that no disk has, of a server or of its guest.

    :param instance_uuid: the UUID of the server
    :param names: those of the guest's disks
    """

    def __init__(self, instance_uuid: str, names: list[str]) -> None:
        super().__init__(instance_uuid)
        self._names = names

    def reserve_in(self, mapping: dict[str, typing.Any]) -> None:
        """Add the disks of the guest to those of the server.

        :param mapping: as Nova's get_disk_info() makes it; changed in place
        """
        mapping.update(('of the guest: ' + name, {'dev': name})
                       for name in self._names)


def start(driver: libvirt_driver.LibvirtDriver,
          context: nova_context.RequestContext, instance: objects.Instance,
          network_info: network_model.NetworkInfo,
          block_device_info: nova_types.BlockDeviceInfo | None) -> None:
    """Start the guest of a rescue, after powering it off if it runs.

    Its domain is the one that was defined for the rescue, with everything that
    was attached since. Volumes are connected anew, as in a hard reboot: an
    old device path may be another volume by now (hazard: stale-saved-domain).

    If that fails, the guest is off, and its domain is still defined. Nova
    would undefine it, zero persistent memory and delete UEFI variables.

    :param driver: the LibvirtDriver
    :param context: a RequestContext
    :param instance: the Instance; the caller holds its lock
    :param network_info: its network interfaces
    :param block_device_info: what Nova tells the driver of its volumes
    :raises: InstanceNotFound, if there is no domain; what the driver raises
    """
    domain = guests.read_definition(driver, instance)
    if guests.is_running(driver, instance):
        driver._destroy(instance)
    _connect_volumes(driver, context, instance, block_device_info, domain)
    _acquire_serial_ports(domain)
    driver.plug_vifs(instance, network_info)
    # The secret of a TPM takes the token of a user, and is not needed.
    with (tpm.LeftOut(instance.uuid),
          driver._lxc_disk_handler(context, instance, instance.image_meta,
                                   block_device_info)):
        driver._create_guest(
            context, etree.tostring(domain, encoding='unicode'), instance)


def _connect_volumes(driver: libvirt_driver.LibvirtDriver,
                     context: nova_context.RequestContext,
                     instance: objects.Instance,
                     block_device_info: nova_types.BlockDeviceInfo | None,
                     domain: etree._Element) -> None:
    """Connect the volumes of a domain, and update their sources in it.

    :param domain: changed in place
    """
    disks = {disk.findtext('serial'): disk
             for disk in domain.findall('devices/disk')}
    for bdm in virt_driver.block_device_info_get_mapping(block_device_info):
        connection_info = bdm['connection_info']
        disk = disks.get(connection_info.get('serial'))
        if disk is None:
            continue  # not in a rescue without stable devices
        driver._disconnect_volume(context, connection_info, instance,
                                  destroy_secrets=False, force=True)
        driver._connect_volume(context, connection_info, instance)
        _renew_source(driver, instance, connection_info, disk)
        bdm.save()


def _renew_source(driver: libvirt_driver.LibvirtDriver,
                  instance: objects.Instance,
                  connection_info: dict[str, typing.Any],
                  disk: etree._Element) -> None:
    target = disk.find('target')
    # Nova 29 and 30 take the instance, too.
    takes_instance = 'instance' in inspect.signature(
        driver._get_volume_config).parameters
    config = driver._get_volume_config(
        *([instance] if takes_instance else []), connection_info,
        {'bus': target.get('bus'), 'dev': target.get('dev'),
         'type': disk.get('device')})
    volume = etree.fromstring(config.to_xml())
    disk.set('type', volume.get('type'))
    disk.replace(disk.find('source'), volume.find('source'))


def _acquire_serial_ports(domain: etree._Element) -> None:
    """Acquire TCP ports for the serial consoles of a domain.

    Nova released them when the guest was powered off, so that another guest
    may have them.

    :param domain: changed in place
    """
    if not CONF.serial_console.enabled:
        return
    ports: dict[tuple[str, str], str] = {}
    for source in domain.iterfind("devices/*/source[@mode='bind'][@service]"):
        host, port = source.get('host'), source.get('service')
        if (host, port) not in ports:
            ports[host, port] = str(serial_console.acquire_port(host))
        source.set('service', ports[host, port])

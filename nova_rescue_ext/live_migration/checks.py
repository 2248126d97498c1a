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


"""What the source refuses to migrate, before anything moves.

In each case stock Nova would lose data, or the guest on the destination would
differ from the one that is running.
"""

from __future__ import annotations

import contextlib
import typing

from lxml import etree
from nova import conf
from nova import exception
from nova import objects
from nova.virt import hardware
from oslo_log import log as logging

from nova_rescue_ext import exception as ext_exception
from nova_rescue_ext.host import rescue_files
from nova_rescue_ext.i18n import _
from nova_rescue_ext import instance_metadata
from nova_rescue_ext.live_migration import manifest
from nova_rescue_ext import tpm

if typing.TYPE_CHECKING:
    from nova.virt.libvirt import driver as libvirt_driver

CONF = conf.CONF
LOG = logging.getLogger(__name__)


def refuse(reason: str) -> typing.NoReturn:
    """Refuse a live migration. The server is not changed.

    :param reason: a sentence that says why and what to do
    :raises: MigrationPreCheckError
    """
    raise exception.MigrationPreCheckError(reason=reason)


@contextlib.contextmanager
def harmless() -> typing.Iterator[None]:
    """Turn every failure in this block into a refusal.

    nova-conductor sets the server to ERROR for anything else
    (hazard: error-for-a-refusal).
    """
    try:
        yield
    except (exception.Invalid, exception.MigrationPreCheckError):
        raise
    except Exception as exc:
        LOG.exception('The check before a live migration failed. The server '
                      'is not migrated.')
        refuse(_('the check failed with %(type)s: %(error)s')
               % {'type': type(exc).__name__, 'error': exc})


def check(driver: libvirt_driver.LibvirtDriver, instance: objects.Instance,
          migrate_data: objects.LibvirtLiveMigrateData,
          domain: etree._Element) -> None:
    """Refuse a rescued server that cannot be migrated safely.

    :param driver: the LibvirtDriver of the source
    :param instance: the Instance, which is in rescue
    :param migrate_data: the LibvirtLiveMigrateData that the destination made
    :param domain: the running domain, an lxml element
    :raises: MigrationPreCheckError
    """
    _check_record(instance)
    _check_tpm(instance)
    _check_images_type(migrate_data)
    _check_uefi_variables(instance, domain)
    _check_serial_ports(instance, domain)
    _check_vifs(driver, instance, domain)
    check_volumes(instance)


def check_volumes(instance: objects.Instance) -> None:
    """Refuse to migrate a server that a volume is being attached to.

    The destination would connect it, or boot the guest with a path that is
    another volume there.

    :param instance: the Instance
    :raises: MigrationPreCheckError
    """
    for bdm in objects.BlockDeviceMappingList.get_by_instance_uuid(
            instance._context, instance.uuid):
        if bdm.is_volume and bdm.connection_info is None:
            refuse(_('volume %s is being attached to it. Wait until it is '
                     'attached; if it is not, have it detached')
                   % bdm.volume_id)


def check_vouched_for(checked: instance_metadata.Checked | None
                      ) -> instance_metadata.Checked:
    """Refuse a migration whose destination no conductor has checked.

    A host without the package would cache the server's image under the name
    of the rescue image, for all of its servers, and could not unrescue the
    server (hazard: unchecked-destination).

    :param checked: what the conductor says that it has checked, or None
    :returns: the same, which is not None
    :raises: MigrationPreCheckError
    """
    if checked is None:
        refuse(_('the destination was not checked, as nova-conductor does not '
                 'have nova-rescue-ext, or only an older one. Install it '
                 'there, or unrescue the server first'))
    return checked


def check_no_rescue_runs(instance: objects.Instance,
                         domain: etree._Element) -> None:
    """Refuse a server that is not in rescue and whose rescue system runs.

    :param instance: the Instance
    :param domain: the running domain, an lxml element
    :raises: MigrationPreCheckError
    """
    # A file, a device, or the name of a volume in Ceph.
    sources = domain.xpath('devices/disk/source/@*[name()="file" or '
                           'name()="dev" or name()="name"]')
    if any(source.endswith(rescue_files.SUFFIX) for source in sources):
        refuse(_('the server is %(state)s, but runs a rescue system, so that '
                 'its disks would be lost. Hard reboot it, which ends the '
                 'rescue, then migrate it')
               % {'state': instance.vm_state})


def _check_record(instance: objects.Instance) -> None:
    if instance_metadata.rescue_of(instance) is None:
        refuse(_('the server was rescued before nova-rescue-ext was '
                 'installed on its host, so its rescue image was not '
                 'recorded. Unrescue it, and rescue it again if need be'))


def _check_tpm(instance: objects.Instance) -> None:
    """Refuse to leave a TPM behind (hazard: vtpm-and-encrypted-memory).

    libvirt migrates the state of a TPM with a guest that has the TPM.
    """
    if tpm.has_tpm(instance):
        refuse(ext_exception.TPMCannotMigrate().format_message())


def _check_images_type(migrate_data: objects.LibvirtLiveMigrateData) -> None:
    """Refuse what the clean-up, which deletes volumes by prefix, may destroy.

    Hazards: differing-images-type, lvm.
    """
    destination = (migrate_data.image_type
                   if migrate_data.obj_attr_is_set('image_type') else None)
    source = CONF.libvirt.images_type
    if 'lvm' in (source, destination):
        refuse(_('servers with disks on LVM cannot be migrated in rescue'))
    if (manifest.storage_class(source)
            != manifest.storage_class(destination)):
        refuse(_('[libvirt] images_type is %(source)s on the source and '
                 '%(destination)s on the destination, and must be the same')
               % {'source': source, 'destination': destination})


def _check_uefi_variables(instance: objects.Instance,
                          domain: etree._Element) -> None:
    """Refuse to lose UEFI variables: a BIOS guest does not carry them.

    Hazard: uefi-variables.
    """
    properties = instance.image_meta.properties
    if (properties.get('hw_firmware_type') == 'uefi'
            and not _is_stateless(properties)
            and domain.find('os/nvram') is None):
        refuse(_('the server has UEFI firmware but was rescued with an image '
                 'that has not, so its UEFI variables would be lost. '
                 'Unrescue it first, or rescue it with an image that has '
                 'hw_firmware_type=uefi'))


def _is_stateless(properties: objects.ImageMetaProps) -> bool:
    # Nova 32 added this property.
    return ('hw_firmware_stateless' in properties.fields
            and properties.get('hw_firmware_stateless'))


def _check_serial_ports(instance: objects.Instance,
                        domain: etree._Element) -> None:
    """Refuse another number of serial ports than the destination reserves.

    It goes by the image of the server (hazard: serial-ports).
    """
    if not CONF.serial_console.enabled:
        return
    expected = hardware.get_number_of_serial_ports(instance.flavor,
                                                   instance.image_meta)
    found = len({(source.get('host'), source.get('service')) for source
                 in domain.xpath("devices/*[self::serial or self::console]"
                                 "[@type='tcp']/source[@mode='bind']")})
    if found != expected:
        refuse(_('the rescue system has %(found)d serial ports and the '
                 'server %(expected)d (hw_serial_port_count). Unrescue it '
                 'first') % {'found': found, 'expected': expected})


def _check_vifs(driver: libvirt_driver.LibvirtDriver,
                instance: objects.Instance, domain: etree._Element) -> None:
    """Refuse VIFs that differ from those that the destination builds.

    It goes by the image of the server (hazard: vif-model).
    """
    running = {interface.find('mac').get('address').lower(): interface
               for interface in domain.findall('devices/interface')}
    for vif in instance.get_network_info():
        interface = running.get(vif['address'].lower())
        if interface is None:
            continue  # detached while it migrates, as SR-IOV ports are
        expected = driver.vif_driver.get_config(
            instance, vif, instance.image_meta, instance.flavor,
            CONF.libvirt.virt_type)
        if _model(interface) != (expected.model,
                                 _number(expected.vhost_queues)):
            refuse(_('network interface %(mac)s has another model or number '
                     'of queues in the rescue system than in the server '
                     '(hw_vif_model, hw_vif_multiqueue_enabled). Unrescue it '
                     'first, or rescue it with an image that has the same')
                   % {'mac': vif['address']})


def _model(interface: etree._Element) -> tuple[str | None, int]:
    model, driver = interface.find('model'), interface.find('driver')
    return (model.get('type') if model is not None else None,
            _number(driver.get('queues') if driver is not None else None))


def _number(text: str | None) -> int:
    return int(text or 0)

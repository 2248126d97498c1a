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


"""A hard reboot that takes a server from its rescue back to its own disks."""

from __future__ import annotations

import typing

from lxml import etree
from nova.compute import utils as compute_utils
from nova.compute import vm_states
from nova import context as nova_context
from nova import objects
from nova.virt.libvirt import config as vconfig
from oslo_log import log as logging

from nova_rescue_ext import exception as ext_exception
from nova_rescue_ext.host import rescue_files
from nova_rescue_ext import instance_metadata
from nova_rescue_ext.task import operation

if typing.TYPE_CHECKING:
    from nova.compute import manager as compute_manager

LOG = logging.getLogger(__name__)

_MACHINE_TYPE = 'image_hw_machine_type'


class HardReboot(operation.Operation):
    """A hard reboot by which a server leaves its rescue.

    The domain is rebuilt from the database, no matter who rescued the server
    and on which host. Persistent memory and UEFI variables survive, which is
    not so in every hard reboot, and complete disks are left alone.

    The caller holds the lock of the instance.

    :param manager: the ComputeManager
    :param instance: the Instance; saved by the caller
    :param leave_off: whether the guest stays off, as its disks may be only
        half repaired

    .. attribute:: has_begun

        whether the existing guest may be gone
    """

    def __init__(self, manager: compute_manager.ComputeManager,
                 instance: objects.Instance, leave_off: bool) -> None:
        super().__init__(instance.uuid)
        self._manager = manager
        self._instance = instance
        self.leave_off = leave_off
        self.has_begun = False

    def run(self, context: nova_context.RequestContext) -> None:
        """Rebuild the domain, and remove what the rescue left.

        :param context: the RequestContext of the caller, not elevated
        """
        _repair_machine_type(self._instance)
        with self:
            self._reboot(context)
        self._finish(context)

    def finish(self, context: nova_context.RequestContext) -> None:
        """Do what is left of one whose process has ended.

        Its guest runs.

        :param context: the RequestContext of the caller, not elevated
        """
        _repair_machine_type(self._instance)
        # They are mounted, or the guest would not have been started.
        shares = objects.ShareMappingList.get_by_instance_uuid(
            context.elevated(), self._instance.uuid)
        if shares:
            shares.activate_all()
        self._finish(context)

    def _finish(self, context: nova_context.RequestContext) -> None:
        driver, instance = self._manager.driver, self._instance
        # Nova 29 and 30 keep that of the rescue (hazard: device-metadata).
        instance.device_metadata = driver._build_device_metadata(
            context, instance)
        instance_metadata.forget_rescue(instance)
        # Only now that the server runs again (hazard: failed-unrescue).
        rescue_files.remove_all(driver, instance)

    def _reboot(self, context: nova_context.RequestContext) -> None:
        manager, instance = self._manager, self._instance
        elevated = context.elevated()
        shares = _mount_shares(manager, elevated, instance)
        arguments = {} if shares is None else {'share_info': shares}
        arguments.update(
            block_device_info=manager._get_instance_block_device_info(
                elevated, instance),
            accel_info=manager._get_accel_info(elevated, instance))
        # A port may have been attached or detached until it was our turn.
        compute_utils.refresh_info_cache_for_instance(elevated, instance)
        self.has_begun = True
        try:
            manager.driver._hard_reboot(
                context, instance, instance.get_network_info(), **arguments)
        except ext_exception.LeftOff:
            # As a stop does, to release shares and serial consoles.
            manager._power_off_instance(
                *([] if shares is None else [elevated]), instance,
                clean_shutdown=False)
            return
        if shares:
            shares.activate_all()


def keep_firmware(instance: objects.Instance, old_guest: typing.Any) -> None:
    """Let Nova, from 33 on, keep the files of the server's own firmware.

    It takes those of the existing domain, which is that of the rescue. If that
    has a BIOS, libvirt would choose among the files of today, which may not
    match the server's variables (hazard: uefi-variables).

    :param instance: the Instance
    :param old_guest: the LibvirtConfigGuest of that domain; changed in place
    """
    if not HardReboot.is_run_by_this_thread():
        return
    firmware = instance_metadata.recorded_firmware(instance)
    if firmware is None:
        return
    old_guest.os_loader = firmware.loader
    old_guest.os_loader_type = 'pflash'
    old_guest.os_loader_readonly = True
    old_guest.os_loader_secure = old_guest.os_firmware_secure = (
        None if firmware.secure is None else firmware.secure == 'yes')
    old_guest.os_nvram = firmware.nvram
    old_guest.os_nvram_template = firmware.template
    smm = vconfig.LibvirtConfigGuestFeatureSMM
    if firmware.secure == 'yes' and not any(
            isinstance(feature, smm) for feature in old_guest.features):
        # libvirt has it with Secure Boot only, and starts no guest without.
        old_guest.features.append(smm())


def _mount_shares(
        manager: compute_manager.ComputeManager,
        context: nova_context.RequestContext,
        instance: objects.Instance) -> objects.ShareMappingList | None:
    """Mount the shares of a server (hazard: shares).

    :returns: a ShareMappingList, or None on Nova 29 and 30, which have none
    """
    if hasattr(manager, 'share_manager'):  # from Nova 34
        find = manager.share_manager.get_share_info
        mount = manager.share_manager.mount_all
    elif hasattr(manager, '_get_share_info'):
        find = manager._get_share_info
        mount = manager._mount_all_shares
    else:
        return None
    shares = find(context, instance)
    mount(context, instance, shares)
    return shares


def _repair_machine_type(instance: objects.Instance) -> None:
    """Undo what a rescue by stock Nova did to the machine type.

    Stock Nova stores the machine type of the rescue system as that of the
    server. The domain that it saved has the right one (hazard: machine-type).
    """
    if (instance.vm_state != vm_states.RESCUED
            or instance_metadata.rescue_of(instance)):
        return
    try:
        with open(rescue_files.stock_domain_path(instance), 'rb') as domain:
            machine = etree.parse(domain).find('os/type').get('machine')
    except FileNotFoundError:
        return
    except (etree.XMLSyntaxError, AttributeError) as exc:
        LOG.warning('The domain that was saved when this server was rescued '
                    'cannot be read (%s). If the server does not boot after '
                    'unrescue, compare its machine type, %s, with that of '
                    'similar servers.', exc,
                    instance.system_metadata.get(_MACHINE_TYPE),
                    instance=instance)
        return
    if machine and machine != instance.system_metadata.get(_MACHINE_TYPE):
        LOG.info('Restoring machine type %(machine)s, which the server had '
                 'before its rescue.', {'machine': machine},
                 instance=instance)
        instance.system_metadata[_MACHINE_TYPE] = machine

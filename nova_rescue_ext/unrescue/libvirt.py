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


"""Unrescue in the libvirt driver."""

import contextlib
import inspect
import threading

from lxml import etree
from nova.compute import vm_states
from nova import utils
from oslo_log import log as logging

from nova_rescue_ext.host import disks
from nova_rescue_ext.host import rescue_files
from nova_rescue_ext import instance_metadata

LOG = logging.getLogger(__name__)

# Of virDomainUndefineFlags, which Nova imports late.
_MANAGED_SAVE = 1
_KEEP_NVRAM = 8

_MACHINE_TYPE = 'image_hw_machine_type'

# Whether this thread, or green thread, rebuilds the domain of a rescued
# server, and whether it leaves that off.
_here = threading.local()


class _Defined(Exception):
    """The domain is there, and the hard reboot need not wait for a guest."""


def unrescue(original, self, context, instance):
    """Go back to the server's own disks by a hard reboot.

    The domain is rebuilt from the database (spec: live-migrate-rescued),
    whoever rescued the server, and wherever. What is left of the rescue is
    removed after the server runs again (hazard: failed-unrescue). One that
    goes back to being stopped never runs: its disks may be half repaired.

    A driver that has no manager, as in Nova's own tests, does as in stock: it
    is the manager that has the server's volumes and shares, and that removes
    the domain which stock Nova goes back to.

    :param context: the RequestContext of the caller
    :param instance: the Instance; saved by the caller
    """
    if not hasattr(self.virtapi, '_compute'):
        return original(context, instance)

    # As for a reboot: nothing else may be done to the domain meanwhile.
    @utils.synchronized(instance.uuid)
    def rebuild_domain():
        _repair_machine_type(instance)
        with _data_kept(), disks.left_alone(), _left_off(
                _stays_off(instance)):
            _hard_reboot(self, context, instance)
        # Nova 29 and 30 leave that of the rescue (hazard: device-metadata).
        instance.device_metadata = self._build_device_metadata(
            context, instance)
        instance_metadata.forget_rescue(instance)
        rescue_files.remove_all(self, instance)

    rebuild_domain()


def _stays_off(instance):
    # Another state than RESCUED: a rescue that was interrupted is undone.
    if instance.vm_state == vm_states.RESCUED:
        state = instance_metadata.state_after_unrescue(instance)
    else:
        state = instance.vm_state
    return state != vm_states.ACTIVE


def _hard_reboot(driver, context, instance):
    manager = driver.virtapi._compute
    elevated = context.elevated()
    shares = _mount_shares(manager, elevated, instance)
    arguments = {} if shares is None else {'share_info': shares}
    try:
        driver._hard_reboot(
            context, instance, instance.get_network_info(),
            block_device_info=manager._get_instance_block_device_info(
                elevated, instance),
            accel_info=manager._get_accel_info(elevated, instance),
            **arguments)
    except _Defined:
        # As in a stop, with shares and serial consoles released.
        manager._power_off_instance(
            *([] if shares is None else [elevated]), instance,
            clean_shutdown=False)
        return
    if shares:
        shares.activate_all()


def _mount_shares(manager, context, instance):
    """The server's shares, mounted (hazard: shares).

    :returns: a ShareMappingList, or None in Nova 29 and 30, which have none
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


def _repair_machine_type(instance):
    """Undo what a rescue by stock Nova did to the machine type.

    Hazard: machine-type.

    It writes that of the rescue system into the properties of the server's
    image, which a rebuilt domain would take for the server's. The domain that
    stock Nova saved has the right one.
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
                    'servers like it.', exc,
                    instance.system_metadata.get(_MACHINE_TYPE),
                    instance=instance)
        return
    if machine and machine != instance.system_metadata.get(_MACHINE_TYPE):
        LOG.info('Machine type %(machine)s, which the server had before its '
                 'rescue, is restored.', {'machine': machine},
                 instance=instance)
        instance.system_metadata[_MACHINE_TYPE] = machine


@contextlib.contextmanager
def _data_kept():
    """A hard reboot in here keeps what stock unrescue keeps."""
    _here.keep_data = True
    try:
        yield
    finally:
        _here.keep_data = False


@contextlib.contextmanager
def _left_off(off):
    """A hard reboot in here does not start the guest, if off is true."""
    _here.leave_off = off
    try:
        yield
    finally:
        _here.leave_off = False


def create_guest_with_network(original, self, *args, **kwargs):
    """Only define the domain of a server that is to stay off.

    :raises: _Defined, as the hard reboot would wait for ever for the guest
    """
    if not getattr(_here, 'leave_off', False):
        return original(*args, **kwargs)
    original(*args, **dict(kwargs, power_on=False))
    raise _Defined()


def _keeps_data():
    return getattr(_here, 'keep_data', False)


def cleanup_vpmems(original, self, vpmems):
    """Nova zeroes persistent memory when it destroys a domain.

    Hazard: persistent-memory.
    """
    if not _keeps_data():
        original(vpmems)


def delete_configuration(original, self, *args, **kwargs):
    """Keep the UEFI variables of a server that is unrescued.

    Hazard: uefi-variables.

    Nova before 31.3.0 and 32.2.0 deletes them with every domain.
    """
    if not _keeps_data():
        return original(*args, **kwargs)
    if 'keep_nvram' in inspect.signature(original).parameters:
        return original(*args, **dict(kwargs, keep_nvram=True))
    self._domain.undefineFlags(_MANAGED_SAVE | _KEEP_NVRAM)

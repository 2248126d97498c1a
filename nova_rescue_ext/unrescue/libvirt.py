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

from __future__ import annotations

import inspect
import typing

from nova.compute import vm_states
from nova import context as nova_context
from nova import objects

from nova_rescue_ext import exception
from nova_rescue_ext.host import hard_reboot
from nova_rescue_ext.host import rescue_files
from nova_rescue_ext.host import tpm as host_tpm
from nova_rescue_ext import instance_metadata
from nova_rescue_ext import nova_types
from nova_rescue_ext.task import host_task
from nova_rescue_ext import tpm
from nova_rescue_ext.unrescue import operation

if typing.TYPE_CHECKING:
    from nova.virt.libvirt import driver as libvirt_driver
    from nova.virt.libvirt import guest as libvirt_guest

# Of virDomainUndefineFlags, which Nova imports late.
_MANAGED_SAVE = 1
_KEEP_NVRAM = 8
_KEEP_TPM = 64


def unrescue(original: nova_types.Original, self: libvirt_driver.LibvirtDriver,
             context: nova_context.RequestContext,
             instance: objects.Instance) -> None:
    """Take the server back to its own disks by a hard reboot.

    This works on any host, no matter who rescued the server (spec:
    live-migrate-rescued). Without an operation, as in Nova's own tests of the
    driver, stock Nova does it: the volumes and shares are the manager's.

    :param context: the RequestContext of the caller
    :param instance: the Instance; saved by the caller
    :raises: TaskEnded; InstanceNotFound; TPMSecretNotReadable
    """
    ours = operation.Unrescue.of_this_thread(instance.uuid)
    if ours is None:
        return original(context, instance)
    with ours.turn():
        if not ours.leaves_off:
            _check_tpm(self, ours, context)
        hard_reboot.HardReboot(
            ours.manager, instance, ours.leaves_off).run(context)
        ours.power_off_if_soft_deleted()


def _check_tpm(driver: libvirt_driver.LibvirtDriver,
               unrescue: operation.Unrescue,
               context: nova_context.RequestContext) -> None:
    """Check that a server with a TPM can be started, or leave it in rescue.

    :raises: TPMSecretNotReadable
    """
    try:
        host_tpm.check_secret(driver, context, unrescue.instance)
    except exception.TPMSecretNotReadable:
        unrescue.is_refused = True
        raise


def clean_after_hard_reboot(original: nova_types.Original,
                            self: libvirt_driver.LibvirtDriver,
                            context: nova_context.RequestContext,
                            instance: objects.Instance, *args: typing.Any,
                            **kwargs: typing.Any) -> None:
    """Remove what a rescue has left when a hard reboot ends the rescue.

    That is after a failed unrescue or a reset of the state. Stock Nova keeps
    no record of a rescue, but leaves files. The caller saves the instance.

    In a task of a server that stays in rescue, another guest is started.
    """
    task = host_task.HostTask.on(instance)
    if task is not None:
        arguments = inspect.signature(original).bind(
            context, instance, *args, **kwargs).arguments
        if task.replace_hard_reboot(context, arguments['network_info'],
                                    arguments.get('block_device_info')):
            return
    original(context, instance, *args, **kwargs)
    if (hard_reboot.HardReboot.is_run_by_this_thread()
            # Some instances in Nova's tests have neither.
            or not instance.obj_attr_is_set('system_metadata')
            or not instance.obj_attr_is_set('vm_state')
            or instance.vm_state == vm_states.RESCUED):
        return
    recorded = instance_metadata.has_record(instance)
    instance_metadata.forget_rescue(instance)
    if recorded or rescue_files.are_left(instance):
        rescue_files.remove_all(self, instance)


def create_guest_with_network(original: nova_types.Original,
                              self: libvirt_driver.LibvirtDriver,
                              context: nova_context.RequestContext, xml: str,
                              instance: objects.Instance, *args: typing.Any,
                              **kwargs: typing.Any) -> typing.Any:
    """Only define the domain of a server that is to stay off.

    :raises: LeftOff, as the hard reboot would wait forever for the guest
    """
    ours = hard_reboot.HardReboot.of_this_thread(instance.uuid)
    if ours is None or not ours.leave_off:
        return original(context, xml, instance, *args, **kwargs)
    # The domain that is defined has its TPM, but needs no secret.
    with tpm.LeftOut(instance.uuid):
        original(context, xml, instance, *args,
                 **dict(kwargs, power_on=False))
    raise exception.LeftOff()


def cleanup_vpmems(original: nova_types.Original,
                   self: libvirt_driver.LibvirtDriver,
                   vpmems: list[objects.LibvirtVPMEMDevice]) -> None:
    """Keep the persistent memory of a server that is unrescued.

    Nova zeroes it whenever it destroys a domain (hazard: persistent-memory).
    """
    if not hard_reboot.HardReboot.is_run_by_this_thread():
        original(vpmems)


def delete_configuration(original: nova_types.Original,
                         self: libvirt_guest.Guest, *args: typing.Any,
                         **kwargs: typing.Any) -> typing.Any:
    """Keep the UEFI variables and the TPM of a server that is unrescued.

    Nova before 31.3.0 and 32.2.0 deletes them with every domain (hazard:
    uefi-variables). Later ones keep the TPM, unless libvirt refuses at first,
    for whatever reason: then they try again in a way that does not.
    """
    if not hard_reboot.HardReboot.is_run_by_this_thread():
        return original(*args, **kwargs)
    if kwargs.get('keep_vtpm'):
        self._domain.undefineFlags(_MANAGED_SAVE | _KEEP_NVRAM | _KEEP_TPM)
        return
    if 'keep_nvram' in inspect.signature(original).parameters:
        return original(*args, **dict(kwargs, keep_nvram=True))
    self._domain.undefineFlags(_MANAGED_SAVE | _KEEP_NVRAM)

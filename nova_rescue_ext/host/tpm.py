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

"""The TPM of a server on its host.

Only imported where the libvirt driver runs.
"""

from __future__ import annotations

import os
import typing

from lxml import etree
from nova import context as nova_context
from nova import crypto
from nova import exception
from nova import objects
from nova.virt import hardware
from nova.virt.libvirt import config as libvirt_config
from nova.virt.libvirt import utils as libvirt_utils
from oslo_log import log as logging

from nova_rescue_ext import exception as ext_exception
from nova_rescue_ext.host import guests
from nova_rescue_ext import instance_metadata
from nova_rescue_ext import tpm

if typing.TYPE_CHECKING:
    from nova.virt.libvirt import driver as libvirt_driver

LOG = logging.getLogger(__name__)

_SECRET = 'vtpm_secret_uuid'  # in the system metadata


def is_kept(driver: libvirt_driver.LibvirtDriver) -> bool:
    """Whether a TPM outlives the domain of its server on this host.

    Otherwise the hard reboot that ends a rescue, or that mends a failed one,
    could be the end of the TPM: before Nova 31.3.0 and 32.2.0, and before
    libvirt 8.9.0 (Nova's bug 2118888).

    :param driver: the LibvirtDriver
    """
    return getattr(driver, '_may_keep_vtpm', False)


def check_secret(driver: libvirt_driver.LibvirtDriver,
                 context: nova_context.RequestContext,
                 instance: objects.Instance) -> None:
    """Check that the server itself, which may have a TPM, can be started.

    Called before its guest, or that of its rescue, is touched.

    :param driver: the LibvirtDriver
    :param context: the RequestContext of the caller
    :param instance: the Instance
    :raises: TPMSecretNotReadable
    """
    if not tpm.has_tpm(instance):
        return
    if (tpm.is_of_host(instance)
            and driver._host.find_secret('vtpm', instance.uuid) is not None):
        return
    if not instance.system_metadata.get(_SECRET):
        # Nova would make one, with which the TPM could not be read.
        raise ext_exception.TPMSecretNotReadable(error='the server has none')
    try:
        _read_secret(context, instance)
    except Exception as exc:
        raise ext_exception.TPMSecretNotReadable(
            error=type(exc).__name__) from exc


def is_secret_readable(driver: libvirt_driver.LibvirtDriver,
                       context: nova_context.RequestContext,
                       instance: objects.Instance) -> bool:
    """Whether check_secret() raises nothing."""
    try:
        check_secret(driver, context, instance)
    except ext_exception.TPMSecretNotReadable:
        return False
    return True


def _read_secret(context: nova_context.RequestContext,
                 instance: objects.Instance) -> None:
    try:
        from nova import vtpm
    except ImportError:  # before Nova 33
        crypto.ensure_vtpm_secret(context, instance)
    else:
        vtpm.get_or_create_secret(context, instance)


def give_back_to_domain(driver: libvirt_driver.LibvirtDriver,
                        instance: objects.Instance) -> None:
    """Define the TPM in a rescue's domain, which is about to be deleted.

    libvirt deletes the state of a TPM with a domain that has the TPM.

    :param driver: the LibvirtDriver
    :param instance: the Instance, whose guest is off
    """
    try:
        if (tpm.has_tpm(instance)
                and instance.system_metadata.get(_SECRET)):
            _define_tpm(driver, instance)
    except exception.InstanceNotFound as exc:
        # An unrescue has ended between two domains.
        if instance_metadata.is_in_rescue(instance) and os.path.exists(
                _directory(instance)):
            _log_left(instance, exc)
    except Exception as exc:
        _log_left(instance, exc)


def _define_tpm(driver: libvirt_driver.LibvirtDriver,
                instance: objects.Instance) -> None:
    domain = guests.read_definition(driver, instance)
    if domain.find('devices/tpm') is not None:
        return
    device = libvirt_config.LibvirtConfigGuestVTPM(
        hardware.get_vtpm_constraint(instance.flavor, instance.image_meta),
        instance.system_metadata[_SECRET])
    domain.find('devices').append(etree.fromstring(device.to_xml()))
    driver._host.write_instance_config(
        etree.tostring(domain, encoding='unicode'))


def _directory(instance: objects.Instance) -> str:
    return os.path.join(libvirt_utils.VTPM_DIR, instance.uuid)


def _log_left(instance: objects.Instance, error: Exception) -> None:
    LOG.warning('The server is deleted in rescue, and the state of its TPM '
                'could not be: %(error)s. Remove %(path)s by hand.',
                {'error': error, 'path': _directory(instance)},
                instance=instance)

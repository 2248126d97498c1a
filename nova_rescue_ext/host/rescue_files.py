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


"""The files and volumes of a rescue on its host."""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import tempfile
import typing

from nova import conf
from nova import context as nova_context
from nova import objects
from nova.storage import rbd_utils
from nova.virt.libvirt.storage import dmcrypt
from nova.virt.libvirt.storage import lvm
from nova.virt.libvirt import utils as libvirt_utils
from oslo_log import log as logging
from oslo_serialization import jsonutils

from nova_rescue_ext import tpm

if typing.TYPE_CHECKING:
    from nova.virt.libvirt import driver as libvirt_driver

CONF = conf.CONF
LOG = logging.getLogger(__name__)

SUFFIX = '.rescue'
STOCK_DOMAIN = 'unrescue.xml'


def stock_domain_path(instance: objects.Instance) -> str:
    """The path of the domain that stock Nova saves for its unrescue."""
    return os.path.join(libvirt_utils.get_instance_path(instance),
                        STOCK_DOMAIN)


def restore_stock_domain(driver: libvirt_driver.LibvirtDriver,
                         context: nova_context.RequestContext,
                         instance: objects.Instance, start: bool) -> None:
    """Define the domain that stock Nova saved for its unrescue.

    The caller holds the lock of the instance.

    :param driver: the LibvirtDriver
    :param context: a RequestContext
    :param instance: the Instance
    :param start: whether to start its guest
    """
    with open(stock_domain_path(instance), encoding='utf-8') as domain:
        xml = domain.read()
    driver._destroy(instance)
    with contextlib.ExitStack() as steps:
        if not start:
            # The domain has its TPM all the same, but needs no secret.
            steps.enter_context(tpm.LeftOut(instance.uuid))
        driver._create_guest(context, xml, instance, power_on=start)


def remove_stock_domain(instance: objects.Instance) -> None:
    """Remove the domain that stock Nova saved, if there is one.

    On a shared instances path it would outlive a migration. A stock host would
    then boot it with the device paths of another host, which may be another
    tenant's volumes here (hazard: stale-saved-domain).
    """
    try:
        os.unlink(stock_domain_path(instance))
    except FileNotFoundError:
        return


def try_to_remove_stock_domain(instance: objects.Instance) -> None:
    """Remove the domain that stock Nova saved. A failure is only logged.

    A live migration removes it again before it begins, or is refused.

    :param instance: the Instance
    """
    try:
        remove_stock_domain(instance)
    except OSError as exc:
        LOG.warning('The saved domain of a rescue could not be removed. '
                    'Remove it before a nova-compute without nova-rescue-ext '
                    'unrescues the server: %s', exc, instance=instance)


def remove_all(driver: libvirt_driver.LibvirtDriver,
               instance: objects.Instance) -> None:
    """Remove all that a rescue has left. A failure is only logged.

    :param driver: the LibvirtDriver
    :param instance: the Instance, whose domain no longer uses any of it
    """
    try:
        with contextlib.ExitStack() as steps:
            steps.callback(remove, driver, instance)
            steps.callback(remove_stock_domain, instance)
    except Exception:
        LOG.exception('The server is no longer in rescue, but not all of its '
                      '*%s files or volumes could be removed. They take up '
                      'space until the server is rescued again or deleted; '
                      'you can remove them by hand.',
                      SUFFIX, instance=instance)


def remove(driver: libvirt_driver.LibvirtDriver,
           instance: objects.Instance) -> None:
    """Remove the disks, kernel and config drive of a rescue.

    A file that cannot be removed does not prevent the removal of the others.

    :param driver: the LibvirtDriver
    :param instance: the Instance, whose domain no longer uses them
    :raises: what the last failure raises
    """
    directory = libvirt_utils.get_instance_path(instance)
    # All are called, the last one first, even if some fail.
    with contextlib.ExitStack() as steps:
        steps.callback(_remove_from_rbd, instance)
        steps.callback(_remove_from_lvm, driver, instance)
        steps.callback(forget_formats, directory)
        for path in glob.iglob(os.path.join(glob.escape(directory),
                                            '*' + SUFFIX)):
            steps.callback(_remove_path, path)


def _remove_path(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)


def _remove_from_lvm(driver: libvirt_driver.LibvirtDriver,
                     instance: objects.Instance) -> None:
    volumes = [volume for volume in driver._lvm_disks(instance)
               if volume.endswith(SUFFIX)]
    if volumes:
        if instance.ephemeral_key_uuid is not None:
            _close(volumes)
        lvm.remove_volumes(volumes)


def _remove_from_rbd(instance: objects.Instance) -> None:
    if CONF.libvirt.images_type == 'rbd':
        rbd_utils.RBDDriver().cleanup_volumes(
            lambda volume: (volume.startswith(instance.uuid) and
                            volume.endswith(SUFFIX)))


def _close(volumes: list[str]) -> None:
    """Close encrypted volumes: an open one cannot be removed.

    It is no error if one is not open, for example after a reboot of the host.

    :param volumes: their paths
    """
    for volume in volumes:
        dmcrypt.delete_volume(dmcrypt.volume_name(os.path.basename(volume)))


def are_left(instance: objects.Instance) -> bool:
    """Whether a rescue has left anything in the directory of a server.

    Volumes on LVM or RBD are not looked for, which may take long. With those,
    a rescue by stock Nova still leaves its saved domain.

    :param instance: the Instance
    """
    directory = glob.escape(libvirt_utils.get_instance_path(instance))
    return any(next(glob.iglob(os.path.join(directory, pattern)), None)
               for pattern in (STOCK_DOMAIN, '*' + SUFFIX))


def remaining_volumes(instance: objects.Instance) -> list[str]:
    """The volumes of a rescue that still exist: RBD removes no busy one.

    :param instance: the Instance
    :returns: their names
    """
    if CONF.libvirt.images_type != 'rbd':
        return []
    exists = rbd_utils.RBDDriver().exists
    names = ('%s_%s' % (instance.uuid, disk)
             for disk in ('disk' + SUFFIX, 'disk.config' + SUFFIX))
    return [name for name in names if exists(name)]


def forget_formats(directory: str) -> None:
    """Drop removed rescue disks from disk.info, which would outlive them.

    The next rescue's disk may have another format (hazard: disk-info).
    """
    path = os.path.join(directory, 'disk.info')
    try:
        with open(path, encoding='utf-8') as file:
            formats = jsonutils.loads(file.read() or '{}')
    except FileNotFoundError:
        return
    kept = {disk: disk_format for disk, disk_format in formats.items()
            if not disk.endswith(SUFFIX)
            or os.path.lexists(os.path.join(directory, disk))}
    if kept != formats:
        # Not a name that can be guessed: a user's link may be there.
        descriptor, new = tempfile.mkstemp(
            prefix='disk.info.', suffix='.tmp', dir=directory)
        with open(descriptor, 'w', encoding='utf-8') as file:
            file.write(jsonutils.dumps(kept) + '\n')
        shutil.copymode(path, new)
        os.rename(new, path)

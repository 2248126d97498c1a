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

"""Doubles that behave as what they stand for does.

Nova's own leave out what its tests do not need: a guest starts without its
disks and twice, and goes on running on the source of a migration.
"""

import os

import fixtures
from lxml import etree
from nova import exception
from nova.tests.fixtures import libvirt
from nova.virt import configdrive
from nova.virt.libvirt import driver
from nova.virt.libvirt import utils as libvirt_utils

# What the tests' doubles write into a disk.
CONTENT = '%s of %s, which nobody may change\n'


class HonestLibvirt(fixtures.Fixture):
    """A domain needs its disks, and is defined and started as in libvirt."""

    def _setUp(self):
        for name, replacement in (
                ('Domain.createWithFlags', self._create(
                    libvirt.Domain.createWithFlags)),
                ('Domain.destroy', self._destroy(libvirt.Domain.destroy)),
                ('Connection.defineXML', self._define(
                    libvirt.Connection.defineXML))):
            self.useFixture(fixtures.MonkeyPatch(
                'nova.tests.fixtures.libvirt.' + name, replacement))

    @staticmethod
    def _create(original):
        def create(domain, flags):
            if domain.isActive():
                raise _error('domain is already running',
                             libvirt.VIR_ERR_OPERATION_INVALID)
            for path in files_of(domain):
                if not os.path.exists(path):
                    raise _error("Cannot access storage file '%s'" % path,
                                 libvirt.VIR_ERR_INTERNAL_ERROR)
            original(domain, flags)
            # Another one with each start: Nova tells by it whether a guest
            # that it has destroyed was started again.
            domain._id = domain._connection._id_counter

        return create

    @staticmethod
    def _destroy(original):
        def destroy(domain):
            if domain._state == libvirt.VIR_DOMAIN_SHUTOFF:
                raise _error('domain is not running',
                             libvirt.VIR_ERR_OPERATION_INVALID)
            return original(domain)

        return destroy

    @staticmethod
    def _define(original):
        def define(connection, xml):
            domain = libvirt.Domain(connection, xml)
            there = connection._vms.get(domain.name())
            if there is None or not there.isActive():
                return original(connection, xml)
            # The guest runs on; this is for its next start.
            there._transient = False
            there._next_definition = domain._def
            return there

        return define


def _error(words, code):
    return libvirt.make_libvirtError(
        libvirt.libvirtError, words, error_code=code,
        error_domain=libvirt.VIR_FROM_QEMU)


def leave_source(domain):
    """A guest that has moved is no longer on its source."""
    if domain.isActive():
        domain._state = libvirt.VIR_DOMAIN_SHUTOFF
        domain._connection._mark_not_running(domain)
    if domain.name() in domain._connection._vms:
        domain._connection._undefine(domain)


def files_of(domain):
    """The paths of the disk files of a domain."""
    return [disk.find('source').get('file') for disk in etree.fromstring(
        domain.XMLDesc(0)).findall('devices/disk')
        if disk.find('source') is not None
        and disk.find('source').get('file')]


class Disks(fixtures.Fixture):
    """``_create_image`` downloads, and makes small files with contents."""

    def __init__(self, glance):
        super().__init__()
        self._glance = glance

    def _setUp(self):
        self.useFixture(fixtures.MonkeyPatch(
            'nova.virt.libvirt.driver.LibvirtDriver._create_image',
            self._create_image()))
        self.useFixture(fixtures.MonkeyPatch(
            'nova.virt.libvirt.driver.LibvirtDriver._create_configdrive',
            self._create_configdrive))

    def _create_image(self):
        make = self._make

        def create_image(itself, context, instance, *args, **kwargs):
            override = _override()
            if override is None:
                return make(context, instance, *args, **kwargs)
            return override(make, itself, context, instance, *args, **kwargs)

        return create_image

    def _make(self, context, instance, disk_mapping, injection_info=None,
              suffix='', disk_images=None, block_device_info=None,
              **kwargs):
        directory = libvirt_utils.get_instance_path(instance)
        os.makedirs(directory, exist_ok=True)
        images = disk_images or {'image_id': instance.image_ref}
        names = {'kernel': images.get('kernel_id'),
                 'ramdisk': images.get('ramdisk_id')}
        if suffix or instance.image_ref:
            names['disk'] = images.get('image_id')
        for name, image_id in names.items():
            path = os.path.join(directory, name + suffix)
            # As Nova does: what is there is not made again.
            if image_id and not os.path.exists(path):
                self._glance.download(context, image_id, dst_path=path)
                with open(path, 'w') as file:
                    file.write(CONTENT % (name + suffix, instance.uuid))
        return False, False

    @staticmethod
    def _create_configdrive(itself, context, instance, injection_info,
                            rescue=False):
        # Nova's needs a program that makes ISO images.
        if configdrive.required_by(instance):
            name = 'disk.config.rescue' if rescue else 'disk.config'
            path = os.path.join(libvirt_utils.get_instance_path(instance),
                                name)
            with open(path, 'w') as file:
                file.write(CONTENT % (name, instance.uuid))


def _override():
    """Ours of ``_create_image``, which Nova's fixture leaves out."""
    from nova_rescue_ext.rescue import libvirt as ours

    from nova_rescue_ext import activation
    return (getattr(ours, 'create_image', None)
            if activation.is_active() else None)


class Volumes(fixtures.Fixture):
    """Which volume is connected to which host, and what is deleted.

    :ivar connected: a set of (volume, host)
    :ivar deleted: the ids of the volumes that were deleted
    """

    def _setUp(self):
        self.connected = set()
        self.deleted = []
        for name, function in (('_connect_volume', self.connected.add),
                               ('_disconnect_volume',
                                self.connected.discard)):
            self.useFixture(fixtures.MonkeyPatch(
                'nova.virt.libvirt.driver.LibvirtDriver.' + name,
                self._follow(name, function)))
        self.useFixture(fixtures.MonkeyPatch(
            'nova.volume.cinder.API.delete', self._delete))

    @staticmethod
    def _follow(name, function):
        original = getattr(driver.LibvirtDriver, name)

        def follow(itself, context, connection_info, *args, **kwargs):
            result = original(itself, context, connection_info, *args,
                              **kwargs)
            function((connection_info['data']['volume_id'],
                      itself.virtapi._compute.host))
            return result

        return follow

    def _delete(self, itself, context, volume_id):
        if volume_id in self.deleted:
            raise exception.VolumeNotFound(volume_id=volume_id)
        self.deleted.append(volume_id)

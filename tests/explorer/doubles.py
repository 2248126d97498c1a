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
import time
import types
import uuid

import fixtures
from lxml import etree
from nova import conf
from nova import exception
from nova.tests.fixtures import cinder as cinder_fixture
from nova.tests.fixtures import libvirt
from nova.virt import configdrive
from nova.virt.libvirt import driver
from nova.virt.libvirt import host as libvirt_host
from nova.virt.libvirt import imagebackend
from nova.virt.libvirt import utils as libvirt_utils
from nova.volume import cinder

from nova_rescue_ext.activation import overrides
from tests.functional import consoles

CONF = conf.CONF

# Nova's own, which its fixture replaces.
_backend = imagebackend.Backend.backend

# What the tests' doubles write into a disk.
CONTENT = '%s of %s, which nobody may change\n'


class HonestLibvirt(fixtures.Fixture):
    """A domain needs its disks, and is defined and started as in libvirt.

    :param images: the names of those that are in Ceph
    """

    def __init__(self, images=()):
        super().__init__()
        self._images = images

    def _setUp(self):
        for name, replacement in (
                ('Domain.createWithFlags', self._create(
                    libvirt.Domain.createWithFlags)),
                ('Domain.destroy', self._destroy(libvirt.Domain.destroy)),
                ('Connection.defineXML', self._define(
                    libvirt.Connection.defineXML))):
            self.useFixture(fixtures.MonkeyPatch(
                'nova.tests.fixtures.libvirt.' + name, replacement))

    def _create(self, original):
        def create(domain, flags):
            if domain.isActive():
                raise _error('domain is already running',
                             libvirt.VIR_ERR_OPERATION_INVALID)
            for path in files_of(domain):
                if not os.path.exists(path):
                    raise _error("Cannot access storage file '%s'" % path,
                                 libvirt.VIR_ERR_INTERNAL_ERROR)
            for name in images_of(domain):
                if name not in self._images:
                    raise _error('error reading header from %s: No such file '
                                 'or directory' % name,
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


def switch_off(domain):
    """The power of its host is cut: what is defined stays, nothing runs."""
    if domain.isActive():
        domain._state = libvirt.VIR_DOMAIN_SHUTOFF
        domain._connection._mark_not_running(domain)
    if domain._transient and domain.name() in domain._connection._vms:
        domain._connection._undefine(domain)


def files_of(domain):
    """The paths of the disk files of a domain."""
    return [disk.find('source').get('file') for disk in etree.fromstring(
        domain.XMLDesc(0)).findall('devices/disk')
        if disk.find('source') is not None
        and disk.find('source').get('file')]


def images_of(domain):
    """The names of the disks of a domain that are in Ceph."""
    return [source.get('name').rpartition('/')[2] for source
            in etree.fromstring(domain.XMLDesc(0)).findall(
                "devices/disk/source[@protocol='rbd']")]


class Disks(fixtures.Fixture):
    """``_create_image`` downloads, and makes small files with contents.

    :param glance: Nova's GlanceFixture
    :param is_stock: tells whether who calls it is without the package
    :param images: where disks are made, if that is Ceph
    """

    def __init__(self, glance, is_stock, images=None):
        super().__init__()
        self._glance = glance
        self._is_stock = is_stock
        self._images = images

    def _setUp(self):
        for name, make in (('create_image', self._make),
                           ('create_configdrive', self._create_configdrive)):
            self.useFixture(fixtures.MonkeyPatch(
                'nova.virt.libvirt.driver.LibvirtDriver._' + name,
                self._overridden(name, make)))

    def _overridden(self, name, make):
        def call(itself, context, instance, *args, **kwargs):
            override = None if self._is_stock() else _override(name)
            if override is None:
                return make(context, instance, *args, **kwargs)
            return override(make, itself, context, instance, *args, **kwargs)

        return call

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
            if image_id and not self._exists(path):
                self._glance.download(context, image_id)
                self._write(path, CONTENT % (name + suffix, instance.uuid))
        return False, False

    def _image(self, path):
        """The name that a disk has in Ceph, or None if it is a file."""
        directory, name = os.path.split(path)
        if self._images is None or not name.startswith('disk'):
            return None
        return '%s_%s' % (os.path.basename(directory), name)

    def _exists(self, path):
        name = self._image(path)
        return os.path.exists(path) if name is None else name in self._images

    def _write(self, path, content):
        name = self._image(path)
        if name is None:
            _write(path, content)
        else:
            self._images[name] = content.encode()

    def _create_configdrive(self, context, instance, injection_info,
                            rescue=False):
        # Nova's needs a program that makes ISO images.
        if configdrive.required_by(instance):
            name = 'disk.config.rescue' if rescue else 'disk.config'
            self._write(os.path.join(
                libvirt_utils.get_instance_path(instance), name),
                CONTENT % (name, instance.uuid))


def _write(path, content):
    with open(path, 'w') as file:
        file.write(content)
    # That of the virtual clock: commands look how old a file is.
    os.utime(path, (time.time(), time.time()))


def _override(name):
    """Ours of a method of the driver, which a double would leave out."""
    from nova_rescue_ext.rescue import libvirt as ours

    from nova_rescue_ext import activation
    return (getattr(ours, name, None)
            if activation.is_active() else None)


class RescueSystems(fixtures.Fixture):
    """They come up as soon as their guest is started, and say so.

    :param line: what they print on their console
    """

    def __init__(self, line):
        super().__init__()
        self._line = line

    def _setUp(self):
        self.useFixture(consoles.Consoles())
        create = libvirt.Domain.createWithFlags

        def create_and_come_up(domain, flags):
            result = create(domain, flags)
            log = domain._def['log']
            if log is not None and any(
                    path.endswith('.rescue') for path in files_of(domain)):
                with open(log.get('file'), 'a') as file:
                    file.write('%s\n' % self._line)
            return result

        self.useFixture(fixtures.MonkeyPatch(
            'nova.tests.fixtures.libvirt.Domain.createWithFlags',
            create_and_come_up))


class Volumes(fixtures.Fixture):
    """Which volume is connected to which host, and what is deleted.

    :ivar connected: a set of (volume, host)
    :ivar complete: the ids of the attachments that are complete
    :ivar deleted: the ids of the volumes that were deleted
    """

    def _setUp(self):
        self.connected = set()
        self.complete = set()
        self.deleted = []
        complete = cinder.API.attachment_complete

        def follow_complete(itself, context, attachment_id):
            complete(context, attachment_id)
            self.complete.add(attachment_id)

        self.useFixture(fixtures.MonkeyPatch(
            'nova.volume.cinder.API.attachment_complete', follow_complete))
        self.useFixture(fixtures.MonkeyPatch(
            'nova.virt.libvirt.driver.LibvirtDriver.get_volume_connector',
            self._connector))
        for name, function in (('_connect_volume', self.connected.add),
                               ('_disconnect_volume',
                                self.connected.discard)):
            self.useFixture(fixtures.MonkeyPatch(
                'nova.virt.libvirt.driver.LibvirtDriver.' + name,
                self._follow(name, function)))
        self.useFixture(fixtures.MonkeyPatch(
            'nova.volume.cinder.API.delete', self._delete))

    @staticmethod
    def _connector(itself, instance):
        # That of Nova is the host of the configuration, of which all share
        # one here.
        return {'host': itself.virtapi._compute.host,
                'ip': itself.virtapi._compute.host,
                'initiator': 'iqn.of-%s' % itself.virtapi._compute.host,
                'multipath': False}

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


class HostOfService(fixtures.Fixture):
    """Who detaches a volume is on its own host, not on that of all.

    :param service: tells the name of the service that is at work, or None
    """

    def __init__(self, service):
        super().__init__()
        self._service = service

    def _setUp(self):
        service = self._service

        class Configuration:
            """That of the process, but for the host."""

            @property
            def host(self):
                return service() or CONF.host

            def __getattr__(self, name):
                return getattr(CONF, name)

        self.useFixture(fixtures.MonkeyPatch(
            'nova.virt.block_device.CONF', Configuration()))


class Reattaching(fixtures.Fixture):
    """A volume can be attached by an attachment that was in use before.

    Nova's double takes the attachment itself for another one that is
    connected; Cinder looks at the others.
    """

    def _setUp(self):
        update = cinder_fixture.CinderFixture.fake_attachment_update

        def update_again(itself, context, attachment_id, *args, **kwargs):
            _, attachment, _ = itself._find_attachment(attachment_id)
            attachment['connector'] = None
            return update(itself, context, attachment_id, *args, **kwargs)

        self.useFixture(fixtures.MonkeyPatch(
            'nova.tests.fixtures.cinder.CinderFixture.fake_attachment_update',
            update_again))


class StockServices(fixtures.Fixture):
    """Services in which the package is not active, while others have it.

    As while a cloud is upgraded, or when it is switched off on a host. What
    the hosts said of themselves before stays until they say something else.

    :param is_stock: tells whether who calls it is in such a service
    """

    def __init__(self, is_stock):
        super().__init__()
        self._is_stock = is_stock

    def _setUp(self):
        for name in ('_call_method', '_call_function'):
            self.useFixture(fixtures.MonkeyPatch(
                'nova_rescue_ext.activation.overrides.Applied.' + name,
                self._leave_out(getattr(overrides.Applied, name))))

    def _leave_out(self, original):
        def call(applied, wrapped, instance, args, kwargs):
            if self._is_stock():
                return wrapped(*args, **kwargs)
            return original(applied, wrapped, instance, args, kwargs)

        return call


class Boots(fixtures.Fixture):
    """When the hosts were booted.

    :param host: tells on which host the caller runs
    """

    def __init__(self, host):
        super().__init__()
        self._host = host
        self._at = {}

    def _setUp(self):
        clock_gettime = time.clock_gettime

        def get(clock):
            if clock != time.CLOCK_BOOTTIME:
                return clock_gettime(clock)
            return time.time() - self._at.get(self._host(), 0)

        self.useFixture(fixtures.MonkeyPatch('time.clock_gettime', get))

    def boot(self, host):
        """A host is booted now."""
        self._at[host] = time.time()


class Ceph(fixtures.Fixture):
    """Disks in Ceph, which all hosts reach.

    :param is_open: tells whether a guest has an image open, by its name
    :ivar images: {name: bytes}
    """

    def __init__(self, is_open):
        super().__init__()
        self.images = {}
        self.is_open = is_open

    def _setUp(self):
        self.useFixture(fixtures.MonkeyPatch(
            'nova.storage.rbd_utils.RBDDriver',
            lambda *args, **kwargs: RbdDriver(self)))

    def use_backend(self):
        """Have Nova's own backend, which its fixtures replace."""
        self.useFixture(fixtures.MonkeyPatch(
            'nova.virt.libvirt.imagebackend.Backend.backend', _backend))


class RbdDriver:
    """What Nova calls of its RBDDriver, for a server whose disks exist.

    :param ceph: a Ceph
    """

    pool, rbd_user, ceph_conf = 'vms', 'nova', ''

    def __init__(self, ceph):
        self._ceph = ceph

    def get_mon_addrs(self, strip_brackets=True):
        return ['10.0.0.1'], ['6789']

    def get_pool_info(self):
        return {'total': 2 ** 40, 'free': 2 ** 40, 'used': 0}

    def exists(self, name, pool=None, snapshot=None):
        return name in self._ceph.images

    def size(self, name):
        return 2 ** 30

    def cleanup_volumes(self, filter_fn):
        for name in list(filter(filter_fn, self._ceph.images)):
            # It is retried, and then only logged.
            if not self._ceph.is_open(name):
                del self._ceph.images[name]


class Secrets(fixtures.Fixture):
    """The keys of volumes that the libvirts of the hosts know.

    :ivar known: a set of (host, volume)
    """

    def _setUp(self):
        self.known = set()
        for name in ('find_secret', 'create_secret', 'delete_secret'):
            self.useFixture(fixtures.MonkeyPatch(
                'nova.virt.libvirt.host.Host.' + name,
                self._of_volumes(getattr(self, name),
                                 getattr(libvirt_host.Host, name))))

    @staticmethod
    def _of_volumes(ours, theirs):
        def call(host, usage_type, usage_id, *args, **kwargs):
            if usage_type != 'volume':
                return theirs(host, usage_type, usage_id, *args, **kwargs)
            return ours((host.get_connection().hostname, usage_id))

        return call

    def find_secret(self, key):
        return _Secret(*key) if key in self.known else None

    def create_secret(self, key):
        self.known.add(key)
        return _Secret(*key)

    def delete_secret(self, key):
        self.known.discard(key)


class _Secret:

    def __init__(self, host, volume):
        self._uuid = str(uuid.uuid5(uuid.UUID(volume), host))

    def UUIDString(self):  # noqa: N802
        return self._uuid


class KeyManager:
    """In place of Barbican."""

    def __init__(self, *args):
        pass

    def get(self, context, managed_object_id, **kwargs):
        return types.SimpleNamespace(get_encoded=lambda: b'key')

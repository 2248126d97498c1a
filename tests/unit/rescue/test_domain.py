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

"""What a rescue guest boots, and on which bus."""

from unittest import mock

import fixtures
from nova import conf
from nova import exception
from nova import objects
from nova.virt.libvirt import config as vconfig
from oslo_config import fixture as config_fixture
from oslo_utils.fixture import uuidsentinel as uuids
import testtools

from nova_rescue_ext import claims
from nova_rescue_ext import instance_metadata
from nova_rescue_ext import microversion
from nova_rescue_ext.rescue import libvirt
from tests.unit.rescue import test_libvirt


class DomainTestCase(testtools.TestCase):

    def setUp(self):
        super().setUp()
        objects.register_all()
        self.conf = self.useFixture(config_fixture.Config(conf.CONF))
        self.conf.config(virt_type='kvm', group='libvirt')
        self.make()

    def make(self, opted_in=True, **properties):
        """A server, with properties of the image it was made from."""
        self.instance = objects.Instance(
            uuid=uuids.instance, image_ref=uuids.own, kernel_id='kernel',
            ramdisk_id='ramdisk', vm_state='active', system_metadata={
                'image_' + name: value
                for name, value in properties.items()})
        if opted_in:
            instance_metadata.request_rescue(self.instance,
                                             microversion.RESCUE,
                                             request_id='req')
        self.rescue = test_libvirt.rescue_in_driver(self.instance)
        self.addCleanup(self.rescue._of_rescue_guest.close)

    def patch(self, name, new):
        self.useFixture(fixtures.MonkeyPatch(name, new))
        return new

    @staticmethod
    def image(id=uuids.image, **properties):
        return objects.ImageMeta(
            id=id, properties=objects.ImageMetaProps(**properties))


class ChosenBusTest(DomainTestCase):
    """The one that a disk of the server itself would have."""

    def chosen(self, **properties):
        asked = self.patch(
            'nova.virt.libvirt.blockinfo.get_disk_bus_for_device_type',
            mock.Mock(return_value='sata'))
        image = self.image(**properties)
        libvirt._choose_bus(self.instance, image)
        self.device = asked.call_args and asked.call_args.args[3]
        return image.properties.get('hw_rescue_bus')

    def test_not_named(self):
        self.assertEqual('sata', self.chosen(hw_rescue_device='cdrom'))
        self.assertEqual('cdrom', self.device)

    def test_named(self):
        self.assertEqual('usb', self.chosen(hw_rescue_device='disk',
                                            hw_rescue_bus='usb'))
        self.assertEqual('scsi', self.chosen(hw_rescue_bus='scsi'))

    def test_no_stable_devices(self):
        self.assertIsNone(self.chosen())

    def test_not_opted_in(self):
        self.make(opted_in=False)
        self.assertIsNone(self.chosen(hw_rescue_device='disk'))


class UnfitBusTest(DomainTestCase):
    """Of a machine type that libvirt would refuse too late."""

    def is_refused(self, machine, bus, device='disk', in_rescue=True):
        self.patch('nova.virt.libvirt.utils.get_machine_type',
                   lambda image_meta: machine)
        image = self.image(hw_rescue_device=device, hw_rescue_bus=bus)
        try:
            if in_rescue:
                with self.rescue:
                    libvirt._refuse_unfit_bus(self.instance, image)
            else:
                libvirt._refuse_unfit_bus(self.instance, image)
        except exception.InstanceNotRescuable as exc:
            self.words = str(exc)
            return True
        return False

    def test_missing(self):
        for machine, missing in (
                ('pc-q35-7.2', 'ide'), ('s390-ccw-virtio', 'ide sata usb'),
                ('virt-7.2', 'ide'), ('pseries-7.2', 'ide'),
                ('pc-i440fx-7.2', ''), (None, '')):
            for bus in ('virtio', 'scsi', 'sata', 'ide', 'usb'):
                self.assertEqual(bus in missing.split(),
                                 self.is_refused(machine, bus),
                                 (machine, bus))

    def test_floppy(self):
        for machine, refused in (('virt-7.2', True), ('pseries-7.2', True),
                                 ('s390-ccw-virtio', True),
                                 ('pc-q35-7.2', False)):
            self.assertEqual(refused, self.is_refused(
                machine, 'fdc', device='floppy'), machine)

    def test_words(self):
        """They name what the machine type has."""
        self.assertTrue(self.is_refused('pc-q35-7.2', 'ide'))
        self.assertIn('virtio, scsi, sata, usb', self.words)

    def test_no_stable_devices(self):
        with self.rescue, mock.patch(
                'nova.virt.libvirt.blockinfo.get_rescue_bus',
                return_value='ide'):
            self.patch('nova.virt.libvirt.utils.get_machine_type',
                       lambda image_meta: 'pc-q35-7.2')
            libvirt._refuse_unfit_bus(self.instance, self.image())

    def test_containers(self):
        """Nova refuses stable devices for them."""
        self.conf.config(virt_type='lxc', group='libvirt')
        self.assertFalse(self.is_refused('pc-q35-7.2', 'ide'))

    def test_not_ours(self):
        self.assertFalse(self.is_refused('pc-q35-7.2', 'ide',
                                         in_rescue=False))
        self.make(opted_in=False)
        self.assertFalse(self.is_refused('pc-q35-7.2', 'ide'))


class KernelTest(DomainTestCase):
    """Whose kernel and ramdisk the rescue boots with."""

    def find(self, image_id=uuids.image):
        self.get = self.patch('nova_rescue_ext.rescue.image.get',
                              mock.Mock(return_value='metadata'))
        self.check = self.patch(
            'nova_rescue_ext.rescue.image.get_kernel_and_ramdisk',
            mock.Mock(return_value=('found', '')))
        self.driver = mock.Mock()
        return libvirt._kernel_and_ramdisk(
            self.driver, 'user', self.instance, self.image(image_id))

    def assert_read(self, context, origin):
        api = self.driver._image_api
        self.get.assert_called_once_with(context, self.instance, api,
                                         uuids.image, origin)
        self.check.assert_called_once_with(context, self.instance, api,
                                           'metadata', origin)

    def test_of_the_rescue_image(self):
        self.assertEqual(('found', ''), self.find())
        self.assert_read('user', claims.Origin.CALLER)

    def test_of_the_operators_image(self):
        instance_metadata.request_rescue(
            self.instance, microversion.RESCUE, offered_image=uuids.image,
            request_id='req')
        self.patch('nova_rescue_ext.rescue.image.operator_context',
                   lambda instance: 'operator')
        self.assertEqual(('found', ''), self.find())
        self.assert_read('operator', claims.Origin.OPERATOR)

    def test_of_the_server(self):
        """Its own image need not be readable."""
        self.assertEqual(('kernel', 'ramdisk'), self.find(uuids.own))
        self.get.assert_not_called()

    def test_not_opted_in(self):
        self.make(opted_in=False)
        self.assertEqual(('kernel', 'ramdisk'), self.find())
        self.get.assert_not_called()


class CommandLineTest(DomainTestCase):

    def booted(self, kernel='/i/kernel.rescue', mapping=None, **properties):
        guest = vconfig.LibvirtConfigGuest()
        guest.os_kernel = kernel
        guest.os_cmdline = 'root=/dev/vda console=tty0'
        libvirt._boot_kernel_with_rescue_disk(
            guest, self.image(**properties),
            {'disk.rescue': {'dev': 'vdb'}} if mapping is None else mapping)
        return guest.os_cmdline

    def test_rescue_disk(self):
        self.assertEqual('root=/dev/vdb console=tty0', self.booted())

    def test_of_the_image(self):
        self.assertEqual('root=LABEL=x', self.booted(
            os_command_line='root=LABEL=x'))

    def test_kernel_of_the_operator(self):
        """It has nothing to do with the image."""
        self.conf.config(rescue_kernel_id='kernel', group='libvirt')
        self.assertEqual('root=/dev/vdb console=tty0', self.booted(
            os_command_line='root=LABEL=x'))

    def test_nothing_to_change(self):
        unchanged = 'root=/dev/vda console=tty0'
        self.assertEqual(unchanged, self.booted(kernel=None))
        self.assertEqual(unchanged, self.booted(mapping={'disk': {}}))


class ControllerTest(DomainTestCase):
    """A rescue disk on a bus that the server does not have."""

    def model(self, *buses, rescue='scsi', model='virtio-scsi'):
        mapping = {'disk%d' % number: {'bus': bus}
                   for number, bus in enumerate(buses)}
        mapping.update({'disk.rescue': {'bus': rescue}, 'unit': 3})
        image = self.image(**({'hw_scsi_model': model} if model else {}))
        meta = libvirt._hardware_of_server(self.instance, image, mapping)
        return meta.properties.get('hw_scsi_model')

    def test_new(self):
        self.assertEqual('virtio-scsi', self.model('virtio', 'ide'))

    def test_there(self):
        """One model for all of its disks."""
        self.make(hw_scsi_model='lsilogic')
        self.assertEqual('lsilogic', self.model('virtio', 'scsi'))

    def test_another_bus(self):
        self.assertIsNone(self.model('virtio', rescue='usb'))

    def test_not_named(self):
        self.make(hw_scsi_model='lsilogic')
        self.assertEqual('lsilogic', self.model('virtio', model=None))


class DestroyTest(DomainTestCase):

    def test_destroy(self):
        """In a rescue the guest is powered off before, cleanly."""
        calls = mock.Mock()
        self.rescue.switch_guests = calls.switch
        libvirt.destroy(calls.original, None, self.instance)
        calls.original.assert_called_once_with(self.instance)
        calls.reset_mock()
        with self.rescue:
            libvirt.destroy(calls.original, None, self.instance)
        self.assertEqual(
            [mock.call.switch(), mock.call.original(self.instance)],
            calls.mock_calls)


class FirmwareTest(DomainTestCase):

    def kept(self, **arguments):
        keep = self.patch(
            'nova_rescue_ext.host.hard_reboot.keep_firmware', mock.Mock())

        def original(instance, network_info, image_meta, disk_info,
                     rescue=None, block_device_info=None, context=None,
                     old_guest=None):
            return 'guest'

        self.assertEqual('guest', libvirt.get_guest_config(
            original, None, self.instance, None, 'image', {'mapping': {}},
            **arguments))
        return keep.call_args

    def test_of_the_domain_before(self):
        self.assertEqual(mock.call(self.instance, 'old'),
                         self.kept(old_guest='old'))

    def test_none(self):
        self.assertIsNone(self.kept())
        self.assertIsNone(self.kept(old_guest=None))


class GuestConfigTest(DomainTestCase):
    """The domain of the rescue, and that of the server on the way."""

    def made(self, *disks):
        """:returns: the volumes that were connected in the rescue's turn"""
        connecting = self.rescue.connecting = mock.MagicMock()
        self.rescue.image_meta = self.image()
        original = mock.Mock(return_value=vconfig.LibvirtConfigGuest())

        def call(instance, network_info, image_meta, disk_info, rescue=None,
                 block_device_info=None, context=None):
            return original(image_meta)

        libvirt.get_guest_config(
            call, None, self.instance, None, 'image',
            {'mapping': dict.fromkeys(disks, {'dev': 'vda'})},
            block_device_info={'block_device_mapping': ['volume']})
        original.assert_called_once_with('image')
        return connecting.call_args and connecting.call_args.args

    def test_rescue(self):
        with self.rescue:
            self.assertEqual((['volume'],), self.made('disk.rescue'))

    def test_own(self):
        self.assertIsNone(self.made('disk.rescue'))
        with self.rescue:
            self.assertIsNone(self.made('disk'))


class HostBootTest(DomainTestCase):
    """The guest that is started after its host was rebooted."""

    def started(self, running=False, in_rescue=True):
        """:returns: (by Nova, by us)"""
        self.patch('nova_rescue_ext.host.guests.is_running',
                   lambda driver, instance: running)
        self.patch('nova_rescue_ext.host.guests.is_in_rescue',
                   lambda driver, instance: in_rescue)
        start = self.patch('nova_rescue_ext.host.rescue_guest.start',
                           mock.Mock())
        calls = []

        def original(context, instance, network_info,
                     block_device_info=None):
            calls.append('original')

        driver = mock.Mock()
        libvirt.resume_state_on_host_boot(
            original, driver, 'context', self.instance, 'network', 'disks')
        if start.called:
            start.assert_called_once_with(
                driver, 'context', self.instance, 'network', 'disks')
            calls.append('ours')
        return calls

    def test_in_rescue(self):
        self.instance.vm_state = 'rescued'
        self.assertEqual(['ours'], self.started())

    def test_others(self):
        self.assertEqual(['original'], self.started())
        self.instance.vm_state = 'rescued'
        self.assertEqual(['original'], self.started(running=True))
        self.assertEqual(['original'], self.started(in_rescue=False))


class RescueTest(DomainTestCase):
    """What is recorded, and what Nova is told."""

    def test_recorded(self):
        self.patch('nova_rescue_ext.rescue.libvirt._kernel_and_ramdisk',
                   lambda *args: ('image kernel', 'image ramdisk'))
        refuse = self.patch(
            'nova_rescue_ext.rescue.libvirt._refuse_unfit_bus', mock.Mock())
        self.rescue.remove_earlier = mock.Mock()
        seen = []

        def original(context, instance, *args):
            seen.append((instance.kernel_id, instance.ramdisk_id))
            instance.system_metadata['image_hw_machine_type'] = 'other'

        def recorded(image, **config):
            for name, value in config.items():
                self.conf.config(**{name: value}, group='libvirt')
            self.rescue.record = mock.Mock()
            self.rescue.image_meta = None
            with self.rescue:
                libvirt.rescue(original, None, 'context', self.instance,
                               'network', image, 'password', 'disks')
            refuse.assert_called_with(self.instance, image)
            return self.rescue.record.call_args.args

        self.assertEqual(
            (uuids.image, 'image kernel', 'image ramdisk',
             instance_metadata.LEGACY), recorded(self.image()))
        self.assertEqual(
            (uuids.image, 'of the operator', 'too', instance_metadata.STABLE),
            recorded(self.image(hw_rescue_device='disk',
                                hw_rescue_bus='virtio'),
                     rescue_kernel_id='of the operator',
                     rescue_ramdisk_id='too'))
        # Nova takes those of nova.conf itself.
        self.assertEqual([('image kernel', 'image ramdisk')] * 2, seen)
        # And the server keeps its own.
        self.assertEqual(('kernel', 'ramdisk'), (
            self.instance.kernel_id, self.instance.ramdisk_id))
        self.assertNotIn('image_hw_machine_type',
                         self.instance.system_metadata)

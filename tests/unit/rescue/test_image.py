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

"""Which rescue images are refused, and which are not."""

from unittest import mock

from cinderclient import exceptions as cinder_exc
import fixtures
from keystoneauth1 import exceptions as ks_exc
from nova import exception
from nova import objects
from oslo_serialization import jsonutils
from oslo_utils.fixture import uuidsentinel as uuids
import testtools

from nova_rescue_ext import exception as ext_exception
from nova_rescue_ext.rescue import image


class ImageTestCase(testtools.TestCase):

    def setUp(self):
        super().setUp()
        objects.register_all()
        self.node = objects.ComputeNode(
            cpu_info=jsonutils.dumps({'arch': 'x86_64'}),
            supported_hv_specs=[objects.HVSpec(arch='x86_64', hv_type='kvm',
                                               vm_mode='hvm')])

    def patch(self, name, new):
        self.useFixture(fixtures.MonkeyPatch('nova_rescue_ext.' + name, new))
        return new

    @staticmethod
    def server(memory=512, extra_specs=None, **properties):
        """A server, with properties of the image it was made from."""
        return objects.Instance(
            uuid=uuids.instance, project_id=uuids.project, image_ref='',
            flavor=objects.Flavor(memory_mb=memory,
                                  extra_specs=extra_specs or {}),
            system_metadata={'image_' + name: value
                             for name, value in properties.items()})

    def assert_refused(self, words, call, *args, **kwargs):
        refused = self.assertRaises(exception.InstanceNotRescuable, call,
                                    *args, **kwargs)
        self.assertIn(words, str(refused))


class CheckTest(ImageTestCase):

    def check(self, server=None, properties=None, **attributes):
        image.check(server or self.server(), uuids.image, dict({
            'id': uuids.image, 'status': 'active',
            'container_format': 'bare', 'disk_format': 'qcow2',
        }, properties=properties or {}, **attributes), self.node)

    def assert_check(self, words, **image):
        self.assert_refused(words, self.check, **image)

    def test_not_refused(self):
        self.check()

    def test_status(self):
        self.assert_check('is queued, not active', status='queued')

    def test_without_data_of_its_own(self):
        for name in ('img_block_device_mapping', 'block_device_mapping'):
            self.assert_check('snapshot of a volume',
                              properties={name: [{}]})

    def test_encrypted(self):
        self.assert_check('is encrypted', properties={
            'cinder_encryption_key_id': uuids.key})

    def test_container(self):
        """Nova uses any other as the disk itself."""
        for name in (None, 'aki', 'ari', 'docker', 'compressed'):
            self.assert_check('container format %s,' % name,
                              container_format=name)
        for name in ('bare', 'ovf', 'ova', 'ami'):
            self.check(container_format=name)

    def test_disk_format(self):
        for name in (None, 'aki', 'ari', 'tar'):
            self.assert_check('disk format %s,' % name, disk_format=name)
        for name in ('raw', 'qcow2', 'vmdk', 'vhd', 'vhdx', 'vdi', 'iso',
                     'ploop', 'ami', 'gpt'):
            self.check(disk_format=name)

    def test_memory(self):
        self.check(self.server(memory=512), min_ram=512)
        self.assert_check('needs 513 MiB', server=self.server(memory=512),
                          min_ram=513)

    def test_invalid_property(self):
        """Whatever Nova raises of it."""
        self.assert_check('invalid property', properties={
            'hw_rescue_bus': 'no such bus'})
        self.assert_check('invalid property', properties={
            'hw_numa_nodes': 'many'})
        with mock.patch.object(objects.ImageMeta, 'from_dict',
                               side_effect=exception.Invalid('odd')):
            self.assert_check('invalid property: odd')

    def test_architecture(self):
        self.check(properties={'hw_architecture': 'x86_64'})
        self.assert_check('is for aarch64, but', properties={
            'hw_architecture': 'aarch64'})
        self.node.supported_hv_specs = []  # it is not known
        self.check(properties={'hw_architecture': 'aarch64'})

    def test_device_and_bus(self):
        for device, buses in (('disk', 'virtio scsi sata ide usb'),
                              ('cdrom', 'sata scsi ide usb'),
                              ('floppy', 'fdc')):
            self.check(properties={'hw_rescue_device': device})
            for bus in 'virtio scsi sata ide usb fdc'.split():
                properties = {'hw_rescue_device': device,
                              'hw_rescue_bus': bus}
                if bus in buses.split():
                    self.check(properties=properties)
                else:
                    self.assert_check('a %s can be on %s' % (
                        device, ', '.join(buses.split())),
                        properties=properties)

    def test_disk_is_the_default(self):
        self.check(properties={'hw_rescue_bus': 'virtio'})
        self.assert_check('a disk can be on', properties={
            'hw_rescue_bus': 'fdc'})

    def test_unknown_device(self):
        self.assert_check('can be disk, cdrom, floppy', properties={
            'hw_rescue_device': 'lun'})

    def test_floppy(self):
        """UEFI boots from no floppy."""
        floppy = {'hw_rescue_device': 'floppy'}
        self.check(self.server(hw_firmware_type='bios'), floppy)
        uefi = self.server(hw_firmware_type='uefi')
        self.check(uefi)
        self.assert_check('hw_rescue_device floppy', server=uefi,
                          properties=floppy)


class FirmwareTest(ImageTestCase):
    """With stable devices the rescue system gets that of the server."""

    def check(self, wanted, own=None, **server):
        properties = objects.ImageMetaProps()
        if wanted:
            properties.hw_firmware_type = wanted
        if own:
            server['hw_firmware_type'] = own
        image.check_with_stable_devices(
            self.server(**server), uuids.image, properties, self.node)

    def test_same(self):
        for firmware in ('bios', 'uefi'):
            self.check(firmware, own=firmware)

    def test_other(self):
        self.assert_refused('firmware of the server is bios', self.check,
                            'uefi', own='bios')
        self.assert_refused('firmware of the server is uefi', self.check,
                            'bios', own='uefi')

    def test_not_named_by_the_rescue_image(self):
        for own in ('bios', 'uefi', None):
            self.check(None, own=own)

    def test_not_named_by_the_server(self):
        """Then the architecture decides, of its image or else its host."""
        self.check('bios')
        self.assert_refused('is bios', self.check, 'uefi')
        for architecture in ('x86_64', 'i686'):
            self.check('bios', hw_architecture=architecture)
            self.assert_refused('is bios', self.check, 'uefi',
                                hw_architecture=architecture)
        for firmware in ('bios', 'uefi'):
            self.check(firmware, hw_architecture='aarch64')

    def test_unknown_architecture(self):
        for cpu_info in (None, '', 'no JSON', '{}'):
            self.node.cpu_info = cpu_info
            self.check('uefi')


class OwnHardwareTest(ImageTestCase):
    """Without stable devices the rescue system gets its own."""

    def check(self, server=None, **properties):
        image.check_with_own_hardware(
            server or self.server(), uuids.image,
            objects.ImageMetaProps(**properties))

    def test_tpm(self):
        """Its secret is the server's: there is none without a TPM."""
        self.check()
        self.assert_refused('has no TPM', self.check, hw_tpm_version='2.0')
        self.check(self.server(hw_tpm_version='2.0'), hw_tpm_version='2.0')
        self.check(self.server(extra_specs={'hw:tpm_version': '1.2'}),
                   hw_tpm_version='2.0')

    def test_video_memory(self):
        allowed = self.server(extra_specs={'hw_video:ram_max_mb': '8'})
        self.check(allowed)
        self.check(allowed, hw_video_ram=8)
        self.assert_refused('allows 8 MiB', self.check, allowed,
                            hw_video_ram=9)
        self.assert_refused('allows 0 MiB', self.check, hw_video_ram=1)


class RootVolumeTest(ImageTestCase):
    """What the root volume was made from is a claim of its owner."""

    def find(self, image_id=None, volume=None):
        """:param volume: what Cinder says of it, or what is raised"""
        self.patch('rescue.image.get', lambda *args: args)
        self.read = self.patch('rescue.image.volumes.read', mock.Mock(
            side_effect=volume if isinstance(volume, Exception)
            else [volume]))
        bdms = objects.BlockDeviceMappingList(objects=[
            objects.BlockDeviceMapping(boot_index=0, image_id=image_id,
                                       volume_id=uuids.volume)])
        self.instance = self.server()
        return image.of_root_volume('context', self.instance, bdms, 'cinder',
                                    'glance')

    def test_recorded_by_nova(self):
        found, read = self.find(image_id=uuids.image)
        self.assertEqual(uuids.image, found)
        self.assertEqual(('context', self.instance, 'glance', uuids.image,
                          image.claims.Origin.SERVER), read)
        self.read.assert_not_called()

    def test_recorded_by_cinder(self):
        found, _read = self.find(volume={
            'volume_image_metadata': {'image_id': uuids.image}})
        self.assertEqual(uuids.image, found)
        self.read.assert_called_once_with('context', self.instance, 'cinder',
                                          uuids.volume)

    def test_not_recorded(self):
        for volume in ({}, {'volume_image_metadata': {}},
                       {'volume_image_metadata': {'image_id': ''}}):
            self.assert_refused('has no record of an image', self.find,
                                volume=volume)

    def test_not_readable(self):
        for error in (exception.VolumeNotFound(volume_id=uuids.volume),
                      exception.Forbidden()):
            self.assert_refused('cannot be read', self.find, volume=error)

    def test_of_somebody_else(self):
        self.assert_refused('Choose an image', self.find,
                            volume=ext_exception.ClaimRefused())

    def test_cinder_fails(self):
        for error in (exception.CinderConnectionFailed(reason='gone'),
                      cinder_exc.ClientException(500),
                      ks_exc.ConnectFailure()):
            self.assert_refused('does not answer', self.find, volume=error)


class KernelTest(ImageTestCase):

    def find(self, found):
        self.patch('claims.images.check_kernel_and_ramdisk',
                   mock.Mock(side_effect=[found]))
        return image.get_kernel_and_ramdisk(
            'context', self.server(), 'glance', {'id': uuids.image},
            image.claims.Origin.CALLER)

    def test_found(self):
        self.assertEqual(('kernel', ''), self.find(('kernel', '')))

    def test_refused(self):
        """It is the image that cannot boot, or Glance that fails."""
        self.assert_refused('cannot boot', self.find,
                            ext_exception.ClaimRefused())
        self.assert_refused('Try again later', self.find,
                            ext_exception.ImageServiceFails())


class OperatorTest(ImageTestCase):
    """The image that only the operator can read."""

    def context(self, auth):
        self.useFixture(fixtures.MonkeyPatch(
            'keystoneauth1.loading.load_auth_from_conf_options', auth))
        return image.operator_context(self.server())

    def test_credentials(self):
        context = self.context(lambda conf, group: (group, 'plugin'))
        self.assertEqual(('service_user', 'plugin'),
                         context.get_auth_plugin())
        self.assertTrue(context.is_admin)

    def test_this_request_goes_on_with_its_own(self):
        """As oslo.context keeps the last one that was made."""
        self.context(lambda conf, group: 'plugin')
        overwritten = []
        with mock.patch('oslo_context.context.RequestContext.update_store',
                        lambda context: overwritten.append(context)):
            self.context(lambda conf, group: 'plugin')
        self.assertEqual([], overwritten)

    def test_no_credentials(self):
        for auth in (lambda conf, group: None,
                     mock.Mock(side_effect=ks_exc.MissingRequiredOptions(
                         []))):
            self.assert_refused('cannot be read', self.context, auth)


class StableDevicesTest(ImageTestCase):

    def test_both_properties(self):
        both = {'hw_rescue_device': 'disk', 'hw_rescue_bus': 'scsi'}
        self.assertTrue(image.is_for_stable_devices({'properties': both}))
        for name, value in both.items():
            self.assertFalse(image.is_for_stable_devices(
                {'properties': {name: value}}))

    def test_used_although_the_image_does_not_ask(self):
        properties = objects.ImageMetaProps()
        image.use_stable_devices(properties)
        self.assertEqual('disk', properties.hw_rescue_device)
        self.assertFalse(properties.obj_attr_is_set('hw_rescue_bus'))

    def test_what_the_image_asks_for(self):
        properties = objects.ImageMetaProps(hw_rescue_device='cdrom')
        image.use_stable_devices(properties)
        self.assertEqual('cdrom', properties.hw_rescue_device)

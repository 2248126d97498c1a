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


from unittest import mock

import fixtures
from nova import objects
from nova.virt.libvirt import imagebackend
from oslo_config import fixture as config_fixture
from oslo_utils.fixture import uuidsentinel as uuids
import testtools

from nova_rescue_ext import instance_metadata
from nova_rescue_ext import microversion
from nova_rescue_ext.rescue import libvirt
from nova_rescue_ext.rescue import operation


def rescue_in_driver(instance):
    """A rescue whose guest the driver makes."""
    rescue = operation.Rescue(None, mock.Mock(request_id='req'), instance)
    rescue.image_meta = objects.ImageMeta()
    return rescue


class CreateImageTest(testtools.TestCase):
    """With whose rights the rescue image is downloaded."""

    def setUp(self):
        super().setUp()
        objects.register_all()
        self.instance = objects.Instance(uuid=uuids.instance,
                                         system_metadata={},
                                         vm_state='active')
        self.useFixture(fixtures.MonkeyPatch(
            'nova_rescue_ext.rescue.image.operator_context',
            lambda instance: 'operator'))

    def _context(self, image_id=uuids.image):
        original = mock.Mock()
        libvirt.create_image(original, None, 'user', self.instance, {},
                             disk_images={'image_id': image_id})
        return original.call_args[0][0]

    def test_offered_image(self):
        instance_metadata.request_rescue(
            self.instance, microversion.RESCUE, offered_image=uuids.image,
            request_id='req')
        with rescue_in_driver(self.instance):
            self.assertEqual('operator', self._context())

    def test_other_image(self):
        instance_metadata.request_rescue(self.instance, microversion.RESCUE,
                                         request_id='req')
        with rescue_in_driver(self.instance):
            self.assertEqual('user', self._context())

    def test_another_image_than_the_offered(self):
        instance_metadata.request_rescue(
            self.instance, microversion.RESCUE, offered_image=uuids.image,
            request_id='req')
        with rescue_in_driver(self.instance):
            self.assertEqual('user', self._context(uuids.other))

    def test_on_the_way_back(self):
        instance_metadata.request_rescue(
            self.instance, microversion.RESCUE, offered_image=uuids.image,
            request_id='req')
        with operation.Rescue(None, mock.Mock(request_id='req'),
                              self.instance):
            self.assertEqual('user', self._context())

    def test_not_in_a_rescue(self):
        """What an earlier rescue was asked for means nothing later."""
        instance_metadata.request_rescue(
            self.instance, microversion.RESCUE, offered_image=uuids.image,
            request_id='req')
        self.assertEqual('user', self._context())


class EncryptedDiskTest(testtools.TestCase):
    """With whose rights the key of a disk on LVM is read."""

    def setUp(self):
        super().setUp()
        objects.register_all()
        self.instance = objects.Instance(uuid=uuids.instance,
                                         ephemeral_key_uuid=uuids.key,
                                         vm_state='active',
                                         system_metadata={})
        self.keys = self._patch('key_manager.API').return_value
        for name in ('lvm', 'dmcrypt.create_volume', 'disk', 'images',
                     'Lvm.verify_base_size'):
            self._patch(name)
        conf = self.useFixture(config_fixture.Config(imagebackend.CONF))
        conf.config(images_volume_group='group', group='libvirt')
        conf.config(lock_path=self.useFixture(fixtures.TempDir()).path,
                    group='oslo_concurrency')
        self.fetch = mock.Mock()

    def _patch(self, name):
        return self.useFixture(fixtures.MockPatch(
            'nova.virt.libvirt.imagebackend.' + name)).mock

    def _assert_rights(self, of_key, of_image):
        disk = imagebackend.Lvm(self.instance, 'disk.rescue')
        libvirt.create_lvm_image(
            disk.create_image, disk, self.fetch, '/no/such/base', None,
            context='operator', image_id=uuids.image)
        self.keys.get.assert_called_once_with(of_key, uuids.key)
        self.fetch.assert_called_once_with(
            target='/no/such/base', context=of_image, image_id=uuids.image)

    def test_in_a_rescue(self):
        """The operator reads the image, and knows no key of a user."""
        rescue = rescue_in_driver(self.instance)
        rescue.context = 'user'
        with rescue:
            self._assert_rights('user', of_image='operator')

    def test_not_in_a_rescue(self):
        self._assert_rights('operator', of_image='operator')

    def test_rescue_of_another_server(self):
        rescue = rescue_in_driver(objects.Instance(uuid=uuids.other,
                                                   vm_state='active'))
        with rescue:
            self._assert_rights('operator', of_image='operator')


class GuestDiskConfigTest(testtools.TestCase):

    def test_units_are_counted(self):
        """Nova counts the units of the SCSI bus in the mapping."""
        objects.register_all()
        instance = objects.Instance(uuid=uuids.instance, system_metadata={},
                                    vm_state='active')
        instance_metadata.request_rescue(instance, microversion.RESCUE,
                                         request_id='req')
        mapping = {'disk.config': {'bus': 'scsi'}, 'disk.rescue': {},
                   'unit': 3}

        def original(instance, name, disk_mapping):
            self.assertEqual('disk.config.rescue', name)
            self.assertEqual({'bus': 'scsi'}, disk_mapping[name])
            disk_mapping['unit'] += 1

        with rescue_in_driver(instance):
            libvirt.get_guest_disk_config(original, None, instance,
                                          'disk.config', mapping)
        self.assertEqual({'disk.config': {'bus': 'scsi'}, 'disk.rescue': {},
                          'unit': 4}, mapping)


class OwnDomainTest(testtools.TestCase):
    """A server without a domain: its own is made within the rescue."""

    def setUp(self):
        super().setUp()
        objects.register_all()
        self.instance = objects.Instance(uuid=uuids.instance,
                                         system_metadata={},
                                         vm_state='active')
        instance_metadata.request_rescue(self.instance, microversion.RESCUE,
                                         request_id='req')
        self.original = mock.Mock()
        self.rescue = rescue_in_driver(self.instance)
        self.rescue.take_turn = mock.Mock()

    def test_no_turn_is_taken(self):
        with self.rescue:
            libvirt.get_guest_config(
                self.original, None, self.instance, None, 'own',
                {'mapping': {'disk': {}}})
        self.rescue.take_turn.assert_not_called()
        self.original.assert_called_once_with(
            self.instance, None, 'own', {'mapping': {'disk': {}}})

    def test_its_own_config_drive(self):
        mapping = {'disk': {}, 'disk.config': {}}
        with self.rescue:
            libvirt.get_guest_disk_config(
                self.original, None, self.instance, 'disk.config', mapping)
        self.original.assert_called_once_with(
            self.instance, 'disk.config', mapping)

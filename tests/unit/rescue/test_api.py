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

"""Which image nova-api chooses, and what it checks for it."""

from unittest import mock

import fixtures
from nova import conf
from nova import context as nova_context
from nova import exception
from nova import objects
from oslo_config import fixture as config_fixture
from oslo_utils.fixture import uuidsentinel as uuids
import testtools

from nova_rescue_ext import claims
from nova_rescue_ext import conf as ext_conf
from nova_rescue_ext import exception as ext_exception
from nova_rescue_ext import instance_metadata
from nova_rescue_ext.rescue import api


class ApiTestCase(testtools.TestCase):

    def setUp(self):
        super().setUp()
        objects.register_all()
        ext_conf.register_opts(conf.CONF)
        self.conf = self.useFixture(config_fixture.Config(conf.CONF))
        self.context = nova_context.RequestContext('alice', 'project',
                                                   is_admin=False)
        self.api = mock.Mock()
        self.instance = objects.Instance(
            uuid=uuids.instance, host='here', node='node',
            image_ref=uuids.own, system_metadata={})

    def patch(self, name, new=None):
        new = new or mock.Mock()
        self.useFixture(fixtures.MonkeyPatch('nova_rescue_ext.' + name, new))
        return new


class FindTest(ApiTestCase):
    """In the order of the documentation, each with the rights it may have."""

    def setUp(self):
        super().setUp()
        self.get = self.patch('rescue.image.get',
                              mock.Mock(return_value='metadata'))
        self.patch('rescue.image.operator_context',
                   lambda instance: 'operator')
        self.patch('rescue.image.of_root_volume', lambda *args: (
            uuids.of_volume, 'metadata of volume'))
        self.visible = self.patch(
            'claims.images.find', mock.Mock(return_value=None))

    def find(self, image_id=None, volume_backed=False):
        found = api._find(self.api, self.context, self.instance, 'bdms',
                          volume_backed, image_id)
        if self.get.called:
            self.get.assert_called_once_with(
                found.context, self.instance, self.api.image_api, found.id,
                found.origin)
            self.assertEqual('metadata', found.metadata)
        return found.id, found.context, found.origin

    def offer(self):
        self.conf.config(default_rescue_image=uuids.offered,
                         group='rescue_ext')

    def test_requested(self):
        self.offer()
        for volume_backed in (False, True):
            self.get.reset_mock()
            self.assertEqual(
                (uuids.image, self.context, claims.Origin.CALLER),
                self.find(uuids.image, volume_backed))

    def test_offered(self):
        self.offer()
        for volume_backed in (False, True):
            self.get.reset_mock()
            self.assertEqual(
                (uuids.offered, 'operator', claims.Origin.OPERATOR),
                self.find(volume_backed=volume_backed))

    def test_offered_by_an_option_of_nova(self):
        self.conf.config(rescue_image_id=uuids.offered, group='libvirt')
        self.assertEqual((uuids.offered, 'operator', claims.Origin.OPERATOR),
                         self.find())

    def test_offered_and_visible(self):
        """The same as if the caller had named it."""
        self.offer()
        self.visible.return_value = {'id': uuids.offered}
        self.assertEqual((uuids.offered, self.context, claims.Origin.CALLER),
                         self.find())
        self.get.assert_not_called()

    def test_offered_and_claimed(self):
        self.offer()
        self.visible.side_effect = ext_exception.ClaimRefused()
        self.assertRaises(exception.InstanceNotRescuable, self.find)

    def test_of_the_root_volume(self):
        self.assertEqual(
            (uuids.of_volume, self.context, claims.Origin.SERVER),
            self.find(volume_backed=True))

    def test_of_the_server(self):
        self.assertEqual((uuids.own, self.context, claims.Origin.SERVER),
                         self.find())

    def test_base_image(self):
        """The image of the server may be a snapshot of another."""
        self.instance.system_metadata = {
            'image_base_image_ref': uuids.base}
        self.assertEqual((uuids.base, self.context, claims.Origin.SERVER),
                         self.find())


class HardwareTest(ApiTestCase):
    """Checked against the hardware that the rescue system will get."""

    def checked(self, volume_backed=False, **properties):
        stable = self.patch('rescue.image.check_with_stable_devices')
        own = self.patch('rescue.image.check_with_own_hardware')
        api._check_hardware(self.instance, api._Chosen(
            uuids.image, {'properties': properties, 'id': uuids.image},
            self.context, claims.Origin.CALLER), volume_backed, 'node')
        self.assertFalse(stable.called and own.called)
        return ('stable' if stable.called else 'own' if own.called else None)

    def test_own(self):
        self.assertEqual('own', self.checked())
        self.assertEqual('own', self.checked(kernel_id=uuids.kernel))

    def test_that_of_the_server(self):
        self.assertEqual('stable', self.checked(volume_backed=True))
        self.assertEqual('stable', self.checked(hw_rescue_bus='virtio'))
        self.assertEqual('stable', self.checked(hw_rescue_device='disk'))

    def test_kernel(self):
        """It boots with every firmware."""
        self.assertIsNone(self.checked(hw_rescue_bus='virtio',
                                       kernel_id=uuids.kernel))

    def test_always_stable(self):
        """The host decides, whose option may differ."""
        self.conf.config(stable_devices='always', group='rescue_ext')
        self.assertIsNone(self.checked())


class ServiceTest(ApiTestCase):
    """A rescue must not wait in a queue after its password was shown."""

    def check(self, is_up):
        self.is_up = self.patch('capabilities.is_up', mock.Mock(
            side_effect=[is_up]))
        api._check_compute_service(self.api, self.context, self.instance)

    def test_up(self):
        self.check(True)
        self.is_up.assert_called_once_with(self.api, self.context, 'here',
                                           unknown=True)

    def test_down(self):
        self.assertRaises(ext_exception.ComputeServiceDown, self.check, False)

    def test_not_known(self):
        """Stock Nova would not ask."""
        self.check(OSError('gone'))

    def test_on_no_host(self):
        """Nova refuses it in its own words."""
        self.instance.host = None
        self.check(False)
        self.is_up.assert_not_called()


class ForgetTest(ApiTestCase):
    """The record of an earlier rescue, which its host may still need."""

    def forgotten(self, serves=True, recorded=True, error=None):
        self.instance.system_metadata = {
            instance_metadata.MODE: instance_metadata.STABLE
        } if recorded else {}
        self.lookup = self.useFixture(fixtures.MockPatch(
            'nova.objects.ComputeNode.get_by_host_and_nodename',
            side_effect=error)).mock
        self.patch('capabilities.host_can', lambda node, version: serves)
        api._forget_earlier_rescue(self.context, self.instance)
        return not instance_metadata.has_record(self.instance)

    def test_host_with_the_package(self):
        self.assertFalse(self.forgotten())

    def test_stock_host(self):
        self.assertTrue(self.forgotten(serves=False))
        self.lookup.assert_called_once_with(self.context, 'here', 'node')

    def test_no_record(self):
        """Most servers: nothing is looked up."""
        self.forgotten(recorded=False)
        self.lookup.assert_not_called()

    def test_unknown_host(self):
        self.assertFalse(self.forgotten(
            serves=False, error=exception.ComputeHostNotFound(host='here')))

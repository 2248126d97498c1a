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

"""What a rescue system gets, and what nova-api shows of it."""

from unittest import mock

import fixtures
from nova import exception
from nova import objects
from oslo_utils.fixture import uuidsentinel as uuids
import testtools

from nova_rescue_ext import instance_metadata
from nova_rescue_ext.rescue import metadata
from nova_rescue_ext.rescue import operation
from nova_rescue_ext.rescue import recovery
from nova_rescue_ext.rescue import view


class SessionTestCase(testtools.TestCase):

    def setUp(self):
        super().setUp()
        objects.register_all()
        self.log = self.useFixture(fixtures.FakeLogger())
        self.instance = objects.Instance(
            mock.Mock(), uuid=uuids.instance, vm_state='rescued',
            task_state=None, launched_at=None, user_data=None,
            config_drive='', key_name='web', key_data='ssh-rsa web',
            keypairs=objects.KeyPairList(objects=[]), system_metadata={})
        self.instance.keypairs.obj_reset_changes()
        self.instance.obj_reset_changes()


class AccessTest(SessionTestCase):

    def test_nothing_is_to_be_saved(self):
        access = instance_metadata.RescueAccess('alice', 'ssh-rsa alice',
                                                'ssh', 'IyE=')
        with metadata.as_in_rescue(self.instance, access):
            self.assertEqual('alice', self.instance.key_name)
            self.assertEqual(set(), self.instance.obj_what_changed())
        self.assertEqual('web', self.instance.key_name)
        self.assertEqual(set(), self.instance.obj_what_changed())

    def test_switch_of_a_server_that_is_gone(self):
        """Nothing is forgotten, and nothing is wrong."""
        for error, words in (
                (exception.InstanceNotFound(instance_id=uuids.instance), ''),
                (exception.CellTimeout(), 'the metadata API may give')):
            with mock.patch.object(objects.Instance, 'get_by_uuid',
                                   side_effect=error):
                operation.forget_switch(self.instance)
            if words:
                self.assertIn(words, self.log.output)
            else:
                self.assertEqual('', self.log.output)


class ViewTest(SessionTestCase):

    def test_key_of_a_rescue_before_that_of_stock_nova(self):
        """Which gives the rescue system that of the server."""
        instance_metadata.request_rescue(
            self.instance, (1, 4),
            access=instance_metadata.RescueAccess('alice'), request_id='req')
        self.instance.system_metadata['rescue_ext_version'] = '1.4'
        self.assertIsNone(view._view(self.instance, [])['key_name'])


class LackOfSecretTest(SessionTestCase):

    def test_power_state(self):
        """Or Nova would start it, as after a reboot of its host."""
        self.instance.vm_state = 'active'
        recovery._stop_for_lack_of_secret(self.instance)
        self.assertEqual(('stopped', 4), (self.instance.vm_state,
                                          self.instance.power_state))

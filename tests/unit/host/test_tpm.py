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

"""The TPM of a server on its host."""

from unittest import mock

import fixtures
from lxml import etree
from nova import exception
from oslo_utils.fixture import uuidsentinel as uuids
import testtools

from nova_rescue_ext import exception as ext_exception
from nova_rescue_ext.host import tpm
from tests.unit import test_tpm


class SecretTest(testtools.TestCase):

    def setUp(self):
        super().setUp()
        self.driver = mock.Mock()
        self.driver._host.find_secret.return_value = None
        self.read = mock.Mock()
        self.useFixture(fixtures.MonkeyPatch(
            'nova_rescue_ext.host.tpm._read_secret', self.read))

    def server(self, security='user', secret=uuids.secret, **more):
        instance = test_tpm.server({
            'hw:tpm_secret_security': security,
            **{'hw:' + name: value for name, value in more.items()}})
        if secret:
            instance.system_metadata['vtpm_secret_uuid'] = secret
        return instance

    def is_readable(self, *args, **kwargs):
        return tpm.is_secret_readable(self.driver, 'context', self.server(
            *args, **dict({'tpm_version': '2.0'}, **kwargs)))

    def test_no_tpm(self):
        self.read.side_effect = OSError
        self.assertTrue(tpm.is_secret_readable(
            self.driver, 'context', self.server(secret=None)))

    def test_of_the_caller(self):
        self.assertTrue(self.is_readable())
        self.read.assert_called_once_with('context', mock.ANY)
        self.driver._host.find_secret.assert_not_called()

    def test_not_of_the_caller(self):
        self.read.side_effect = exception.Forbidden
        self.assertFalse(self.is_readable())
        error = self.assertRaises(
            ext_exception.TPMSecretNotReadable, tpm.check_secret, self.driver,
            'context', self.server(tpm_version='2.0'))
        self.assertIn('(Forbidden)', error.format_message())

    def test_lost(self):
        """Nova would make another."""
        self.assertFalse(self.is_readable(secret=None))
        self.read.assert_not_called()

    def test_of_the_host(self):
        self.read.side_effect = exception.Forbidden
        self.assertFalse(self.is_readable('host'))
        self.driver._host.find_secret.return_value = 'secret'
        self.assertTrue(self.is_readable('host'))
        self.driver._host.find_secret.assert_called_with('vtpm',
                                                         uuids.instance)
        self.assertFalse(self.is_readable('deployment'))

    def test_is_kept(self):
        self.assertFalse(tpm.is_kept(object()))  # Nova 30
        for kept in (True, False):
            self.assertIs(kept, tpm.is_kept(mock.Mock(_may_keep_vtpm=kept)))


class DeleteTest(testtools.TestCase):
    """libvirt deletes the state with a domain that has the TPM."""

    def setUp(self):
        super().setUp()
        self.driver = mock.Mock()
        self.domain = etree.fromstring('<domain><devices/></domain>')
        self.read = mock.Mock(side_effect=lambda *args: self.domain)
        self.useFixture(fixtures.MonkeyPatch(
            'nova_rescue_ext.host.guests.read_definition', self.read))

    def give_back(self, version='2.0', secret=uuids.secret,
                  vm_state='rescued'):
        instance = test_tpm.server(
            {'hw:tpm_version': version} if version else {})
        instance.vm_state = vm_state
        instance.system_metadata['vtpm_secret_uuid'] = secret
        tpm.give_back_to_domain(self.driver, instance)
        return self.driver._host.write_instance_config.call_args_list

    def test_in_rescue(self):
        (xml,), _ = self.give_back()[0]
        device = etree.fromstring(xml).find('devices/tpm')
        self.assertEqual('2.0', device.find('backend').get('version'))
        self.assertEqual(uuids.secret,
                         device.find('backend/encryption').get('secret'))

    def test_nothing_to_do(self):
        self.assertEqual([], self.give_back(version=None))
        self.assertEqual([], self.give_back(secret=None))
        self.read.assert_not_called()
        etree.SubElement(self.domain.find('devices'), 'tpm')
        self.assertEqual([], self.give_back())

    def test_no_domain(self):
        """It may be on another host, or an unrescue was killed."""
        self.read.side_effect = exception.InstanceNotFound(instance_id='x')
        for vm_state, is_left, warned in (('active', True, False),
                                          ('rescued', False, False),
                                          ('rescued', True, True)):
            with (mock.patch.object(tpm, 'LOG') as log,
                  mock.patch('os.path.exists', return_value=is_left)):
                self.assertEqual([], self.give_back(vm_state=vm_state))
            self.assertEqual(warned, log.warning.called)

    def test_server_that_cannot_be_read(self):
        """It is deleted all the same."""
        with mock.patch('nova_rescue_ext.tpm.has_tpm', side_effect=OSError):
            self.assertEqual([], self.give_back())

    def test_failure(self):
        """So it is then."""
        self.driver._host.write_instance_config.side_effect = OSError
        with mock.patch.object(tpm, 'LOG') as log:
            self.give_back()
        self.assertIn('by hand', log.warning.call_args.args[0])
        self.assertEqual('/var/lib/libvirt/swtpm/' + uuids.instance,
                         log.warning.call_args.args[1]['path'])

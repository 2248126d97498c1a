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

"""Which servers have a TPM, and for whom."""

from unittest import mock

from nova import objects
from oslo_utils.fixture import uuidsentinel as uuids
import testtools

from nova_rescue_ext import capabilities
from nova_rescue_ext import tpm


def server(specs=(), **image):
    objects.register_all()
    return objects.Instance(
        uuid=uuids.instance, image_ref='',
        flavor=objects.Flavor(extra_specs=dict(specs)),
        system_metadata={'image_' + name: value
                         for name, value in image.items()})


FLAVOR = {'hw:tpm_version': '2.0'}


class HostTest(testtools.TestCase):

    def test_reported(self):
        """Only by a host that loses no TPM."""
        for keeps_tpms in (True, False):
            resources = {}
            capabilities.report(resources, keeps_tpms)
            self.assertEqual(keeps_tpms, 'compute_rescue_tpms'
                             in resources['stats'])


class TPMTest(testtools.TestCase):

    def test_has_tpm(self):
        self.assertFalse(tpm.has_tpm(server()))
        self.assertTrue(tpm.has_tpm(server(FLAVOR)))
        self.assertTrue(tpm.has_tpm(server(hw_tpm_version='1.2')))

    def test_secret(self):
        for security, of_user, of_host in (
                (None, True, False), ('user', True, False),
                ('host', False, True), ('deployment', False, False)):
            specs = {'hw:tpm_secret_security': security} if security else {}
            for has_tpm in (True, False):
                instance = server({**specs, **(FLAVOR if has_tpm else {})})
                self.assertEqual(has_tpm and of_user,
                                 tpm.is_of_user(instance))
                self.assertEqual(has_tpm and of_host,
                                 tpm.is_of_host(instance))

    def test_left_out(self):
        original = mock.Mock(return_value='TPM')

        def ask():
            return tpm.get_vtpm_constraint(original, 'flavor', 'image')

        with tpm.LeftOut(uuids.instance):
            self.assertIsNone(ask())
        original.assert_not_called()
        self.assertEqual('TPM', ask())
        original.assert_called_once_with('flavor', 'image')

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


"""Which secrets are made when a server is built."""

import types
import unittest

from nova import objects
from oslo_utils.fixture import uuidsentinel

from nova_rescue_ext.claims import ownership
from nova_rescue_ext import exception

TPM = {'hw:tpm_version': '2.0', 'hw:tpm_model': 'tpm-crb'}


class SecretsTest(unittest.TestCase):

    def setUp(self):
        objects.register_all()
        self.context = types.SimpleNamespace(project_id='theirs')

    def check(self, specs=(), secret=None, bdm=None):
        ownership.check_secrets(
            self.context, types.SimpleNamespace(
                project_id='mine', flavor=objects.Flavor(
                    extra_specs=dict(specs)),
                system_metadata={'vtpm_secret_uuid': secret}),
            objects.ImageMeta.from_dict({}),
            [bdm or objects.BlockDeviceMapping()])

    def assert_refused(self, **values):
        self.assertRaises(exception.SecretWouldBeYours, self.check, **values)

    def test_no_secret(self):
        self.check()
        self.check(bdm=objects.BlockDeviceMapping(encrypted=False))

    def test_tpm(self):
        self.assert_refused(specs=TPM)
        self.check(specs=TPM, secret='made')
        self.context.project_id = 'mine'
        self.check(specs=TPM)

    def test_security_of_tpm(self):
        for security, is_refused in (
                ('user', True), ('host', True), ('deployment', False)):
            specs = dict(TPM, **{'hw:tpm_secret_security': security})
            if is_refused:
                self.assert_refused(specs=specs)
            else:
                self.check(specs=specs)

    def test_encrypted_disk(self):
        self.assert_refused(bdm=objects.BlockDeviceMapping(
            encrypted=True, encryption_secret_uuid=None))
        self.check(bdm=objects.BlockDeviceMapping(
            encrypted=True, encryption_secret_uuid=uuidsentinel.secret))

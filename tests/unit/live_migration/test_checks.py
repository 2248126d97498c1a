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

"""What the source of a live migration refuses."""

from unittest import mock

import fixtures
from nova import exception
import testtools

from nova_rescue_ext.live_migration import checks
from tests.unit import test_tpm


class TPMTest(testtools.TestCase):
    """Its state would stay behind, and be deleted with the source's copy."""

    def check(self, specs):
        for name in ('_check_record', '_check_images_type',
                     '_check_uefi_variables', '_check_serial_ports',
                     '_check_vifs', 'check_volumes'):
            self.useFixture(fixtures.MonkeyPatch(
                'nova_rescue_ext.live_migration.checks.' + name, mock.Mock()))
        checks.check(None, test_tpm.server(specs), None, None)

    def test_refused(self):
        """By nova-api, too, which may be of another version."""
        error = self.assertRaises(exception.MigrationPreCheckError,
                                  self.check, test_tpm.FLAVOR)
        self.assertIn('state stays on its host', error.format_message())

    def test_without(self):
        self.check({})

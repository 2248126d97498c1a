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

"""Live migration in rescue while the hosts are upgraded one by one."""

from tests.functional import base
from tests.functional import test_live_migration


class HalfUpgradedTest(test_live_migration.LiveMigrationTestCase):
    """One host is older: all speak the RPC version of the oldest Nova."""

    def setUp(self):
        # Before any service starts, which reads it then.
        base.CONF.set_default('compute', '6.3', group='upgrade_levels')
        self.addCleanup(base.CONF.clear_default, 'compute',
                        group='upgrade_levels')
        super().setUp()
        self.rescue_now()
        self.put_raw_disks('disk', 'disk.rescue', 'disk.eph0')

    def test_there_and_back(self):
        self.assertEqual('6.3', base.CONF.upgrade_levels.compute)
        self.migrate()
        self.migrate('compute2', 'compute1')
        self.unrescue(self.server)
        self.assert_files(self.server, 'disk', 'disk.eph0', host='compute1')

    def test_there_and_the_source_loses_the_package(self):
        """The refusal names the node."""
        self.migrate()
        self.forget_package('compute1')
        response = self.ask_migration(self.server, host='compute1')
        self.assertEqual(400, response.status_code, response.text)
        self.assertIn('destination compute node compute1', response.text)
        self.assert_in_rescue_on(self.server, 'compute2')

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


"""The whole rebuild on MariaDB, in one cell and two (issue, point 10).

It takes long: ``make test-databases`` runs it.
"""

import time

from tests.functional import database_servers
from tests.functional import own_databases
from tests.functional import test_rebuild
from tests.functional import test_rebuild_cells
from tests.functional import test_rebuild_failed_builds
from tests.functional import test_rebuild_left_guest
from tests.functional import test_rebuild_quota
from tests.functional import test_rebuild_races


class _OnMariaDB(own_databases.OwnDatabases):

    @classmethod
    def setUpClass(cls):
        database_servers.require_wanted()
        super().setUpClass()

    def test_it_is_on_mariadb(self):
        for name in self.urls:
            engine = (self.cell_managers[name].writer.get_engine()
                      if name in self.cell_managers
                      else self.api_engine())
            self.assertEqual(('mysql', 'nova_' + name),
                             (engine.dialect.name, engine.url.database))


class MariaDBRebuildTest(_OnMariaDB, test_rebuild.RebuildTest):
    pass


class MariaDBPreservedTest(_OnMariaDB, test_rebuild.PreservedTest):

    def rebuild(self, *args, **kwargs):
        time.sleep(1)  # actions are sorted by time, which has whole seconds
        return super().rebuild(*args, **kwargs)


class MariaDBFailingAgainTest(_OnMariaDB, test_rebuild.FailingAgainTest):
    pass


class MariaDBFailedBuildsTest(_OnMariaDB,
                              test_rebuild_failed_builds.FailedBuildsTest):
    pass


class MariaDBAbortedBuildsTest(_OnMariaDB,
                               test_rebuild_failed_builds.AbortedBuildsTest):
    pass


class MariaDBLeftGuestTest(_OnMariaDB,
                           test_rebuild_left_guest.LeftGuestTest):
    pass


class MariaDBConductorTest(_OnMariaDB,
                           test_rebuild_failed_builds.ConductorTest):
    pass


class MariaDBRacesTest(_OnMariaDB, test_rebuild_races.RacesTest):
    pass


class MariaDBQuotaTest(_OnMariaDB, test_rebuild_quota.QuotaTest):
    pass


class MariaDBTwoCellsTest(_OnMariaDB, test_rebuild_cells.TwoCellsTest):
    pass


class MariaDBDefaultIsCell0Test(test_rebuild_cells.DefaultIsCell0,
                                _OnMariaDB, test_rebuild_races.RacesTest):
    pass

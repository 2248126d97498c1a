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

"""What callers are told by nova-conductor of a refusal."""

from unittest import mock

from nova import exception
import testtools

from nova_rescue_ext.live_migration import conductor


class ForTheCallerTest(testtools.TestCase):

    SOURCE = ('Error while check_can_live_migrate_source from compute1 to '
              'host compute2: MigrationPreCheckError_Remote Migration '
              'pre-check error: it has a disk: no room')

    def told(self, message, may_know=False):
        context = mock.Mock()
        context.can.return_value = may_know
        return conductor._for_the_caller(
            context, exception.MigrationPreCheckError(message)
        ).format_message()

    def test_who_may_not_know_hosts(self):
        self.assertEqual('Migration pre-check error: it has a disk: no room',
                         self.told(self.SOURCE))

    def test_who_may(self):
        self.assertEqual(self.SOURCE, self.told(self.SOURCE, may_know=True))

    def test_of_the_destination(self):
        self.assertEqual('no room', self.told('no room'))

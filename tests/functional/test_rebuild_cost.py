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


"""What a rebuild costs: statements, not time (issue, point 9)."""

import collections
import threading

import sqlalchemy as sa

from tests.functional import rebuild_base


class StatementsTest(rebuild_base.RebuildTestCase):

    def count(self, server):
        """The statements of a rebuild request, by kind and table."""
        texts = collections.Counter()
        requester = threading.get_ident()

        def add(connection, cursor, statement, *args):
            # nova-api is in this thread; what services do whenever they like
            # is not.
            if threading.get_ident() == requester:
                texts[statement] += 1

        sa.event.listen(sa.engine.Engine, 'before_cursor_execute', add)
        response = self.rebuild(server)
        sa.event.remove(sa.engine.Engine, 'before_cursor_execute', add)
        self.assertEqual(202, response.status_code, response.text)
        self.assertTrue(any('build_requests' in text for text in texts))
        return texts

    def test_as_many_for_each_of_many(self):
        self.patch('nova_rescue_ext.rebuild.task_api.'
                   'rebuild_instance_in_cell0', lambda *args: None)
        alone = self.create_failed()
        self.count(alone)  # fills caches
        self.api.delete_server(alone['id'])
        first = self.create_failed()
        for_first = self.count(first)
        self.api.delete_server(first['id'])
        self.create_failed(min_count=9)
        for server in self.api.get_servers():
            self.assertEqual(for_first, self.count(server))

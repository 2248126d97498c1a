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


"""How it is asked whether an answer of a database was lost."""

import types
import unittest
from unittest import mock

from nova.db.api import api as api_db_api
from nova.db.main import api as main_db_api
from oslo_utils.fixture import uuidsentinel as uuids

from nova_rescue_ext.rebuild import database
from nova_rescue_ext.rebuild import spec_extras


class LostAnswerTest(unittest.TestCase):
    """The lock waits for a COMMIT that is still under way.

    A snapshot has what was there before.
    """

    def setUp(self):
        self.context = mock.Mock()
        query = self.context.session.query.return_value
        self.snapshot = query.filter_by.return_value
        self.locked = self.snapshot.with_for_update.return_value

    def patch(self, *args, **kwargs):
        patch = mock.patch.object(*args, **kwargs)
        self.addCleanup(patch.stop)
        return patch.start()

    def test_row(self):
        manager = self.patch(main_db_api, 'get_context_manager')
        self.patch(main_db_api, '_check_db_access')
        self.snapshot.first.return_value = (1,)
        self.locked.first.return_value = None
        self.assertFalse(database.has_row(self.context, uuids.server))
        self.locked.first.return_value = (1,)
        self.assertTrue(database.has_row(self.context, uuids.server))
        self.assertTrue(manager.return_value.writer.using.called)
        self.assertFalse(manager.return_value.reader.using.called)

    def test_attempt(self):
        manager = self.patch(api_db_api, 'context_manager')
        attempt = {'cell': 'c', 'attempt': 'a'}
        self.snapshot.first.return_value = types.SimpleNamespace(spec='{}')
        self.locked.first.return_value = types.SimpleNamespace(
            spec=spec_extras._text('{}', {'rebuild': attempt}))
        self.assertTrue(spec_extras.is_attempt(
            self.context, uuids.server, attempt))
        self.assertTrue(manager.writer.using.called)
        self.assertFalse(manager.reader.using.called)

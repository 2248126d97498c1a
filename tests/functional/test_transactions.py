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


"""The databases of the tests keep what is written, as real ones do."""

import threading

from nova.db.api import api as api_db_api
from nova.db.api import models
from nova import objects

from tests.functional import base


class TransactionsTest(base.RescueTestCase):
    START_COMPUTE = False

    def in_another_thread(self, function):
        thread = threading.Thread(target=function)
        thread.start()
        thread.join()

    def test_somebody_reads_while_another_writes(self):
        with api_db_api.context_manager.writer.using(self.context) as session:
            session.add(models.Aggregate(uuid=self.IMAGE, name='written'))
            session.flush()
            self.in_another_thread(
                lambda: objects.CellMappingList.get_all(self.context))
        self.assertEqual(['written'], [
            aggregate.name
            for aggregate in objects.AggregateList.get_all(self.context)])

    def test_who_writes_rolls_back(self):
        def write():
            with api_db_api.context_manager.writer.using(
                    self.context) as session:
                session.add(models.Aggregate(uuid=self.IMAGE, name='wrong'))
                session.flush()
                raise ValueError()

        self.assertRaises(ValueError, write)
        self.in_another_thread(
            lambda: objects.CellMappingList.get_all(self.context))
        self.assertEqual([], list(
            objects.AggregateList.get_all(self.context)))

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


from unittest import mock

import fixtures
from nova import objects
from oslo_utils.fixture import uuidsentinel as uuids
import testtools

from nova_rescue_ext.task import final_save


class Injected(Exception):
    pass


class TimeoutTest(testtools.TestCase):
    """Each attempt may take long, too: it counts."""

    def setUp(self):
        super().setUp()
        objects.register_all()
        self.now = 0
        self.attempts = 0
        self.instance = objects.Instance(uuid=uuids.instance,
                                         task_state='rescuing')
        self.useFixture(fixtures.MonkeyPatch(
            'nova_rescue_ext.task.final_save.time', mock.Mock(
                sleep=self._pass, monotonic=lambda: self.now)))
        for name in ('save', 'get_by_uuid'):
            self.useFixture(fixtures.MonkeyPatch(
                'nova.objects.Instance.' + name,
                lambda *args, **kwargs: self._fail()))

    def _pass(self, seconds):
        self.now += seconds

    def _fail(self):
        self.attempts += 1
        self._pass(295)
        raise Injected()

    def test_read(self):
        self.assertIsNone(final_save.read(self.instance))
        self.assertEqual(3, self.attempts)

    def test_save(self):
        def work():
            with final_save.ensured(self.instance):
                self.instance.task_state = None
                raise Injected()

        self.assertRaises(Injected, work)
        self.assertEqual(2, self.attempts)

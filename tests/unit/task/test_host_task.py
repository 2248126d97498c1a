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
from nova import exception
from nova import objects
from oslo_utils.fixture import uuidsentinel as uuids
import testtools

from nova_rescue_ext.task import host_task


class Task(host_task.HostTask):

    ACTION = 'rescue'
    TASK_STATE = 'rescuing'


class SaveTest(testtools.TestCase):
    """The server may have lost the task since it was last looked at."""

    def setUp(self):
        super().setUp()
        objects.register_all()
        self.task = Task(objects.Instance(uuid=uuids.instance,
                                          task_state='rescuing'))

    def _save(self, error=None):
        save = mock.Mock(side_effect=error)
        with fixtures.MonkeyPatch('nova.objects.Instance.save', save):
            saved = self.task.save_if_ours(task_state=None)
        save.assert_called_once_with(expected_task_state=['rescuing'])
        return saved

    def test_ours(self):
        self.assertTrue(self._save())
        self.assertTrue(self.task.may_end())

    def test_anothers(self):
        self.assertFalse(self._save(exception.UnexpectedTaskStateError(
            instance_uuid=uuids.instance, expected={}, actual={})))
        self.assertFalse(self.task.may_end())

    def test_deleted(self):
        self.assertFalse(self._save(exception.InstanceNotFound(
            instance_id=uuids.instance)))
        self.assertFalse(self.task.may_end())

    def test_no_database(self):
        self.assertRaises(OSError, self._save, OSError())

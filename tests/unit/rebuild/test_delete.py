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


"""A DELETE that meets a rebuild."""

import unittest
from unittest import mock

from nova import exception
from oslo_utils.fixture import uuidsentinel as uuids

from nova_rescue_ext.rebuild import delete


class DeleteTest(unittest.TestCase):

    def setUp(self):
        self.never_booted = mock.patch.object(
            delete.rebuild, 'never_booted', return_value=True).start()
        self.remove_traces = mock.patch.object(
            delete.database, 'remove_traces').start()
        mock.patch.object(delete.spec_extras, 'read', return_value={}).start()
        self.addCleanup(mock.patch.stopall)
        self.instance = mock.Mock(uuid=uuids.server, disable_terminate=False)
        self.again = mock.Mock(deleted=False, task_state='deleting')
        self.api = mock.Mock()
        self.api.get.return_value = self.again
        # As Nova for a server whose mapping names no cell.
        self.original = mock.Mock(side_effect=[AttributeError('identity'),
                                               None])

    def delete(self):
        delete.delete(self.original, self.api, 'context', self.instance,
                      'delete', 'cb', task_state='deleting')
        return [call.args[1] for call in self.original.mock_calls]

    def test_rebuild_was_undone(self):
        self.assertEqual([self.instance, self.again], self.delete())

    def test_rebuild_goes_on(self):
        self.again.task_state = 'scheduling'
        self.assertEqual([self.instance, self.again], self.delete())

    def test_it_is_gone(self):
        self.api.get.side_effect = exception.InstanceNotFound(instance_id='i')
        self.assertEqual([self.instance], self.delete())

    def test_on_its_way(self):
        self.original.side_effect = None
        self.assertEqual([self.instance], self.delete())

    def test_termination_is_disabled(self):
        self.original.side_effect = None
        self.instance.disable_terminate = True
        self.again.task_state = None
        self.assertEqual([self.instance], self.delete())

    def test_host_was_faster(self):
        """The soft delete has come to its end."""
        self.original.side_effect = None
        self.again.task_state = None
        self.again.vm_state = 'soft-delete'
        self.assertEqual([self.instance], self.delete())

    def test_error_of_another_server(self):
        self.never_booted.return_value = False
        self.assertRaises(AttributeError, self.delete)

    def test_error_that_lasts(self):
        self.original.side_effect = AttributeError('x')
        self.assertRaises(AttributeError, self.delete)

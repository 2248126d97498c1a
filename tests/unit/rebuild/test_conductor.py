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


"""What nova-conductor does if the API database fails."""

import types
import unittest
from unittest import mock

from nova import exception
from nova import objects
from oslo_db import exception as db_exc
from oslo_utils.fixture import uuidsentinel as uuids

from nova_rescue_ext.rebuild import conductor


class DatabaseFailsTest(unittest.TestCase):

    def setUp(self):
        objects.register_all()
        self.original = mock.Mock()
        self.spec = objects.RequestSpec(instance_uuid=uuids.server)
        self.log = self.patch('LOG')
        self.extras = self.patch('spec_extras')

    def patch(self, name):
        patch = mock.patch.object(conductor, name)
        self.addCleanup(patch.stop)
        return patch.start()

    def test_build_goes_on(self):
        self.patch('database').take.side_effect = db_exc.DBConnectionError()
        conductor.schedule_and_build_instances(
            self.original, mock.Mock(), 'context', [mock.Mock()], [self.spec],
            {}, None, [], None, None)
        self.original.assert_called_once()
        self.assertTrue(self.log.exception.called)

    def clean_up(self):
        manager = types.SimpleNamespace(report_client=mock.Mock())
        conductor.cleanup_build_artifacts(
            self.original, manager, 'context', None, [], [], [self.spec],
            [], [], {})
        self.original.assert_called_once()
        manager.report_client.delete_allocation_for_instance. \
            assert_called_once()

    def test_specs_that_cannot_be_read(self):
        self.extras.read_texts.side_effect = db_exc.DBConnectionError()
        self.clean_up()
        self.extras.restore_texts.assert_not_called()
        self.assertTrue(self.log.exception.called)

    def test_specs_that_cannot_be_restored(self):
        self.extras.read_texts.return_value = {uuids.server: 'text'}
        self.extras.restore_texts.side_effect = db_exc.DBConnectionError()
        self.clean_up()
        self.assertTrue(self.log.exception.called)

    def test_specs_are_restored_when_the_clean_up_fails(self):
        texts = self.extras.read_texts.return_value = {uuids.server: 'text'}
        self.original.side_effect = exception.InstanceMappingNotFound(
            uuid=uuids.server)
        self.assertRaises(exception.InstanceMappingNotFound, self.clean_up)
        self.extras.restore_texts.assert_called_once_with('context', texts)

    def test_specs_are_restored(self):
        texts = self.extras.read_texts.return_value = {uuids.server: 'text'}
        self.clean_up()
        self.extras.restore_texts.assert_called_once_with('context', texts)

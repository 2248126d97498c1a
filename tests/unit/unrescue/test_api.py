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

"""Unrescue in nova-api, and when nova-compute calls it after a timeout."""

from unittest import mock

import fixtures
from nova import context as nova_context
from nova import exception
from nova import objects
from oslo_utils.fixture import uuidsentinel as uuids
import testtools

from nova_rescue_ext import instance_metadata
from nova_rescue_ext.unrescue import api


class ApiTestCase(testtools.TestCase):

    def setUp(self):
        super().setUp()
        objects.register_all()
        self.instance = objects.Instance(
            uuid=uuids.instance, task_state=None,
            image_ref='', flavor=objects.Flavor(extra_specs={}),
            system_metadata={
                instance_metadata.MODE: instance_metadata.STABLE,
                instance_metadata.PREFIX + 'vm_state': 'stopped'})
        self.original = mock.Mock(return_value='done')

    def unrescue(self, user='alice', named=True):
        context = nova_context.RequestContext(user, 'project',
                                              is_admin=False)
        self.useFixture(fixtures.MonkeyPatch(
            'nova_rescue_ext.microversion.is_named', lambda *args: named))
        result = api.unrescue(self.original, None, context, self.instance)
        self.original.assert_called_once_with(context, self.instance)
        return result


class PreviousStateTest(ApiTestCase):
    """Whether nova-compute is told to leave the server off."""

    def goes_back(self):
        return instance_metadata.state_after_unrescue(
            self.instance) == 'stopped'

    def setUp(self):
        super().setUp()
        self.useFixture(fixtures.MonkeyPatch(
            'nova_rescue_ext.instance_metadata.rescue_of',
            lambda instance: mock.Mock(vm_state='stopped')))

    def test_named(self):
        self.unrescue(named=True)
        self.assertTrue(self.goes_back())

    def test_not_named(self):
        """An earlier request that failed had asked for it."""
        self.unrescue(named=True)
        self.original.reset_mock()
        self.unrescue(named=False)
        self.assertFalse(self.goes_back())


class FailureTest(ApiTestCase):
    """Who asked is told; the loop of nova-compute goes on."""

    LOST = exception.UnexpectedTaskStateError(
        instance_uuid=uuids.instance, expected={'task_state': [None]},
        actual={'task_state': 'deleting'})

    def test_done(self):
        self.assertEqual('done', self.unrescue())
        self.original.reset_mock()
        self.assertEqual('done', self.unrescue(user=None))

    def test_another_request_was_first(self):
        self.original.side_effect = self.LOST
        refused = self.assertRaises(exception.InstanceInvalidState,
                                    self.unrescue)
        self.assertEqual('deleting', refused.kwargs['state'])
        self.assertEqual('unrescue', refused.kwargs['method'])

    def test_anything_else(self):
        self.original.side_effect = exception.InstanceIsLocked(
            instance_uuid=uuids.instance)
        self.assertRaises(exception.InstanceIsLocked, self.unrescue)

    def test_timeout(self):
        """Expected failures are told in a line, others with a traceback."""
        for error, said in (
                (self.LOST, 'info'),
                (exception.InstanceIsLocked(instance_uuid=uuids.instance),
                 'info'),
                (OSError('gone'), 'exception')):
            self.original.reset_mock()
            self.original.side_effect = error
            with mock.patch.object(api, 'LOG') as log:
                self.assertIsNone(self.unrescue(user=None))
            [(name, _, _)] = log.mock_calls
            self.assertEqual(said, name)

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

"""What a recovery says and saves at its end."""

from unittest import mock

import fixtures
from nova import context as nova_context
from nova import exception
from nova import objects
from oslo_utils.fixture import uuidsentinel as uuids
import testtools

from nova_rescue_ext.rescue import recovery
from tests.unit.rescue import test_recovery


class EndTest(test_recovery.RecoveryTestCase):

    def server(self, **values):
        return objects.Instance(
            mock.Mock(), uuid=uuids.instance, host='here',
            **dict({'vm_state': 'rescued', 'task_state': 'unrescuing',
                    'system_metadata': {}, 'power_state': 1}, **values))

    def test_running_server(self):
        """Nova starts a guest whose power state is another than this."""
        self.patch('recovery.guests.exists', lambda *args: False)
        instance = self.server()
        self.assertTrue(recovery.recover(self.manager, None, instance))
        self.assertEqual(('active', None, 1), (
            instance.vm_state, instance.task_state, instance.power_state))

    def test_remedy(self):
        """The one that Nova allows in the state that the server is left in."""
        self.patch('recovery._recover_rescue', mock.Mock(
            side_effect=OSError('broken')))
        self.patch('recovery._recover_unrescue', mock.Mock(
            side_effect=OSError('broken')))
        for vm_state, task_state, remedy in (
                ('rescued', 'unrescuing', 'unrescue'),
                ('active', 'rescuing', 'hard reboot'),
                ('error', 'unrescuing', 'hard reboot')):
            with mock.patch.object(recovery, 'LOG') as log:
                recovery.recover(self.manager, None, self.server(
                    vm_state=vm_state, task_state=task_state))
            log.exception.assert_called_once()
            said = log.exception.call_args.args[1]
            self.assertEqual((task_state, vm_state, remedy), (
                said['task'], said['state'], said['remedy']))


class EventTest(testtools.TestCase):
    """It belongs to the request that began the action."""

    def setUp(self):
        super().setUp()
        objects.register_all()
        self.instance = objects.Instance(uuid=uuids.instance)
        self.begun = [
            objects.InstanceAction(action=action, request_id=request)
            for action, request in (('stop', 'req-3'), ('rescue', 'req-2'),
                                    ('rescue', 'req-1'))]
        self.useFixture(fixtures.MonkeyPatch(
            'nova.objects.InstanceActionList.get_by_instance_uuid',
            lambda *args: self.begun))
        self.finish = self.useFixture(fixtures.MockPatch(
            'nova.objects.InstanceActionEvent.event_finish_with_failure'
        )).mock

    def end(self, error=None):
        context = nova_context.RequestContext('alice', 'project',
                                              is_admin=False)
        recovery.events.end(context, self.instance, 'rescue', error)
        return self.finish.call_args

    def test_of_the_last_rescue(self):
        (context, uuid, name), arguments = self.end()
        self.assertEqual(('req-2', True), (context.request_id,
                                           context.is_admin))
        self.assertEqual((uuids.instance, 'compute_rescue_instance'),
                         (uuid, name))
        self.assertEqual(dict(exc_val=None, exc_tb=None, want_result=False),
                         arguments)

    def test_failed(self):
        error = OSError('broken')
        self.assertEqual(dict(exc_val=error, exc_tb='', want_result=False),
                         self.end(error)[1])

    def test_none(self):
        """The server is recovered all the same."""
        self.begun = self.begun[:1]
        self.assertIsNone(self.end())
        self.begun = [objects.InstanceAction(action='rescue',
                                             request_id='req-1')]
        self.finish.side_effect = exception.InstanceActionEventNotFound(
            action_id=1, event='compute_rescue_instance')
        self.end()

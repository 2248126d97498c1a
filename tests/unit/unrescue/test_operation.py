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

"""An unrescue, as nova-compute runs it."""

from unittest import mock

import fixtures
from nova.compute import power_state
from nova import exception
from nova import objects
from oslo_utils.fixture import uuidsentinel as uuids
import testtools

from nova_rescue_ext.unrescue import operation


class UnrescueTestCase(testtools.TestCase):

    def setUp(self):
        super().setUp()
        objects.register_all()
        self.manager = mock.Mock()

    def unrescue(self, after='active', **values):
        self.useFixture(fixtures.MonkeyPatch(
            'nova_rescue_ext.instance_metadata.state_after_unrescue',
            lambda instance: after))
        self.instance = objects.Instance(
            mock.Mock(), uuid=uuids.instance, host='here',
            **dict({'system_metadata': {}, 'vm_state': 'rescued',
                    'task_state': 'unrescuing'}, **values))
        return operation.Unrescue(self.manager, self.instance)


class LeavesOffTest(UnrescueTestCase):
    """Whether the guest stays off."""

    def test_as_recorded(self):
        self.assertTrue(self.unrescue('stopped').leaves_off)
        self.assertFalse(self.unrescue('active').leaves_off)

    def test_nothing_is_loaded_for_it(self):
        """Not even after a restart."""
        instance = objects.Instance(uuid=uuids.instance)
        self.assertFalse(
            operation.Unrescue(self.manager, instance).leaves_off)

    def saved(self, after, state, vm_state='active'):
        unrescue = self.unrescue(after)
        self.instance.vm_state = vm_state
        unrescue.see_power_state(state)
        return self.instance.vm_state

    def test_saved_as_stopped(self):
        for state in (power_state.SHUTDOWN, power_state.NOSTATE):
            self.assertEqual('stopped', self.saved('stopped', state))

    def test_somebody_has_started_it(self):
        self.assertEqual('active', self.saved('stopped', power_state.RUNNING))

    def test_not_asked_for(self):
        self.assertEqual('active', self.saved('active', power_state.SHUTDOWN))

    def test_another_state(self):
        """What Nova saves of a failure stays."""
        for vm_state in ('error', 'rescued'):
            self.assertEqual(vm_state, self.saved(
                'stopped', power_state.SHUTDOWN, vm_state))


class SoftDeletedTest(UnrescueTestCase):
    """The guest of a server that is deleted meanwhile must not run."""

    def is_powered_off(self, *, error=None, **values):
        unrescue = self.unrescue()
        fresh = self.instance.obj_clone()
        for name, value in values.items():
            setattr(fresh, name, value)
        read = mock.Mock(return_value=fresh, side_effect=error)
        self.useFixture(fixtures.MonkeyPatch(
            'nova.objects.Instance.get_by_uuid', read))
        power_off = self.manager.driver.power_off
        power_off.reset_mock()
        unrescue.power_off_if_soft_deleted()
        if power_off.called:
            power_off.assert_called_once_with(self.instance)
        return power_off.called

    def test_not_deleted(self):
        self.assertFalse(self.is_powered_off())

    def test_deleted(self):
        self.assertTrue(self.is_powered_off(vm_state='soft-delete',
                                            task_state=None))

    def test_in_the_middle(self):
        self.assertTrue(self.is_powered_off(task_state='soft-deleting'))

    def test_gone(self):
        """It is deleted for good: whoever does that destroys the guest."""
        with mock.patch.object(operation, 'LOG') as log:
            self.assertFalse(self.is_powered_off(
                error=exception.InstanceNotFound(instance_id=uuids.instance)))
        self.assertEqual([], log.mock_calls)

    def test_no_database(self):
        """The operator is told; the unrescue has succeeded."""
        with mock.patch.object(operation, 'LOG') as log:
            self.assertFalse(self.is_powered_off(error=OSError('gone')))
        log.warning.assert_called_once()

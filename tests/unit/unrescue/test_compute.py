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

"""Unrescue in nova-compute's manager."""

from unittest import mock

import fixtures
from nova import objects
from oslo_utils.fixture import uuidsentinel as uuids
import testtools

from nova_rescue_ext import instance_metadata
from nova_rescue_ext.task import final_save
from nova_rescue_ext.unrescue import compute
from nova_rescue_ext.unrescue import operation


class ComputeTestCase(testtools.TestCase):

    def setUp(self):
        super().setUp()
        objects.register_all()
        self.instance = objects.Instance(
            mock.Mock(), uuid=uuids.instance, host='here',
            vm_state='rescued', task_state='unrescuing', system_metadata={})
        self.fresh = self.instance.obj_clone()
        self.patch('task.final_save.read', lambda instance: self.fresh)
        self.patch('task.stale_message._has_ended', lambda *args: False)
        self.ended = mock.Mock()
        self.patch('task.stale_message._end_event', self.ended)
        self.libvirt(True)
        self.seen = []

    def patch(self, name, new):
        self.useFixture(fixtures.MonkeyPatch('nova_rescue_ext.' + name, new))

    def libvirt(self, found):
        self.patch('capabilities.is_libvirt', lambda driver: found)

    def original(self, context, instance):
        self.seen.append(operation.Unrescue.of_this_thread(instance.uuid))
        self.assertEqual('context', context)
        return 'done'

    def unrescue(self):
        return compute.unrescue_instance(self.original, mock.Mock(),
                                         'context', self.instance)


class OperationTest(ComputeTestCase):
    """The driver finds the operation while Nova's manager works."""

    def test_libvirt(self):
        self.assertEqual('done', self.unrescue())
        [found] = self.seen
        self.assertIs(self.instance, found.instance)

    def test_other_drivers(self):
        """They are stock Nova's, but their end is saved, too."""
        self.libvirt(False)
        with mock.patch.object(final_save, 'ensured') as ensured:
            self.assertEqual('done', self.unrescue())
        self.assertEqual([None], self.seen)
        ensured.assert_called_once_with(self.instance)

    def test_end_is_saved(self):
        with mock.patch.object(final_save, 'ensured') as ensured:
            self.unrescue()
        ensured.assert_called_once_with(self.instance)


class LateMessageTest(ComputeTestCase):
    """A restart may have ended the task before the message comes."""

    def is_taken_for_done(self, vm_state, **system_metadata):
        self.fresh.vm_state, self.fresh.task_state = vm_state, None
        self.fresh.system_metadata = system_metadata
        self.ended.reset_mock()
        self.unrescue()
        self.assertEqual([], self.seen)
        return self.ended.call_args.kwargs.get('done', False)

    def test_done(self):
        self.assertTrue(self.is_taken_for_done('active'))
        self.assertTrue(self.is_taken_for_done('stopped'))

    def test_still_in_rescue(self):
        self.assertFalse(self.is_taken_for_done('rescued'))
        self.assertFalse(self.is_taken_for_done('error'))

    def test_reset(self):
        """Its state says nothing, as it is still recorded as rescued."""
        self.assertFalse(self.is_taken_for_done(
            'active', **{instance_metadata.MODE: instance_metadata.LEGACY}))

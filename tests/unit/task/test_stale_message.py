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


"""A message that comes twice is not acted on twice."""

from unittest import mock

import fixtures
from nova import objects
from oslo_utils.fixture import uuidsentinel as uuids
from oslo_utils import timeutils
import testtools

from nova_rescue_ext.task import stale_message


class DuplicateTest(testtools.TestCase):
    """A newer task of the same kind does not make an old message valid."""

    def setUp(self):
        super().setUp()
        objects.register_all()
        self.instance = objects.Instance(
            mock.Mock(), uuid=uuids.instance, task_state='rescuing')
        self.event = objects.InstanceActionEvent(
            event='compute_rescue_instance', finish_time=None)
        self.patch('nova_rescue_ext.capabilities.is_libvirt',
                   lambda driver: True)
        self.patch('nova_rescue_ext.task.final_save.read',
                   lambda instance: instance)
        self.patch('nova.objects.InstanceAction.get_by_request_id',
                   lambda *args: objects.InstanceAction(id=1))
        self.patch('nova.objects.InstanceActionEventList.get_by_action',
                   lambda *args: [self.event])

    def patch(self, name, new):
        self.useFixture(fixtures.MonkeyPatch(name, new))

    def _is_acted_on(self):
        act = mock.Mock()
        stale_message.act_in_time(mock.Mock(), self.instance, 'rescue',
                                  'rescuing', act)
        return act.called

    def test_first(self):
        self.assertTrue(self._is_acted_on())

    def test_late(self):
        self.event.finish_time = timeutils.utcnow(True)
        self.assertFalse(self._is_acted_on())

    def test_events_cannot_be_read(self):
        """Nova fails in its own way, or does not."""
        self.patch('nova.objects.InstanceActionEventList.get_by_action',
                   mock.Mock(side_effect=Exception('gone')))
        self.assertTrue(self._is_acted_on())

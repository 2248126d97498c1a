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

"""Notifications of the end of what a restart has interrupted."""

from unittest import mock

import fixtures
from oslo_utils.fixture import uuidsentinel as uuids
import testtools

from nova_rescue_ext.rescue import notifications


class NotificationsTest(testtools.TestCase):

    def setUp(self):
        super().setUp()
        self.manager = mock.Mock(host='here')
        self.sent = {}
        for name in ('notify_about_instance_action',
                     'notify_about_instance_rescue_action'):
            self.sent[name] = self.useFixture(fixtures.MockPatch(
                'nova.compute.utils.' + name)).mock

    def unrescue(self, error=None):
        notifications.close_unrescue(self.manager, 'context', 'instance',
                                     error)
        return self.sent['notify_about_instance_action']

    def rescue(self, error=None):
        notifications.close(self.manager, 'context', 'instance', uuids.image,
                            error)
        return self.sent['notify_about_instance_rescue_action']

    def test_unrescue(self):
        self.unrescue().assert_called_once_with(
            'context', 'instance', 'here', action='unrescue', phase='end',
            exception=None)
        self.manager._notify_about_instance_usage.assert_called_once_with(
            'context', 'instance', 'unrescue.end')

    def test_unrescue_fails(self):
        error = OSError('gone')
        self.unrescue(error).assert_called_once_with(
            'context', 'instance', 'here', action='unrescue', phase='error',
            exception=error)
        self.manager._notify_about_instance_usage.assert_not_called()

    def test_rescue(self):
        self.rescue().assert_called_once_with(
            'context', 'instance', 'here', uuids.image, phase='end',
            exception=None)

    def test_rescue_fails(self):
        error = OSError('gone')
        self.rescue(error).assert_called_once_with(
            'context', 'instance', 'here', uuids.image, phase='error',
            exception=error)

    def test_not_sent(self):
        """That costs nothing else."""
        for close in (self.rescue, self.unrescue):
            for error in (None, OSError('gone')):
                close().side_effect = OSError('no message bus')
                with mock.patch.object(notifications, 'LOG') as log:
                    close(error)
                log.warning.assert_called_once()

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

"""The end of a hard reboot whose process was killed."""

from unittest import mock

import fixtures
from nova import context
from nova import objects
from oslo_utils.fixture import uuidsentinel as uuids
import testtools

from nova_rescue_ext.host import hard_reboot


class FinishTest(testtools.TestCase):

    def setUp(self):
        super().setUp()
        objects.register_all()
        self.useFixture(fixtures.MonkeyPatch(
            'nova_rescue_ext.host.rescue_files.remove_all', mock.Mock()))
        self.found = {}
        self.useFixture(fixtures.MonkeyPatch(
            'nova.objects.ShareMappingList.get_by_instance_uuid',
            staticmethod(
                lambda context, uuid: self.found.get(uuid, []))))

    def _finish(self):
        manager = mock.Mock()
        manager.driver._build_device_metadata.return_value = None
        hard_reboot.HardReboot(
            manager, objects.Instance(uuid=uuids.instance, vm_state='active',
                                      system_metadata={}),
            leave_off=False).finish(context.get_admin_context())

    def test_shares(self):
        """They are active while the guest runs."""
        shares = self.found[uuids.instance] = mock.MagicMock()
        self._finish()
        shares.activate_all.assert_called_once_with()

    def test_no_shares(self):
        """Nova before 31 knows no active ones."""
        self._finish()

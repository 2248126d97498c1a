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

"""What an operator has remedied of a rebuild that was interrupted."""

from unittest import mock

from nova import exception
from nova import objects
from oslo_utils.fixture import uuidsentinel as uuids
import testtools

from nova_rescue_ext.rebuild import recovery


class FreeVolumeTest(testtools.TestCase):

    def free(self, error=None):
        """:returns: whether the volume was deleted"""
        api = mock.Mock()
        api.attachment_delete.side_effect = error
        recovery._free_volume(None, api, objects.BlockDeviceMapping(
            instance_uuid=uuids.server, volume_id=uuids.volume,
            attachment_id=uuids.attachment, delete_on_termination=True))
        return api.delete.called

    def test_reserved(self):
        self.assertTrue(self.free())

    def test_not_reserved(self):
        """It may be another's by now."""
        self.assertFalse(self.free(
            exception.VolumeAttachmentNotFound(attachment_id='1')))

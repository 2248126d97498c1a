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


"""The reservation of volumes."""

import unittest
from unittest import mock

from nova import objects
from oslo_serialization import jsonutils
from oslo_utils.fixture import uuidsentinel as uuids

from nova_rescue_ext import exception
from nova_rescue_ext.rebuild import block_devices


class ReserveTest(unittest.TestCase):

    def setUp(self):
        objects.register_all()
        self.context = mock.Mock(project_id='tenant')
        self.volume_api = mock.Mock()
        self.volume_api.attachment_create.return_value = {
            'id': uuids.attachment}
        self.row = mock.Mock(deleted=False)
        self.bdm = objects.BlockDeviceMapping(volume_id=uuids.volume)
        patch = mock.patch.object(block_devices.claimed_volumes, 'read')
        self.read = patch.start()
        self.addCleanup(patch.stop)
        self.known = []
        patch = mock.patch.object(block_devices.cinder, 'cinderclient')
        self.client = patch.start().return_value
        self.client.attachments.list.side_effect = (
            lambda search_opts: self.known)
        self.addCleanup(patch.stop)

    def attachment(self, instance, status):
        return mock.Mock(id=uuids.left, instance=instance, status=status)

    def test_adopted(self):
        """Nobody wrote down that Cinder had made it."""
        self.known = [self.attachment(uuids.other, 'reserved'),
                      self.attachment(uuids.server, 'reserved')]
        self.reserve()
        self.assertEqual(uuids.left, self.row.attachment_id)
        self.volume_api.attachment_create.assert_not_called()

    def test_not_adopted(self):
        self.known = [self.attachment(uuids.other, 'reserved'),
                      self.attachment(uuids.server, 'attached')]
        self.reserve()
        self.assertEqual(uuids.attachment, self.row.attachment_id)

    def reserve(self):
        block_devices.reserve(
            self.context, self.volume_api, mock.Mock(
                uuid=uuids.server, project_id='tenant'), self.row, self.bdm)

    def test_adopted_by_an_operator(self):
        """Cinder shows them those of their own project, unless asked."""
        own = self.client.attachments.list
        own.side_effect = lambda search_opts: (
            [self.attachment(uuids.server, 'reserved')]
            if search_opts.get('all_tenants') else [])
        self.context.project_id = 'operators'
        self.reserve()
        self.assertEqual(uuids.left, self.row.attachment_id)

    def test_transferred_meanwhile(self):
        self.read.side_effect = exception.NotVisible(what='v', id='i')
        self.assertRaises(exception.NotVisible, self.reserve)
        self.volume_api.attachment_delete.assert_called_once_with(
            self.context, uuids.attachment)

    def test_reserved(self):
        """It is looked at when it can no longer be transferred."""
        self.read.side_effect = lambda *args: self.assertTrue(
            self.volume_api.attachment_create.called and self.row.save.called)
        self.reserve()
        self.read.assert_called_once()
        self.assertEqual([uuids.attachment] * 2, [
            self.bdm.attachment_id, self.row.attachment_id])
        self.volume_api.attachment_delete.assert_not_called()


class FilledInTest(unittest.TestCase):
    """What a build fills in, and what was asked for."""

    def setUp(self):
        objects.register_all()

    def device(self, **values):
        return objects.BlockDeviceMapping(**dict(
            {'source_type': 'blank', 'destination_type': 'volume',
             'boot_index': -1}, **values))

    def test_nobody_asked(self):
        asked = block_devices.asked_of([self.device(), self.device(
            tag='log', snapshot_id=None, device_name=None)])
        self.assertEqual([], asked)
        bdm = self.device(device_name='/dev/vdb', disk_bus='virtio',
                          device_type='disk', tag='log')
        block_devices.forget_filled_in([bdm], asked)
        self.assertEqual([None] * 3, [
            bdm.device_name, bdm.disk_bus, bdm.device_type])

    def test_asked(self):
        """In the order of the request, where they are alike."""
        asked = jsonutils.loads(jsonutils.dumps(block_devices.asked_of([
            self.device(disk_bus='scsi'), self.device(tag='log'),
            self.device(disk_bus='sata', device_name='/dev/sdx')])))
        bdms = [self.device(disk_bus='scsi', device_name='/dev/sda'),
                self.device(disk_bus='virtio', tag='log'),
                self.device(disk_bus='sata', device_name='/dev/sdx',
                            device_type='disk')]
        block_devices.forget_filled_in(bdms, asked)
        self.assertEqual(
            [(None, 'scsi', None), (None, None, None),
             ('/dev/sdx', 'sata', None)],
            [(bdm.device_name, bdm.disk_bus, bdm.device_type)
             for bdm in bdms])

    def test_not_kept(self):
        bdm = self.device(disk_bus='virtio')
        block_devices.forget_filled_in([bdm], None)
        self.assertEqual('virtio', bdm.disk_bus)

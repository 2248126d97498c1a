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

"""What lies in a server's directory may be a link to elsewhere."""

import os
import pathlib
import stat
import tempfile
import unittest
from unittest import mock

from nova_rescue_ext.host import rescue_files


class LinksTest(unittest.TestCase):

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.server = pathlib.Path(folder.name, 'server')
        self.elsewhere = pathlib.Path(folder.name, 'elsewhere')
        self.server.mkdir()
        self.elsewhere.mkdir()
        (self.elsewhere / 'file').write_text('keep')
        patch = mock.patch('nova.virt.libvirt.utils.get_instance_path',
                           return_value=str(self.server))
        self.addCleanup(patch.stop)
        patch.start()

    def remove(self):
        driver = mock.Mock(_lvm_disks=lambda instance: [])
        with mock.patch.object(rescue_files, 'CONF') as conf:
            conf.libvirt.images_type = 'qcow2'
            rescue_files.remove(driver, mock.sentinel.instance)

    def test_link_to_a_directory(self):
        (self.server / 'disk.rescue').symlink_to(self.elsewhere)
        (self.server / 'folder.rescue').mkdir()
        self.remove()
        self.assertEqual([], os.listdir(self.server))
        self.assertEqual(['file'], os.listdir(self.elsewhere))

    def test_link_in_place_of_the_new_formats(self):
        info = self.server / 'disk.info'
        info.write_text('{"disk": "qcow2", "disk.rescue": "raw"}')
        info.chmod(0o640)
        (self.server / 'disk.info.tmp').symlink_to(self.elsewhere / 'file')
        self.remove()
        self.assertEqual('{"disk": "qcow2"}\n', info.read_text())
        self.assertEqual(0o640, stat.S_IMODE(info.stat().st_mode))
        self.assertEqual('keep', (self.elsewhere / 'file').read_text())

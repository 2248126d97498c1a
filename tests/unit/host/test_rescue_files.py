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

from oslo_utils.fixture import uuidsentinel as uuids

from nova_rescue_ext.host import rescue_files


class DirectoryTestCase(unittest.TestCase):

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


class LinksTest(DirectoryTestCase):

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


class FailureTest(DirectoryTestCase):
    """What cannot be removed keeps nothing else."""

    def setUp(self):
        super().setUp()
        for name in ('disk.rescue', 'kernel.rescue', 'unrescue.xml'):
            (self.server / name).write_text('x')
        self.info = self.server / 'disk.info'
        self.info.write_text('{"disk.rescue": "raw", "kernel.rescue": "raw"}')

    def _remove_all(self, kept):
        unlink = os.unlink

        def unlink_other(path):
            if os.path.basename(path) == kept:
                raise OSError('busy')
            unlink(path)

        with mock.patch('os.unlink', unlink_other), mock.patch.object(
                rescue_files, 'CONF') as conf, self.assertLogs(
                    rescue_files.__name__):
            conf.libvirt.images_type = 'qcow2'
            rescue_files.remove_all(mock.Mock(_lvm_disks=lambda instance: []),
                                    mock.Mock(uuid=uuids.instance))
        self.assertEqual({'disk.info', kept}, set(os.listdir(self.server)))

    def test_saved_domain(self):
        self._remove_all('unrescue.xml')
        self.assertEqual('{}\n', self.info.read_text())

    def test_file(self):
        """Its format is not forgotten, so that nobody guesses it."""
        self._remove_all('disk.rescue')
        self.assertEqual('{"disk.rescue": "raw"}\n', self.info.read_text())

    def test_other_file(self):
        self._remove_all('kernel.rescue')

    def test_raised_for_the_next_rescue(self):
        """That would boot from it."""
        with mock.patch('os.unlink', mock.Mock(side_effect=OSError('busy'))):
            self.assertRaises(OSError, self.remove)


class EncryptedVolumesTest(unittest.TestCase):
    """LVM removes no volume that dm-crypt has open."""

    VOLUMES = ('server_disk', 'server_disk.rescue', 'server_disk.local.rescue')

    def setUp(self):
        self.volumes = {'/dev/group/' + name for name in self.VOLUMES}
        self.open = {name + '-dmcrypt' for name in self.VOLUMES}
        for name, new in (('dmcrypt.delete_volume', self.open.discard),
                          ('lvm.remove_volumes', self._remove_volumes),
                          ('libvirt_utils.get_instance_path',
                           lambda instance: '/nowhere')):
            patch = mock.patch('nova_rescue_ext.host.rescue_files.' + name,
                               new)
            self.addCleanup(patch.stop)
            patch.start()

    def _remove_volumes(self, paths):
        for path in paths:
            if os.path.basename(path) + '-dmcrypt' in self.open:
                raise OSError('Logical volume %s in use' % path)
            self.volumes.remove(path)

    def _remove(self, key):
        driver = mock.Mock(_lvm_disks=lambda instance: sorted(self.volumes))
        rescue_files.remove(driver, mock.Mock(ephemeral_key_uuid=key))
        self.assertEqual({'/dev/group/server_disk'}, self.volumes)

    def test_closed_first(self):
        """The server's own disk stays open."""
        self._remove(uuids.key)
        self.assertEqual({'server_disk-dmcrypt'}, self.open)

    def test_not_encrypted(self):
        self.open.clear()
        with mock.patch('nova_rescue_ext.host.rescue_files.dmcrypt.'
                        'delete_volume') as close:
            self._remove(None)
        close.assert_not_called()


class AreLeftTest(unittest.TestCase):

    def _are_left(self, *names):
        with tempfile.TemporaryDirectory(suffix='[1]') as folder:
            for name in names:
                pathlib.Path(folder, name).write_text('x')
            with mock.patch('nova.virt.libvirt.utils.get_instance_path',
                            return_value=folder):
                return rescue_files.are_left(mock.sentinel.instance)

    def test_nothing(self):
        self.assertFalse(self._are_left('disk', 'disk.info'))

    def test_disk(self):
        self.assertTrue(self._are_left('disk', 'disk.rescue'))

    def test_domain_that_stock_nova_saved(self):
        """All that is in the directory if the disks are on rbd."""
        self.assertTrue(self._are_left('unrescue.xml'))

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


"""What rescues have left on a compute host."""

import contextlib
import io
import os
import pathlib
import sys
import tempfile
import time
import types
import unittest
from unittest import mock

from oslo_serialization import jsonutils
from oslo_utils.fixture import uuidsentinel as uuids

from nova_rescue_ext.cmd import manage
from nova_rescue_ext.cmd import rescue_leftovers
from nova_rescue_ext.host import rescue_files

_HOURS = 7200


class libvirtError(Exception):  # noqa: N801

    def __init__(self, code):
        super().__init__('libvirt says %d' % code)
        self.code = code

    def get_error_code(self):
        return self.code


class _Domain:

    def __init__(self, *disks, kernel='', active=True):
        disks = ''.join('<disk><source file="/x/%s"/></disk>' % disk
                        for disk in disks)
        self.xml = ('<domain><metadata><name>of.rescue</name></metadata>'
                    '<os><kernel>%s</kernel></os><devices>%s</devices>'
                    '</domain>' % (kernel, disks))
        self.inactive_xml = self.xml
        self.active = active

    def isActive(self):
        return int(self.active)

    def isPersistent(self):
        return 1

    def XMLDesc(self, flags):
        return self.inactive_xml if flags else self.xml


class RescueLeftoversTest(unittest.TestCase):

    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.instances = pathlib.Path(folder.name)
        self.conf = types.SimpleNamespace(
            instances_path=folder.name, libvirt=types.SimpleNamespace(
                connection_uri='', virt_type='kvm', images_type='default',
                images_rbd_pool='vms'))
        self.domains = {}
        self.libvirt = types.SimpleNamespace(
            libvirtError=libvirtError, VIR_ERR_NO_DOMAIN=42,
            VIR_DOMAIN_XML_INACTIVE=2, openReadOnly=mock.Mock(
                return_value=mock.Mock(lookupByUUIDString=self.look_up)))
        for patcher in (
                mock.patch.dict(sys.modules, libvirt=self.libvirt),
                mock.patch.object(rescue_leftovers, '_configure',
                                  lambda config_files: self.conf)):
            patcher.start()
            self.addCleanup(patcher.stop)

    def look_up(self, uuid):
        domain = self.domains.get(uuid, libvirtError(42))
        if isinstance(domain, Exception):
            raise domain
        return domain

    def put(self, *names, uuid=uuids.server, age=_HOURS):
        directory = self.instances / uuid
        directory.mkdir(exist_ok=True)
        for name in names:
            (directory / name).write_text('x')
            then = time.time() - age
            os.utime(directory / name, (then, then))

    def names(self, uuid=uuids.server):
        return sorted(os.listdir(self.instances / uuid))

    def run_command(self, *argv):
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            code = manage.main(['rescue-leftovers', *argv])
        return code, ' '.join(output.getvalue().split())

    def assert_left(self, words, *argv):
        before = self.names()
        code, output = self.run_command('--remove', *argv)
        self.assertEqual(1, code, output)
        self.assertIn('disk.rescue | ' + words, output)
        self.assertEqual(before, self.names())

    def test_list(self):
        self.put('disk', 'disk.rescue', 'kernel.rescue')
        self.domains[uuids.server] = _Domain('disk')
        code, output = self.run_command()
        self.assertEqual(1, code)
        self.assertIn('| kernel.rescue | left over', output)
        self.assertEqual(['disk', 'disk.rescue', 'kernel.rescue'],
                         self.names())
        self.libvirt.openReadOnly.assert_called_once_with('qemu:///system')

    def test_remove(self):
        self.put('disk', 'disk.config.rescue', 'disk.info', 'disk.rescue')
        info = self.instances / uuids.server / 'disk.info'
        info.write_text(jsonutils.dumps({'/x/disk': 'raw',
                                         '/x/disk.rescue': 'qcow2'}))
        self.domains[uuids.server] = _Domain('disk')
        code, output = self.run_command('--remove')
        self.assertEqual(0, code, output)
        self.assertIn('| disk.rescue | removed', output)
        self.assertEqual(['disk', 'disk.info'], self.names())
        self.assertEqual({'/x/disk': 'raw'},
                         jsonutils.loads(info.read_text()))
        self.assertEqual(0, self.run_command()[0])

    def test_in_rescue(self):
        """All files of it are left alone, and nothing is to be done."""
        for domain in (_Domain('disk.rescue', 'disk'),
                       _Domain('volume', kernel='/x/kernel.rescue'),
                       _Domain('vg-disk.rescue-dmcrypt')):
            self.domains[uuids.server] = domain
            self.put('disk', 'disk.rescue', 'kernel.rescue')
            code, output = self.run_command('--remove')
            self.assertEqual((0, False), (code, 'rescue' in output), output)
            self.assertEqual(['disk', 'disk.rescue', 'kernel.rescue'],
                             self.names())

    def test_in_rescue_at_its_next_start(self):
        self.put('disk.rescue')
        self.domains[uuids.server] = domain = _Domain('disk')
        domain.inactive_xml = _Domain('disk.rescue').xml
        self.run_command('--remove')
        self.assertEqual(['disk.rescue'], self.names())

    def test_rescue_in_progress(self):
        """One new file, also the domain that stock Nova saves, tells."""
        self.domains[uuids.server] = _Domain('disk')
        for name in ('disk.rescue', 'kernel.rescue', 'unrescue.xml'):
            self.put('disk.rescue', 'kernel.rescue', 'unrescue.xml')
            self.put(name, age=60)
            self.assert_left('left: a rescue may be in progress')
        self.assertEqual(0, self.run_command('--remove', '--older-than',
                                             '30')[0])
        self.assertEqual(['unrescue.xml'], self.names())

    def test_file_that_is_replaced_meanwhile(self):
        self.put('disk.rescue')
        self.domains[uuids.server] = domain = _Domain('disk')
        domain.isPersistent = lambda: self.put('disk.rescue', age=0)
        self.assert_left('left: it is being changed')

    def test_no_domain(self):
        """On shared storage it may be in rescue on another host."""
        self.put('disk.rescue')
        self.assert_left('left: libvirt on this host has no domain')

    def test_libvirt_that_fails(self):
        self.put('disk.rescue')
        self.domains[uuids.server] = libvirtError(1)
        self.assert_left('left: libvirt does not answer')

    def test_server_that_is_off(self):
        self.put('disk.rescue')
        self.domains[uuids.server] = _Domain('disk', active=False)
        self.assert_left('left: the server is off')

    def test_domain_that_stock_nova_saved(self):
        """Stock Nova cannot unrescue without it, and writes it anew."""
        self.put('unrescue.xml')
        self.domains[uuids.server] = _Domain('disk')
        code, output = self.run_command('--remove')
        self.assertEqual(0, code)
        self.assertIn('unrescue.xml | kept', output)
        self.assertEqual(['unrescue.xml'], self.names())

    def test_links_and_directories(self):
        self.put('disk')
        self.domains[uuids.server] = _Domain('disk')
        directory = self.instances / uuids.server
        (directory / 'disk.rescue').symlink_to(directory / 'disk')
        (directory / 'migration.rescue').mkdir()
        then = time.time() - _HOURS
        for name in ('disk.rescue', 'migration.rescue'):
            os.utime(directory / name, (then, then), follow_symlinks=False)
        self.assert_left('left: not a regular file')

    def test_link_to_a_directory(self):
        self.put('disk.rescue')
        self.domains[uuids.other] = _Domain('disk')
        (self.instances / uuids.other).symlink_to(
            self.instances / uuids.server)
        self.assert_left('left: libvirt on this host has no domain')
        self.assertNotIn(uuids.other, self.run_command()[1])

    def test_other_directories(self):
        self.put('disk.rescue', uuid='_base')
        self.put('disk.rescue', uuid=uuids.server + '_resize')
        self.assertEqual(0, self.run_command('--remove')[0])
        self.assertEqual(['disk.rescue'], self.names('_base'))

    def test_rbd(self):
        self.conf.libvirt.images_type = 'rbd'
        self.domains[uuids.server] = _Domain('disk')
        self.put()
        with mock.patch.object(rescue_files, 'remaining_volumes',
                               lambda instance: [
                                   instance.uuid + '_disk.rescue']):
            code, output = self.run_command('--remove')
        self.assertEqual(1, code)
        self.assertIn('vms/%s_disk.rescue | left: unless' % uuids.server,
                      output)

    def test_lvm(self):
        self.conf.libvirt.images_type = 'lvm'
        self.assertIn('LVM are not looked at', self.run_command()[1])

    def test_libvirt_cannot_be_reached(self):
        self.libvirt.openReadOnly.side_effect = libvirtError(38)
        self.assertRaisesRegex(SystemExit, 'Nothing was done',
                               self.run_command)

    def test_wrong_user(self):
        self.conf.instances_path += '/nothing'
        self.assertRaisesRegex(SystemExit, 'as the user of nova-compute',
                               self.run_command)


class ConfigureTest(unittest.TestCase):

    def test_configuration_that_is_not_there(self):
        self.assertRaisesRegex(
            SystemExit, 'as the user of nova-compute', manage.main, [
                'rescue-leftovers', '--config-file', '/nothing/nova.conf'])

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


"""A failure at every step of the host's work, with every kind of storage."""

import errno
import os
from unittest import mock

import fixtures
from nova import objects
from oslo_utils.fixture import uuidsentinel as uuids

from tests.functional import test_rescue_failure

DRIVER = test_rescue_failure.DRIVER
GUEST = test_rescue_failure.GUEST
MANAGER = test_rescue_failure.MANAGER

# In the order in which the host comes to them.
STEPS = (
    'nova.network.neutron.API.get_instance_nw_info',
    MANAGER + '_get_rescue_image',
    MANAGER + '_get_instance_block_device_info',
    MANAGER + '_notify_about_instance_usage',
    'nova.virt.libvirt.host.Host.get_guest',
    'nova_rescue_ext.host.rescue_files.remove',
    'nova_rescue_ext.instance_metadata.record_rescue',
    DRIVER + '_get_existing_domain_xml',
    'nova.virt.libvirt.blockinfo.get_disk_info',
    DRIVER + '_get_all_assigned_mediated_devices',
    DRIVER + '_create_image',
    DRIVER + '_get_guest_xml',
    DRIVER + '_clean_shutdown',
    # The guest is down.
    DRIVER + '_create_configdrive',
    GUEST + 'poweroff',
    'nova.virt.libvirt.host.Host.write_instance_config',
    GUEST + 'launch',
    'nova.compute.utils.notify_usage_exists',
)


class StepsTestCase(test_rescue_failure.FailureTestCase):

    IMAGES_TYPE = 'qcow2'

    def setUp(self):
        super().setUp()
        self.volumes = {'another-server_disk.rescue'}
        self.flags(images_type=self.IMAGES_TYPE, group='libvirt')
        self.server = self.create_server()
        self.patch(DRIVER + '_create_image', self._create_image)

    def _create_image(self, context, instance, *args, **kwargs):
        """Make the rescue disk, as Nova does, where the storage has it."""
        for name in ('disk.rescue', 'disk.config.rescue'):
            self.make_disk(instance, name)
        return False, False

    def make_disk(self, instance, name):
        with open(os.path.join(self.directory(self.server), name),
                  'w') as file:
            file.write('half of it')

    def assert_as_before(self, server, reason='Injected'):
        super().assert_as_before(server, reason)
        self.assertEqual({'another-server_disk.rescue'}, self.volumes)

    def fail_everywhere(self, steps=STEPS):
        for number, step in enumerate(steps, 1):
            with self.failing(step):
                self.rescue_opted_in(self.server)
                self.assert_as_before(self.server)
            self.assertEqual(number, len([
                action for action in self.api.get_instance_actions(
                    self.server['id']) if action['action'] == 'rescue']))


class Qcow2Test(StepsTestCase):

    def test_every_step(self):
        self.fail_everywhere()

    def test_every_step_of_a_stopped_server(self):
        self.api.post_server_action(self.server['id'], {'os-stop': None})
        self.server = self._wait_for_state_change(self.server, 'SHUTOFF')
        self.fail_everywhere([step for step in STEPS if step not in (
            DRIVER + '_clean_shutdown', GUEST + 'poweroff')])

    def test_untouched(self):
        """The very guest of before, where it need not have gone down."""
        def guest():
            return self.driver._host.get_guest(
                self.instance(self.server)).id

        before = guest()
        self.fail_everywhere([
            DRIVER + '_create_image', DRIVER + '_get_guest_xml'])
        self.assertEqual(before, guest())

    def test_disk_full(self):
        def run_out_of_space(driver, context, instance, *args, **kwargs):
            self.make_disk(instance, 'disk.rescue')
            raise OSError(errno.ENOSPC, 'No space left on device')

        with fixtures.MonkeyPatch(DRIVER + '_create_image',
                                  run_out_of_space):
            self.rescue_opted_in(self.server)
            self.assert_as_before(self.server, 'No space left on device')

    def test_leftovers_that_cannot_be_removed(self):
        """They do not cost the server its state."""
        with self.failing('nova_rescue_ext.host.rescue_files.remove', times=2):
            self.rescue_opted_in(self.server)
            self.assert_as_before(self.server)
        self.assertIn('*.rescue files', self.stdlog.logger.output)

    def test_after_the_rescue_was_saved(self):
        """The server is in rescue, with nothing of the way back left."""
        with self.failing(
                'nova.compute.utils.notify_about_instance_rescue_action',
                passed=1):
            self.rescue_opted_in(self.server)
            self._wait_for_action_fail_completion(
                self.server, 'rescue', 'compute_rescue_instance')
        self._wait_for_state_change(self.server, 'RESCUE')
        test_rescue_failure.wait_until(
            lambda: ['disk.config.rescue', 'disk.rescue']
            == self.rescue_files(self.server))
        self.api.post_server_action(self.server['id'], {'unrescue': None})
        self._wait_for_state_change(self.server, 'ACTIVE')

    def test_the_way_back_fails_after_the_drivers_part(self):
        with self.failing('nova.compute.utils.notify_usage_exists'), \
                self.failing(GUEST + 'launch', passed=1):
            self.rescue_opted_in(self.server)
            self._wait_for_server_parameter(
                self.server, {'OS-EXT-STS:task_state': None,
                              'status': 'ERROR'})
        # It is on its own disks after a hard reboot.
        self._reboot_server(self.server, hard=True)
        self.assertEqual(['disk'], self.disk_names(self.server))


class RawTest(StepsTestCase):

    IMAGES_TYPE = 'raw'

    def test_every_step(self):
        self.fail_everywhere()


class VolumesTestCase(StepsTestCase):
    """The disks are not in the directory of the server."""

    def make_disk(self, instance, name):
        self.volumes.add('%s_%s' % (instance.uuid, name))


class RbdTest(VolumesTestCase):

    IMAGES_TYPE = 'rbd'

    def setUp(self):
        super().setUp()
        pool = self.useFixture(fixtures.MockPatch(
            'nova.storage.rbd_utils.RBDDriver')).mock.return_value
        pool.cleanup_volumes.side_effect = self._clean_up
        # Nova's own clean-up of a config drive of before it was on rbd.
        pool.exists.return_value = False
        self.pool = pool

    def test_busy_volume_of_an_earlier_rescue(self):
        """It would be booted as the new one."""
        name = self.server['id'] + '_disk.rescue'
        self.pool.cleanup_volumes.side_effect = lambda is_meant: None
        self.pool.exists.side_effect = {name}.__contains__
        self.rescue_opted_in(self.server)
        self.assert_as_before(
            self.server, 'volumes of an earlier rescue could not be removed: '
            + name)

    def _clean_up(self, is_meant):
        self.volumes = {name for name in self.volumes if not is_meant(name)}

    def test_every_step(self):
        self.fail_everywhere()


class LvmTest(VolumesTestCase):

    IMAGES_TYPE = 'lvm'

    def setUp(self):
        super().setUp()
        # A directory that exists: Nova looks for that of the group.
        self.flags(images_volume_group=self.useFixture(
            fixtures.TempDir()).path, group='libvirt')
        self.patch('nova.virt.libvirt.storage.lvm.list_volumes',
                   lambda vg: sorted(self.volumes))
        self.patch('nova.virt.libvirt.storage.lvm.remove_volumes',
                   lambda paths: self.volumes.difference_update(
                       map(os.path.basename, paths)))

    def test_every_step(self):
        self.fail_everywhere()


class EncryptedLvmTest(LvmTest):
    """LVM removes no volume that dm-crypt has open."""

    def setUp(self):
        super().setUp()
        instance = self.instance(self.server)
        instance.ephemeral_key_uuid = uuids.key
        instance.save()
        self.open = set()
        self.patch('nova.virt.libvirt.storage.dmcrypt.delete_volume',
                   self.open.discard)
        self.patch('nova.virt.libvirt.storage.lvm.remove_volumes',
                   self._remove_volumes)

    def make_disk(self, instance, name):
        super().make_disk(instance, name)
        self.open.add('%s_%s-dmcrypt' % (instance.uuid, name))

    def _remove_volumes(self, paths):
        for name in map(os.path.basename, paths):
            if name + '-dmcrypt' in self.open:
                raise OSError('Logical volume %s in use' % name)
            self.volumes.remove(name)

    def test_every_step(self):
        self.fail_everywhere([DRIVER + '_create_image', GUEST + 'launch'])
        self.assertEqual(set(), self.open)

    def test_unrescue(self):
        self.rescue_opted_in(self.server)
        self._wait_for_state_change(self.server, 'RESCUE')
        self.assertEqual(2, len(self.open))
        self.api.post_server_action(self.server['id'], {'unrescue': None})
        self._wait_for_state_change(self.server, 'ACTIVE')
        self.assertEqual(({'another-server_disk.rescue'}, set()),
                         (self.volumes, self.open))


class SharesTest(StepsTestCase):
    """A server with shares is powered off first, and comes up again."""

    def setUp(self):
        super().setUp()
        self.patch('nova_rescue_ext.host.guests.has_shares',
                   lambda instance: True)
        mount = 'nova_rescue_ext.host.hard_reboot._mount_shares'
        self.mounted = mock.Mock(wraps=test_rescue_failure.resolve(mount))
        self.patch(mount, self.mounted)

    def _assert_came_up(self):
        self.assertTrue(self.is_running(self.server))
        self.mounted.assert_called_once_with(
            mock.ANY, mock.ANY, mock.ANY)

    def test_the_shares_cannot_be_mounted(self):
        """The driver is not even called."""
        power_off = test_rescue_failure.resolve(
            MANAGER + '_power_off_instance')

        def power_off_and_fail(*args, **kwargs):
            power_off(*args, **kwargs)
            self.assertFalse(self.is_running(self.server))
            raise test_rescue_failure.Injected('Injected into the mount')

        with fixtures.MonkeyPatch(MANAGER + '_power_off_instance',
                                  power_off_and_fail):
            self.rescue_opted_in(self.server)
            self.assert_as_before(self.server)
        self._assert_came_up()

    def test_the_disk_cannot_be_made(self):
        with self.failing(DRIVER + '_create_image'):
            self.rescue_opted_in(self.server)
            self.assert_as_before(self.server)
        self._assert_came_up()

    def test_the_way_back_fails_too(self):
        with self.failing(DRIVER + '_create_image'), \
                self.failing(DRIVER + '_hard_reboot'):
            self.rescue_opted_in(self.server)
            self._wait_for_state_change(self.server, 'ERROR')


class FailedUnrescueTest(StepsTestCase):
    """A second rescue sees nothing of the first, whatever became of it."""

    def test_rescue_after_a_failed_unrescue(self):
        self.rescue_opted_in(self.server)
        self._wait_for_state_change(self.server, 'RESCUE')
        with self.failing(DRIVER + '_create_guest_with_network'):
            self.api.post_server_action(self.server['id'],
                                        {'unrescue': None})
            self._wait_for_state_change(self.server, 'ERROR')
        self.assertEqual(['disk.config.rescue', 'disk.rescue'],
                         self.rescue_files(self.server))
        seen = []

        def look(driver, *args, **kwargs):
            seen.append(self.rescue_files(self.server))
            return self._create_image(*args, **kwargs)

        self.image = self.create_image()
        with fixtures.MonkeyPatch(DRIVER + '_create_image', look):
            self.rescue_opted_in(self.server)
            self._wait_for_state_change(self.server, 'RESCUE')
        self.assertEqual([['unrescue.xml']], seen)
        instance = objects.Instance.get_by_uuid(self.context,
                                                self.server['id'])
        self.assertEqual(self.image,
                         instance.system_metadata['rescue_ext_image_id'])
        self.api.post_server_action(self.server['id'], {'unrescue': None})
        self._wait_for_state_change(self.server, 'ACTIVE')
        self.assertEqual([], self.rescue_files(self.server))
        self.assertEqual(['disk'], self.disk_names(self.server))

    def test_hard_reboot_after_a_rescue_by_stock_nova(self):
        """It keeps no record, but files."""
        for name in ('disk.local', 'unrescue.xml', 'disk.rescue'):
            self.make_disk(None, name)
        self._reboot_server(self.server, hard=True)
        self.assertEqual([], self.rescue_files(self.server))
        self.assertIn('disk.local', os.listdir(self.directory(self.server)))

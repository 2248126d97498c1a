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

"""What can be done to a server that is in rescue, and stays there (1.4)."""

import ddt
from nova import exception
from nova import objects
from nova.virt.libvirt import driver as libvirt_driver
from oslo_serialization import jsonutils

from tests.functional import test_live_migration
from tests.functional import test_rescue_failure
from tests.functional import test_rescue_recovery

DRIVER = test_rescue_failure.DRIVER
GUEST = test_rescue_failure.GUEST
MANAGER = test_rescue_failure.MANAGER
STABLE = {'hw_rescue_bus': 'virtio', 'hw_rescue_device': 'disk'}


def request(test, server, method, path, body=None, version='1.4'):
    """Send a request; the response is returned, whatever it is."""
    with test.opted_in(version):
        return test.api.api_request(
            '/servers/%s/%s' % (server['id'], path), method=method,
            headers={'Content-Type': 'application/json'},
            body=jsonutils.dumps(body) if body else None)


def act(test, server, action, version='1.4', **parameters):
    """The same for an action."""
    return request(test, server, 'POST', 'action',
                   {action: parameters or None}, version)


class InRescueTestCase(test_rescue_recovery.RecoveryTestCase):

    ADMIN_API = True

    def act(self, action, **parameters):
        response = act(self, self.server, action, **parameters)
        self.assertEqual(202, response.status_code, response.text)

    def wait_until_done(self, status='RESCUE'):
        return self.wait_for_status(self.server, status)

    def assert_refused_in_rescue(self, response, *words, status=409):
        self.assertEqual(status, response.status_code, response.text)
        for word in words:
            self.assertIn(word, response.text)
        self.assertIsNone(self.instance(self.server).task_state)

    def set_power(self, state):
        self.set(self.server, power_state=state)

    def unrescue(self):
        self.act('unrescue')
        self.wait_until_done('ACTIVE')

    def assert_unrescued(self, *disks):
        self.unrescue()
        self.assertEqual(list(disks), self.disk_names(self.server))
        self.assertEqual([], self.rescue_files(self.server))
        self.assertTrue(self.is_running(self.server))


@ddt.ddt
class RebootTest(InRescueTestCase):

    def setUp(self):
        super().setUp()
        self.server = self.rescued()
        self.disks = self.disk_names(self.server)
        self.assertIn('disk.rescue', self.disks)
        self.guest = self.guest_id(self.server)
        # Nova's double shuts down at once.
        self.flags(wait_soft_reboot_seconds=1, group='libvirt')

    def reboot(self, reboot_type='HARD'):
        self.act('reboot', type=reboot_type)

    def assert_rebooted(self):
        self.wait_until_done()
        self.assertTrue(self.is_running(self.server))
        self.assertEqual(self.disks, self.disk_names(self.server))
        self.assertNotEqual(self.guest, self.guest_id(self.server))

    def assert_failed(self, running=False):
        """It costs nothing but the guest, and can be tried again."""
        self.wait_until_done()
        self.wait_for_event(self.server, 'reboot', 'error')
        self.assertEqual(running, bool(self.is_running(self.server)))
        self.assertEqual(1 if running else 4,
                         self.instance(self.server).power_state)
        self.assertEqual(self.disks, self.disk_names(self.server))

    @ddt.data('HARD', 'SOFT')
    def test_rebooted(self, reboot_type):
        self.reboot(reboot_type)
        self.assert_rebooted()
        self.wait_for_event(self.server, 'reboot', 'success')
        self.assert_unrescued('disk')

    def test_guest_that_is_off(self):
        self.driver._host.get_guest(self.instance(self.server)).poweroff()
        self.reboot()
        self.assert_rebooted()

    def test_soft_reboot_that_the_guest_ignores(self):
        self.patch(DRIVER + '_soft_reboot', lambda *args: False)
        self.reboot('SOFT')
        self.assert_rebooted()

    @ddt.data('launch', 'create')
    def test_failed(self, step):
        with self.failing(GUEST + step):
            self.reboot()
            self.assert_failed()
        self.reboot()
        self.assert_rebooted()
        self.assert_unrescued('disk')

    def test_failed_before_the_guest_is_off(self):
        with self.failing('nova_rescue_ext.host.guests.read_definition'):
            self.reboot()
            self.wait_until_done()
        self.assertEqual(self.guest, self.guest_id(self.server))
        self.assertIn('Injected', self.fault(self.server))

    def test_failed_and_unrescued(self):
        with self.failing(GUEST + 'launch'):
            self.reboot()
            self.assert_failed()
        self.assert_unrescued('disk')

    def test_guest_that_is_gone(self):
        guest = self.driver._host.get_guest(self.instance(self.server))
        guest.poweroff()
        guest.delete_configuration()
        self.reboot()
        self.wait_until_done()
        self.wait_for_event(self.server, 'reboot', 'error')
        self.assertIn('its guest is not that of its rescue',
                      self.fault(self.server))
        self.assert_unrescued('disk')

    @ddt.data('HARD', 'SOFT')
    def test_guest_that_is_not_in_rescue(self, reboot_type):
        """It is that of its user."""
        self.patch('nova_rescue_ext.host.guests.is_in_rescue',
                   lambda *args: False)
        self.reboot(reboot_type)
        self.wait_until_done()
        self.assertEqual(self.guest, self.guest_id(self.server))

    def test_no_opt_in(self):
        """Tempest asserts it (ServerRescueNegativeTestJSON)."""
        for version in ('1.0', '1.3'):
            for reboot_type in ('HARD', 'SOFT'):
                response = act(self, self.server, 'reboot', version,
                               type=reboot_type)
                self.assert_refused_in_rescue(
                    response, "Cannot 'reboot' instance",
                    'while it is in vm_state rescued')
        self.assertEqual(self.guest, self.guest_id(self.server))

    def test_host_that_is_not_upgraded(self):
        self.change_compute_node(compute_rescue='1.3')
        self.assert_refused_in_rescue(
            act(self, self.server, 'reboot', type='HARD'),
            'compute node compute1 does not serve compute-rescue 1.4',
            'Unrescue the server')

    def test_host_that_is_gone(self):
        objects.ComputeNode.get_first_node_by_host_for_old_compat(
            self.context, 'compute1').destroy()
        self.assert_refused_in_rescue(
            act(self, self.server, 'reboot', type='HARD'),
            'does not serve compute-rescue 1.4')

    def test_soft_reboot_of_a_guest_that_is_off(self):
        self.set_power(4)
        self.assert_refused_in_rescue(
            act(self, self.server, 'reboot', type='SOFT'),
            'while it is in power_state shutdown')

    def test_busy(self):
        self.set(self.server, task_state='migrating')
        response = act(self, self.server, 'reboot', type='HARD')
        self.assertEqual(409, response.status_code)
        self.assertIn('task_state migrating', response.text)

    def test_locked(self):
        self.set(self.server, locked=True)
        user = self.api_fixture.api
        user.microversion = '2.87, compute-rescue 1.4'
        response = user.api_request(
            '/servers/%s/action' % self.server['id'], method='POST',
            headers={'Content-Type': 'application/json'},
            body=jsonutils.dumps({'reboot': {'type': 'HARD'}}))
        self.assert_refused_in_rescue(response, 'is locked')

    def test_policy(self):
        self.policy.set_rules({'rescue_ext:reboot:rescued': '!'},
                              overwrite=False)
        self.assert_refused_in_rescue(
            act(self, self.server, 'reboot', type='HARD'),
            'rescue_ext:reboot:rescued', status=403)

    def test_two_at_once(self):
        """The other request comes between Nova's check and its save."""
        save = objects.Instance.save

        def overtaken(instance, *args, **kwargs):
            if instance.task_state == 'rebooting_hard':
                raise exception.UnexpectedTaskStateError(
                    instance_uuid=instance.uuid, expected={},
                    actual={'task_state': 'deleting'})
            return save(instance, *args, **kwargs)

        self.patch('nova.objects.Instance.save', overtaken)
        self.assert_refused_in_rescue(
            act(self, self.server, 'reboot', type='HARD'),
            'task_state deleting')

    def test_deleted_meanwhile(self):
        launch = libvirt_driver.LibvirtDriver._create_guest

        def delete_and_launch(*args, **kwargs):
            self.api.delete_server(self.server['id'])
            return launch(*args, **kwargs)

        self.patch(DRIVER + '_create_guest', delete_and_launch)
        self.reboot()
        self._wait_until_deleted(self.server)
        self.assertRaises(exception.InstanceNotFound,
                          self.driver._host.get_guest,
                          objects.Instance(uuid=self.server['id']))

    def test_state_was_reset_meanwhile(self):
        """No guest is touched for a server that is not in rescue."""
        mount = MANAGER + '_get_instance_block_device_info'
        get_info = test_rescue_failure.resolve(mount)

        def reset(*args, **kwargs):
            result = get_info(*args, **kwargs)
            self.set(self.server, vm_state='active')
            return result

        self.patch(mount, reset)
        self.reboot()
        self.wait_until_done('ACTIVE')
        self.assertEqual(self.guest, self.guest_id(self.server))

    # A restart of nova-compute.

    def interrupt(self, name, reboot_type='HARD'):
        with self.kill_at(name):
            self.reboot(reboot_type)
            self.wait_until_killed()

    def assert_recovered(self, is_again):
        self.wait_until_done()
        self.assertTrue(self.is_running(self.server))
        self.assertEqual(self.disks, self.disk_names(self.server))
        (self.assertNotEqual if is_again else self.assertEqual)(
            self.guest, self.guest_id(self.server))
        self.assert_unrescued('disk')

    def test_killed_before_it_began(self):
        self.set(self.server, task_state='rebooting_hard')
        self.restart()
        self.assert_recovered(is_again=False)

    @ddt.data('reboot_pending', 'reboot_pending_hard')
    def test_killed_while_it_was_pending(self, task_state):
        self.set(self.server, task_state=task_state)
        self.restart()
        self.assert_recovered(is_again=True)

    def test_killed_while_the_guest_was_off(self):
        self.interrupt(GUEST + 'launch')
        self.restart()
        self.assert_recovered(is_again=True)

    def test_killed_before_it_was_saved(self):
        save = objects.Instance.save

        def kill(instance, *args, **kwargs):
            if (instance.task_state is None
                    and 'task_state' in instance.obj_what_changed()):
                self.killed = True
                raise test_rescue_failure.Killed()
            return save(instance, *args, **kwargs)

        self.killed = False
        with test_rescue_failure.fixtures.MonkeyPatch(
                'nova.objects.Instance.save', kill):
            self.reboot()
            self.wait_until_killed()
        self.guest = self.guest_id(self.server)
        self.restart()
        self.assert_recovered(is_again=False)
        self.wait_for_event(self.server, 'reboot', 'success')

    def test_killed_and_it_fails_again(self):
        self.interrupt(GUEST + 'launch')
        with self.failing(GUEST + 'launch'):
            self.restart()
            self.wait_until_done()
        self.reboot()
        self.assert_rebooted()

    def test_message_of_before_the_restart(self):
        held = []
        name = 'nova.compute.rpcapi.ComputeAPI.reboot_instance'
        cast = test_rescue_failure.resolve(name)
        with test_rescue_failure.fixtures.MonkeyPatch(
                name, lambda *args, **kwargs: held.append((args, kwargs))):
            self.reboot()
        self.restart()
        self.wait_until_done()
        ((args, kwargs),) = held
        self.assert_nothing_done(self.server, 'reboot',
                                 lambda: cast(*args, **kwargs))

    def test_host_was_rebooted(self):
        """A guest that was rebooted is resumed with its host."""
        self.reboot()
        self.assert_rebooted()
        self.driver._host.get_guest(self.instance(self.server)).poweroff()
        self.flags(resume_guests_state_on_host_boot=True)
        self.restart()
        self.assertTrue(self.is_running(self.server))
        self.assertEqual(self.disks, self.disk_names(self.server))


class MigratedTest(test_live_migration.LiveMigrationTestCase):
    """What was done in rescue, on the host that the server migrated to."""

    def names(self, host):
        guest = self.computes[host].driver._host.get_guest(
            self.instance(self.server))
        self.assertTrue(guest.is_active())
        return [(disk.source_path or '').rpartition('/')[2]
                for disk in guest.get_all_disks()]

    def reboot(self):
        response = act(self, self.server, 'reboot', type='HARD')
        self.assertEqual(202, response.status_code, response.text)
        return self._wait_for_server_parameter(
            self.server, {'OS-EXT-STS:task_state': None, 'status': 'RESCUE'})

    def test_rebooted_on_both_hosts(self):
        self.rescue_now()
        self.put_raw_disks('disk', 'disk.rescue')
        before = self.names('compute1')
        self.reboot()
        self.assertEqual(before, self.names('compute1'))
        self.migrate()
        self.reboot()
        self.assertEqual(before, self.names('compute2'))
        self.unrescue(self.server)
        self.assertEqual(['disk'], self.names('compute2'))

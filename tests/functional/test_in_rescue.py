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

import contextlib
import threading
import time

import ddt
import fixtures
from lxml import etree
from nova.compute import rpcapi as compute_rpcapi
from nova import exception
from nova.network import model
from nova.network import neutron
from nova import objects
from nova.virt.libvirt import driver as libvirt_driver
from oslo_concurrency import lockutils
import oslo_messaging as messaging
from oslo_serialization import jsonutils
from oslo_utils.fixture import uuidsentinel as uuids

from nova_rescue_ext.in_rescue import operation
from nova_rescue_ext import instance_metadata
from nova_rescue_ext.live_migration import source
from nova_rescue_ext.task import host_task
from nova_rescue_ext.unrescue import operation as unrescue_operation
from tests.fixtures import nightly
from tests.functional import devices
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


def volumes_of(test, server):
    """Names of a server's volumes, by ID, as Nova has them."""
    return {bdm.volume_id: bdm.device_name
            for bdm in objects.BlockDeviceMappingList.get_by_instance_uuid(
                test.context, server['id']) if bdm.is_volume}


def attach_volume(test, server, volume_id, version='1.4'):
    return request(test, server, 'POST', 'os-volume_attachments',
                   {'volumeAttachment': {'volumeId': volume_id}}, version)


def detach_volume(test, server, volume_id, version='1.4'):
    return request(test, server, 'DELETE',
                   'os-volume_attachments/' + volume_id, version=version)


def ports_of(test, server):
    """The IDs of a server's ports, as Nova has them."""
    with test.opted_in('1.0'):
        return {port['port_id'] for port in test.api.api_get(
            '/servers/%s/os-interface' % server['id']).body[
                'interfaceAttachments']}


def attach_port(test, server, port_id, version='1.4'):
    return request(test, server, 'POST', 'os-interface',
                   {'interfaceAttachment': {'port_id': port_id}}, version)


def detach_port(test, server, port_id, version='1.4'):
    return request(test, server, 'DELETE', 'os-interface/' + port_id,
                   version=version)


def addresses(test, server, host='compute1'):
    """MAC addresses of the guest."""
    guest = test.computes[host].driver._host.get_guest(
        objects.Instance(uuid=server['id']))
    return {mac.get('address') for mac in etree.fromstring(
        guest.get_xml_desc()).findall('devices/interface/mac')}


class InRescueTestCase(test_rescue_recovery.RecoveryTestCase):

    ADMIN_API = True

    def setUp(self):
        super().setUp()
        # Nova's double sends no event.
        self.flags(device_detach_timeout=1, group='libvirt')

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

    def overtake(self, task_state):
        """The other request comes between Nova's check and its save."""
        save = objects.Instance.save

        def overtaken(instance, *args, **kwargs):
            if instance.task_state == task_state:
                raise exception.UnexpectedTaskStateError(
                    instance_uuid=instance.uuid, expected={},
                    actual={'task_state': 'deleting'})
            return save(instance, *args, **kwargs)

        self.patch('nova.objects.Instance.save', overtaken)

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
        self.overtake('rebooting_hard')
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
        with fixtures.MonkeyPatch(
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
        with fixtures.MonkeyPatch(
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


@ddt.ddt
class PowerTest(InRescueTestCase):
    """The state stays RESCUED, and the power state tells."""

    def setUp(self):
        super().setUp()
        self.server = self.rescued()
        self.disks = self.disk_names(self.server)

    def stop(self):
        self.act('os-stop')
        self.assert_off()

    def start(self):
        self.act('os-start')
        self.assert_on()

    def assert_off(self):
        self.assert_power(4)

    def assert_on(self):
        self.assert_power(1)

    def assert_power(self, state):
        self.wait_until_done()
        self.assertEqual(
            state, self.api.get_server(self.server['id'])[
                'OS-EXT-STS:power_state'])
        self.assertEqual(state == 1, bool(self.is_running(self.server)))
        self.assertEqual(self.disks, self.disk_names(self.server))

    def test_stopped_and_started(self):
        states = []
        save = objects.Instance.save

        def note(instance, *args, **kwargs):
            states.append(instance.vm_state)
            return save(instance, *args, **kwargs)

        self.patch('nova.objects.Instance.save', note)
        self.stop()
        self.wait_for_event(self.server, 'stop', 'success')
        self.start()
        self.wait_for_event(self.server, 'start', 'success')
        self.assertEqual({'rescued'}, set(states))
        self.assert_unrescued('disk')

    def test_unrescued_while_it_is_off(self):
        self.stop()
        self.assert_unrescued('disk')

    def test_deleted_while_it_is_off(self):
        self.stop()
        self._delete_server(self.server)

    def test_rebooted_while_it_is_off(self):
        self.stop()
        self.act('reboot', type='HARD')
        self.assert_on()

    def test_power_sync(self):
        self.stop()
        self.computes['compute1'].manager._sync_power_states(self.context)
        self.assert_off()

    def test_host_was_rebooted(self):
        """A guest that was stopped is not resumed with its host."""
        self.stop()
        self.flags(resume_guests_state_on_host_boot=True)
        self.restart()
        self.assert_off()
        self.start()

    def test_start_that_failed(self):
        self.stop()
        with self.failing(GUEST + 'launch'):
            self.act('os-start')
            self.wait_for_event(self.server, 'start', 'error')
        self.assert_off()
        self.start()

    def test_stop_that_failed(self):
        with self.failing(DRIVER + '_destroy'):
            self.act('os-stop')
            self.wait_for_event(self.server, 'stop', 'error')
        self.assert_off()  # it had shut down by then
        self.start()
        self.stop()

    def test_start_of_a_guest_that_runs(self):
        """The database did not know; the guest is its user's."""
        before = self.guest_id(self.server)
        self.set_power(4)
        self.start()
        self.assertEqual(before, self.guest_id(self.server))

    @ddt.data('stop', 'start')
    def test_killed(self, action):
        if action == 'start':
            self.stop()
        with self.kill_at(GUEST + {'stop': 'poweroff',
                                   'start': 'launch'}[action]):
            self.act('os-' + action)
            self.wait_until_killed()
        self.restart()
        self.assert_off() if action == 'stop' else self.assert_on()
        self.assert_unrescued('disk')

    @ddt.data(('stop', 'powering-off'), ('start', 'powering-on'))
    @ddt.unpack
    def test_two_at_once(self, action, task_state):
        if action == 'start':
            self.stop()
        self.overtake(task_state)
        self.assert_refused_in_rescue(
            act(self, self.server, 'os-' + action), 'task_state deleting')

    def test_state_was_reset_meanwhile(self):
        """It is not overwritten."""
        self.stop()
        acquire = test_rescue_failure.resolve(
            MANAGER + '_get_instance_block_device_info')

        def reset(*args, **kwargs):
            result = acquire(*args, **kwargs)
            self.set(self.server, vm_state='error', task_state=None)
            return result

        self.patch(MANAGER + '_get_instance_block_device_info', reset)
        self.act('os-start')
        self.wait_for_event(self.server, 'start', 'error')
        self.wait_until_done('ERROR')
        self.assertFalse(self.is_running(self.server))

    def test_refused(self):
        self.set_power(1)
        self.assert_refused_in_rescue(
            act(self, self.server, 'os-start'),
            'while it is in power_state running')
        self.set_power(4)
        for action in ('start', 'stop'):
            for version in ('1.0', '1.3'):
                self.assert_refused_in_rescue(
                    act(self, self.server, 'os-' + action, version),
                    "Cannot '%s' instance" % action,
                    'while it is in vm_state rescued')
            self.change_compute_node(compute_rescue='1.3')
            self.assert_refused_in_rescue(
                act(self, self.server, 'os-' + action),
                'does not serve compute-rescue 1.4')
            self.change_compute_node(compute_rescue='1.4')
            policy = 'rescue_ext:%s:rescued' % action
            self.policy.set_rules({policy: '!'}, overwrite=False)
            self.assert_refused_in_rescue(
                act(self, self.server, 'os-' + action), policy, status=403)
        self.assertTrue(self.is_running(self.server))


@ddt.ddt
class VolumeTest(InRescueTestCase):

    DATA = uuids.volume

    def setUp(self):
        super().setUp()
        self.useFixture(devices.Serials(self.domains))
        self.connected = []
        for name in ('_connect_volume', '_disconnect_volume'):
            self.patch(DRIVER + name, self.note(name))

    def note(self, name):
        method = test_rescue_failure.resolve(DRIVER + name)

        def noted(driver, context, connection_info, *args, **kwargs):
            self.connected.append((name, connection_info['serial']))
            return method(driver, context, connection_info, *args, **kwargs)

        return noted

    def be_rescued(self, properties=STABLE, server=None):
        self.server = server or self.create_server()
        self.image = self.create_image(properties)
        self.rescue_opted_in(self.server)
        self._wait_for_state_change(self.server, 'RESCUE')

    def attach(self, volume_id=DATA):
        response = attach_volume(self, self.server, volume_id)
        self.assertEqual(200, response.status_code, response.text)
        self._wait_for_volume_attach(self.server['id'], volume_id)
        test_rescue_failure.wait_until(
            lambda: volume_id in self.guest_disks().values())

    def detach(self, volume_id=DATA):
        response = detach_volume(self, self.server, volume_id)
        self.assertEqual(202, response.status_code, response.text)
        test_rescue_failure.wait_until(
            lambda: volume_id not in volumes_of(self, self.server))
        self.assertNotIn(volume_id, self.guest_disks().values())

    def guest_disks(self):
        """Serials, or else names of files, by target."""
        guest = self.driver._host.get_guest(self.instance(self.server))
        return {disk.target_dev: disk.serial or (
            disk.source_path or '').rpartition('/')[2]
            for disk in guest.get_all_disks()}

    def assert_attached(self):
        name = volumes_of(self, self.server)[self.DATA].rpartition('/')[2]
        self.assertEqual(self.DATA, self.guest_disks()[name])
        self.assertEqual(1, len(self.cinder.volume_to_attachment[self.DATA]))

    @ddt.data(STABLE, {})
    def test_attached(self, properties):
        """It has a name that neither the server nor the guest has."""
        self.be_rescued(properties)
        before = self.guest_disks()
        self.assertEqual({'vda', 'vdb'}, set(before))
        self.attach()
        self.assertEqual({**before, 'vdc': self.DATA}, self.guest_disks())
        self.assertEqual({self.DATA: '/dev/vdc'},
                         volumes_of(self, self.server))
        self.unrescue()
        self.assertEqual({'vda': 'disk', 'vdc': self.DATA},
                         self.guest_disks())
        self.assert_attached()

    def test_rebooted(self):
        self.be_rescued()
        self.attach()
        before = self.guest_disks()
        self.connected.clear()
        self.act('reboot', type='HARD')
        self.wait_until_done()
        self.assertEqual(before, self.guest_disks())
        self.assertEqual([('_disconnect_volume', self.DATA),
                          ('_connect_volume', self.DATA)], self.connected)
        self.unrescue()
        self.assert_attached()

    def test_host_was_rebooted(self):
        self.be_rescued()
        self.attach()
        before = self.guest_disks()
        self.driver._host.get_guest(self.instance(self.server)).poweroff()
        self.flags(resume_guests_state_on_host_boot=True)
        self.restart()
        self.assertTrue(self.is_running(self.server))
        self.assertEqual(before, self.guest_disks())

    def test_restart_of_the_service(self):
        self.be_rescued()
        self.attach()
        before = self.guest_disks()
        self.restart()
        self.assertEqual(before, self.guest_disks())
        self.detach()
        self.unrescue()
        self.assertEqual({'vda': 'disk'}, self.guest_disks())

    def test_failed(self):
        """Nothing of it is left, and it can be tried again."""
        self.be_rescued()
        with self.failing(GUEST + 'attach_device'):
            attach_volume(self, self.server, self.DATA)
            self._wait_for_instance_action_event(
                self.server, 'attach_volume', 'compute_attach_volume',
                'error')
            test_rescue_failure.wait_until(
                lambda: not volumes_of(self, self.server))
        self.assertEqual({'vda', 'vdb'}, set(self.guest_disks()))
        self.assertEqual('_disconnect_volume', self.connected[-1][0])
        self.attach()
        self.unrescue()
        self.assert_attached()

    def test_detached(self):
        self.be_rescued(server=self.boot_with_data())
        self.assertIn(self.DATA, self.guest_disks().values())
        self.detach()
        self.assertEqual(('_disconnect_volume', self.DATA),
                         self.connected[-1])
        self.unrescue()
        self.assertEqual({'vda': 'disk'}, self.guest_disks())

    def test_detached_without_stable_devices(self):
        """The guest has another disk of that name: the server's root."""
        self.be_rescued({}, server=self.boot_with_data())
        before = self.guest_disks()
        self.assertEqual({self.DATA: '/dev/vdb'},
                         volumes_of(self, self.server))
        self.assertEqual('disk', before['vdb'])
        self.detach()
        self.assertEqual(before, self.guest_disks())
        self.assertEqual(('_disconnect_volume', self.DATA),
                         self.connected[-1])
        self.unrescue()
        self.assertEqual({'vda': 'disk'}, self.guest_disks())

    @ddt.data({'host': 'compute2'}, {'task_state': 'migrating'})
    def test_detach_that_was_overtaken(self, values):
        """The volume stays with the guest, and can be detached later."""
        self.be_rescued(server=self.boot_with_data())
        cast = compute_rpcapi.ComputeAPI.detach_volume
        rolled_back = []

        def change_and_cast(*args, **kwargs):
            self.set(self.server, **values)
            return cast(*args, **kwargs)

        with fixtures.MonkeyPatch(
                'nova.compute.rpcapi.ComputeAPI.detach_volume',
                change_and_cast), fixtures.MonkeyPatch(
                    'nova.volume.cinder.API.roll_detaching',
                    lambda itself, context, volume_id:
                    rolled_back.append(volume_id)):
            detach_volume(self, self.server, self.DATA)
            self._wait_for_instance_action_event(
                self.server, 'detach_volume', 'compute_detach_volume',
                'error')
        self.assertEqual([self.DATA], rolled_back)
        self.assertIn(self.DATA, self.guest_disks().values())
        self.assertEqual(1, len(self.cinder.volume_to_attachment[self.DATA]))
        self.set(self.server, **{
            name: {'host': 'compute1'}.get(name) for name in values})
        self.detach()

    def boot_with_data(self):
        server = self.create_server()
        self._attach_volume(server, self.DATA)
        return server

    def test_root(self):
        self.server = self.create_bfv_server()
        self.be_rescued(server=self.server)
        response = detach_volume(self, self.server, self.VOLUME)
        self.assertEqual(400, response.status_code, response.text)
        self.assertIn('root', response.text)
        self.assertEqual([self.VOLUME], list(volumes_of(self, self.server)))

    def test_deleted_meanwhile(self):
        self.be_rescued()
        attach = libvirt_driver.LibvirtDriver.attach_volume

        def delete_and_attach(*args, **kwargs):
            self.api.delete_server(self.server['id'])
            return attach(*args, **kwargs)

        self.patch(DRIVER + 'attach_volume', delete_and_attach)
        attach_volume(self, self.server, self.DATA)
        self._wait_until_deleted(self.server)
        self.assertEqual({}, volumes_of(self, self.server))

    def test_attach_that_was_overtaken(self):
        """Another volume is slow, and so was this one."""
        self.be_rescued()
        reserve = compute_rpcapi.ComputeAPI.reserve_block_device_name

        def change_and_reserve(*args, **kwargs):
            self.set(self.server, task_state='migrating')
            return reserve(*args, **kwargs)

        with fixtures.MonkeyPatch(
                'nova.compute.rpcapi.ComputeAPI.reserve_block_device_name',
                change_and_reserve):
            response = attach_volume(self, self.server, self.DATA)
        self.assertEqual(409, response.status_code, response.text)
        self.assertIn('while it is in task_state migrating', response.text)
        self.assertEqual({}, volumes_of(self, self.server))
        self.assertEqual({}, self.cinder.volume_to_attachment[self.DATA])
        self.set(self.server, task_state=None)
        self.attach()

    def test_refused(self):
        self.be_rescued(server=self.boot_with_data())
        before = self.guest_disks()
        other = uuids.other_volume
        requests = ((attach_volume, other, 'create'),
                    (detach_volume, self.DATA, 'delete'))
        for ask, volume_id, name in requests:
            for version in ('1.0', '1.3'):
                self.assert_refused_in_rescue(
                    ask(self, self.server, volume_id, version),
                    "_volume' instance", 'while it is in vm_state rescued')
            self.change_compute_node(compute_rescue='1.3')
            self.assert_refused_in_rescue(
                ask(self, self.server, volume_id),
                'does not serve compute-rescue 1.4')
            self.change_compute_node(compute_rescue='1.4')
            policy = 'rescue_ext:os-volumes-attachments:%s:rescued' % name
            self.policy.set_rules({policy: '!'}, overwrite=False)
            self.assert_refused_in_rescue(
                ask(self, self.server, volume_id), policy, status=403)
        self.assertEqual(before, self.guest_disks())
        self.assertEqual([self.DATA], list(volumes_of(self, self.server)))


@ddt.ddt
class PortTest(InRescueTestCase):

    def setUp(self):
        super().setUp()
        self.useFixture(devices.Taps(self.neutron))
        self.first, self.second = (self.neutron.port_1, self.neutron.port_2)
        self.allocated = 0
        allocate = neutron.API.allocate_for_instance

        def note(*args, **kwargs):
            self.allocated += 1
            return allocate(*args, **kwargs)

        self.patch('nova.network.neutron.API.allocate_for_instance', note)

    def be_rescued(self, properties=STABLE):
        self.neutron.create_port({'port': self.second})
        self.server = self._create_server(
            image_uuid=self.IMAGE, networks=[{'port': self.first['id']}])
        self.allocated = 0
        self.image = self.create_image(properties)
        self.rescue_opted_in(self.server)
        self._wait_for_state_change(self.server, 'RESCUE')
        self.assert_ports(self.first)

    def attach(self):
        response = attach_port(self, self.server, self.second['id'])
        self.assertEqual(200, response.status_code, response.text)
        self.assertEqual(self.second['mac_address'], response.json()[
            'interfaceAttachment']['mac_addr'])

    def detach(self, port):
        response = detach_port(self, self.server, port['id'])
        self.assertEqual(202, response.status_code, response.text)
        self._wait_for_instance_action_event(
            self.server, 'detach_interface', 'compute_detach_interface',
            'success')

    def assert_ports(self, *ports):
        """Of the server, and of its guest."""
        self.assertEqual({port['id'] for port in ports},
                         ports_of(self, self.server))
        self.assertEqual({port['mac_address'] for port in ports},
                         addresses(self, self.server))

    def assert_free(self, port):
        self.assertEqual('', self.neutron.show_port(port['id'])['port'].get(
            'device_id', ''))

    @ddt.data(STABLE, {})
    def test_attached(self, properties):
        self.be_rescued(properties)
        guest = self.guest_id(self.server)
        self.attach()
        self.assert_ports(self.first, self.second)
        self.assertEqual(guest, self.guest_id(self.server))
        self.unrescue()
        self.assert_ports(self.first, self.second)

    def test_detached(self):
        self.be_rescued()
        self.detach(self.first)
        self.assert_ports()
        self.assert_free(self.first)
        self.unrescue()
        self.assert_ports()

    def test_network(self):
        """A new port of it is attached, and gone when it is detached."""
        self.be_rescued()
        before = set(self.neutron._ports)
        response = request(self, self.server, 'POST', 'os-interface', {
            'interfaceAttachment': {'net_id': self.neutron.network_1['id']}})
        self.assertEqual(200, response.status_code, response.text)
        (created,) = set(self.neutron._ports) - before
        port = self.neutron.show_port(created)['port']
        self.assert_ports(self.first, port)
        self.detach(port)
        self.assert_ports(self.first)
        self.assertNotIn(created, self.neutron._ports)

    def test_rebooted(self):
        self.be_rescued()
        self.attach()
        self.detach(self.first)
        self.act('reboot', type='HARD')
        self.wait_until_done()
        self.assert_ports(self.second)

    def test_off(self):
        """It has the port when it is started again, or unrescued."""
        self.be_rescued()
        self.act('os-stop')
        self.wait_until_done()
        self.attach()
        self.assert_ports(self.first, self.second)
        self.act('os-start')
        self.wait_until_done()
        self.assert_ports(self.first, self.second)

    def test_started_after_a_detach(self):
        """Whose message came before; nothing is plugged for the port."""
        self.be_rescued()
        self.attach()
        self.act('os-stop')
        self.wait_until_done()
        plug = libvirt_driver.LibvirtDriver.plug_vifs
        plugged = []

        def note_and_plug(driver, instance, network_info):
            plugged.extend(vif['id'] for vif in network_info)
            return plug(driver, instance, network_info)

        lock = host_task.HostTask._lock

        def detach_and_lock(task):
            if isinstance(task, operation.Start):
                instance = self.instance(self.server)
                self.driver.detach_interface(self.context, instance, [
                    vif for vif in instance.get_network_info()
                    if vif['id'] == self.second['id']][0])
                instance.info_cache.network_info = model.NetworkInfo(
                    vif for vif in instance.get_network_info()
                    if vif['id'] == self.first['id'])
                instance.info_cache.save()
            return lock(task)

        self.patch(DRIVER + 'plug_vifs', note_and_plug)
        self.patch('nova_rescue_ext.task.host_task.HostTask._lock',
                   detach_and_lock)
        self.act('os-start')
        self.wait_until_done()
        self.assertEqual([self.first['id']], plugged)

    def test_host_was_rebooted(self):
        self.be_rescued()
        self.attach()
        self.driver._host.get_guest(self.instance(self.server)).poweroff()
        self.flags(resume_guests_state_on_host_boot=True)
        self.restart()
        self.assertTrue(self.is_running(self.server))
        self.assert_ports(self.first, self.second)

    def test_restart_of_the_service(self):
        self.be_rescued()
        self.attach()
        self.restart()
        self.assert_ports(self.first, self.second)
        self.detach(self.second)
        self.unrescue()
        self.assert_ports(self.first)

    def test_failed(self):
        """Nothing of it is left, and it can be tried again."""
        self.be_rescued()
        with self.failing_with(exception.InterfaceAttachFailed(
                instance_uuid=self.server['id'])):
            response = attach_port(self, self.server, self.second['id'])
        self.assertEqual(500, response.status_code)
        self.assert_ports(self.first)
        self.assert_free(self.second)
        self.assertEqual('RESCUE', self.wait_until_done()['status'])
        self.attach()
        self.unrescue()
        self.assert_ports(self.first, self.second)

    @staticmethod
    def failing_with(error):
        def fail(*args, **kwargs):
            raise error

        return fixtures.MonkeyPatch(
            'nova.virt.libvirt.guest.Guest.attach_device', fail)

    def test_deleted_meanwhile(self):
        """The DELETE comes after it, and frees the port."""
        self.be_rescued()
        attach = libvirt_driver.LibvirtDriver.attach_interface

        def delete_and_attach(*args, **kwargs):
            self.api.delete_server(self.server['id'])
            self.assertEqual('deleting', self.wait_for_task())
            time.sleep(1)  # for a DELETE that does not wait
            running.append(self.is_running(self.server))
            return attach(*args, **kwargs)

        running = []
        self.patch(DRIVER + 'attach_interface', delete_and_attach)
        attach_port(self, self.server, self.second['id'])
        self._wait_until_deleted(self.server)
        self.assertEqual([True], running)
        self.assert_free(self.first)
        self.assert_free(self.second)

    def wait_for_task(self):
        while self.instance(self.server).task_state is None:
            time.sleep(0.05)
        return self.instance(self.server).task_state

    def overtaken(self, **values):
        """Something else begins before an attach or a detach has the lock."""
        lock = host_task.HostTask._lock

        def change_and_lock(task):
            if values:
                self.set(self.server, **values)
            else:
                self._delete_server(self.server)
            return lock(task)

        return fixtures.MonkeyPatch(
            'nova_rescue_ext.task.host_task.HostTask._lock', change_and_lock)

    @ddt.data(({'task_state': 'unrescuing'}, 'unrescuing'),
              ({'host': 'compute2'}, 'migrating'),
              ({'vm_state': 'soft-delete'}, 'soft-delete'), ({}, 'deleting'))
    @ddt.unpack
    def test_overtaken(self, values, state):
        self.be_rescued()
        with self.overtaken(**values):
            response = attach_port(self, self.server, self.second['id'])
        self.assertEqual(409, response.status_code, response.text)
        self.assertIn("Cannot 'attach_interface' instance", response.text)
        self.assertIn('_state ' + state, response.text)
        self.assertEqual(0, self.allocated)
        self.assert_free(self.second)
        self.set_back(values)

    def set_back(self, values):
        if values:
            self.set(self.server, **{
                name: {'host': 'compute1', 'vm_state': 'rescued'}.get(name)
                for name in values})

    def test_detach_that_was_overtaken(self):
        self.be_rescued()
        values = {'task_state': 'migrating'}
        with self.overtaken(**values):
            detach_port(self, self.server, self.first['id'])
            self._wait_for_instance_action_event(
                self.server, 'detach_interface', 'compute_detach_interface',
                'error')
        self.set_back(values)
        self.assert_ports(self.first)

    def test_unrescued_before_it_begins(self):
        """The port is for the server, whichever guest it has."""
        self.be_rescued()
        lock = host_task.HostTask._lock

        def unrescue_and_lock(task):
            if isinstance(task, operation.AttachPort):
                self.unrescue()
            return lock(task)

        with fixtures.MonkeyPatch(
                'nova_rescue_ext.task.host_task.HostTask._lock',
                unrescue_and_lock):
            self.attach()
        self.assert_ports(self.first, self.second)
        self.assertEqual('ACTIVE', self.wait_until_done('ACTIVE')['status'])

    @contextlib.contextmanager
    def unrescuing(self, name):
        """An unrescue waits for the lock from when this is called on."""
        original = test_rescue_failure.resolve(name)
        lock = host_task.HostTask._lock
        waiting = []

        def unrescue_first(*args, **kwargs):
            if not waiting:
                self.act('unrescue')
                while not waiting:
                    time.sleep(0.05)
            return original(*args, **kwargs)

        def note_and_lock(task):
            if isinstance(task, unrescue_operation.Unrescue):
                waiting.append(task)
            return lock(task)

        with fixtures.MonkeyPatch(
                'nova_rescue_ext.task.host_task.HostTask._lock',
                note_and_lock), fixtures.MonkeyPatch(name, unrescue_first):
            yield
        self.wait_until_done('ACTIVE')

    def test_unrescued_meanwhile(self):
        """It sees which ports there are when it is its turn."""
        self.be_rescued()
        with self.unrescuing('nova.network.neutron.API.'
                             'allocate_for_instance'):
            self.attach()
        self.assert_ports(self.first, self.second)

    def test_unrescued_while_it_is_detached(self):
        self.be_rescued()
        with self.unrescuing(DRIVER + 'detach_interface'):
            self.detach(self.first)
        self.assert_ports()

    def test_busy(self):
        """nova-api does not wait for ever, and gives an answer that is true.

        A volume that is attached or detached takes no task.
        """
        self.be_rescued()
        self.flags(rpc_response_timeout=6)
        with lockutils.internal_lock(self.server['id']):
            response = attach_port(self, self.server, self.second['id'])
        self.assertEqual(409, response.status_code, response.text)
        self.assertIn('while it is in use by another request', response.text)
        time.sleep(0.5)  # for an attach that comes later
        self.assert_free(self.second)
        self.attach()

    def test_host_that_does_not_answer(self):
        """It may be attached in a while, or never."""
        self.be_rescued()
        # Of nova-conductor, whose exceptions are not known to nova-api.
        relayed = messaging.RemoteError('MessagingTimeout', 'no reply')
        for ask, what, call, error in (
                (attach_port, self.second['id'], 'attach_interface',
                 messaging.MessagingTimeout()),
                (attach_volume, uuids.volume,
                 'reserve_block_device_name', messaging.MessagingTimeout()),
                (attach_volume, uuids.volume,
                 'reserve_block_device_name', relayed)):
            with fixtures.MockPatch('nova.compute.rpcapi.ComputeAPI.' + call,
                                    side_effect=error):
                self.assert_refused_in_rescue(
                    ask(self, self.server, what),
                    'did not answer in time whether it was attached')
        with fixtures.MockPatch(
                'nova.compute.rpcapi.ComputeAPI.attach_interface',
                side_effect=messaging.RemoteError('ValueError', 'broken')):
            self.assertEqual(500, attach_port(
                self, self.server, self.second['id']).status_code)
        self.assert_ports(self.first)

    def test_rights(self):
        """As Nova's: what the server's project may not use is not used."""
        self.be_rescued()
        for port_id, status in ((uuids.unknown, 404),
                                (self.first['id'], 409)):
            response = attach_port(self, self.server, port_id)
            self.assertEqual(status, response.status_code, response.text)
        self.neutron._ports[self.second['id']]['tenant_id'] = uuids.other
        response = attach_port(self, self.server, self.second['id'])
        self.assertEqual(400, response.status_code, response.text)
        response = detach_port(self, self.server, self.second['id'])
        self.assertIn(response.status_code, (202, 404), response.text)
        self.assert_ports(self.first)

    def test_refused(self):
        self.be_rescued()
        requests = ((attach_port, self.second, 'create', 'attach'),
                    (detach_port, self.first, 'delete', 'detach'))
        for ask, port, name, verb in requests:
            for version in ('1.0', '1.3'):
                self.assert_refused_in_rescue(
                    ask(self, self.server, port['id'], version),
                    "Cannot '%s_interface' instance" % verb,
                    'while it is in vm_state rescued')
            self.change_compute_node(compute_rescue='1.3')
            self.assert_refused_in_rescue(
                ask(self, self.server, port['id']),
                'does not serve compute-rescue 1.4')
            self.change_compute_node(compute_rescue='1.4')
            policy = 'rescue_ext:os-attach-interfaces:%s:rescued' % name
            self.policy.set_rules({policy: '!'}, overwrite=False)
            self.assert_refused_in_rescue(
                ask(self, self.server, port['id']), policy, status=403)
            self.set(self.server, task_state='migrating')
            response = ask(self, self.server, port['id'])
            self.assertEqual(409, response.status_code)
            self.set(self.server, task_state=None)
        self.assert_ports(self.first)


class MigratedTest(test_live_migration.LiveMigrationTestCase):
    """What was done in rescue, on the host that the server migrated to."""

    def setUp(self):
        super().setUp()
        self.flags(device_detach_timeout=1, group='libvirt')

    def names(self, host):
        guest = self.computes[host].driver._host.get_guest(
            self.instance(self.server))
        self.assertTrue(guest.is_active())
        return [(disk.source_path or '').rpartition('/')[2]
                for disk in guest.get_all_disks()]

    def reboot(self):
        self.act('reboot', type='HARD')

    def test_volume(self):
        """Attached on one host, and detached on the other."""
        self.serve_volumes()
        for volume_id in (uuids.one, uuids.two):
            attach_volume(self, self.server, volume_id)
            self._wait_for_volume_attach(self.server['id'], volume_id)
        self.migrate()
        self.reboot()
        response = detach_volume(self, self.server, uuids.one)
        self.assertEqual(202, response.status_code, response.text)
        self.wait_until(
            lambda: uuids.one not in volumes_of(self, self.server))
        self.unrescue(self.server)
        guest = self.computes['compute2'].driver._host.get_guest(
            self.instance(self.server))
        self.assertEqual(
            {'vda': None, 'vdd': uuids.two},
            {disk.target_dev: disk.serial for disk in guest.get_all_disks()})

    def serve_volumes(self):
        self.useFixture(devices.Serials(self.domains))
        self.rescue_now(**STABLE)
        self.put_raw_disks('disk', 'disk.rescue')
        self.volume = uuids.one

    def hold(self, name):
        """Hold the first call of a function.

        :returns: Events: that it is held, and that it may go on
        """
        function = test_rescue_failure.resolve(name)
        held, go_on = threading.Event(), threading.Event()

        def hold(*args, **kwargs):
            if not held.is_set():
                held.set()
                go_on.wait(60)
            return function(*args, **kwargs)

        self.addCleanup(go_on.set)
        self.patch(name, hold)
        return held, go_on

    def test_while_a_volume_is_attached(self):
        """The destination would not know it."""
        self.serve_volumes()
        held, go_on = self.hold('nova.virt.block_device.convert_volume')
        attach_volume(self, self.server, self.volume)
        held.wait(60)
        self.refused_by_host('is being attached to it')
        go_on.set()
        self._wait_for_volume_attach(self.server['id'], self.volume)
        self.migrate()

    def test_volume_that_is_attached_after_the_check(self):
        self.serve_volumes()
        held, go_on = self.hold('nova.virt.block_device.convert_volume')
        wait = source.Migration.wait_for_devices

        def attach_and_wait(migration):
            self.set_task(None)
            attach_volume(self, self.server, self.volume)
            held.wait(60)
            self.set_task('migrating')
            return wait(migration)

        with fixtures.MonkeyPatch(
                'nova_rescue_ext.live_migration.source.Migration.'
                'wait_for_devices', attach_and_wait):
            self.assert_fails()
        go_on.set()
        self._wait_for_volume_attach(self.server['id'], self.volume)
        self.migrate()

    def set_task(self, task_state):
        instance = self.instance(self.server)
        instance.task_state = task_state
        instance.save()

    def test_port_that_is_being_attached(self):
        """The migration comes after it, and takes it along."""
        self.serve_volumes()
        held, go_on = self.hold(
            'nova_rescue_ext.live_migration.source.Migration.'
            'wait_for_devices')
        response = self.ask_migration(self.server)
        self.assertEqual(202, response.status_code, response.text)
        held.wait(60)
        with lockutils.internal_lock(self.server['id']):
            go_on.set()
            time.sleep(1)
            self.assertEqual([], self.migrations)
            self.assertIsNone(instance_metadata.attempt_of(
                self.instance(self.server)))
        self.assert_migrated(self.server, 'compute2')

    def test_port(self):
        """Attached on one host, and detached on the other."""
        self.useFixture(devices.Taps(self.neutron))
        first, second = self.neutron.port_1, self.neutron.port_2
        self.neutron.create_port({'port': second})
        self.server = self._create_server(
            host='compute1', networks=[{'port': first['id']}])
        self.rescue_now()
        self.put_raw_disks('disk', 'disk.rescue')
        response = attach_port(self, self.server, second['id'])
        self.assertEqual(200, response.status_code, response.text)
        self.migrate()
        both = {first['mac_address'], second['mac_address']}
        self.assertEqual(both, addresses(self, self.server, 'compute2'))
        self.assertEqual({first['id'], second['id']},
                         ports_of(self, self.server))
        for port in (first, second):
            self.assertEqual('compute2', self.neutron.show_port(
                port['id'])['port']['binding:host_id'])
        response = detach_port(self, self.server, first['id'])
        self.assertEqual(202, response.status_code, response.text)
        self.wait_until(lambda: addresses(
            self, self.server, 'compute2') == {second['mac_address']})
        self.wait_until(
            lambda: ports_of(self, self.server) == {second['id']})
        self.unrescue(self.server)
        self.assertEqual({second['mac_address']},
                         addresses(self, self.server, 'compute2'))

    def test_stopped(self):
        """It can be migrated when it is started again."""
        self.rescue_now()
        self.put_raw_disks('disk', 'disk.rescue')
        self.act('os-stop')
        self.assertNotEqual(202, self.ask_migration(
            self.server, compute='2.30').status_code)
        self.assert_in_rescue_on(self.server, 'compute1')
        self.act('os-start')
        self.migrate()
        self.act('os-stop')
        self.act('os-start')
        self.unrescue(self.server)
        self.assertEqual(['disk'], self.names('compute2'))

    def act(self, action, **parameters):
        response = act(self, self.server, action, **parameters)
        self.assertEqual(202, response.status_code, response.text)
        self._wait_for_server_parameter(
            self.server, {'OS-EXT-STS:task_state': None, 'status': 'RESCUE'})

    @nightly
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

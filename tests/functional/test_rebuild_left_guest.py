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

"""Guests that a failed build may have left on a host."""

from unittest import mock

from keystoneauth1 import exceptions as ks_exc
from nova import context as nova_context
from nova import exception
from nova import objects
from nova.virt import fake
from oslo_concurrency import lockutils
from oslo_db import exception as db_exc
import oslo_messaging as messaging

from nova_rescue_ext.rebuild import compute
from tests.functional import operator_base
from tests.functional import rebuild_base


def leave_guests(test):
    """Spawn fails after it has started a guest, and so does destroy.

    :returns: patches, which end that
    """
    spawn = fake.FakeDriver.spawn

    def spawn_and_fail(*args, **kwargs):
        spawn(*args, **kwargs)
        raise exception.NovaException('no answer of the guest')

    def fail(*args, **kwargs):
        raise exception.NovaException('no answer of the hypervisor')

    return [test.patch('nova.virt.fake.FakeDriver.spawn', spawn_and_fail),
            test.patch('nova.virt.fake.FakeDriver.destroy', fail)]


class LeftGuestTest(rebuild_base.RebuildTestCase):

    def create_with_left_guest(self):
        self.add_capacity()
        self.broken = leave_guests(self)
        server = self.create()
        self.assertEqual(('ERROR', 'cell1', {}), (
            server['status'], self.cell_of(server), self.allocations(server)))
        for patch in self.broken:
            patch.stop()
        self.add_capacity('host2')
        return server

    def look(self, host='host1'):
        compute._last_look.clear()
        self.computes[host].manager.update_available_resource(self.context)

    def remove_guest(self, server):
        driver = self.computes['host1'].manager.driver
        driver.instances.pop(server['id'])

    def forget_fault(self):
        """Only what the host has recorded tells of the guest."""
        self.patch('nova_rescue_ext.rebuild.fault.host_that_may_have_guest',
                   lambda fault: None)

    def test_no_second_guest(self):
        self.forget_fault()
        server = self.create_with_left_guest()
        for _round in range(2):
            self.assert_refused(409, self.rebuild(server),
                                'may still have its guest')
            self.look()
            self.look('host2')
        self.assertIn('may still be on this host', self.stdlog.logger.output)
        self.remove_guest(server)
        self.look()
        self.rebuilt(server)

    def test_restart(self):
        server = self.create_with_left_guest()
        self.restart_compute_service(self.computes['host1'],
                                     keep_hypervisor_state=False)
        self.rebuilt(server)

    def test_restart_while_it_is_there(self):
        server = self.create_with_left_guest()
        compute._last_look.clear()
        self.computes['host1'].manager.update_available_resource(
            self.context, startup=True)
        self.assert_refused(409, self.rebuild(server), 'guest')

    def test_hypervisor_does_not_answer(self):
        """No answer is not a no."""
        self.forget_fault()
        server = self.create_with_left_guest()
        self.remove_guest(server)

        def fail(*args):
            raise exception.HypervisorUnavailable()

        broken = self.patch('nova.virt.fake.FakeDriver.list_instance_uuids',
                            fail)
        self.look()
        self.assert_refused(409, self.rebuild(server), 'guest')
        broken.stop()
        self.look()
        self.rebuilt(server)

    def test_state_is_reset_while_it_boots(self):
        """Nova gives the build up, and leaves the guest that it started."""
        spawn = fake.FakeDriver.spawn

        def spawn_and_reset(driver, context, instance, *args, **kwargs):
            spawn(driver, context, instance, *args, **kwargs)
            self.admin_api.post_server_action(
                instance.uuid, {'os-resetState': {'state': 'error'}})

        self.add_capacity()
        booting = self.patch('nova.virt.fake.FakeDriver.spawn',
                             spawn_and_reset)
        server = self.create()
        self.await_true(lambda: not self.allocations(server))
        booting.stop()
        self.add_capacity('host2')
        self.assertEqual(1, len(self.computes['host1'].driver.instances))
        self.assert_refused(409, self.rebuild(server),
                            'may still have its guest')
        self.remove_guest(server)
        self.look()
        self.rebuilt(server)

    def test_saved_without_an_answer(self):
        """Nova gives up a build that has booted, and cannot say so."""
        server = self.create_failed()
        self.add_capacity()
        save, lost = objects.Instance.save, []

        def save_and_lose(instance, *args, **kwargs):
            save(instance, *args, **kwargs)
            if (instance.vm_state == 'error' and instance.launched_at
                    and not lost):
                lost.append(instance)
                raise db_exc.DBConnectionError()

        sending = self.patch(
            'nova.scheduler.client.query.SchedulerQueryClient.'
            'update_instance_info',
            mock.Mock(side_effect=messaging.MessagingTimeout()))
        self.patch('nova.objects.Instance.save', save_and_lose)
        self.assertEqual(202, self.rebuild(server).status_code)
        self.await_true(lambda: 'instance.rebuild.error' in [
            notification['event_type']
            for notification in self.notifier.versioned_notifications])
        sending.stop()
        self.assertTrue(lost)
        self.assert_refused(409, self.rebuild(server),
                            'may still have its guest')
        self.remove_guest(server)
        self.look()
        self.rebuilt(server)

    def test_no_guest_no_mark(self):
        """The guest was destroyed, and only then something failed."""
        self.add_capacity()

        def fail(*args, **kwargs):
            raise exception.NovaException('broken')

        spawn = self.patch('nova.virt.fake.FakeDriver.spawn', fail)
        destroy = self.patch('nova.virt.fake.FakeDriver.destroy', fail)
        server = self.create()
        spawn.stop()
        destroy.stop()
        self.rebuilt(server)

    def create_on_stock_host(self):
        """The host records nothing but the fault."""
        stock = self.patch('nova_rescue_ext.rebuild.compute._is_being_built',
                           lambda instance: False)
        server = self.create_with_left_guest()
        stock.stop()
        return server

    def test_stock_host(self):
        server = self.create_on_stock_host()
        self.assert_refused(409, self.rebuild(server),
                            'may still have its guest')
        self.assertIn('rebuild-release --no-guest', self.stdlog.logger.output)
        # By now the package is active there.
        self.look()
        self.assert_refused(409, self.rebuild(server),
                            'may still have its guest')
        self.remove_guest(server)
        self.look()
        self.rebuilt(server)

    def test_stock_host_that_has_cleaned_up(self):
        self.add_capacity()
        spawn = self.patch('nova.virt.fake.FakeDriver.spawn', mock.Mock(
            side_effect=exception.BuildAbortException(
                instance_uuid='x', reason='broken')))
        server = self.create()
        self.assertEqual('cell1', self.cell_of(server))
        spawn.stop()
        self.rebuilt(server)

    def test_looks_now_and_then(self):
        self.add_capacity()
        manager = self.computes['host1'].manager
        looks = []
        self.patch('nova_rescue_ext.rebuild.compute._left_servers',
                   lambda *args: looks.append(args) or [])
        for _round in range(3):
            manager.update_available_resource(self.context)
        self.assertEqual(0, len(looks))  # it has looked at its start
        compute._last_look[manager] = None
        for _round in range(3):
            manager.update_available_resource(self.context)
        self.assertEqual(1, len(looks))


class ReleaseTest(operator_base.OperatorMixin, rebuild_base.RebuildTestCase):
    """nova-compute was killed in the middle of a build."""

    def setUp(self):
        super().setUp()
        self.patch('nova_rescue_ext.cmd.manage._start_as_nova',
                   lambda config_files: None)
        self.add_capacity()
        self.server = self.create_not_given_up()

    def create_not_given_up(self):
        kill = mock.Mock(side_effect=rebuild_base.Killed)
        spawn = self.patch('nova.virt.fake.FakeDriver.spawn', kill)
        server = self.api.post_server({'server': {
            'name': 'web', 'flavorRef': '1', 'networks': 'none',
            'imageRef': self.IMAGE}})
        self.await_true(lambda: kill.called)
        spawn.stop()
        self.admin_api.post_server_action(
            server['id'], {'os-resetState': {'state': 'error'}})
        self.change_row(server, host='host1', node='host1')
        return self.api.get_server(server['id'])

    def release(self, *argv):
        try:
            return self.run_command('rebuild-release', self.server['id'],
                                    *argv)[1]
        except SystemExit as exc:
            return str(exc)

    def look(self):
        compute._last_look.clear()
        self.computes['host1'].manager.update_available_resource(self.context)

    def test_release(self):
        self.assert_refused(409, self.rebuild(self.server), 'rebuild-release')
        self.assertNotIn('host1', self.rebuild(self.server).text)
        self.assertIn('has not looked yet', self.release())
        self.look()
        self.assertIn('is off host host1', self.release())
        self.assertIn('No host has it', self.release())
        self.rebuilt(self.server)
        self.assertEqual(1, len(self.allocations(self.server)))

    def test_after_a_delete_that_failed(self):
        mapping = objects.InstanceMapping.get_by_instance_uuid(
            self.context, self.server['id'])
        mapping.queued_for_delete = True
        mapping.save()
        self.look()
        self.assertIn('is off host host1', self.release())
        self.rebuilt(self.server)

    def test_placement_does_not_answer(self):
        """Its allocation would stay, and no command could find it."""
        self.look()
        with mock.patch('nova.scheduler.client.report.SchedulerReportClient.'
                        'delete', side_effect=ks_exc.ConnectFailure('gone')):
            self.assertIn('Nothing was done', self.release())
        self.assertIn('is off host host1', self.release())
        self.assertEqual({}, self.allocations(self.server))

    def test_killed_in_the_middle(self):
        """It can be repeated."""
        self.look()
        patch = self.patch(
            'nova.scheduler.client.report.SchedulerReportClient.'
            'delete_allocation_for_instance',
            mock.Mock(side_effect=rebuild_base.Killed))
        self.assertRaises(rebuild_base.Killed, self.release)
        patch.stop()
        self.assertIn('is off host host1', self.release())
        self.rebuilt(self.server)

    def test_guest(self):
        driver = self.computes['host1'].manager.driver
        self.look()
        driver.instances[self.server['id']] = mock.Mock()
        self.look()
        self.assertIn('has a guest of it', self.release())
        self.assert_refused(409, self.rebuild(self.server))

    def test_rebuilt_while_the_hypervisor_is_slow(self):
        """What it answers then is of the build that was given up."""
        self.look()

        def be_overtaken(*args):
            slow.stop()
            self.assertIn('is off host host1', self.release())
            broken = leave_guests(self)
            self.failed_again(self.server)
            for patch in broken:
                patch.stop()
            recorded.append(self.system_metadata())
            return True

        recorded = []

        slow = self.patch('nova_rescue_ext.rebuild.compute._may_have_guest',
                          be_overtaken)
        self.look()
        self.assertEqual(recorded, [self.system_metadata()])
        self.assert_refused(409, self.rebuild(self.server),
                            'may still have its guest')

    def system_metadata(self):
        with nova_context.target_cell(
                self.context, self.cell_mappings['cell1']) as context:
            return objects.Instance.get_by_uuid(
                context, self.server['id'],
                expected_attrs=['system_metadata']).system_metadata

    def test_while_it_is_built(self):
        """The guest is on its way."""
        lock = lockutils.internal_lock(self.server['id'])
        with lock:
            self.look()
        self.assertIn('has not looked yet', self.release())

    def test_host_is_gone(self):
        self.assertIn('nova-compute runs on', self.release('--host-is-gone'))
        self.set_down('host1', True)
        self.assertIn('use --host-is-gone', self.release())
        self.assertIn('is off host', self.release('--host-is-gone'))
        self.add_capacity('host2')
        self.rebuilt(self.server)

    def test_operator_has_looked(self):
        self.assertIn('--no-guest', self.release())
        self.assertIn('has not looked yet', self.release('--no-guest'))
        self.patch('nova_rescue_ext.capabilities.report_builds',
                   lambda resources: resources)
        self.look()
        self.change_row(self.server, host='host1')
        self.assertIn('is off host host1', self.release('--no-guest'))
        self.rebuilt(self.server)

    def test_operator_has_looked_where_a_host_could_not_clean_up(self):
        self.api.delete_server(self.server['id'])
        self.server = LeftGuestTest.create_on_stock_host(self)
        self.assert_refused(409, self.rebuild(self.server), 'guest')
        self.patch('nova_rescue_ext.capabilities.keeps_volumes',
                   lambda node: False)
        self.assertIn('is off host host1', self.release('--no-guest'))
        self.rebuilt(self.server)

    create_with_left_guest = LeftGuestTest.create_with_left_guest

    def test_others_are_left_alone(self):
        booted = self.create()
        self.server = self.api.get_server(booted['id'])
        self.admin_api.post_server_action(
            booted['id'], {'os-resetState': {'state': 'error'}})
        self.look()
        self.assertIn('It has booted', self.release('--host-is-gone'))

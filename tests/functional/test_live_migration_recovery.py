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


"""Migrations of rescued servers that nobody runs any more."""

import datetime
from unittest import mock

import ddt
import fixtures
from keystoneauth1 import exceptions as ks_exc
from nova.compute import instance_actions
from nova.compute import power_state
from nova import context as nova_context
from nova.db.main import api as main_api
from nova import exception
from nova.network import neutron
from nova import objects
from nova.tests.fixtures import libvirt
from oslo_db import exception as db_exc
import oslo_messaging as messaging
from oslo_service import loopingcall
from oslo_utils.fixture import uuidsentinel as uuids
from oslo_utils import timeutils

from nova_rescue_ext import instance_metadata
from nova_rescue_ext.live_migration import periodic
from nova_rescue_ext.live_migration import recovery
from nova_rescue_ext.live_migration import source
from tests.functional import operator_base
from tests.functional import test_live_migration_delete


class Death(BaseException):
    """Nobody catches it."""


def placement_is_gone():
    """In here, no allocation can be deleted."""
    return mock.patch('nova.scheduler.client.report.SchedulerReportClient.'
                      'put', side_effect=ks_exc.ConnectFailure('gone'))


class RecoveryTestCase(test_live_migration_delete.DeleteTestCase):

    def look(self, host='compute1'):
        """What nova-compute on a host does each minute."""
        periodic.look(self.computes[host].manager, self.context)

    def pass_time(self, hours=1):
        """Nobody has changed anything for this long."""
        later = timeutils.utcnow(with_timezone=True) + datetime.timedelta(
            hours=hours)
        self.patch('nova_rescue_ext.live_migration.recovery.timeutils',
                   mock.Mock(wraps=timeutils,
                             utcnow=lambda with_timezone: later))

    def task_state(self):
        return self.instance(self.server).task_state

    def allocations(self, consumer):
        return set(self.placement.get('/allocations/' + consumer).body[
            'allocations'])

    def last_migration(self):
        migrations = objects.MigrationList.get_by_filters(
            self.context, {'instance_uuid': self.server['id']})
        return migrations[0] if migrations else None


class NotBegunTest(RecoveryTestCase):
    """Nobody can end it who has not begun."""

    def assert_free(self):
        self.wait_until(lambda: self.task_state() is None)
        self.assert_in_rescue_on(self.server, 'compute1')
        self.assert_deleted(test_live_migration_delete.DELETE,
                            self.delete(test_live_migration_delete.DELETE))

    def test_the_message_bus_fails(self):
        self.patch('nova.conductor.rpcapi.ComputeTaskAPI.'
                   'live_migrate_instance', mock.Mock(
                       side_effect=messaging.MessageDeliveryFailure('gone')))
        response = self.ask_migration(self.server)
        self.assertEqual(500, response.status_code, response.text)
        self.assert_free()

    def test_no_answer(self):
        """nova-conductor may be at work."""
        self.patch('nova.conductor.rpcapi.ComputeTaskAPI.'
                   'migrate_server', mock.Mock(
                       side_effect=messaging.MessagingTimeout()))
        self.ask_migration(self.server, compute='2.30')
        self.assertEqual('migrating', self.task_state())
        self.look()
        self.assertEqual('migrating', self.task_state())
        self.pass_time()
        self.look()
        self.assert_free()

    def test_no_migration_can_be_made(self):
        self.patch('nova.objects.migration.Migration.create', mock.Mock(
            side_effect=db_exc.DBConnectionError('no database')))
        response = self.ask_migration(self.server)
        self.assertEqual(202, response.status_code, response.text)
        self.assert_free()

    def test_the_conductor_dies(self):
        """It has made a migration, and moved the allocation to it."""
        self.patch('nova.conductor.tasks.live_migrate.LiveMigrationTask.'
                   '_find_destination', mock.Mock(side_effect=Death))
        before = self.allocations(self.server['id'])
        self.ask_migration(self.server)
        self.wait_until(
            lambda: self.last_status(self.server) == 'accepted')
        migration = self.last_migration()
        self.wait_until(lambda: self.allocations(migration.uuid) == before)
        self.look()
        self.assertEqual('migrating', self.task_state())
        self.pass_time()
        self.look()
        self.assertEqual('error', self.last_status(self.server))
        self.assertEqual(before, self.allocations(self.server['id']))
        self.assertEqual(set(), self.allocations(migration.uuid))
        self.assert_free()

    def test_delete_of_one_that_has_no_migration(self):
        self.set_task_state(begun=False)
        self.assert_deleted(test_live_migration_delete.DELETE,
                            self.delete(test_live_migration_delete.DELETE))

    def test_called_by_nova(self):
        self.set_task_state(begun=False)
        self.pass_time()
        self.patch('nova.compute.manager.ComputeManager.run_periodic_tasks',
                   lambda *args, **kwargs: 7.5)
        manager = self.computes['compute1'].manager
        # Without the seconds, Nova would never call it again.
        self.assertEqual(7.5, manager.periodic_tasks(self.context))
        self.assert_free()

    def test_not_by_nova_that_shuts_down(self):
        manager = self.computes['compute1'].manager
        if not hasattr(manager, 'set_shutdown_in_progress'):
            self.skipTest('Nova 34 is the first that tells')
        self.set_task_state(begun=False)
        self.pass_time()
        manager.set_shutdown_in_progress()
        try:
            manager.periodic_tasks(self.context)
        except loopingcall.LoopingCallDone:
            pass  # Debian has it end so, Nova 34.0.0 returns None
        self.assertEqual('migrating', self.task_state())


@ddt.ddt
class AfterTheMoveTest(RecoveryTestCase):
    """The guest runs on the destination, and something fails."""

    def setUp(self):
        super().setUp()
        self.patch('nova.virt.libvirt.driver.LibvirtDriver.get_diagnostics',
                   lambda *args: {})

    def boot(self):
        return self._create_server(host='compute1', networks=[
            {'port': self.neutron.port_1['id']}])

    def assert_finished(self):
        """As after any migration."""
        self.assert_migrated(self.server)
        self.assert_files(self.server, 'disk', 'disk.rescue', 'disk.eph0')
        bindings = self.neutron._port_bindings[self.neutron.port_1['id']]
        self.assertEqual('ACTIVE', bindings['compute2']['status'])
        self.assertEqual({self.compute_rp_uuids['compute2']},
                         self.allocations(self.server['id']))
        self.assertEqual(set(), self.allocations(self.last_migration().uuid))
        self.unrescue(self.server)
        self.assert_files(self.server, 'disk', 'disk.eph0')

    def wait_for_end(self):
        migration = self.wait_until(self.last_migration)
        self.wait_until(lambda: self.migrations
                        and not source.is_at_work(migration.uuid))
        self.assertNotEqual('ERROR', self.api.get_server(
            self.server['id'])['status'])

    @ddt.data('migrate_instance_start', 'migrate_instance_finish')
    def test_neutron(self, call):
        name = 'nova.network.neutron.API.' + call
        failing = mock.patch(name, side_effect=exception.
                             PortBindingActivationFailed(port_id='1',
                                                         host='compute2'))
        if call.endswith('start'):
            # Below ours.
            failing = mock.patch(
                'nova.network.neutron.API.has_port_binding_extension',
                self.fail_after_the_move)
        with failing:
            self.ask_migration(self.server)
            self.wait_for_end()
            self.assertEqual('migrating' if call.endswith('finish') else None,
                             self.task_state())
        self.look()
        self.assert_finished()

    def test_the_answer_of_libvirt_is_lost(self):
        """From Nova 32.2 on it is an error, though the guest has moved."""
        self.patch('nova.tests.fixtures.libvirt.Domain.migrateToURI3',
                   self.migrate_and_fail)
        self.ask_migration(self.server)
        self.wait_for_end()
        self.assert_in_rescue_on(self.server, 'compute2')
        self.assertEqual('completed', self.last_status(self.server))
        self.assertEqual({self.compute_rp_uuids['compute2']},
                         self.allocations(self.server['id']))
        self.assertTrue(self.files('compute1'))  # there is no proof

    def test_the_answer_of_libvirt_is_lost_and_a_later_step_fails(self):
        """The task has ended on the destination, where the server runs."""
        self.patch('nova.tests.fixtures.libvirt.Domain.migrateToURI3',
                   self.migrate_and_fail)
        with mock.patch(
                'nova.compute.manager.ComputeManager.'
                '_update_scheduler_instance_info', self.fail_after_the_move):
            self.ask_migration(self.server)
            self.wait_for_end()
        self.assertTrue(self.failed)
        self.assertEqual('running', self.last_status(self.server))
        self.assert_in_rescue_on(self.server, 'compute2')
        self.look()
        self.assert_in_rescue_on(self.server, 'compute2')
        self.assertEqual('completed', self.last_status(self.server))

    def test_nova_loses_sight_of_it(self):
        """The hosts are asked where the guest runs."""
        def monitor(driver, context, instance, guest, *args):
            self.wait_until(lambda: self.migrations)
            self.stop(guest._domain)
            raise libvirt.libvirtError('no answer')

        self.patch('nova.virt.libvirt.driver.LibvirtDriver.'
                   '_live_migration_monitor', monitor)
        self.ask_migration(self.server)
        self.wait_for_end()
        self.assertEqual('migrating', self.task_state())
        self.assertIn('may run on either host', self.stdlog.logger.output)
        self.look()
        self.assert_in_rescue_on(self.server, 'compute2')
        self.assertEqual('completed', self.last_status(self.server))

    def migrate_and_fail(self, domain, *args, **kwargs):
        self._migrate(domain, *args, **kwargs)
        self.stop(domain)
        raise libvirt.make_libvirtError(
            libvirt.libvirtError, 'lost',
            error_code=libvirt.VIR_ERR_INTERNAL_ERROR,
            error_domain=libvirt.VIR_FROM_QEMU)

    def stop(self, domain):
        """Nova's double would go on running on the source."""
        domain._state = libvirt.VIR_DOMAIN_SHUTOFF
        domain._connection._mark_not_running(domain)
        domain._connection._undefine(domain)

    def fail_after_the_move(self, *args, **kwargs):
        if self.migrations and not self.failed:
            self.failed = True
            raise exception.PortBindingActivationFailed(port_id='1',
                                                        host='compute2')
        return True

    failed = False

    def test_the_database_once(self):
        """After the move nothing of ours needs it."""
        get = objects.Instance.get_by_uuid

        def fail(context, uuid, *args, **kwargs):
            if self.migrations and source.is_at_work(
                    self.last_migration().uuid):
                raise db_exc.DBConnectionError('no database')
            return get(context, uuid, *args, **kwargs)

        with mock.patch.object(objects.Instance, 'get_by_uuid', fail):
            self.ask_migration(self.server)
            self.wait_for_end()
        self.assert_finished()
        self.assertIsNone(self.files('compute1'))


class BeforeTheMoveTest(RecoveryTestCase):

    def test_the_database_once(self):
        """It is rolled back, and no error of the server."""
        get, failed = objects.Instance.get_by_uuid, []

        def fail(context, uuid, *args, **kwargs):
            if self.last_status(self.server) == 'running' and not failed:
                failed.append(uuid)
                raise db_exc.DBConnectionError('no database')
            return get(context, uuid, *args, **kwargs)

        self.patch('nova_rescue_ext.live_migration.source.objects',
                   mock.Mock(Instance=mock.Mock(get_by_uuid=fail)))
        self.assert_fails()
        self.assertEqual(1, len(failed))
        self.assert_cleaned('compute2')


class InterruptedTestCase(RecoveryTestCase):

    def setUp(self):
        super().setUp()
        self.flags(resume_guests_state_on_host_boot=True)
        self.started = []
        self.patch('nova.virt.libvirt.driver.LibvirtDriver.'
                   'resume_state_on_host_boot',
                   lambda *args: self.started.append(args))
        self.answers = {}
        self.patch('nova_rescue_ext.live_migration.recovery.runs_on',
                   lambda services, context, instance, host:
                   self.answers[host])

    def move_guest(self):
        """Let the guest run on the other host."""
        source, dest = (self.computes[host].driver._host
                        for host in ('compute1', 'compute2'))
        guest = source.get_guest(self.instance(self.server))
        xml = guest.get_xml_desc().replace('/compute1/', '/compute2/')
        guest.poweroff()
        guest.delete_configuration()
        dest.get_connection().createXML(xml, 0)

    def hold_allocations(self):
        """As from nova-conductor's first step on."""
        self.computes['compute1'].manager.reportclient.move_allocations(
            self.context, self.server['id'], self.last_migration().uuid)

    def interrupt(self, state=power_state.RUNNING, status='running'):
        """As if nova-compute had been killed in the middle.

        :param state: of the guest on the source
        """
        instance = self.instance(self.server)
        instance.task_state = 'migrating'
        instance.power_state = power_state.RUNNING
        migration = objects.Migration(
            self.context, instance_uuid=instance.uuid, status=status,
            migration_type='live-migration', source_compute='compute1',
            dest_compute='compute2', source_node='compute1',
            dest_node='compute2')
        if 'dest_compute_id' in migration.fields:
            node = objects.ComputeNode.get_by_host_and_nodename(
                self.context, 'compute2', 'compute2')
            migration.dest_compute_id = node.id
        migration.create()
        instance_metadata.begin_attempt(instance, migration.uuid)
        instance.save()
        manager = self.computes['compute1'].manager
        self.useFixture(fixtures.MockPatchObject(
            manager, '_get_power_state', lambda *args: state))
        # Nova's double, before Nova 34, has a job for ever.
        manager.driver._host.get_guest(
            instance)._domain._job_type = libvirt.VIR_DOMAIN_JOB_NONE
        manager._init_instance(self.context, self.instance(self.server))


@ddt.ddt
class BeforeTheMoveResetTest(InterruptedTestCase):
    """The server has lost its task before its guest was moved."""

    STATES = ('queued', 'preparing')

    def reset(self, status, state=power_state.RUNNING, **changes):
        """What its allocations were, and the migration."""
        before = self.allocations(self.server['id'])
        self.interrupt(state, status)
        self.hold_allocations()
        migration = self.last_migration()
        instance = self.instance(self.server)
        # As nova-api has chosen it.
        instance_metadata.request_attempt(instance, migration.uuid)
        if status not in self.STATES:
            instance_metadata.end_attempt(instance)
        instance.vm_state, instance.task_state = 'error', None
        instance.update(changes)
        instance.save()
        return before, migration

    def assert_ended(self, migration, allocations):
        self.assertEqual('error', self.last_status(self.server))
        self.assertEqual(set(), self.allocations(migration.uuid))
        self.assertEqual(allocations, self.allocations(self.server['id']))
        self.assertIsNone(instance_metadata.attempt_of(
            self.instance(self.server)))

    def assert_not_ended(self, migration):
        self.assertEqual(migration.status, self.last_status(self.server))
        self.assertNotEqual(set(), self.allocations(migration.uuid))

    @ddt.data(*((status, state) for status in STATES for state in (
        power_state.RUNNING, power_state.SHUTDOWN)))
    @ddt.unpack
    def test_it_is_where_it_was(self, status, state):
        before, migration = self.reset(status, state)
        self.look()
        self.assert_ended(migration, before)

    def test_the_conductor_may_be_at_work(self):
        before, migration = self.reset('accepted')
        self.look()
        self.assert_not_ended(migration)
        self.pass_time()
        self.look()
        self.assert_ended(migration, before)

    @ddt.data(*STATES)
    def test_it_was_evacuated(self, status):
        _, migration = self.reset(status, power_state.NOSTATE,
                                  host='compute2')
        self.look()
        self.assert_ended(migration, set())

    def test_it_was_evacuated_and_its_guest_is_here(self):
        """Its volumes are in use until Nova destroys it."""
        _, migration = self.reset('preparing', host='compute2')
        self.look()
        self.assert_not_ended(migration)

    def test_placement_does_not_answer(self):
        _, migration = self.reset('preparing', power_state.NOSTATE,
                                  host='compute2')
        with placement_is_gone():
            self.look()
        self.assert_not_ended(migration)
        self.look()
        self.assert_ended(migration, set())

    @ddt.data('compute1', 'compute2')
    def test_somebody_is_at_work(self, host):
        """On the server, or on the migration."""
        _, migration = self.reset('preparing', power_state.NOSTATE,
                                  host=host, task_state='rebuilding')
        self.look()
        self.assert_not_ended(migration)
        instance = self.instance(self.server)
        instance.task_state = None
        instance.save()
        with source.at_work(migration.uuid, self.server['id']):
            self.look()
        self.assert_not_ended(migration)

    def test_it_is_not_of_a_rescued_server(self):
        """Nova's own migrations are none of ours."""
        _, migration = self.reset('preparing')
        instance = self.instance(self.server)
        instance_metadata.end_attempt(instance)
        instance_metadata.request_attempt(instance, uuids.another)
        instance.save()
        self.look()
        self.assert_not_ended(migration)

    def test_it_was_deleted(self):
        _, migration = self.reset('preparing', vm_state='active')
        self.api.delete_server(self.server['id'])
        self._wait_until_deleted(self.server)
        self.look()
        self.assertEqual(set(), self.allocations(migration.uuid))
        self.assertEqual('error', objects.Migration.get_by_id(
            self.context, migration.id).status)


class MovingResetTest(InterruptedTestCase):
    """It has lost its task, and perhaps its guest, while it was moved."""

    def reset(self, answer):
        """What its allocations were, and the migration."""
        before = self.allocations(self.server['id'])
        self.interrupt(power_state.SHUTDOWN)
        self.hold_allocations()
        self.answers['compute2'] = answer
        self.patch('nova_rescue_ext.live_migration.domain.is_left_behind',
                   lambda *args: True)
        instance = self.instance(self.server)
        instance.vm_state, instance.task_state = 'error', None
        instance.save()
        self.look()
        return before

    def test_its_host_has_lost_power(self):
        before = self.reset(False)
        self.assertEqual('error', self.last_status(self.server))
        self.assertIn('Look for a directory of it on compute2',
                      self.stdlog.logger.output)
        self.assertEqual(before, self.allocations(self.server['id']))

    def test_its_host_has_lost_power_and_the_other_does_not_answer(self):
        self.reset(None)
        self.assertEqual('running', self.last_status(self.server))


class DeletedTest(InterruptedTestCase):
    """The server is deleted before its source has closed the books."""

    def setUp(self):
        super().setUp()
        self.interrupt(power_state.NOSTATE)
        self.hold_allocations()
        self.first = self.last_migration()

    def delete_and_look(self, **changes):
        """What the migration holds then, and its status."""
        instance = self.instance(self.server)
        instance.task_state = None
        instance.update(changes)
        instance.save()
        self.api.delete_server(self.server['id'])
        self._wait_until_deleted(self.server)
        self.look()
        return (self.allocations(self.first.uuid),
                objects.Migration.get_by_id(self.context,
                                            self.first.id).status)

    def test_deleted(self):
        self.assertEqual((set(), 'error'), self.delete_and_look())

    def test_never_migrated_in_rescue(self):
        """Nova's own migrations are none of ours."""
        instance = self.instance(self.server)
        instance_metadata.end_attempt(instance)
        held = self.allocations(self.first.uuid)
        self.assertNotEqual(set(), held)
        self.assertEqual((held, 'running'), self.delete_and_look(
            system_metadata=instance.system_metadata))


class KeptTest(RecoveryTestCase):
    """Placement was away just when a migration has ended."""

    def assert_given_back(self, allocations):
        migration = self.last_migration()
        self.wait_until(lambda: not source.is_at_work(migration.uuid))
        self.assertEqual({self.compute_rp_uuids['compute1']},
                         self.allocations(migration.uuid))
        self.pass_time()
        self.look()
        self.assertEqual(set(), self.allocations(migration.uuid))
        self.assertEqual(allocations, self.allocations(self.server['id']))

    def test_it_has_moved(self):
        self.patch('nova.compute.manager.ComputeManager.'
                   '_delete_allocation_after_move', mock.Mock())
        self.ask_migration(self.server)
        self.wait_for_migration(self.server, 'completed')
        self.assert_given_back({self.compute_rp_uuids['compute2']})

    def test_no_host_was_found(self):
        self.patch('nova.conductor.tasks.migrate.'
                   'revert_allocation_for_migration', mock.Mock())
        self.patch('nova.conductor.tasks.live_migrate.LiveMigrationTask.'
                   '_find_destination',
                   mock.Mock(side_effect=exception.NoValidHost(reason='x')))
        before = self.allocations(self.server['id'])
        self.ask_migration(self.server)
        self.wait_for_migration(self.server, 'error')
        self.assertEqual(set(), self.allocations(self.server['id']))
        self.assert_given_back(before)


class AskedTest(RecoveryTestCase):
    """A host is asked whether it runs the guest."""

    def test_no(self):
        self.set_task_state()
        self.assert_no_fault()

    def test_no_and_its_state_was_reset(self):
        self.set_task_state()
        instance = self.instance(self.server)
        instance.vm_state, instance.task_state = 'active', None
        instance.save()
        self.assert_no_fault()

    def assert_no_fault(self):
        """The owner would read the fault; each minute there was one more."""
        instance = self.instance(self.server)
        services = periodic.services_of(self.computes['compute1'].manager)
        self.assertIs(False, recovery.runs_on(services, self.context,
                                              instance, 'compute2'))
        self.assertEqual({self.server['id']: []},
                         main_api.instance_fault_get_by_instance_uuids(
                             self.context, [self.server['id']]))


@ddt.ddt
class RestartTest(InterruptedTestCase):
    """nova-compute starts, and finds a server that migrates."""

    def test_it_runs_here(self):
        self.interrupt()
        self.answers['compute2'] = False
        self.look()
        self.assert_in_rescue_on(self.server, 'compute1')
        self.assertEqual('error', self.last_status(self.server))

    def test_it_runs_here_and_the_destination_is_down(self):
        self.interrupt()
        self.answers['compute2'] = None
        self.look()
        self.assert_in_rescue_on(self.server, 'compute1')

    def test_qemu_goes_on_with_it(self):
        """libvirt does not need nova-compute for that."""
        self.interrupt()
        self.answers['compute2'] = False
        guest = self.computes['compute1'].driver._host.get_guest(
            self.instance(self.server))._domain
        guest._job_type = libvirt.VIR_DOMAIN_JOB_UNBOUNDED
        with mock.patch.object(type(guest), 'abortJob') as abort:
            self.look()
        abort.assert_called_once()
        self.assertEqual('migrating', self.task_state())
        guest._job_type = libvirt.VIR_DOMAIN_JOB_NONE
        self.look()
        self.assert_in_rescue_on(self.server, 'compute1')

    def test_placement_does_not_answer(self):
        """That is no answer."""
        before = self.allocations(self.server['id'])
        self.interrupt()
        self.hold_allocations()
        self.answers['compute2'] = False
        with mock.patch('nova.scheduler.client.report.SchedulerReportClient.'
                        'get', return_value=mock.MagicMock(
                            spec_set=['status_code', 'text', '__bool__'],
                            status_code=503, text='',
                            __bool__=lambda itself: False)):
            self.look()
        self.assertEqual('migrating', self.task_state())
        self.look()
        self.assert_in_rescue_on(self.server, 'compute1')
        self.assertEqual(before, self.allocations(self.server['id']))

    def test_it_was_stopped_when_it_waited(self):
        """Nova cancels it, and no more."""
        before = self.allocations(self.server['id'])
        self.interrupt(status='cancelled')
        self.hold_allocations()
        self.assertEqual('migrating', self.task_state())
        self.pass_time()
        self.look()
        self.assert_in_rescue_on(self.server, 'compute1')
        self.assertEqual(before, self.allocations(self.server['id']))

    @ddt.data('running', 'running (post-copy)')
    def test_it_runs_there(self, status):
        """A second guest on the same disks must not be started."""
        self.interrupt(power_state.NOSTATE, status)
        self.move_guest()
        self.assertEqual('migrating', self.task_state())
        self.assertEqual([], self.started)
        self.assertEqual(409, self.act('unrescue').status_code)
        self.answers['compute2'] = True
        self.look()
        self.assert_migrated(self.server)
        self.assertEqual([], self.started)

    def test_the_owner_begins_something_else(self):
        """What is done of the migration is no part of that."""
        migrated = self.begin_action(instance_actions.LIVE_MIGRATION)
        self.interrupt(power_state.NOSTATE)
        self.move_guest()
        self.answers['compute2'] = True
        locked = []
        set_up = neutron.API.setup_networks_on_host

        def lock(*args, **kwargs):
            locked.append(self.begin_action(instance_actions.LOCK))
            return set_up(*args, **kwargs)

        self.patch('nova.network.neutron.API.setup_networks_on_host', lock)
        self.look()
        self.assert_migrated(self.server)
        event, = self.events_of(migrated)
        self.assertEqual('Success', event.result)
        self.assertEqual([], self.events_of(*locked))

    def begin_action(self, name):
        return objects.InstanceAction.action_start(
            nova_context.get_admin_context(), self.server['id'], name)

    def events_of(self, *actions):
        return [event for action in actions for event
                in objects.InstanceActionEventList.get_by_action(
                    self.context, action.id)]

    def test_nobody_answers(self):
        self.interrupt(power_state.NOSTATE)
        self.answers['compute2'] = None
        with mock.patch('nova_rescue_ext.live_migration.domain.'
                        'is_left_behind', return_value=False):
            self.look()
        self.assertEqual('migrating', self.task_state())
        self.assertIn('settle-migration', self.stdlog.logger.output)

    def test_it_ended_here(self):
        self.interrupt(power_state.SHUTDOWN)
        self.answers['compute2'] = False
        with mock.patch('nova_rescue_ext.live_migration.domain.'
                        'is_left_behind', return_value=True):
            self.look()
        self.assert_in_rescue_on(self.server, 'compute1')

    def test_it_has_gone_and_is_nowhere(self):
        self.interrupt(power_state.SHUTDOWN)
        self.answers['compute2'] = False
        with mock.patch('nova_rescue_ext.live_migration.domain.'
                        'is_left_behind', return_value=False):
            self.look()
        self.assertEqual('migrating', self.task_state())


@ddt.ddt
class SettleTest(operator_base.OperatorMixin, InterruptedTestCase):
    """nova-rescue-ext-manage settle-migration."""

    def setUp(self):
        super().setUp()
        self.patch('nova_rescue_ext.cmd.manage._start_as_nova',
                   lambda config_files: None)
        self.requests = self.failures = []
        self.interrupt(power_state.NOSTATE)

    def settle(self, *argv, runs=()):
        self.answers.update(compute1='compute1' in runs,
                            compute2='compute2' in runs)
        return self.run_command('settle-migration', self.server['id'],
                                '--older-than', '0', *argv)

    def test_it_runs_there(self):
        self.move_guest()
        code, output = self.settle(runs=['compute2'])
        self.assertEqual(0, code, output)
        self.assert_migrated(self.server)

    def test_it_runs_here(self):
        code, output = self.settle(runs=['compute1'])
        self.assertEqual(0, code, output)
        self.assert_in_rescue_on(self.server, 'compute1')
        self.assertEqual('error', self.last_status(self.server))

    @ddt.data((['compute1', 'compute2'], 'on both'), ([], 'on neither'))
    @ddt.unpack
    def test_refused(self, runs, words):
        code, output = self.settle(runs=runs)
        self.assertEqual(1, code)
        self.assertIn(words, output)
        self.assertEqual('migrating', self.task_state())

    def test_one_does_not_answer(self):
        self.settle()
        self.answers['compute2'] = None
        code, output = self.run_command(
            'settle-migration', self.server['id'], '--older-than', '0')
        self.assertEqual(1, code)
        self.assertIn('compute2 does not answer', output)
        self.assertIn('--runs-on', output)
        self.assertEqual('migrating', self.task_state())
        code, output = self.run_command(
            'settle-migration', self.server['id'], '--older-than', '0',
            '--runs-on', 'compute2')
        self.assertEqual(0, code, output)
        self.assert_in_rescue_on(self.server, 'compute2')
        self.assertEqual('completed', self.last_status(self.server))

    def test_placement_does_not_answer(self):
        """nova-compute on the source does the rest."""
        self.hold_allocations()
        self.settle()
        self.answers['compute2'] = None
        with placement_is_gone():
            code, output = self.run_command(
                'settle-migration', self.server['id'], '--older-than', '0',
                '--runs-on', 'compute2')
        self.assertEqual(0, code, output)
        self.assertIn('held on compute1 cannot be released',
                      self.stderr.getvalue())
        self.assert_in_rescue_on(self.server, 'compute2')
        self.assertEqual('running', self.last_status(self.server))
        self.look()
        self.assertEqual('completed', self.last_status(self.server))
        self.assertEqual(set(), self.allocations(self.last_migration().uuid))

    def test_the_destination_cannot_take_it_over(self):
        self.move_guest()
        self.patch('nova.compute.manager.ComputeManager.'
                   'post_live_migration_at_destination', mock.Mock(
                       side_effect=exception.PortBindingFailed(port_id='1')))
        code, output = self.settle(runs=['compute2'])
        self.assertEqual(0, code, output)
        self.assertIn('cannot take it over', self.stderr.getvalue())
        self.assert_migrated(self.server)

    def test_the_operator_is_wrong(self):
        code, output = self.settle('--runs-on', 'compute2',
                                   runs=['compute1'])
        self.assertEqual(1, code)
        self.assertEqual('migrating', self.task_state())

    def reset(self, **changes):
        """What an administrator does, or nova-compute."""
        instance = self.instance(self.server)
        instance.update(dict(vm_state='error', task_state=None, **changes))
        instance.save()

    def test_reset_while_the_hosts_are_asked(self):
        """Nothing is done that the server does not wait for."""
        def answer(services, context, instance, host):
            self.reset()
            return host == 'compute1'

        self.patch('nova_rescue_ext.live_migration.recovery.runs_on', answer)
        code, output = self.settle()
        self.assertEqual(1, code, output)
        self.assertIn('nothing is done. It is error, with task None.', output)
        self.assertEqual('running', self.last_status(self.server))

    @ddt.data('compute1', 'compute2')
    def test_reset_while_it_is_settled(self, host):
        asked = recovery.is_up

        def is_up(*args):
            self.reset()
            return asked(*args)

        self.patch('nova_rescue_ext.live_migration.recovery.is_up', is_up)
        self.patch('nova_rescue_ext.live_migration.recovery.activate_ports',
                   lambda *args: self.reset())
        code, output = self.settle(runs=[host])
        self.assertEqual(1, code, output)
        self.assertIn('its state was reset meanwhile', output)

    def test_migrated_once_more_while_the_hosts_are_asked(self):
        def answer(services, context, instance, host):
            if self.last_status(self.server) == 'running':
                migration = self.last_migration()
                migration.status = 'error'
                migration.save()
                self.interrupt(power_state.NOSTATE, 'preparing')
            return host == 'compute1'

        self.patch('nova_rescue_ext.live_migration.recovery.runs_on', answer)
        code, output = self.settle()
        self.assertEqual(1, code, output)
        self.assertIn('once more', output)

    def test_no_such_server(self):
        code, output = self.run_command('settle-migration', uuids.none)
        self.assertEqual(1, code, output)
        self.assertIn('no such server', output)

    def test_dry_run(self):
        code, output = self.settle('--dry-run', runs=['compute2'])
        self.assertEqual(0, code)
        self.assertIn('compute2', output)
        self.assertEqual('migrating', self.task_state())

    def test_too_young(self):
        self.settle('--dry-run', runs=['compute2'])
        code, output = self.run_command('settle-migration',
                                        self.server['id'])
        self.assertEqual(1, code)
        self.assertIn('--older-than', output)
        self.assertEqual('migrating', self.task_state())

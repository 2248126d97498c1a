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


"""Who may do what to a rescued server whose live migration is in doubt."""

import contextlib
import datetime
import os
import threading
from unittest import mock

import fixtures
from nova.compute import utils as compute_utils
from nova import conf
from nova import exception
from nova import objects
from oslo_messaging.rpc import dispatcher
from oslo_serialization import jsonutils
from oslo_utils.fixture import uuidsentinel as uuids
from oslo_utils import timeutils
import testtools

from nova_rescue_ext import exception as ext_exception
from nova_rescue_ext import instance_metadata
from nova_rescue_ext.live_migration import compute
from nova_rescue_ext.live_migration import destination
from nova_rescue_ext.live_migration import domain
from nova_rescue_ext.live_migration import libvirt
from nova_rescue_ext.live_migration import periodic
from nova_rescue_ext.live_migration import recovery
from nova_rescue_ext.live_migration import source
from nova_rescue_ext.live_migration import staging

LAUNCHED_AT = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)


class DoubtTestCase(testtools.TestCase):

    def setUp(self):
        super().setUp()
        objects.register_all()
        self.fresh = self.instance()
        self.original = mock.Mock(return_value='done')
        self.manager = mock.Mock(host='source', _waiting_live_migrations={})
        self.get = self.patch('nova.objects.Instance.get_by_uuid', mock.Mock(
            side_effect=lambda *args, **kwargs: self.fresh))
        self.known = {}
        self.patch('nova_rescue_ext.live_migration.checks.check_volumes',
                   mock.Mock())
        self.patch('nova.objects.Migration.get_by_id',
                   lambda *args: self.known[args[-1]])
        self.migration = self.make_migration(1)

    def patch(self, name, new):
        return self.useFixture(fixtures.MonkeyPatch(name, new)).new_value

    def instance(self, **values):
        return objects.Instance(**dict({
            'uuid': uuids.instance, 'vm_state': 'rescued', 'host': 'source',
            'task_state': 'migrating', 'system_metadata': {},
            'deleted': False, 'launched_at': LAUNCHED_AT,
            'updated_at': timeutils.utcnow(with_timezone=True)}, **values))

    def make_migration(self, number, status='preparing'):
        migration = mock.Mock(id=number, status=status, dest_compute='dest',
                              source_compute='source',
                              instance_uuid=uuids.instance,
                              updated_at=timeutils.utcnow(
                                  with_timezone=True))
        migration.uuid = getattr(uuids, 'migration%d' % number)
        self.known[number] = migration
        return migration

    def make_old(self):
        """No service works on the migration any longer."""
        self.migration.updated_at -= datetime.timedelta(
            seconds=conf.CONF.long_rpc_timeout)

    def set_unfinished(self, *migrations):
        self.patch('nova.objects.MigrationList.get_by_filters',
                   mock.Mock(return_value=list(migrations)))

    def data(self, **values):
        return objects.LibvirtLiveMigrateData(**values)

    def source_migration(self, **values):
        return source.Migration(None, self.instance(), 'dest',
                                self.migration, self.data(**values))


class RollBackTest(DoubtTestCase):

    def roll_back(self, host):
        self.manager.host = host
        return compute.rollback_live_migration_at_destination(
            self.original, self.manager, None, self.instance(), True, None)

    def test_another_migration_has_moved_it_here(self):
        self.fresh = self.instance(host='dest')
        self.roll_back('dest')
        self.original.assert_not_called()
        end = self.manager._end_pending_dest_live_migration_task
        end.assert_called_once_with(uuids.instance)

    def test_not_here(self):
        self.assertEqual('done', self.roll_back('dest'))

    def test_deleted(self):
        self.get.side_effect = exception.InstanceNotFound(instance_id='x')
        self.assertEqual('done', self.roll_back('dest'))

    def test_another_begins_before_nova_destroys_anything(self):
        """Nova looks at ports and devices first."""
        def begin(*args):
            instance_metadata.begin_attempt(self.fresh, uuids.another)
            return libvirt.rollback_live_migration_at_destination(
                self.driver, None, None, self.instance(), None, {})

        self.driver, self.original.side_effect = mock.Mock(), begin
        self.roll_back('dest')
        self.driver.assert_not_called()

    def test_metadata_that_were_saved_since(self):
        """Nova saves what it has got."""
        def change(*args):
            self.fresh.system_metadata['new'] = 'yes'
            return libvirt.rollback_live_migration_at_destination(
                lambda context, instance, *args, **kwargs:
                instance.system_metadata, None, None, self.instance(), None,
                {})

        self.original.side_effect = change
        self.assertEqual({'new': 'yes'}, self.roll_back('dest'))


class LateMessageTest(DoubtTestCase):
    """Each message of a roll-back to the destination."""

    def setUp(self):
        super().setUp()
        self.manager.host = 'dest'
        self.sent = self.instance()
        self.runs_on = self.patch(
            'nova_rescue_ext.live_migration.recovery.runs_on',
            mock.Mock(return_value=False))

    def deliver(self):
        """All of them; whether they were acted on."""
        for args in ((compute.rollback_live_migration_at_destination,
                      self.sent, True, None),
                     (compute.drop_move_claim_at_destination, self.sent),
                     (compute.remove_volume_connection, uuids.volume,
                      self.sent)):
            try:
                args[0](self.original, self.manager, None, *args[1:])
            except dispatcher.ExpectedException as exc:
                # None would say that it is disconnected.
                self.assertIs(compute.remove_volume_connection, args[0])
                self.assertIsInstance(exc.exc_info[1],
                                      exception.MigrationError)
                self.assertEqual(0, self.original.call_count)
        self.assertIn(self.original.call_count, (0, 3))
        return self.original.call_count == 3

    def test_in_time(self):
        for instance in (self.fresh, self.sent):
            instance_metadata.begin_attempt(instance, uuids.attempt)
        self.assertTrue(self.deliver())

    def test_of_one_that_was_aborted(self):
        instance_metadata.begin_attempt(self.sent, uuids.attempt)
        self.assertTrue(self.deliver())

    def test_the_server_is_here(self):
        self.fresh = self.instance(host='dest')
        self.assertFalse(self.deliver())

    def test_another_has_begun(self):
        instance_metadata.begin_attempt(self.sent, uuids.attempt)
        instance_metadata.begin_attempt(self.fresh, uuids.another)
        self.assertFalse(self.deliver())

    def test_the_guest_is_here_and_the_host_is_not_yet_saved(self):
        self.manager._get_power_state.return_value = 1
        self.assertFalse(self.deliver())
        self.runs_on.return_value = None
        self.assertFalse(self.deliver())

    def test_both_run_it(self):
        """The source knows what it asks for."""
        self.manager._get_power_state.return_value = 1
        self.runs_on.return_value = True
        self.assertTrue(self.deliver())

    def test_not_in_rescue(self):
        self.sent = self.instance(vm_state='active')
        self.fresh = self.instance(host='dest', vm_state='active')
        self.assertTrue(self.deliver())


class BeginTest(DoubtTestCase):

    def begin(self):
        return compute.do_live_migration(
            self.original, self.manager, None, 'dest', self.instance(), True,
            self.migration, self.data())

    def assert_not_begun(self, status='error'):
        self.begin()
        self.original.assert_not_called()
        self.assertEqual(status, self.migration.status)

    def test_the_only_one(self):
        self.set_unfinished(self.migration)
        self.assertEqual('done', self.begin())
        self.assertEqual('preparing', self.migration.status)

    def test_moved_meanwhile(self):
        self.set_unfinished(self.migration)
        self.fresh = self.instance(host='dest', task_state=None)
        self.assert_not_begun()

    def test_another_was_asked_for(self):
        self.set_unfinished(self.migration, self.make_migration(2))
        self.assert_not_begun()

    def test_another_is_at_work(self):
        """An older one, as nova-conductor came late to this."""
        older = self.make_migration(0, 'running')
        self.set_unfinished(self.migration, older)
        with source.at_work(older.uuid, uuids.instance):
            self.assert_not_begun()

    def test_nobody_is_at_work_on_another(self):
        """It has not ended, for example as its source was restarted."""
        self.set_unfinished(self.migration, self.make_migration(0, 'running'))
        self.assertEqual('done', self.begin())

    def test_its_message_comes_twice(self):
        self.set_unfinished(self.migration)
        with self.source_migration():
            self.assert_not_begun('preparing')
        self.migration.status = 'completed'
        self.fresh = self.instance(host='dest', task_state=None)
        self.assert_not_begun('completed')

    def test_no_longer_in_rescue(self):
        """The task is that of another migration."""
        self.set_unfinished(self.migration)
        self.fresh = self.instance(vm_state='active')
        self.assert_not_begun()

    def test_aborted_right_before_qemu_starts(self):
        """It ends as an abort, also if Nova calls it done."""
        self.set_unfinished(self.migration)

        def give_up(*args):
            ours = source.Migration.of_this_thread(uuids.instance)
            ours.is_given_up = ours._has_begun = True

        self.original.side_effect = give_up
        self.begin()
        self.assertEqual('cancelled', self.migration.status)
        self.manager._notify_live_migrate_abort_end.assert_called_once()

    def test_its_own_abort(self):
        self.set_unfinished(self.migration)
        with source.at_work(self.migration.uuid, uuids.instance):
            self.assertEqual('done', self.begin())


class QueueTest(DoubtTestCase):
    """The message to the source."""

    def deliver(self):
        compute.live_migration(
            self.original, self.manager, None, 'dest', self.instance(), True,
            mock.Mock(id=1, uuid=self.migration.uuid, status='accepted'),
            self.data())

    def queue(self, status):
        self.migration.status = status
        self.deliver()
        return self.original.called

    def test_new(self):
        self.assertTrue(self.queue('accepted'))

    def test_twice_or_late(self):
        for status in ('queued', 'preparing', 'running',
                       'running (post-copy)', 'completed', 'failed',
                       'cancelled', 'error'):
            self.assertFalse(self.queue(status), status)

    def test_two_at_once(self):
        """The second one waits until Nova has queued the first."""
        second = threading.Thread(target=self.deliver)

        def queue(*args):
            if self.original.call_count == 1:
                second.start()
                second.join(0.2)
            self.migration.status = 'queued'

        self.original.side_effect = queue
        self.migration.status = 'accepted'
        self.deliver()
        second.join()
        self.assertEqual(1, self.original.call_count)


class AbortTest(DoubtTestCase):
    """A message to abort that comes late."""

    def abort(self):
        compute.live_migration_abort(self.original, self.manager, None,
                                     self.instance(), 1)
        return self.original.called

    def test_in_time(self):
        self.manager._waiting_live_migrations[uuids.instance] = (
            self.migration, mock.Mock())
        self.assertTrue(self.abort())

    def test_about_to_be_queued(self):
        self.manager._waiting_live_migrations[uuids.instance] = (None, None)
        self.assertTrue(self.abort())

    def test_it_has_ended(self):
        for self.migration.status in ('completed', 'failed', 'error'):
            self.assertFalse(self.abort())

    def test_the_next_one_waits(self):
        self.manager._waiting_live_migrations[uuids.instance] = (
            self.make_migration(2), mock.Mock())
        self.assertFalse(self.abort())


class EndTest(DoubtTestCase):

    def test_it_has_ended_meanwhile(self):
        self.migration.status = 'completed'
        old = mock.Mock(id=1, status='running')
        self.assertFalse(recovery.end(None, old, 'error'))
        self.assertEqual('completed', self.migration.status)
        self.migration.save.assert_not_called()

    def test_it_is_finished_after_an_error(self):
        """With settle-migration."""
        self.migration.status = 'error'
        self.assertFalse(recovery.end(None, self.migration, 'cancelled'))
        self.assertTrue(recovery.end(None, self.migration, 'completed'))
        self.assertEqual('completed', self.migration.status)
        self.assertFalse(recovery.end(None, self.migration, 'completed'))

    def test_it_has_not(self):
        for status in recovery.OF_QEMU:
            self.migration.status = status
            self.assertTrue(recovery.end(None, self.migration, 'error'))
            self.assertEqual('error', self.migration.status)


class ProofTest(DoubtTestCase):

    def test_no_manifest_is_no_proof(self):
        """Another version has answered the check."""
        for values in ({}, {'is_shared_instance_path': False}):
            ours = self.source_migration(**values)
            self.assertFalse(ours.may_delete_source())
            self.assertRaises(exception.MigrationError, ours.prepare,
                              self.data(**values))
            self.assertIsNone(instance_metadata.attempt_of(self.fresh))

    def test_shared(self):
        self.patch('nova.objects.Instance.save', mock.Mock())
        values = {'is_shared_instance_path': True}
        ours = self.source_migration(**values)
        ours.prepare(self.data(**values))
        self.assertTrue(ours.may_delete_source())
        self.assertTrue(ours.begin_or_give_up(self.data(**values)))

    def test_a_failure_before_the_attempt_is_no_abort(self):
        self.assertFalse(self.source_migration().is_aborted())

    def test_aborted(self):
        self.patch('nova.objects.Instance.save', mock.Mock())
        values = {'is_shared_instance_path': True}
        ours = self.source_migration(**values)
        ours.prepare(self.data(**values))
        instance_metadata.end_attempt(self.fresh)
        self.assertTrue(ours.is_aborted())


class SupersededTest(DoubtTestCase):
    """What the source does when the server is no longer its own."""

    def setUp(self):
        super().setUp()
        self.set_unfinished()
        self.claims = self.patch(
            'nova_rescue_ext.live_migration.recovery.drop_claims',
            mock.Mock())
        self.patch('nova.objects.Instance.save', mock.Mock())
        instance_metadata.begin_attempt(self.fresh, self.migration.uuid)

    @contextlib.contextmanager
    def begun(self):
        """The source's thread, when the destination is prepared."""
        values = {'is_shared_instance_path': True}
        with self.source_migration(**values) as ours:
            ours.prepare(self.data(**values))
            yield ours

    def roll_back(self):
        compute.rollback_live_migration(self.original, self.manager, None,
                                        self.instance(), 'dest', None)
        if self.original.called:
            self.claims.assert_not_called()
        else:
            self.assertEqual(1, self.claims.call_count)
            self.assertEqual('error', self.migration.status)
        return self.original.called

    def test_current(self):
        with self.begun():
            self.assertTrue(self.roll_back())

    def test_aborted(self):
        with self.begun():
            instance_metadata.end_attempt(self.fresh)
            self.assertTrue(self.roll_back())

    def test_deleted(self):
        with self.begun():
            self.get.side_effect = exception.InstanceNotFound(instance_id='x')
            self.assertTrue(self.roll_back())

    def test_not_begun_after_an_earlier_one(self):
        instance_metadata.begin_attempt(self.fresh, uuids.earlier)
        with self.source_migration():
            self.assertTrue(self.roll_back())

    def test_evacuated(self):
        with self.begun():
            self.fresh.host = 'third'
            self.assertFalse(self.roll_back())

    def test_evacuated_to_the_destination(self):
        with self.begun():
            self.fresh.host = 'dest'
            self.assertFalse(self.roll_back())

    def test_another_has_begun(self):
        with self.begun():
            instance_metadata.begin_attempt(self.fresh, uuids.another)
            self.assertFalse(self.roll_back())

    def test_not_ours(self):
        self.fresh.host = 'third'
        self.assertTrue(self.roll_back())

    def test_the_error_is_none_of_the_server(self):
        """Nova would set it to ERROR."""
        with self.begun() as ours:
            ours.take_over(None, None, lambda *args, **kwargs:
                           self.roll_back())
            with ours.moving(self.data()):
                self.fresh.host = 'third'
                ours.roll_back(self.data())
                raise ValueError()
        self.original.assert_not_called()

    def test_evacuated_before_it_is_prepared(self):
        self.fresh.host = 'third'
        with self.source_migration(is_shared_instance_path=True) as ours:
            self.assertRaises(exception.MigrationError, ours.prepare,
                              self.data(is_shared_instance_path=True))

    def test_evacuated_before_the_move(self):
        with self.begun() as ours:
            recover = mock.Mock()
            ours.take_over(None, None, recover)
            self.fresh.host = 'third'
            self.assertFalse(ours.begin_or_give_up(
                self.data(is_shared_instance_path=True)))
            self.assertEqual(1, recover.call_count)

    def post(self):
        compute.post_live_migration(self.original, self.manager, None,
                                    self.instance(), 'dest')
        return self.original.called

    def test_evacuated_and_moved(self):
        """Nova would say that it is on the destination."""
        with self.begun():
            self.fresh.host = 'third'
            self.assertFalse(self.post())

    def test_moved(self):
        for host in ('source', 'dest'):
            with self.begun():
                self.fresh.host = host
                self.assertTrue(self.post())
            self.fresh.host = 'source'


class HandedOverTest(DoubtTestCase):
    """A post-copy fails when the guest goes on elsewhere."""

    def recover(self, state, reason):
        self.patch('nova.virt.libvirt.driver.libvirt',
                   mock.Mock(VIR_DOMAIN_PAUSED=3))
        driver, recover = mock.Mock(), mock.Mock()
        guest = driver._host.get_guest.return_value
        guest._domain.state.return_value = (state, reason)
        ours = self.source_migration()
        ours.take_over(driver, None, recover)
        ours.recover(None, self.instance(), 'dest', self.data())
        return recover.called

    def test_handed_over(self):
        self.assertFalse(self.recover(3, 11))
        self.assertFalse(self.recover(3, 12))

    def test_libvirt_does_not_answer(self):
        class Error(Exception):
            pass

        self.patch('nova.virt.libvirt.driver.libvirt',
                   mock.Mock(libvirtError=Error))
        driver = mock.Mock()
        guest = driver._host.get_guest.return_value
        guest._domain.state.side_effect = Error
        self.assertFalse(domain.is_handed_over(driver, self.instance()))

    def test_not(self):
        self.assertTrue(self.recover(1, 1))
        self.assertTrue(self.recover(3, 1))


class AfterTheMoveTest(DoubtTestCase):
    """What Nova does after the move has failed."""

    def post(self):
        self.original.side_effect = ValueError()
        with self.source_migration():
            return compute.post_live_migration(
                self.original, self.manager, None, self.instance(), 'dest')

    def test_it_is_done_again(self):
        self.assertIsNone(self.post())

    def test_the_database_does_not_say(self):
        self.get.side_effect = ValueError()
        self.assertIsNone(self.post())

    def test_the_state_was_reset(self):
        """Nova says where the server is, and nobody else would."""
        self.fresh = self.instance(vm_state='active', task_state=None)
        self.assertRaises(ValueError, self.post)

    def test_the_state_was_reset_after_an_evacuation(self):
        """Its guest was built here, and did not move."""
        self.fresh = self.instance(vm_state='active', task_state=None,
                                   launched_at=LAUNCHED_AT.replace(month=2))
        self.assertIsNone(self.post())

    def test_the_destination_has_taken_it_over(self):
        """Its owner may have begun something else there."""
        self.fresh = self.instance(host='dest', task_state='unrescuing')
        self.assertIsNone(self.post())

    def test_deleted(self):
        self.get.side_effect = exception.InstanceNotFound(instance_id='x')
        self.assertIsNone(self.post())


class MovedTest(DoubtTestCase):
    """The periodic look at migrations whose server no longer migrates."""

    def setUp(self):
        super().setUp()
        self.called = []
        for name in ('activate_ports', 'give_back_reset', 'set_host',
                     'finish_books'):
            self.patch('nova_rescue_ext.live_migration.recovery.' + name,
                       lambda *args, _name=name, **kwargs:
                       self.called.append(_name))
        self.patch('nova_rescue_ext.live_migration.recovery.is_up',
                   lambda *args: True)
        self.patch('nova_rescue_ext.live_migration.recovery.runs_on',
                   lambda *args: self.runs)
        for name in ('is_moving', 'is_left_behind'):
            self.patch('nova_rescue_ext.live_migration.domain.' + name,
                       lambda *args: False)
        self.runs = False
        self.manager._get_power_state.return_value = 0
        self.migration.status = 'running'
        instance_metadata.begin_attempt(self.fresh, self.migration.uuid)
        self.fresh.vm_state, self.fresh.task_state = 'active', None

    def look(self, instance=None):
        periodic._attend_moved(self.manager, None, instance or self.fresh,
                               self.migration)
        return self.called

    def test_reset_and_the_guest_is_here(self):
        self.manager._get_power_state.return_value = 1
        self.assertEqual(['give_back_reset'], self.look())

    def test_reset_and_the_guest_is_here_and_perhaps_there(self):
        """Its volumes would be disconnected."""
        self.manager._get_power_state.return_value = 1
        for self.runs in (True, None):
            with self.assertLogs(periodic.LOG.logger, 'ERROR'):
                self.assertEqual([], self.look())

    def test_reset_and_begun_while_the_destination_was_asked(self):
        self.manager._get_power_state.return_value = 1
        self.given, self.fresh = self.fresh, self.instance(
            task_state='rebooting')
        self.assertEqual([], self.look(self.given))

    def test_reset_and_the_guest_is_there(self):
        self.runs = True
        self.assertEqual(['activate_ports', 'set_host', 'finish_books'],
                         self.look())

    def test_reset_and_the_ports_cannot_be_bound_there(self):
        """A second guest would be worse."""
        self.runs = True
        self.patch('nova_rescue_ext.live_migration.recovery.activate_ports',
                   mock.Mock(side_effect=ValueError))
        with self.assertLogs(periodic.LOG.logger, 'WARNING'):
            self.assertEqual(['set_host', 'finish_books'], self.look())

    def test_moving_on(self):
        """Nova is at work at what would be changed."""
        self.fresh.host, self.fresh.task_state = 'dest', 'migrating'
        self.assertEqual([], self.look())

    def test_reset_and_nobody_knows(self):
        self.assertEqual([], self.look())

    def test_it_has_begun_to_move_since_the_list_was_made(self):
        self.migration = self.make_migration(1)
        self.make_migration(1, 'running')
        with mock.patch.object(objects.Migration, 'get_by_id', mock.Mock(
                wraps=objects.Migration.get_by_id)) as get:
            self.assertEqual([], self.look())
        get.assert_called_once()

    def test_the_guest_was_not_moved(self):
        self.migration = self.make_migration(1)
        for self.runs in (False, True, None):
            self.look()
        self.assertEqual(['give_back_reset'] * 3, self.called)

    def test_moved_on(self):
        self.fresh.host = 'third'
        self.assertEqual(['finish_books'], self.look())

    def test_of_somebody_else(self):
        instance_metadata.begin_attempt(self.fresh, uuids.another)
        self.fresh.host = 'third'
        self.assertEqual([], self.look())


class ArrivalTest(DoubtTestCase):

    def prepare(self):
        instance = self.instance()
        instance_metadata.begin_attempt(instance, self.migration.uuid)
        return compute.pre_live_migration(
            self.original, self.manager, None, instance, None, self.data())

    def setUp(self):
        super().setUp()
        self.patch('nova.virt.libvirt.utils.get_instance_path_at_destination',
                   lambda instance, migrate_data: '/nowhere')
        self.patch('nova_rescue_ext.live_migration.manifest.received',
                   lambda migrate_data: None)

    def test_current(self):
        instance_metadata.begin_attempt(self.fresh, self.migration.uuid)
        self.assertEqual('done', self.prepare())

    def test_superseded_before_any_attachment(self):
        instance_metadata.begin_attempt(self.fresh, uuids.another)
        self.assertRaises(exception.MigrationError, self.prepare)
        self.original.assert_not_called()

    def test_superseded_later(self):
        """Nova's own except does not end the task."""
        instance_metadata.begin_attempt(self.fresh, self.migration.uuid)
        self.original.side_effect = ext_exception.MigrationSuperseded
        self.assertRaises(exception.MigrationError, self.prepare)
        end = self.manager._end_pending_dest_live_migration_task
        end.assert_called_once_with(uuids.instance)

    def test_event_of_what_was_superseded(self):
        """Nova sends its exception to nova-conductor."""
        sent = self.patch('nova.objects.base.NovaObject.indirection_api',
                          mock.Mock()).object_class_action_versions
        reporter = compute_utils.EventReporter(
            mock.Mock(), 'compute_pre_live_migration', 'host', uuids.instance)
        superseded = ext_exception.MigrationSuperseded()
        self.assertFalse(compute.end_event(
            reporter.__exit__, reporter, type(superseded), superseded, None))
        jsonutils.dumps(sent.call_args.args[-1])


class LookTest(DoubtTestCase):

    def setUp(self):
        super().setUp()
        self.give_back = self.patch(
            'nova_rescue_ext.live_migration.recovery.give_back', mock.Mock())
        self.finish = self.patch(
            'nova_rescue_ext.live_migration.recovery.finish', mock.Mock())
        self.fresh.updated_at -= timeutils.datetime.timedelta(hours=1)
        self.patch('nova_rescue_ext.live_migration.periodic.CONF', mock.Mock(
            rpc_response_timeout=60, long_rpc_timeout=600))
        self.patch('nova.virt.libvirt.driver.libvirt',
                   mock.Mock(VIR_DOMAIN_SHUTOFF=5))
        self.set_power_state(1)
        self.set_unfinished()

    def set_power_state(self, state):
        self.manager._get_power_state.return_value = state

    def look(self):
        periodic._attend(self.manager, None, uuids.instance)

    def test_ended_and_the_guest_runs_here(self):
        self.look()
        self.assertEqual(1, self.give_back.call_count)

    def test_ended_and_the_guest_is_off_here(self):
        self.set_power_state(4)
        guest = self.manager.driver._host.get_guest.return_value
        guest._domain.state.return_value = (5, 1)
        self.look()
        self.assertEqual(1, self.give_back.call_count)

    def test_ended_and_the_guest_is_elsewhere(self):
        self.set_power_state(0)
        self.manager.driver._host.get_guest.side_effect = (
            exception.InstanceNotFound(instance_id='x'))
        log = self.patch('nova_rescue_ext.live_migration.periodic.LOG',
                         mock.Mock())
        self.look()
        self.give_back.assert_not_called()
        self.assertEqual(1, log.error.call_count)

    def test_the_command_knows_where_else_to_look(self):
        migrations = [self.make_migration(1, 'completed'),
                      self.make_migration(2, 'error')]
        self.patch('nova.objects.MigrationList.get_by_filters',
                   mock.Mock(side_effect=lambda *args: (
                       [] if 'status' in args[-1] else migrations)))
        self.assertIs(migrations[1],
                      recovery.to_settle(None, uuids.instance))
        migrations.pop()
        self.assertIsNone(recovery.to_settle(None, uuids.instance))

    def test_in_the_middle_of_a_roll_back(self):
        """Nova says error first."""
        with source.at_work(self.migration.uuid, uuids.instance):
            self.look()
        self.give_back.assert_not_called()

    def test_begun_during_the_look(self):
        begun = contextlib.ExitStack()
        self.addCleanup(begun.close)
        self.patch('nova_rescue_ext.live_migration.recovery.unfinished',
                   lambda *args: begun.enter_context(source.at_work(
                       self.migration.uuid, uuids.instance)))
        self.look()
        self.give_back.assert_not_called()

    def test_during_an_abort(self):
        """Nova has forgotten the migration, and not ended its task."""
        self.migration.status = 'queued'
        self.set_unfinished(self.migration)
        self.original.side_effect = lambda *args: self.look()
        compute.live_migration_abort(self.original, self.manager, None,
                                     self.instance(), 1)
        self.assertEqual(1, self.original.call_count)
        self.give_back.assert_not_called()
        self.assertFalse(source.is_at_work(self.migration.uuid))

    def test_the_end_of_an_abort_is_not_that_of_the_migration(self):
        with source.at_work(self.migration.uuid, uuids.instance):
            with source.at_work(self.migration.uuid, uuids.instance):
                pass
            self.assertTrue(source.is_at_work(self.migration.uuid))

    def ask_destination(self, is_up):
        self.patch('nova.objects.Service.get_by_compute_host', mock.Mock())
        self.patch('nova.servicegroup.API', mock.Mock(
            return_value=mock.Mock(service_is_up=lambda service: is_up)))
        asked = self.patch('nova_rescue_ext.live_migration.recovery.runs_on',
                           mock.Mock(return_value=False))
        self.migration.status = 'running'
        self.set_unfinished(self.migration)
        self.look()
        return asked.call_count

    def test_a_destination_that_is_down_is_not_asked(self):
        self.assertEqual(0, self.ask_destination(False))
        # libvirt says that the guest runs here, and that nothing moves it.
        self.assertEqual(1, self.give_back.call_count)

    def test_a_destination_that_is_up_is_asked(self):
        self.assertEqual(1, self.ask_destination(True))
        self.assertEqual(1, self.give_back.call_count)

    def test_moved(self):
        """Those of deleted servers, and of others, are no errors."""
        fresh = self.instance(host='dest', task_state=None)
        instance_metadata.begin_attempt(fresh, self.migration.uuid)
        self.migration.status = 'running'
        other = self.make_migration(2, 'running')
        other.instance_uuid = uuids.deleted
        self.patch('nova.objects.InstanceList.get_by_filters',
                   mock.Mock(return_value=[fresh]))
        finish = self.patch('nova_rescue_ext.live_migration.recovery.'
                            'finish_books', mock.Mock())
        periodic._attend_all_moved(self.manager, None,
                                   [self.migration, other])
        self.assertEqual([self.migration], [
            call.args[3] for call in finish.call_args_list])
        self.get.assert_not_called()

    def test_no_directory_of_instances(self):
        with mock.patch.object(destination, 'CONF', mock.Mock(
                instances_path='/does/not/exist', host='source')):
            destination.remove_left(None)

    def test_files_that_wait(self):
        """Of this host, for migrations that have ended, and nothing else."""
        path = self.useFixture(fixtures.TempDir()).path
        self.known_by_uuid = {uuids.copied: 'preparing',
                              uuids.moved: 'running', uuids.failed: 'error'}

        def get(*args):
            uuid = args[-1]
            if uuid not in self.known_by_uuid:
                raise exception.MigrationNotFound(migration_id=uuid)
            return mock.Mock(status=self.known_by_uuid[uuid])

        self.patch('nova.objects.Migration.get_by_uuid', get)
        kept = ['rescue_ext_arrival_%s_%s' % pair for pair in (
            ('source', uuids.copied), ('source_2', uuids.failed),
            ('dest', uuids.failed))] + [uuids.instance]
        for name in kept + ['rescue_ext_arrival_source_' + uuid for uuid in (
                uuids.moved, uuids.failed, uuids.unknown)]:
            os.mkdir(os.path.join(path, name))
        with mock.patch.object(destination, 'CONF', mock.Mock(
                instances_path=path, host='source')):
            destination.remove_left(None)
        self.assertEqual(sorted(kept), sorted(os.listdir(path)))

    def test_copies_on_the_source(self):
        path = self.useFixture(fixtures.TempDir()).path
        self.patch('nova.objects.Migration.get_by_uuid', mock.Mock(
            return_value=mock.Mock(status='error')))
        server = os.path.join(path, uuids.instance)
        kept = ['migration_x.rescue', 'disk.rescue',
                'migration_%s.rescue' % uuids.running]
        for name in kept + ['migration_%s.rescue' % uuids.ended]:
            os.makedirs(os.path.join(server, name))
        with mock.patch.object(staging, 'CONF', mock.Mock(
                instances_path=path)):
            with source.at_work(uuids.running, uuids.instance):
                source.remove_left(None)
        self.assertEqual(sorted(kept), sorted(os.listdir(server)))

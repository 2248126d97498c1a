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


"""What a migration holds that nobody needs any longer."""

from unittest import mock

from nova import exception
from nova.virt.libvirt.volume import fs
from oslo_messaging.rpc import dispatcher
from oslo_utils.fixture import uuidsentinel as uuids

from nova_rescue_ext import instance_metadata
from nova_rescue_ext.live_migration import compute
from nova_rescue_ext.live_migration import libvirt
from nova_rescue_ext.live_migration import periodic
from nova_rescue_ext.live_migration import recovery
from nova_rescue_ext.live_migration import source
from tests.unit.live_migration import test_doubt


class LookTest(test_doubt.DoubtTestCase):
    """The periodic look, where the server has moved on."""

    def setUp(self):
        super().setUp()
        self.migration.status = 'running'
        instance_metadata.begin_attempt(self.fresh, self.migration.uuid)
        self.fresh.task_state = None
        self.patch('nova.objects.InstanceList.get_by_filters',
                   mock.Mock(side_effect=self.find_instances))

    def find_instances(self, *args, **kwargs):
        is_any = args[-1].get('deleted', True)
        return [self.fresh] if is_any or not self.fresh.deleted else []

    def look(self, *migrations):
        periodic._attend_all_moved(self.manager, None,
                                   [self.migration, *migrations])
        return [call.args[1] for call in self.manager.reportclient.
                delete_allocation_for_instance.call_args_list]

    def test_deleted(self):
        self.fresh.deleted = True
        self.assertEqual([self.migration.uuid], self.look())
        self.assertEqual('error', self.migration.status)

    def test_migrated_again(self):
        instance_metadata.begin_attempt(self.fresh, uuids.another)
        self.fresh.host = 'third'
        self.assertEqual([], self.look())
        self.make_old()
        self.assertEqual([self.migration.uuid], self.look())
        self.assertEqual('completed', self.migration.status)

    def test_two_of_one_server(self):
        """None hides the other."""
        self.fresh.deleted = True
        other = self.make_migration(2, 'running')
        self.make_old()
        other.updated_at = self.migration.updated_at
        self.assertEqual([self.migration.uuid, other.uuid], self.look(other))

    def test_back_on_this_host(self):
        instance_metadata.begin_attempt(self.fresh, uuids.another)
        self.make_old()
        self.assertEqual([], self.look())

    def test_never_migrated_in_rescue(self):
        instance_metadata.end_attempt(self.fresh)
        self.fresh.host = 'third'
        self.make_old()
        self.assertEqual([], self.look())


class DeletedTest(test_doubt.DoubtTestCase):
    """Nova deletes the migrations of a server with it."""

    def setUp(self):
        super().setUp()
        self.migration.status = 'running'
        self.migration.migration_type = 'live-migration'
        self.fresh.deleted = True
        instance_metadata.begin_attempt(self.fresh, self.migration.uuid)
        self.manager.rt.compute_nodes = {'node': mock.Mock(uuid=uuids.node)}
        self.client = self.manager.reportclient
        self.client.get_allocations_for_resource_provider.return_value = (
            mock.Mock(allocations={uuids.here: {}, self.migration.uuid: {},
                                   uuids.stranger: {}}))
        self.patch('nova.objects.InstanceList.get_uuids_by_host',
                   mock.Mock(return_value=[uuids.here]))
        self.find = self.patch('nova.objects.Migration.get_by_uuid',
                               mock.Mock(side_effect=self.find_migration))
        self.context = mock.Mock()

    def find_migration(self, *args):
        uuid = args[-1]
        if uuid != self.migration.uuid:
            raise exception.MigrationNotFound(migration_id=uuid)
        return self.migration

    def look(self):
        periodic._attend_all_kept(self.manager, self.context)
        return [call.args[1] for call in self.client.
                delete_allocation_for_instance.call_args_list]

    def test_running(self):
        self.assertEqual([self.migration.uuid], self.look())
        self.assertEqual('error', self.migration.status)
        self.assertEqual({self.migration.uuid, uuids.stranger}, {
            call.args[-1] for call in self.find.call_args_list})

    def test_ended(self):
        """What was left of it, as placement was away."""
        self.migration.status = 'completed'
        self.assertEqual([self.migration.uuid], self.look())
        self.assertEqual('completed', self.migration.status)

    def test_of_another_attempt(self):
        """Nova may be at work at a stock one."""
        instance_metadata.begin_attempt(self.fresh, uuids.another)
        self.assertEqual([], self.look())
        self.make_old()
        self.assertEqual([self.migration.uuid], self.look())

    def test_not_deleted(self):
        self.fresh.deleted = False
        self.assertEqual([], self.look())
        self.make_old()
        self.assertEqual([], self.look())  # it is running

    def look_at_ended(self, host, allocations, task_state=None):
        """Of a server that was not deleted, after a while.

        :param host: the host that the server is on
        :param allocations: those that the server has
        """
        self.set_unfinished()
        self.fresh.deleted = False
        self.fresh.host, self.fresh.task_state = host, task_state
        self.migration.status = 'completed'
        self.client.get_allocs_for_consumer.return_value = {
            'allocations': allocations}
        self.assertEqual([], self.look())
        self.make_old()
        return self.look()

    def test_ended_elsewhere(self):
        self.assertEqual([self.migration.uuid],
                         self.look_at_ended('third', {1: 1}))
        self.client.move_allocations.assert_not_called()

    def test_ended_and_back_here(self):
        """It may have another flavor by now."""
        self.assertEqual([self.migration.uuid],
                         self.look_at_ended('source', {1: 1}))
        self.client.move_allocations.assert_not_called()

    def test_ended_here(self):
        self.assertEqual([], self.look_at_ended('source', {}))
        self.client.move_allocations.assert_called_once_with(
            self.context, self.migration.uuid, uuids.instance)

    def test_ended_here_and_moving_again(self):
        self.assertEqual([], self.look_at_ended('source', {}, 'migrating'))
        self.client.move_allocations.assert_not_called()

    def test_to_this_host(self):
        self.migration.source_compute = 'third'
        self.assertEqual([], self.look())

    def test_at_work(self):
        with source.at_work(self.migration.uuid, uuids.instance):
            self.assertEqual([], self.look())

    def test_of_another_kind(self):
        self.migration.migration_type = 'resize'
        self.assertEqual([], self.look())

    def test_placement_is_away(self):
        """It is asked again in a minute, and only every ten minutes after."""
        self.patch('nova_rescue_ext.live_migration.destination.remove_left',
                   mock.Mock())
        self.set_unfinished()
        self.patch('nova.objects.InstanceList.get_by_filters',
                   mock.Mock(return_value=[]))
        ask = self.client.get_allocations_for_resource_provider
        ask.side_effect = exception.ResourceProviderAllocationRetrievalFailed(
            rp_uuid='x', error='gone')
        periodic.look(self.manager, self.context)
        ask.side_effect = None
        for _minute in range(3):
            periodic.look(self.manager, self.context)
        self.assertEqual(2, ask.call_count)
        self.assertEqual('error', self.migration.status)


class MoveTest(test_doubt.DoubtTestCase):

    def test_placement_does_not_move_it(self):
        """Nobody would come back to a migration that has ended."""
        client = self.manager.reportclient
        client.get_allocs_for_consumer.return_value = {'allocations': {1: 1}}
        client.move_allocations.return_value = False
        self.migration.status = 'accepted'
        self.assertRaises(
            exception.AllocationMoveFailed, recovery.give_back_claims,
            periodic.services_of(self.manager), None, self.fresh,
            self.migration)
        self.assertEqual('accepted', self.migration.status)


class AskedTest(test_doubt.DoubtTestCase):

    def test_as_a_server_that_migrates(self):
        """Else Nova keeps a fault each time that the answer is no."""
        self.fresh.vm_state, self.fresh.task_state = 'active', None
        self.assertTrue(recovery.runs_on(
            periodic.services_of(self.manager), None, self.fresh, 'dest'))
        sent = self.manager.compute_rpcapi.get_diagnostics.call_args.args[1]
        self.assertEqual(('dest', 'rescued', 'migrating'),
                         (sent.host, sent.vm_state, sent.task_state))


class NotBegunTest(test_doubt.DoubtTestCase):
    """Another migration was asked for while this one waited."""

    def setUp(self):
        super().setUp()
        self.migration.status = 'queued'
        self.other = self.make_migration(2, 'accepted')
        self.other.dest_compute = 'third'
        self.held = {self.migration.uuid: {'rp': {}}}
        self.manager.reportclient.get_allocs_for_consumer = (
            lambda context, uuid: {'allocations': self.held.get(uuid, {})})
        self.set_unfinished(self.migration, self.other)
        self.patch('nova.objects.Migration.get_by_id',
                   mock.Mock(return_value=self.migration))
        self.manager._waiting_live_migrations[uuids.instance] = (
            self.migration, None)

    def begin(self):
        compute.do_live_migration(
            self.original, self.manager, None, 'dest', self.instance(), False,
            self.migration, self.data())
        self.original.assert_not_called()
        self.assertEqual('error', self.migration.status)
        self.assertEqual({}, self.manager._waiting_live_migrations)
        client = self.manager.reportclient
        return ([call.args[1:] for call
                 in client.move_allocations.call_args_list],
                [call.args[1] for call in client.
                 delete_allocation_for_instance.call_args_list])

    def torn_down(self):
        return [call.kwargs['host'] for call in self.manager.network_api.
                setup_networks_on_host.call_args_list]

    def test_the_other_has_found_no_allocation(self):
        """That of the guest, which is here."""
        self.assertEqual(
            ([(self.migration.uuid, self.other.uuid)], []), self.begin())
        self.assertEqual(['dest'], self.torn_down())

    def test_the_other_has_one(self):
        self.held[self.other.uuid] = {'rp': {}}
        self.other.dest_compute = 'dest'
        self.assertEqual(([], [self.migration.uuid]), self.begin())
        self.assertEqual([], self.torn_down())

    def test_the_server_has_moved_there(self):
        self.fresh.host = 'dest'
        self.assertEqual(([], [self.migration.uuid]), self.begin())
        self.assertEqual([], self.torn_down())

    def test_unrescued(self):
        self.fresh.vm_state, self.fresh.task_state = 'active', None
        self.set_unfinished(self.migration)
        self.assertEqual(
            ([(self.migration.uuid, uuids.instance)], []), self.begin())

    def test_placement_is_away(self):
        """Nobody waits for it."""
        self.manager.reportclient.get_allocs_for_consumer = mock.Mock(
            side_effect=exception.ConsumerAllocationRetrievalFailed(
                consumer_uuid='x', error='gone'))
        self.assertEqual(([], []), self.begin())


class DiagnosticsTest(test_doubt.DoubtTestCase):

    def ask(self, state):
        self.manager._get_power_state.return_value = state
        return compute.get_diagnostics(self.original, self.manager, None,
                                       self.fresh)

    def test_not_here(self):
        """Nova's own keeps a fault with the server."""
        error = self.assertRaises(dispatcher.ExpectedException, self.ask, 0)
        self.assertIs(exception.InstanceInvalidState, error.exc_info[0])
        self.original.assert_not_called()

    def test_here(self):
        self.assertEqual('done', self.ask(1))

    def test_not_migrating(self):
        self.fresh.task_state = None
        self.assertEqual('done', self.ask(0))


class MultiattachTest(test_doubt.DoubtTestCase):

    def setUp(self):
        super().setUp()
        self.patch('nova_rescue_ext.live_migration.libvirt.CONF',
                   mock.Mock(host='here'))
        self.driver = mock.Mock()
        self.driver._volume_api.get.return_value = {'attachments': {
            uuids.instance: {}, uuids.other: {}}}
        self.here = [uuids.other]
        self.patch('nova.objects.InstanceList.get_uuids_by_host', mock.Mock(
            side_effect=lambda *args: self.here if args[-1] == 'here' else []))
        self.original.return_value = True

    def is_disconnected(self, multiattach=True, vol_driver=None):
        return libvirt.should_disconnect_target(
            self.original, self.driver, None, self.fresh, multiattach,
            vol_driver, uuids.volume)

    def test_used_here_by_another(self):
        self.assertFalse(self.is_disconnected())

    def test_used_by_nobody_else_here(self):
        self.here = [uuids.instance]
        self.assertTrue(self.is_disconnected())

    def test_used_by_nobody_else_anywhere(self):
        self.driver._volume_api.get.return_value = {'attachments': {}}
        self.assertTrue(self.is_disconnected())

    def test_stock(self):
        self.assertTrue(self.is_disconnected(multiattach=False))
        self.assertTrue(self.is_disconnected(vol_driver=mock.Mock(
            spec=fs.LibvirtMountedFileSystemVolumeDriver)))
        self.fresh.vm_state = 'active'
        self.assertTrue(self.is_disconnected())
        self.original.return_value = False
        self.assertFalse(self.is_disconnected())

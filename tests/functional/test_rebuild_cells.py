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


"""Rebuild in clouds with more cells, and with another default database."""

from unittest import mock

from nova.compute import rpcapi as compute_rpcapi
from nova import context as nova_context
from nova import exception
from nova import objects
from nova.tests import fixtures as nova_fixtures
from oslo_db import exception as db_exc

from nova_rescue_ext.rebuild import compute
from nova_rescue_ext.rebuild import recovery
from tests.functional import rebuild_base


class TwoCellsTest(rebuild_base.RebuildTestCase):

    NUMBER_OF_CELLS = 2

    def test_from_cell0_to_the_second_cell(self):
        server = self.create_failed()
        self.add_capacity('host2', cell_name='cell2')
        self.rebuilt(server)
        self.assertEqual('cell2', self.cell_of(server))

    def test_nothing_is_made_in_the_old_cell(self):
        """Nova targets the context of a request when it finds the server."""
        server = self.create_failed()
        contexts = []
        self.patch('nova.conductor.api.ComputeTaskAPI.'
                   'rebuild_instance_in_cell0',
                   lambda api, context, *args: contexts.append(context))
        self.assertEqual(202, self.rebuild(server).status_code)
        self.api.delete_server(server['id'])
        context, = contexts
        self.assertEqual((None, None), (
            context.cell_uuid, context.db_connection))

    def test_from_the_first_cell_to_the_second(self):
        def fail(*args, **kwargs):
            raise exception.ComputeResourcesUnavailable(reason='broken')

        self.add_capacity('host1', cell_name='cell1')
        spawn = self.patch('nova.virt.fake.FakeDriver.spawn', fail)
        server = self.create()
        self.assertEqual(('ERROR', 'cell1'), (
            server['status'], self.cell_of(server)))
        spawn.stop()
        self.set_down('host1', True)
        self.add_capacity('host2', cell_name='cell2')
        self.rebuilt(server)
        self.assertEqual('cell2', self.cell_of(server))

    def test_late_message_to_a_conductor_without_an_api_database(self):
        """As that of a cell usually is."""
        def fail(*args, **kwargs):
            raise db_exc.CantStartEngineError('No sql_connection')

        self.before_it_is_delivered = lambda: self.patch(
            'nova_rescue_ext.rebuild.database.is_mapped', fail)
        self.test_late_message_of_the_first_cell()

    before_it_is_delivered = staticmethod(lambda: None)

    def test_late_message_of_the_first_cell(self):
        """To try a server on another host, which is in the second by now."""
        def fail(*args, **kwargs):
            raise exception.ComputeResourcesUnavailable(reason='broken')

        for host in ('host1', 'host2'):
            self.add_capacity(host, cell_name='cell1')
        spawn = self.patch('nova.virt.fake.FakeDriver.spawn', fail)
        server, deliver = self.create_to_be_rescheduled()
        spawn.stop()
        for host in ('host1', 'host2'):
            self.set_down(host, True)
        self.admin_api.post_server_action(
            server['id'], {'os-resetState': {'state': 'error'}})
        self.add_capacity('host3', cell_name='cell2')
        self.rebuilt(server)
        allocations = self.allocations(server)
        self.before_it_is_delivered()
        deliver()
        self.assertEqual(allocations, self.allocations(server))
        self.assertEqual('ACTIVE', self.api.get_server(server['id'])[
            'status'])

    def test_late_message_to_a_host_of_the_first_cell(self):
        """To build a server that runs in the second by now."""
        server = self.create_failed()
        self.add_capacity('host1', cell_name='cell1')
        messages = []
        ask = compute_rpcapi.ComputeAPI.build_and_run_instance
        hold = self.patch(
            'nova.compute.rpcapi.ComputeAPI.build_and_run_instance',
            lambda *args, **kwargs: messages.append((args, kwargs)))
        self.assertEqual(202, self.rebuild(server).status_code)
        self.await_true(lambda: messages)
        hold.stop()
        self.admin_api.post_server_action(
            server['id'], {'os-resetState': {'state': 'error'}})
        self.placement.delete('/allocations/%s' % server['id'])
        self.set_down('host1', True)
        self.add_capacity('host2', cell_name='cell2')
        self.rebuilt(server)
        allocations = self.allocations(server)
        args, kwargs = messages[0]
        results, is_late = [], compute._is_late
        self.patch('nova_rescue_ext.rebuild.compute._is_late',
                   lambda *args: results.append(is_late(*args))
                   or results[-1])
        ask(*args, **kwargs)
        self.await_true(lambda: results)
        # Nova would delete the allocation.
        self.assertEqual([True], results)
        self.assertEqual(allocations, self.allocations(server))


class CellAwayTest(rebuild_base.RebuildTestCase):
    """One of two cells is disabled, or its database is down."""

    NUMBER_OF_CELLS = 2

    def disable(self, name):
        cell = self.cell_mappings[name]
        cell.disabled = True
        cell.save()
        self.scheduler.manager.host_manager.refresh_cells_caches()

    def create_failed_in_cell1(self):
        self.add_capacity('host1', cell_name='cell1')
        spawn = self.patch('nova.virt.fake.FakeDriver.spawn', mock.Mock(
            side_effect=exception.BuildAbortException(
                instance_uuid='x', reason='broken')))
        server = self.create()
        spawn.stop()
        self.assertEqual('cell1', self.cell_of(server))
        return server

    def away(self):
        return nova_fixtures.DownCellFixture([self.cell_mappings['cell1']])

    def test_disabled_cell_of_the_hosts(self):
        server = self.create_failed()
        self.add_capacity('host1', cell_name='cell1')
        self.disable('cell1')
        self.failed_again(server)
        self.assertEqual('cell0', self.cell_of(server))
        self.add_capacity('host2', cell_name='cell2')
        self.rebuilt(server)
        self.assertEqual('cell2', self.cell_of(server))

    def test_disabled_cell_of_the_server(self):
        server = self.create_failed_in_cell1()
        self.disable('cell1')
        self.add_capacity('host2', cell_name='cell2')
        self.rebuilt(server)
        self.assertEqual('cell2', self.cell_of(server))

    def test_database_of_the_server(self):
        server = self.create_failed_in_cell1()
        with self.away():
            self.assert_refused(409, self.rebuild(server), '(Nova)',
                                'was not changed')
        self.assert_untouched(server)
        self.rebuilt(server)

    def test_database_of_the_server_without_opt_in(self):
        """As in stock Nova."""
        server = self.create_failed_in_cell1()
        self.opt_out()
        with self.away():
            response = self.rebuild(server, imageRef=self.IMAGE)
        self.assert_refused(500, response, 'Unexpected API Error')

    def test_database_of_another_cell(self):
        """Whether the scheduler finds a host then is Nova's."""
        server = self.create_failed()
        self.add_capacity('host2', cell_name='cell2')
        with self.away():
            self.assertEqual(202, self.rebuild(server).status_code)
            server = self.await_end(server)
        self.assertEqual(1, self.count_rows(server))
        if server['status'] == 'ERROR':
            self.rebuilt(server)
        self.assertEqual('cell2', self.cell_of(server))

    def test_database_of_another_cell_and_a_volume_in_danger(self):
        """Its hosts may be chosen, and nobody knows what they would do."""
        server = self.create_failed(bdms=[{
            'boot_index': 0, 'uuid': self.VOLUME, 'source_type': 'volume',
            'destination_type': 'volume', 'delete_on_termination': True}])
        self.add_capacity('host2', cell_name='cell2')
        target_cell = nova_context.target_cell

        def fail(context, cell):
            if cell.name == 'cell1':
                raise db_exc.DBConnectionError()
            return target_cell(context, cell)

        patch = self.patch('nova.context.target_cell', fail)
        self.assert_refused(409, self.rebuild(server), '(Nova)',
                            'was not changed')
        patch.stop()
        self.assert_untouched(server)
        self.rebuilt(server)


class DefaultIsCell0:
    """Mixin: nova-api's own database is cell0, as in many clouds.

    Nova looks into that for a server without a cell.
    """

    def _setup_cells(self):
        add = nova_fixtures.CellDatabases.add_cell_database

        def add_cell(fixture, connection, default=False):
            add(fixture, connection,
                default=connection == objects.CellMapping.CELL0_UUID)

        patch = self.patch('nova.tests.fixtures.CellDatabases.'
                           'add_cell_database', add_cell)
        super()._setup_cells()
        patch.stop()


class DefaultIsCell0Test(DefaultIsCell0, rebuild_base.RebuildTestCase):

    def test_again_and_again(self):
        server = self.create_failed()
        for _round in range(2):
            self.failed_again(server)
            self.assertEqual((1, 'cell0'), (
                self.count_rows(server), self.cell_of(server)))

    def test_deleted_in_between(self):
        server = self.create_failed()
        self.before_hard_delete(
            lambda: self.api.delete_server(server['id']))
        self.assert_refused(404, self.rebuild(server))
        self.assertEqual([], self.api.get_servers())

    def test_deleted_after_a_crash(self):
        server = self.create_failed()
        with self.killed('nova_rescue_ext.rebuild.api.Rebuild.destroy_row'):
            self.assertRaises(rebuild_base.Killed, self.rebuild, server)
        self.api.delete_server(server['id'])
        self.assertEqual([], self.api.get_servers())
        for interrupted in recovery.find(self.context, 0):
            recovery.remedy(self.context, interrupted)
        self.assertEqual([], self.api.get_servers())

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


"""Races and crashes (hazard: crash-between-steps)."""

from unittest import mock

from nova.conductor import api as conductor_api
from nova import context as nova_context
from nova.db.main import models
from nova import exception
from nova.network import neutron
from nova import objects
from nova.scheduler.client import report
from nova.tests import fixtures as nova_fixtures
from oslo_db import exception as db_exc

from nova_rescue_ext import exception as ext_exception
from nova_rescue_ext.rebuild import api as rebuild_api
from nova_rescue_ext.rebuild import conductor
from nova_rescue_ext.rebuild import database
from nova_rescue_ext.rebuild import recovery
from nova_rescue_ext.rebuild import spec_extras
from tests.functional import rebuild_base


class _TestCase(rebuild_base.RebuildTestCase):

    def assert_gone(self, server):
        self._wait_until_deleted(server)
        self.assertEqual([], self.api.get_servers())
        self.assertEqual({}, self.allocations(server))
        self.assertEqual([], objects.BuildRequestList.get_all(
            self.context).objects)

    def remedy_interrupted(self, remedy):
        found, = recovery.find(self.context, 0)
        self.assertEqual(remedy, found.remedy)
        recovery.remedy(self.context, found)
        self.assertEqual([], recovery.find(self.context, 0))


class RacesTest(_TestCase):

    def test_two_rebuilds(self):
        """The one that inserts the BuildRequest wins."""
        server = self.create_failed()
        self.add_capacity()
        answers = []
        make_build_request = rebuild_api.Rebuild.make_build_request

        def be_overtaken(*args):
            patch.stop()
            answers.append(self.rebuild(server))
            make_build_request(*args)

        patch = self.patch_step('make_build_request', be_overtaken)
        self.assert_refused(409, self.rebuild(server), 'already')
        self.assertEqual(202, answers[0].status_code)
        after = self.await_end(server)
        self.assertEqual(('ACTIVE', 1, 1), (
            after['status'], self.count_rows(server),
            len(self.allocations(server))))

    def test_rebuild_that_has_come_and_gone_meanwhile(self):
        """The server runs in the cell where it was found."""
        self.add_capacity()
        spawn = self.patch('nova.virt.fake.FakeDriver.spawn', mock.Mock(
            side_effect=exception.ComputeResourcesUnavailable(reason='down')))
        server = self.create(networks=[{'port': self.PORT}])
        spawn.stop()
        self.assertEqual(('ERROR', 'cell1'), (
            server['status'], self.cell_of(server)))
        begin = database.begin

        def be_overtaken(*args):
            patch.stop()
            there.append(self.rebuilt(server))
            there.extend((self.allocations(server), self.extras(server)))
            return begin(*args)

        there = []
        patch = self.patch('nova_rescue_ext.rebuild.database.begin',
                           be_overtaken)
        self.assert_refused(409, self.rebuild(server), 'was changed')
        self.assert_untouched(there[0])
        self.assertEqual(there[1:], [self.allocations(server),
                                     self.extras(server)])
        self.assertEqual([self.PORT], self.ports_of(server))

    def extras(self, server):
        return spec_extras.read(self.context, server['id'])

    def test_rebuild_that_has_begun_meanwhile(self):
        server = self.create_failed()
        self.patch('nova.conductor.api.ComputeTaskAPI.'
                   'rebuild_instance_in_cell0', lambda *args: None)
        find_server = rebuild_api.Rebuild.find_server

        def be_overtaken(*args):
            patch.stop()
            self.assertEqual(202, self.rebuild(server).status_code)
            return find_server(*args)

        patch = self.patch_step('find_server', be_overtaken)
        self.assert_refused(409, self.rebuild(server), 'already being rebuilt')
        self.api.delete_server(server['id'])

    def test_delete_just_before(self):
        server = self.create_failed()
        self.add_capacity()
        make_build_request = rebuild_api.Rebuild.make_build_request

        def be_overtaken(*args):
            patch.stop()
            self.api.delete_server(server['id'])
            make_build_request(*args)

        patch = self.patch_step('make_build_request', be_overtaken)
        self.assert_refused(409, self.rebuild(server), 'deleted')
        self.assert_gone(server)

    def test_delete_in_between(self):
        server = self.create_failed()
        self.add_capacity()
        self.before_hard_delete(
            lambda: self.api.delete_server(server['id']))
        self.assert_refused(404, self.rebuild(server))
        self.assert_gone(server)
        self.assert_nothing_is_left(server)

    def assert_nothing_is_left(self, server):
        """Of what a rebuild has begun.

        Where Nova finds the row itself, it marks it as deleted.
        """
        self.assertEqual(0, self.count_rows(server, deleted=0))
        self.assertRaises(
            exception.InstanceMappingNotFound,
            objects.InstanceMapping.get_by_instance_uuid, self.context,
            server['id'])
        self.assertRaises(exception.RequestSpecNotFound, spec_extras.read,
                          self.context, server['id'])
        self.assertEqual([], recovery.find(self.context, 0))

    def test_delete_while_an_operator_undoes_it(self):
        """The deletion is finished then and there."""
        server = self.create_failed()
        with self.killed('nova_rescue_ext.rebuild.api.Rebuild.destroy_row'):
            self.assertRaises(rebuild_base.Killed, self.rebuild, server)
        undo_begin = database.undo_begin

        def delete_and_undo(*args):
            self.api.delete_server(server['id'])
            return undo_begin(*args)

        self.patch('nova_rescue_ext.rebuild.database.undo_begin',
                   delete_and_undo)
        self.remedy_interrupted(recovery.UNDO)
        self.assert_gone(server)
        self.assert_nothing_is_left(server)

    def test_delete_while_it_is_refused(self):
        """There is nothing to go back to."""
        server = self.create_failed()

        def delete_and_refuse(*args):
            self.api.delete_server(server['id'])
            raise exception.OverQuota(overs='cores')

        self.patch('nova_rescue_ext.rebuild.quota.check', delete_and_refuse)
        self.assert_refused(403, self.rebuild(server))
        self.assert_gone(server)
        self.assert_nothing_is_left(server)

    def test_locked_meanwhile(self):
        server = self.create_failed()
        make_build_request = rebuild_api.Rebuild.make_build_request

        def lock_and_make_build_request(*args):
            self.api.post_server_action(server['id'], {'lock': {}})
            make_build_request(*args)

        self.patch_step('make_build_request', lock_and_make_build_request)
        self.assert_refused(409, self.rebuild(server), 'was changed')
        after = self.api.get_server(server['id'])
        self.assertEqual(('ERROR', True), (after['status'], after['locked']))

    def test_end_of_an_attempt_that_was_overtaken(self):
        """It leaves the next one its marks and its allocation."""
        server = self.create_failed()
        self.patch('nova_rescue_ext.rebuild.conductor.rebuild',
                   mock.Mock(is_on_no_host=lambda instance: overtake()))
        self.patch('nova.scheduler.client.report.SchedulerReportClient.'
                   'delete_allocation_for_instance',
                   lambda *args, force=False: deleted.append(force) or True)
        deleted, attempts = [], []

        def overtake():
            attempts.append(spec_extras.read(self.context, server['id']))
            self.patch('nova.conductor.api.ComputeTaskAPI.'
                       'rebuild_instance_in_cell0', lambda *args: None)
            response = self.rebuild(server)
            attempts.append(spec_extras.read(self.context, server['id']))
            return response.status_code == 202

        settle = conductor._try_to_finish
        ended = []
        self.patch('nova_rescue_ext.rebuild.conductor._try_to_finish',
                   lambda *args: ended.append(settle(*args)))
        self.rebuild(server)
        self.await_true(lambda: ended)
        first, second = attempts
        self.assertNotEqual(first['rebuild'], second['rebuild'])
        self.assertEqual(second, spec_extras.read(self.context, server['id']))
        self.assertEqual([], deleted)
        self.api.delete_server(server['id'])

    def test_delete_before_the_message(self):
        """The last look: nothing is sent for a server that is deleted."""
        server = self.create_failed()
        self.add_capacity()
        sent = []
        self.patch('nova.conductor.api.ComputeTaskAPI.'
                   'rebuild_instance_in_cell0',
                   lambda *args: sent.append(args))
        destroy_row = rebuild_api.Rebuild.destroy_row

        def destroy_and_delete(operation):
            destroy_row(operation)
            self.api.delete_server(server['id'])

        self.patch_step('destroy_row', destroy_and_delete)
        self.assert_refused(404, self.rebuild(server))
        self.assertEqual([], sent)
        self.assert_gone(server)
        self.assert_nothing_is_left(server)

    def test_delete_that_has_the_old_row_in_between(self):
        """It saves its task state: the hard delete must not happen."""
        server = self.create_failed()
        self.add_capacity()
        self.before_hard_delete(
            lambda: self.change_row(server, task_state='deleting'))
        self.assert_refused(409, self.rebuild(server), 'deleted')
        self.assertEqual(('ERROR', 1), (
            self.api.get_server(server['id'])['status'],
            self.count_rows(server)))

    def test_delete_that_has_the_old_row_and_finds_no_cell(self):
        """It has changed the row, and deletes the BuildRequest then."""
        server = self.create_failed()
        self.add_capacity()
        self.before_hard_delete(self.stale_delete(server))
        self.assert_refused(404, self.rebuild(server))
        self.assert_gone(server)
        self.assert_nothing_is_left(server)

    def test_delete_that_is_repeated(self):
        """The first has changed the row and failed."""
        server = self.create_failed()
        self.add_capacity()

        def delete():
            self.change_row(server, task_state='deleting')
            self.api.delete_server(server['id'])

        self.before_hard_delete(delete)
        # Where cell0 is the default, Nova finds the row, too, and deletes it.
        self.assertIn(self.rebuild(server).status_code, (404, 409))
        self.assert_gone(server)
        self.assert_nothing_is_left(server)

    def test_delete_that_begins_meanwhile(self):
        """The row is not as it was found: all is undone."""
        server = self.create_failed()
        find_server = rebuild_api.Rebuild.find_server

        def change_and_find(*args):
            self.change_row(server, task_state='deleting')
            return find_server(*args)

        patch = self.patch_step('find_server', change_and_find)
        self.assert_refused(409, self.rebuild(server), 'is being deleted')
        patch.stop()
        self.assertEqual([], objects.BuildRequestList.get_all(
            self.context).objects)
        self.assertEqual((1, 'cell0'), (
            self.count_rows(server), self.cell_of(server)))
        self.change_row(server, task_state=None)
        self.add_capacity()
        self.rebuilt(server)

    def test_row_of_another_rebuild(self):
        """Which has come and gone since the server was looked up."""
        server = self.create_failed()
        self.create_failed()  # or SQLite gives the id of the row again
        find_server = rebuild_api.Rebuild.find_server

        def be_overtaken(*args):
            patch.stop()
            updated_at = self.find_row(server).updated_at
            self.failed_again(server)
            self.change_row(server, updated_at=updated_at)
            return find_server(*args)

        patch = self.patch_step('find_server', be_overtaken)
        self.assert_refused(409, self.rebuild(server), 'was changed')
        self.assertEqual(('ERROR', 1, 'cell0'), (
            self.api.get_server(server['id'])['status'],
            self.count_rows(server), self.cell_of(server)))
        self.add_capacity()
        self.rebuilt(server)

    def find_row(self, server):
        with nova_context.target_cell(
                self.context, self.cell_mappings['cell0']) as context:
            return objects.Instance.get_by_uuid(context, server['id'])

    def test_answer_of_the_hard_delete_is_lost(self):
        """The row is gone: the rebuild goes on."""
        server = self.create_failed()
        destroy_row = database.destroy_row

        def destroy_and_fail(*args):
            destroy_row(*args)
            raise db_exc.DBConnectionError()

        self.patch('nova_rescue_ext.rebuild.database.destroy_row',
                   destroy_and_fail)
        self.add_capacity()
        self.rebuilt(server)

    def test_whether_the_row_is_gone_is_not_known(self):
        """Undone, the server would be lost if it is."""
        server = self.create_failed()
        destroy_row = database.destroy_row
        cell0 = mock.Mock(side_effect=db_exc.DBConnectionError())

        def destroy_and_fail(*args):
            destroy_row(*args)
            restarting.append(self.patch(
                'nova_rescue_ext.rebuild.database.has_row', cell0))
            raise db_exc.DBConnectionError()

        restarting = []
        patch = self.patch('nova_rescue_ext.rebuild.database.destroy_row',
                           destroy_and_fail)
        self.assert_refused(503, self.rebuild(server), 'stays in BUILD')
        restarting[0].stop()
        patch.stop()
        self.assertEqual('BUILD', self.api.get_server(server['id'])['status'])
        self.remedy_interrupted(recovery.BURY)
        self.add_capacity()
        self.rebuilt(server)

    def interrupt(self, server, *then):
        """An operator undoes a rebuild that is only slow, just before step 3.

        :param then: what happens after that
        """
        def undo(operation):
            patched.stop()
            self.remedy_interrupted(recovery.UNDO)
            self.assertEqual('ERROR', self.api.get_server(
                server['id'])['status'])
            for function in then:
                function()

        patched = self.patch_step('check_quota', undo)

    def test_undone_while_it_is_slow(self):
        server = self.create_failed()
        self.interrupt(server)
        self.assert_refused(409, self.rebuild(server))
        self.assertEqual(('ERROR', 1), (
            self.api.get_server(server['id'])['status'],
            self.count_rows(server)))
        self.add_capacity()
        self.rebuilt(server)

    def test_undone_while_it_is_slow_and_fails(self):
        server = self.create_failed()

        def fail():
            raise exception.PortLimitExceeded()

        self.interrupt(server, fail)
        self.assert_refused(409, self.rebuild(server), 'took so long')
        self.assertEqual(('ERROR', 1), (
            self.api.get_server(server['id'])['status'],
            self.count_rows(server)))
        self.add_capacity()
        self.rebuilt(server)

    def test_undone_while_it_is_slow_and_rebuilt(self):
        """The first must not undo the second."""
        server = self.create_failed()
        begun = []

        def rebuild():
            pause = self.patch('nova.conductor.rpcapi.ComputeTaskAPI.'
                               'schedule_and_build_instances',
                               lambda *args, **kwargs: begun.append(kwargs))
            self.assertEqual(202, self.rebuild(server).status_code)
            pause.stop()

        self.interrupt(server, rebuild)
        self.assert_refused(409, self.rebuild(server))
        self.assertEqual(('BUILD', None), (
            self.api.get_server(server['id'])['status'],
            self.cell_of(server)))
        self.assertEqual(1, len(begun))
        self.remedy_interrupted(recovery.BURY)
        self.add_capacity()
        self.rebuilt(server)

    def be_undone_and_rebuilt(self, server):
        self.remedy_interrupted(recovery.UNDO)
        self.add_capacity()
        self.rebuilt(server)

    def assert_undone(self, server):
        self.assert_refused(409, self.rebuild(server), 'took so long')
        self.assertEqual(('ACTIVE', 1, [self.PORT]), (
            self.api.get_server(server['id'])['status'],
            len(self.allocations(server)), self.ports_of(server)))

    def test_undone_before_resources_are_freed(self):
        """They are those of a server that runs by now."""
        server = self.create_failed(networks=[{'port': self.PORT}])
        free = rebuild_api.Rebuild.free_resources

        def be_overtaken(operation):
            patched.stop()
            self.be_undone_and_rebuilt(server)
            free(operation)

        patched = self.patch_step('free_resources', be_overtaken)
        self.assert_undone(server)

    def be_overtaken_in(self, server, owner, name, number=1):
        """A service answers when the server was undone and rebuilt.

        :param number: of the call for this server
        """
        original, calls = getattr(owner, name), []

        def be_overtaken(*args, **kwargs):
            if server['id'] in (*args, *kwargs.values()):
                calls.append(args)
                if len(calls) == number:
                    patched.stop()
                    self.be_undone_and_rebuilt(server)
            return original(*args, **kwargs)

        patched = mock.patch.object(owner, name, be_overtaken)
        patched.start()
        self.addCleanup(patched.stop)

    def test_undone_while_the_allocation_is_looked_for(self):
        server = self.create_failed(networks=[{'port': self.PORT}])
        self.be_overtaken_in(server, report.SchedulerReportClient,
                             'get_allocs_for_consumer')
        self.assert_undone(server)

    def test_undone_before_accelerators_are_freed(self):
        cyborg = self.useFixture(nova_fixtures.CyborgFixture())
        self.admin_api.post_extra_spec('1', {'extra_specs': {
            'accel:device_profile': cyborg.dp_name}})
        server = self.create_failed()
        free_allocation = rebuild_api.Rebuild._free_allocation

        def be_overtaken(operation):
            free_allocation(operation)
            self.remedy_interrupted(recovery.UNDO)
            cyborg.mock_del_arqs.reset_mock()

        self.patch_step('_free_allocation', be_overtaken)
        self.assert_refused(409, self.rebuild(server), 'took so long')
        cyborg.mock_del_arqs.assert_not_called()

    def test_undone_while_ports_are_looked_for(self):
        server = self.create_failed(networks=[{'port': self.PORT}])
        self.neutron._ports[self.PORT]['device_id'] = server['id']
        self.be_overtaken_in(server, neutron.API, 'list_ports', 2)
        self.assert_undone(server)

    def test_undone_between_two_steps(self):
        """The row is gone, and the message not yet on its way."""
        server = self.create_failed()
        self.add_capacity()

        def undo(*args):
            self.patch_stop.stop()
            extras = spec_extras.read(self.context, server['id'])
            self.assertNotIn('sent', extras)
            self.assertRaises(ext_exception.Overtaken, recovery._undo,
                              self.context, server['id'], extras)
            return database.mark_sent(*args)

        self.patch_stop = self.patch(
            'nova_rescue_ext.rebuild.database.mark_sent', undo)
        self.rebuilt(server)

    def test_database_away_when_the_message_is_to_be_sent(self):
        server = self.create_failed()
        patch = self.patch('nova_rescue_ext.rebuild.database.mark_sent',
                           mock.Mock(side_effect=db_exc.DBConnectionError()))
        self.assert_refused(503, self.rebuild(server), 'stays in BUILD')
        patch.stop()
        self.remedy_interrupted(recovery.BURY)
        self.add_capacity()
        self.rebuilt(server)

    def test_database_away_when_it_is_undone(self):
        server = self.create_failed()
        patches = [
            self.patch_step('check_quota', mock.Mock(
                side_effect=exception.PortLimitExceeded())),
            self.patch('nova_rescue_ext.rebuild.database.undo_begin',
                       mock.Mock(side_effect=db_exc.DBConnectionError()))]
        self.assert_refused(503, self.rebuild(server), 'stays in BUILD')
        for patch in patches:
            patch.stop()
        self.remedy_interrupted(recovery.UNDO)
        self.add_capacity()
        self.rebuilt(server)

    def test_answer_of_the_beginning_is_lost(self):
        """The BuildRequest is there: the rebuild goes on."""
        server = self.create_failed()
        begin = database.begin

        def begin_and_fail(*args, **kwargs):
            begin(*args, **kwargs)
            raise db_exc.DBConnectionError()

        self.patch('nova_rescue_ext.rebuild.database.begin', begin_and_fail)
        self.add_capacity()
        self.rebuilt(server)

    def test_beginning_that_fails(self):
        server = self.create_failed()
        self.patch('nova_rescue_ext.rebuild.database.begin', mock.Mock(
            side_effect=db_exc.DBConnectionError()))
        self.assert_refused(500, self.rebuild(server))
        self.assert_untouched(server)

    def test_hard_delete_that_fails(self):
        """The row is there: it is the server again."""
        def fail(*args):
            raise db_exc.DBConnectionError()

        server = self.create_failed()
        patch = self.patch('nova_rescue_ext.rebuild.database.destroy_row',
                           fail)
        self.assert_refused(500, self.rebuild(server))
        self.assert_untouched(server)
        patch.stop()
        self.add_capacity()
        self.rebuilt(server)

    def test_delete_that_has_the_old_row_afterwards(self):
        server = self.create_failed()
        self.add_capacity()
        delete = self.stale_delete(server)
        self.rebuilt(server)
        delete()
        self.assert_gone(server)

    def stale_delete(self, server):
        """A DELETE that was held up after it has read the server."""
        from nova.compute import api as compute_api
        context = nova_context.RequestContext(
            user_id=server['user_id'], project_id=server['tenant_id'],
            is_admin=True)
        api = compute_api.API()
        instance = api.get(context, server['id'])
        return lambda: api.delete(context, instance)

    def test_delete_afterwards(self):
        server = self.create_failed()
        self.add_capacity()
        self.rebuilt(server)
        self.api.delete_server(server['id'])
        self._wait_until_deleted(server)
        self.assertEqual({}, self.allocations(server))

    def test_list_and_get_at_every_step(self):
        server = self.create_failed()
        seen = []

        def look(*args, **kwargs):
            found, = self.api.get_servers()
            seen.append((found['id'], found['status'],
                         self.api.get_server(server['id'])['status']))

        self.before_hard_delete(look)
        hand_over = database.mark_sent

        def look_and_answer(*args):
            look()
            return hand_over(*args)

        self.patch('nova_rescue_ext.rebuild.database.mark_sent',
                   look_and_answer)
        self.add_capacity()
        self.rebuilt(server)
        look()
        self.assertEqual(
            [(server['id'], 'BUILD', 'BUILD')] * 2
            + [(server['id'], 'ACTIVE', 'ACTIVE')], seen)

    def test_doubled_message(self):
        """Nova would take a running server's mapping and allocation away."""
        server = self.create_failed()
        sent = []
        build = conductor_api.ComputeTaskAPI.rebuild_instance_in_cell0

        def record(task_api, *args):
            sent.append(args)
            build(task_api, *args)

        self.patch('nova.conductor.api.ComputeTaskAPI.'
                   'rebuild_instance_in_cell0', record)
        self.add_capacity()
        self.rebuilt(server)
        context, build_request, spec, *rest = sent[0]
        self.conductor.manager.compute_task_mgr.schedule_and_build_instances(
            context, [build_request], [spec], *rest)
        self.assertEqual('ACTIVE', self.api.get_server(server['id'])[
            'status'])
        self.assertEqual((1, 1), (self.count_rows(server),
                                  len(self.allocations(server))))

    def test_message_of_a_rebuild_that_was_undone(self):
        """All conductors were down, and now both messages come."""
        server = self.create_failed()
        messages = []
        down = self.patch('nova.conductor.rpcapi.ComputeTaskAPI.'
                          'schedule_and_build_instances',
                          lambda itself, *args, **kwargs: messages.append(
                              (args, kwargs)))
        self.assertEqual(202, self.rebuild(
            server, imageRef=self.OTHER_IMAGE).status_code)
        self.remedy_interrupted(recovery.BURY)
        self.assertEqual(202, self.rebuild(
            server, imageRef=self.IMAGE, name='new').status_code)
        down.stop()
        self.add_capacity()
        for args, kwargs in messages:
            self.conductor.manager.compute_task_mgr. \
                schedule_and_build_instances(*args, **kwargs)
        after = self.await_end(server)
        self.assertEqual(('ACTIVE', 'new', self.IMAGE), (
            after['status'], after['name'], after['image']['id']))

    def test_message_that_cannot_be_sent(self):
        server = self.create_failed()

        def fail(*args):
            raise RuntimeError('no broker')

        patch = self.patch('nova.conductor.api.ComputeTaskAPI.'
                           'rebuild_instance_in_cell0', fail)
        self.assertEqual(202, self.rebuild(server).status_code)
        patch.stop()
        self.assertEqual('BUILD', self.api.get_server(server['id'])['status'])
        self.assertIn('no broker', self.stdlog.logger.output)
        self.remedy_interrupted(recovery.BURY)
        self.add_capacity()
        self.rebuilt(server)


class CrashesTest(_TestCase):
    """kill -9 of nova-api after each step."""

    def setUp(self):
        super().setUp()
        self.server = self.create_failed(networks=[{'port': self.PORT}],
                                         tags=['one'])

    def test_before_the_transaction(self):
        self.kill_in('nova_rescue_ext.rebuild.spec_extras.save_with_spec')
        self.assertEqual('ERROR', self.status())
        self.assertEqual([], recovery.find(self.context, 0))
        self.assert_rebuildable()

    def test_after_the_transaction(self):
        self.kill_in('nova_rescue_ext.rebuild.api.Rebuild.destroy_row')
        self.assertEqual('BUILD', self.status())
        self.remedy_interrupted(recovery.UNDO)
        self.assertEqual('ERROR', self.status())
        self.assert_rebuildable()

    def test_after_the_transaction_and_deleted(self):
        self.kill_in('nova_rescue_ext.rebuild.api.Rebuild.destroy_row')
        self.api.delete_server(self.server['id'])
        self.remedy_interrupted(recovery.DELETE)
        self.assert_gone(self.server)
        self.assertEqual(0, self.count_rows(self.server))

    def test_after_the_hard_delete(self):
        self.kill_in('nova_rescue_ext.rebuild.database.mark_sent')
        self.assertEqual('BUILD', self.status())
        self.assertEqual(0, self.count_rows(self.server))
        self.remedy_interrupted(recovery.BURY)
        self.assertEqual(('ERROR', 'cell0'), (
            self.status(), self.cell_of(self.server)))
        self.assert_rebuildable()

    def test_after_the_hard_delete_and_deleted(self):
        self.kill_in('nova_rescue_ext.rebuild.database.mark_sent')
        self.api.delete_server(self.server['id'])
        self.assert_gone(self.server)

    def test_conductor_before_it_begins(self):
        self.kill_in('nova.conductor.manager.ComputeTaskManager.'
                     '_schedule_instances', in_api=False)
        self.assertEqual('BUILD', self.status())
        self.remedy_interrupted(recovery.BURY)
        self.assert_rebuildable()

    def test_conductor_before_the_history_is_restored(self):
        """The next rebuild restores it, too."""
        old = self.api.get_instance_actions(self.server['id'])
        self.kill_in('nova_rescue_ext.rebuild.conductor._try_to_finish',
                     in_api=False)
        self.assertEqual('ERROR', self.status())
        self.assert_rebuildable()
        self.assertEqual(old, self.api.get_instance_actions(
            self.server['id'])[-len(old):])

    def test_history_is_bounded(self):
        """A conductor without the package never takes it away."""
        past = [{'request_id': 'req-%d' % number, 'events': []}
                for number in range(50)]
        rebuild_base.keep(self.context, self.server['id'], history=past)
        with self.killed('nova_rescue_ext.rebuild.api.Rebuild.destroy_row'):
            self.assertRaises(rebuild_base.Killed, self.rebuild, self.server)
        kept = spec_extras.read(self.context, self.server['id'])['history']
        self.assertEqual(database.HISTORY_LENGTH + 1, len(kept))
        recovery.remedy(self.context, *recovery.find(self.context, 0))
        self.assertEqual(
            past[-database.HISTORY_LENGTH:],
            spec_extras.read(self.context, self.server['id'])['history'])

    def test_young_ones_are_left_alone(self):
        self.kill_in('nova_rescue_ext.rebuild.api.Rebuild.destroy_row')
        self.assertEqual([], recovery.find(self.context, 3600))

    def test_burial_that_was_interrupted_twice(self):
        """Of a create: a conductor died in it, and then its remedy."""
        self.api.delete_server(self.server['id'])
        with self.killed('nova.conductor.manager.ComputeTaskManager.'
                         '_create_block_device_mapping'):
            server = self.api.post_server({'server': {
                'name': 'web', 'flavorRef': '1', 'networks': 'none',
                'imageRef': self.IMAGE}})
        patch = self.patch('nova_rescue_ext.rebuild.recovery._destroy_rows',
                           mock.Mock(side_effect=db_exc.DBConnectionError()))
        found, = recovery.find(self.context, 0)
        self.assertEqual(recovery.BURY, found.remedy)
        self.assertRaises(db_exc.DBConnectionError, recovery.remedy,
                          self.context, found)
        patch.stop()
        self.remedy_interrupted(recovery.BURY)
        self.add_capacity()
        self.rebuilt(server)

    def test_new_servers_are_left_alone(self):
        self.api.delete_server(self.server['id'])
        with self.killed('nova.conductor.manager.ComputeTaskManager.'
                         '_schedule_instances'):
            self.api.post_server({'server': {
                'name': 'new', 'flavorRef': '1', 'networks': 'none',
                'imageRef': self.IMAGE}})
        self.assertEqual([], recovery.find(self.context, 0))

    def kill_in(self, name, in_api=True):
        with self.killed(name):
            if in_api:
                self.assertRaises(rebuild_base.Killed, self.rebuild,
                                  self.server)
            else:
                self.rebuild(self.server)
        found, = self.api.get_servers()
        self.assertEqual(found['status'], self.status())

    def status(self):
        return self.api.get_server(self.server['id'])['status']

    def assert_rebuildable(self):
        self.add_capacity()
        after = self.rebuilt(self.server)
        self.assertEqual([self.PORT], self.ports_of(self.server))
        self.assertEqual((['one'], self.server['created']),
                         (after['tags'], after['created']))
        self.assertEqual(0, self.count_rows(
            self.server, models.InstanceFault, 'instance_uuid'))

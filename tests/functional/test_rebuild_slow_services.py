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


"""Services that are slow, not dead (hazard: slow-conductor)."""

import contextvars
import datetime
from unittest import mock

import fixtures
from nova import availability_zones
from nova.compute import manager as compute_manager
from nova.compute import rpcapi as compute_rpcapi
from nova.conductor import manager as conductor_manager
from nova import exception
from nova import objects
from oslo_db import exception as db_exc

from nova_rescue_ext import exception as ext_exception
from nova_rescue_ext.rebuild import building
from nova_rescue_ext.rebuild import compute
from nova_rescue_ext.rebuild import conductor
from nova_rescue_ext.rebuild import database
from nova_rescue_ext.rebuild import recovery
from tests.functional import rebuild_base

_MANAGER = 'nova.conductor.manager.ComputeTaskManager.'
_CONDUCTOR = 'nova_rescue_ext.rebuild.conductor.'


def elsewhere(function, *args):
    """Call a function as in another thread, which runs no operation."""
    return contextvars.Context().run(function, *args)


class _TestCase(rebuild_base.RebuildTestCase):

    def remedy(self, remedy):
        found, = recovery.find(self.context, 0)
        self.assertEqual(remedy, found.remedy)
        recovery.remedy(self.context, found)
        self.assertEqual([], recovery.find(self.context, 0))

    def types(self):
        return [notification['event_type'].rpartition('.')[2]
                for notification in self.notifier.versioned_notifications
                if '.rebuild.' in notification['event_type']]

    def around(self, name, function):
        """Call a function in the place of one of a module.

        :param function: gets the original and its arguments
        """
        module, _dot, attribute = name.rpartition('.')
        original = getattr({'conductor': conductor, 'compute': compute,
                            'recovery': recovery}[module.rpartition('.')[2]],
                           attribute)
        return self.patch(name, lambda *args: function(original, *args))

    def once(self, method, function, first=False):
        """Have something happen once, after a method of the conductor.

        :param first: whether it happens before it
        """
        original = getattr(conductor_manager.ComputeTaskManager, method)

        def act(*args, **kwargs):
            patch.stop()
            if first:
                elsewhere(function)
                return original(*args, **kwargs)
            result = original(*args, **kwargs)
            elsewhere(function)
            return result

        is_static = method == '_map_instance_to_cell'
        patch = self.patch(_MANAGER + method,
                           staticmethod(act) if is_static else act)

    def rebuild_and_hold(self, server):
        """Rebuild a server, and have the message to the conductor wait.

        :returns: a function that delivers it
        """
        messages = []
        patch = self.patch('nova.conductor.rpcapi.ComputeTaskAPI.'
                           'schedule_and_build_instances',
                           lambda itself, *args, **kwargs: messages.append(
                               (args, kwargs)))
        self.assertEqual(202, self.rebuild(server).status_code)
        patch.stop()
        args, kwargs = messages[0]
        return lambda: self.conductor.manager.compute_task_mgr. \
            schedule_and_build_instances(*args, **kwargs)

    def guests(self, host):
        return list(self.computes[host].manager.driver.instances)

    def assert_runs(self, server):
        self.assertEqual(('ACTIVE', 1, 1, 1), (
            self.api.get_server(server['id'])['status'],
            self.count_rows(server), len(self.allocations(server)),
            sum(self.guests(host).count(server['id'])
                for host in self.computes)))

    def assert_failed(self, server):
        """Once, with nothing left, and it can be rebuilt."""
        self.assertEqual(('ERROR', 'cell0', 1, {}), (
            self.api.get_server(server['id'])['status'],
            self.cell_of(server), self.count_rows(server),
            self.allocations(server)))
        self.assertEqual(['start', 'error'], self.types())
        self.rebuilt(server)
        self.assert_runs(server)


class ConductorTest(_TestCase):

    def setUp(self):
        super().setUp()
        self.server = self.create_failed()
        self.add_capacity('host1')
        self.add_capacity('host2')

    def test_message_that_two_conductors_have(self):
        """It is delivered again while the first waits for the scheduler."""
        deliver = self.rebuild_and_hold(self.server)
        again = []
        self.once('_schedule_instances', lambda: again.append(deliver()))
        deliver()
        self.assertEqual([None], again)
        self.await_end(self.server)
        self.await_true(lambda: len(self.types()) == 2)
        self.assert_runs(self.server)
        self.assertEqual(['start', 'end'], self.types())

    def test_message_that_comes_while_the_server_is_buried(self):
        """By the operator, who has waited long enough."""
        deliver = self.rebuild_and_hold(self.server)
        patch = self.around(
            'nova_rescue_ext.rebuild.recovery._destroy_rows',
            lambda original, *args: (deliver(), original(*args)))
        self.remedy(recovery.BURY)
        patch.stop()
        self.assert_failed(self.server)

    def test_message_that_comes_when_the_server_is_buried(self):
        deliver = self.rebuild_and_hold(self.server)
        self.remedy(recovery.BURY)
        deliver()
        self.assert_failed(self.server)

    def slow_down(self, method, *then, first=False):
        """The operator has the server buried before the conductor goes on."""
        ended = []

        def bury():
            self.remedy(recovery.BURY)
            for function in then:
                function()
            for name in ('_try_to_finish', '_try_to_free_claim'):
                self.around(_CONDUCTOR + name, end)

        def end(original, *args):
            original(*args)
            ended.append(args)

        self.once(method, bury, first)
        self.assertEqual(202, self.rebuild(self.server).status_code)
        self.await_true(lambda: ended)

    def test_slow_scheduler(self):
        """Nova would find no BuildRequest, and delete the mapping."""
        self.slow_down('_schedule_instances')
        self.assert_failed(self.server)

    def test_slow_scheduler_that_claims_afterwards(self):
        self.slow_down('_schedule_instances', first=True)
        self.assert_failed(self.server)

    def test_slow_scheduler_that_finds_no_host(self):
        for host in self.computes:
            self.set_down(host, True)
        self.slow_down('_schedule_instances', first=True)
        for host in self.computes:
            self.set_down(host, False)
        self.assert_failed(self.server)

    def test_rebuilt_while_the_scheduler_is_slow(self):
        self.slow_down('_schedule_instances',
                       lambda: self.rebuilt(self.server), first=True)
        self.await_true(lambda: len(self.types()) == 4)
        self.assertEqual(['start', 'error', 'start', 'end'], self.types())
        self.assertEqual('ACTIVE', self.api.get_server(self.server['id'])[
            'status'])
        self.assertEqual(1, self.count_rows(self.server))
        self.assertEqual(1, len(self.guests('host1') + self.guests('host2')))
        self.assertNotEqual({}, self.allocations(self.server))

    def test_deleted_while_the_scheduler_is_slow(self):
        """The deletion has found nothing to free, and no rebuild comes."""
        def delete():
            self.api.delete_server(self.server['id'])
            self._wait_until_deleted(self.server)

        self.slow_down('_schedule_instances', delete, first=True)
        self.assertEqual({}, self.allocations(self.server))

    def test_slow_look_at_the_quota_which_fails(self):
        """Nova would set the server to ERROR that runs by then."""
        def fail():
            raise exception.TooManyInstances(
                overs='instances', req=1, used=1, allowed=1)

        def rebuild():
            self.rebuilt(self.server)
            self.await_true(lambda: len(self.types()) == 4)

        self.flags(recheck_quota=True, group='quota')
        self.slow_down_and_fail('_recheck_quota', rebuild, fail)
        self.assert_runs(self.server)
        self.assertEqual(['start', 'error', 'start', 'end'], self.types())

    def slow_down_and_fail(self, method, then, fail):
        ended = []

        def bury(*args, **kwargs):
            patch.stop()
            self.remedy(recovery.BURY)
            then()
            self.around(_CONDUCTOR + '_try_to_free_claim', lambda free, *args:
                        ended.append(free(*args)))
            fail()

        patch = self.patch('nova.conductor.manager.ComputeTaskManager.'
                           + method, bury)
        self.assertEqual(202, self.rebuild(self.server).status_code)
        self.await_true(lambda: ended)

    def test_slow_after_the_row(self):
        """Nova would overwrite the mapping."""
        self.slow_down('_map_instance_to_cell', first=True)
        self.assert_failed(self.server)

    def test_slow_before_the_row(self):
        """It is made when the operator's command has removed all others."""
        get_zone = availability_zones.get_host_availability_zone

        def bury_and_get_zone(*args):
            patch.stop()
            found, = recovery.find(self.context, 0)
            interrupted = self.around(
                'nova_rescue_ext.rebuild.recovery._destroy_rows',
                lambda original, *args: (original(*args), stop()))
            self.assertRaises(exception.CellTimeout, elsewhere,
                              recovery.remedy, self.context, found)
            interrupted.stop()
            return get_zone(*args)

        def stop():
            raise exception.CellTimeout()

        ended = []
        self.around(_CONDUCTOR + '_try_to_free_claim',
                    lambda original, *args: ended.append(original(*args)))
        patch = self.patch('nova.availability_zones.'
                           'get_host_availability_zone', bury_and_get_zone)
        self.assertEqual(202, self.rebuild(self.server).status_code)
        self.await_true(lambda: ended)
        self.assertEqual(0, self.count_rows(self.server))
        self.remedy(recovery.BURY)
        self.assert_failed(self.server)

    def test_claim_that_placement_does_not_free(self):
        """No answer is no yes."""
        client = mock.Mock()
        client.delete_allocation_for_instance.return_value = None
        conductor._try_to_free_claim(client, self.context, building.Build(
            self.server['id'], None, 'text'))
        self.assertEqual(
            1, client.delete_allocation_for_instance.call_count)
        self.assertIn('An allocation may be left', self.stdlog.logger.output)

    def test_slow_after_the_mapping(self):
        """Nova would ask a host to build what is buried."""
        self.slow_down('_delete_build_request', first=True)
        self.assert_failed(self.server)


class CommandTest(_TestCase):
    """It has found many servers, and comes to this one when it has changed."""

    def setUp(self):
        super().setUp()
        self.server = self.create_failed()

    def test_taken_for_deleted(self):
        deliver = self.rebuild_and_hold(self.server)
        found, = recovery.find(self.context, 0)
        self.add_capacity()
        self.once('_create_and_bind_arq_for_instance', lambda:
                  self.assertRaises(
                      exception.NovaException, recovery.remedy, self.context,
                      found._replace(remedy=recovery.DELETE)), first=True)
        deliver()
        self.await_end(self.server)
        self.assert_runs(self.server)

    def test_two_operators(self):
        """The slow one has its row replaced, and would destroy the other."""
        self.rebuild_and_hold(self.server)
        found, = recovery.find(self.context, 0)
        destroy = objects.BuildRequest.destroy

        def be_overtaken(build_request):
            patched.stop()
            elsewhere(recovery.remedy, self.context, found)
            return destroy(build_request)

        patched = self.patch('nova.objects.BuildRequest.destroy',
                             be_overtaken)
        self.assertRaises(ext_exception.Overtaken, recovery.remedy,
                          self.context, found)
        self.add_capacity()
        self.assert_failed(self.server)

    def test_two_operators_of_whom_the_slow_one_maps_the_server(self):
        """Nova does not bury a server that is in a cell."""
        self.rebuild_and_hold(self.server)
        found, = recovery.find(self.context, 0)

        def destroy_and_map(original, *args):
            patched.stop()
            original(*args)
            mapping = objects.InstanceMapping.get_by_instance_uuid(
                self.context, self.server['id'])
            mapping.cell_mapping = self.cell_mappings['cell0']
            mapping.save()

        patched = self.around('nova_rescue_ext.rebuild.recovery.'
                              '_destroy_rows', destroy_and_map)
        self.assertRaises(ext_exception.Overtaken, recovery.remedy,
                          self.context, found)
        self.remedy(recovery.BURY)
        self.add_capacity()
        self.assert_failed(self.server)

    def test_rebuilt_again_since(self):
        """What is finished is the attempt that was found."""
        with self.killed(_CONDUCTOR + 'finish_attempt'):
            self.assertEqual(202, self.rebuild(self.server).status_code)
        found, = recovery.find(self.context, 0)
        self.assertEqual(recovery.FINISH, found.remedy)
        self.add_capacity()
        self.once('_delete_build_request', lambda: self.assertRaises(
            exception.NovaException, recovery.remedy, self.context, found),
            first=True)
        self.rebuilt(self.server)
        self.assert_runs(self.server)


class HostTest(_TestCase):

    def setUp(self):
        super().setUp()
        self.server = self.create_failed()
        self.add_capacity('host1')

    def test_create_that_was_given_up(self):
        """By an operator, who took the host for gone."""
        messages = []
        ask = compute_rpcapi.ComputeAPI.build_and_run_instance
        hold = self.patch('nova.compute.rpcapi.ComputeAPI.'
                          'build_and_run_instance',
                          lambda *args, **kwargs: messages.append(
                              (args, kwargs)))
        server = self.api.post_server({'server': {
            'name': 'web', 'flavorRef': '1', 'networks': 'none',
            'imageRef': self.IMAGE}})
        self.await_true(lambda: messages)
        hold.stop()
        self.admin_api.post_server_action(
            server['id'], {'os-resetState': {'state': 'error'}})
        self.placement.delete('/allocations/%s' % server['id'])
        self.set_down('host1', True)
        self.add_capacity('host2')
        self.server = self.rebuilt(server)
        args, kwargs = messages[0]
        kwargs['instance'].created_at -= datetime.timedelta(hours=1)
        ended = []
        self.around('nova_rescue_ext.rebuild.compute._is_late',
                    lambda original, *args: ended.append(original(*args))
                    or ended[-1])
        ask(*args, **kwargs)
        self.await_true(lambda: ended)
        self.assertEqual([True], ended)
        self.assertEqual([], self.guests('host1'))
        self.assert_runs(self.server)

    def ask_and_die(self):
        """The conductor dies when it has asked a host, which is busy.

        :returns: a list with the arguments of the message
        """
        messages = []

        def ask_and_die(*args, **kwargs):
            messages.append((args, kwargs))
            raise rebuild_base.Killed()

        patch = self.patch('nova.compute.rpcapi.ComputeAPI.'
                           'build_and_run_instance', ask_and_die)
        self.assertEqual(202, self.rebuild(self.server).status_code)
        self.await_true(lambda: messages)
        patch.stop()
        return messages

    def give_up(self):
        """The server is set to ERROR while its message waits for a host.

        :returns: a function that has the host get the message
        """
        ask = compute_rpcapi.ComputeAPI.build_and_run_instance
        messages = self.ask_and_die()
        self.remedy(recovery.FAIL)
        ended = []
        is_late = self.around(
            'nova_rescue_ext.rebuild.compute._is_late',
            lambda original, *args: ended.append(args) or original(*args))

        def deliver():
            args, kwargs = messages[0]
            del ended[:]
            ask(*args, **kwargs)
            self.await_true(lambda: ended)
            is_late.stop()

        return deliver

    def test_build_that_was_given_up(self):
        deliver = self.give_up()
        deliver()
        self.assertEqual([], self.guests('host1'))
        self.assertEqual('ERROR', self.api.get_server(self.server['id'])[
            'status'])
        self.assertEqual(['start', 'error'], self.types())
        self.rebuilt(self.server)
        self.assert_runs(self.server)

    def test_chosen_host_is_not_known(self):
        """It could be one that is down, and comes back."""
        self.ask_and_die()
        away = self.patch(
            'nova.scheduler.client.report.SchedulerReportClient.'
            'get_allocs_for_consumer', mock.Mock(
                side_effect=exception.ConsumerAllocationRetrievalFailed(
                    consumer_uuid='x', error='busy')))
        self.assertRaises(exception.ConsumerAllocationRetrievalFailed,
                          self.remedy, recovery.FAIL)
        away.stop()
        self.assertEqual('BUILD', self.api.get_server(self.server['id'])[
            'status'])
        self.remedy(recovery.FAIL)

    def test_server_that_was_rebuilt_since(self):
        deliver = self.give_up()
        self.set_down('host1', True)
        self.add_capacity('host2')
        self.rebuilt(self.server)
        deliver()
        self.assertEqual([], self.guests('host1'))
        self.assert_runs(self.server)


class NotificationsTest(_TestCase):

    def test_end_that_an_operator_finishes(self):
        """Whoever ends the attempt tells that it has failed, once."""
        for name in ('database.write_history', 'spec_extras.end_attempt'):
            server = self.create_failed()
            failing = self.patch('nova_rescue_ext.rebuild.' + name,
                                 mock.Mock(side_effect=db_exc.DBError()))
            self.end_of_rebuild(server, lambda end: end())
            failing.stop()
            self.assertEqual(['start'], self.types())
            self.remedy(recovery.FINISH)
            self.assertEqual(['start', 'error'], self.types())
            self.notifier.reset()

    def test_end_of_one_that_was_replaced(self):
        """nova-api tells, as the conductor that is late cannot know."""
        server = self.create_failed()

        def rebuild_again(end):
            self.assertEqual(202, self.rebuild(server).status_code)
            self.assertEqual(['start', 'error', 'start'], self.types()[:3])
            self.await_true(lambda: len(self.types()) == 4)
            end()

        self.end_of_rebuild(server, rebuild_again)
        self.assertEqual(['start', 'error'] * 2, self.types())

    def test_end_of_one_that_was_replaced_without_an_answer(self):
        server = self.create_failed()
        begin = database.begin

        def begin_and_fail(*args):
            begin(*args)
            raise db_exc.DBConnectionError()

        def rebuild_again(end):
            with fixtures.MonkeyPatch(
                    'nova_rescue_ext.rebuild.database.begin', begin_and_fail):
                self.assertEqual(202, self.rebuild(server).status_code)
            self.await_true(lambda: len(self.types()) == 4)
            end()

        self.end_of_rebuild(server, rebuild_again)
        self.assertEqual(['start', 'error'] * 2, self.types())

    def test_end_of_one_that_may_have_been_replaced(self):
        """The API database does not even say whether it was."""
        server = self.create_failed()
        begin = database.begin
        read = mock.patch('nova_rescue_ext.rebuild.spec_extras.is_attempt',
                          side_effect=db_exc.DBConnectionError())

        def begin_and_fail(*args):
            begin(*args)
            read.start()
            raise db_exc.DBConnectionError()

        def rebuild_again(end):
            with fixtures.MonkeyPatch(
                    'nova_rescue_ext.rebuild.database.begin', begin_and_fail):
                self.assertEqual(503, self.rebuild(server).status_code)
            read.stop()
            end()

        self.end_of_rebuild(server, rebuild_again)
        self.remedy(recovery.UNDO)
        self.assertEqual(['start', 'error'], self.types())

    def end_of_rebuild(self, server, function):
        """Rebuild a server, and have its conductor come to the end.

        :param function: gets what the conductor calls there
        """
        def call(original, *args):
            patched.stop()
            function(lambda: original(*args))
            ended.append(True)

        ended = []
        patched = self.around(_CONDUCTOR + '_try_to_finish', call)
        self.assertEqual(202, self.rebuild(server).status_code)
        self.await_true(lambda: ended)

    def test_conductor_that_stops_half_way(self):
        """It leaves the attempt to the operator's command."""
        server = self.create_failed()
        self.add_capacity()
        for method, remedy in (('_map_instance_to_cell', recovery.BURY),
                               ('_delete_build_request', recovery.FAIL)):
            self.once(method, mock.Mock(side_effect=db_exc.DBError()))
            self.end_of_rebuild(server, lambda end: end())
            self.assertEqual('BUILD', self.api.get_server(server['id'])[
                'status'])
            self.remedy(remedy)
            self.assertEqual(['start', 'error'], self.types())
            self.notifier.reset()
        self.rebuilt(server)

    def test_message_that_may_not_have_been_marked(self):
        server = self.create_failed()
        mark_sent = database.mark_sent

        def mark_and_fail(*args):
            mark_sent(*args)
            raise db_exc.DBConnectionError()

        self.patch('nova_rescue_ext.rebuild.database.mark_sent',
                   mark_and_fail)
        self.assert_refused(503, self.rebuild(server), 'BUILD')
        self.remedy(recovery.BURY)
        self.assertEqual(['start', 'error'], self.types())

    def test_build_that_ends_with_nobody_to_say_so(self):
        """Nova leaves such a server in BUILD."""
        server = self.create_failed()
        self.add_capacity()
        failing = self.patch('nova.compute.manager.ComputeManager.'
                             '_decode_files', mock.Mock(
                                 side_effect=RuntimeError('broken')))
        self.failed_again(server)
        self.await_true(lambda: len(self.types()) == 2)
        self.assertEqual(['start', 'error'], self.types())
        failing.stop()
        self.await_true(lambda: not self.allocations(server))
        self.rebuilt(server)

    def test_state_is_reset_while_a_host_fails(self):
        """The next one builds the server."""
        server = self.create_failed()
        for host in ('host1', 'host2'):
            self.add_capacity(host)

        def reset_and_fail(*args, **kwargs):
            patched.stop()
            self.admin_api.post_server_action(
                server['id'], {'os-resetState': {'state': 'error'}})
            raise exception.NovaException('no answer of the guest')

        patched = self.patch('nova.virt.fake.FakeDriver.spawn',
                             reset_and_fail)
        self.assertEqual(202, self.rebuild(server).status_code)
        self.await_true(lambda: self.types() == ['start', 'end'])
        self.assert_runs(server)

    def test_doubled_message_to_a_host(self):
        """Nova would start the guest again."""
        server = self.create_failed()
        self.add_capacity()
        messages, builds = [], []
        ask = compute_rpcapi.ComputeAPI.build_and_run_instance

        def ask_and_keep(*args, **kwargs):
            messages.append((args, dict(kwargs)))
            ask(*args, **kwargs)

        self.patch('nova.compute.rpcapi.ComputeAPI.build_and_run_instance',
                   ask_and_keep)
        build = compute_manager.ComputeManager._build_and_run_instance
        self.patch('nova.compute.manager.ComputeManager.'
                   '_build_and_run_instance',
                   lambda *args: builds.append(build(*args)))
        self.rebuilt(server)
        args, kwargs = messages[0]
        ask(*args, **kwargs)
        self.await_true(lambda: 'A doubled or late message to build' in
                        self.stdlog.logger.output)
        self.assertEqual((1, ['start', 'end']), (len(builds), self.types()))
        self.assert_runs(server)

    def test_two_that_end_it(self):
        def finish_first(end):
            elsewhere(self.remedy, recovery.FINISH)
            end()

        self.end_of_rebuild(self.create_failed(), finish_first)
        self.assertEqual(['start', 'error'], self.types())

    def test_host_that_fails_at_once(self):
        """Before the conductor looks what has become of the server."""
        server = self.create_failed()
        self.add_capacity()
        self.patch('nova.virt.fake.FakeDriver.spawn', mock.Mock(
            side_effect=exception.BuildAbortException(
                instance_uuid='x', reason='broken')))
        ended = []

        def wait_and_finish(original, *args):
            self.await_true(lambda: 'error' in self.types())
            ended.append(original(*args))

        self.around(_CONDUCTOR + '_try_to_finish', wait_and_finish)
        self.assertEqual(202, self.rebuild(server).status_code)
        self.await_true(lambda: ended)
        self.assertEqual(['start', 'error'], self.types())

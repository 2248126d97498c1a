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


"""kill -9 of nova-api and nova-conductor (issue, point 7).

A child of the test does what is to be killed, with connections of its own to
databases that both see, and kills itself at a step. What it would have left in
memory or in a message queue dies with it.
"""

import contextlib
import io
import json
import os
import pkgutil
import signal
import traceback
from unittest import mock

from tests import fixtures as tests_fixtures

tests_fixtures.need_eventlet()

import eventlet
from nova import exception
from nova.objects import base as objects_base
import sqlalchemy as sa

from nova_rescue_ext.cmd import manage
from nova_rescue_ext.rebuild import recovery
from tests.functional import database_servers
from tests.functional import own_databases
from tests.functional import rebuild_base
from tests.functional import test_rebuild_cells

ERROR, BUILD = 'ERROR', 'BUILD'


def _kill():
    os.kill(os.getpid(), signal.SIGKILL)


def before(name):
    """Kill before a function is called."""

    def install():
        mock.patch(name, lambda *args, **kwargs: _kill()).start()

    return install


def after(name):
    """Kill after a function was called."""

    def install():
        original = pkgutil.resolve_name(name)

        def call(*args, **kwargs):
            original(*args, **kwargs)
            _kill()

        mock.patch(name, call).start()

    return install


def at_statement(text):
    """Kill in a transaction, before an SQL statement."""

    def install():
        @sa.event.listens_for(sa.engine.Engine, 'before_cursor_execute')
        def listen(connection, cursor, statement, *args):
            if statement.startswith(text):
                _kill()

    return install


_API = 'nova_rescue_ext.rebuild.'
_TASK_API = 'nova.conductor.api.ComputeTaskAPI.'
# Where nova-api is killed, the status of the server then, the remedy.
API_STEPS = (
    ('before step 2', before(_API + 'database.begin'), ERROR, None),
    ('in the transaction of step 2', after(
        _API + 'spec_extras.save_with_spec'), ERROR, None),
    ('after step 2', after(_API + 'database.begin'),
     BUILD, recovery.UNDO),
    ('in the transaction of step 3', at_statement('DELETE FROM instances '),
     BUILD, recovery.UNDO),
    ('after step 3', after(_API + 'database.destroy_row'),
     BUILD, recovery.BURY),
    ('before the message is sent', after(_API + 'database.mark_sent'),
     BUILD, recovery.BURY),
)

_CONDUCTOR = 'nova.conductor.manager.ComputeTaskManager.'
# Where nova-conductor is killed, when there is a host.
BUILD_STEPS = (
    ('as it begins', before(_CONDUCTOR + '_schedule_instances'),
     recovery.BURY),
    ('after scheduling', after(_CONDUCTOR + '_schedule_instances'),
     recovery.BURY),
    ('after the row', after('nova.objects.Instance.create'), recovery.BURY),
    ('after the disks', after(_CONDUCTOR + '_create_block_device_mapping'),
     recovery.BURY),
    # Either is saved in a transaction that looks who has the build.
    ('in the mapping', after('nova.objects.InstanceMapping.save'),
     recovery.BURY),
    ('in the BuildRequest', at_statement('DELETE FROM build_requests'),
     recovery.BURY),
    ('after the BuildRequest', after('nova.objects.BuildRequest.destroy'),
     recovery.FAIL),
    ('after the host was asked in vain', after(
        'nova.compute.rpcapi.ComputeAPI.build_and_run_instance'),
     recovery.FAIL),
)

# Where nova-conductor is killed, when there is none.
BURIAL_STEPS = (
    ('after the row', after('nova.objects.Instance.create'), recovery.BURY),
    ('after the mapping', after('nova.objects.InstanceMapping.save'),
     recovery.BURY),
    ('after the disks', after(_CONDUCTOR + '_create_block_device_mapping'),
     recovery.BURY),
    ('after the state', after(_CONDUCTOR + '_set_vm_state_and_notify'),
     recovery.BURY),
    ('after the BuildRequest', after('nova.objects.BuildRequest.destroy'),
     recovery.FINISH),
    ('after the history', after(_API + 'database.write_history'),
     recovery.FINISH),
)

# Where the command that remedies is killed.
COMMAND_STEPS = (
    ('after the mapping', after(_API + 'database.reclaim_from_conductor')),
    ('after the rows', after(_API + 'recovery._destroy_rows')),
    ('after the new row', after('nova.objects.Instance.create')),
    ('after the new mapping', after('nova.objects.InstanceMapping.save')),
    ('after the new BuildRequest', after(
        'nova.objects.BuildRequest.destroy')),
)


class _KilledTests(own_databases.OwnDatabases):
    """The tests; SERVER is one of database_servers."""

    def setUp(self):
        super().setUp()
        self.add_capacity()
        self.set_down('host1', True)

    def make_failed(self):
        server = self.create_failed(
            networks=[{'port': self.PORT}], tags=['one'], metadata={'a': 'b'},
            bdms=[{'boot_index': 0, 'uuid': self.VOLUME,
                   'source_type': 'volume', 'destination_type': 'volume'}])
        self.old_actions = self.api.get_instance_actions(server['id'])
        return server

    def in_child(self, function, install):
        """Call a function in a child, which is killed in it."""
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            try:
                # A child that hangs dies of something else.
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                signal.alarm(120)
                eventlet.hubs.use_hub()
                self.disconnect()
                self.patch('nova.scheduler.rpcapi.SchedulerAPI.'
                           'select_destinations', self._select_destinations)
                install()
                function()
                os.write(writer, b"It is not killed.")
            except BaseException:
                os.write(writer, traceback.format_exc().encode())
            finally:
                os._exit(1)
        os.close(writer)
        with open(reader) as output:
            said = output.read()
        _pid, status = os.waitpid(child, 0)
        self.assertEqual((True, signal.SIGKILL), (
            os.WIFSIGNALED(status), os.WTERMSIG(status)), said)

    # The scheduler is a thread, and a fork does not take threads along.
    def _select_destinations(self, context, spec, uuids, *args):
        names = ('return_objects', 'return_alternates')
        return self.scheduler.manager.select_destinations(
            context, spec_obj=spec, instance_uuids=uuids,
            **dict(zip(names, args)))

    @contextlib.contextmanager
    def named(self, step):
        try:
            yield
        except AssertionError as exc:
            raise AssertionError('%s: %s' % (step, exc)) from exc

    def status(self, server):
        """The status of the server, which is there once.

        Just before the end of a burial Nova lists it as BUILD and shows ERROR.
        """
        found, = self.api.get_servers()
        status = self.api.get_server(server['id'])['status']
        self.assertEqual(server['id'], found['id'])
        self.assertIn(found['status'], (status, BUILD))
        return status

    def run_command(self, *argv):
        arguments = manage._parser().parse_args(
            ('rebuild-interrupted', '--older-than', '0') + argv)
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            code = arguments.action(arguments)
        self.assertEqual(0, code, output.getvalue())
        return output.getvalue()

    def assert_remedied(self, server, remedy):
        """The command makes it what it was, and nothing is left to do."""
        status = self.status(server)
        said = self.run_command('--dry-run')
        self.assertEqual(remedy is not None, server['id'] in said, said)
        self.assertIn(remedy or '', said)
        self.assertEqual(status, self.status(server))
        self.run_command()
        self.assertEqual([], recovery.find(self.context, 0))
        self.assert_failed(server)

    def assert_failed(self, server):
        self.assertEqual('ERROR', self.status(server))
        self.assertEqual((1, {}), (self.count_rows(server),
                                   self.allocations(server)))
        known = {action['request_id'] for action
                 in self.api.get_instance_actions(server['id'])}
        self.assertLessEqual(
            {action['request_id'] for action in self.old_actions}, known)

    def assert_rebuildable(self, server):
        self.set_down('host1', False)
        after = self.rebuilt(server)
        self.assertEqual([self.PORT], self.ports_of(server))
        self.assertEqual(
            (['one'], {'a': 'b'}, server['created'], [self.VOLUME]),
            (after['tags'], after['metadata'], after['created'],
             [volume['id'] for volume
              in after['os-extended-volumes:volumes_attached']]))
        self.assertEqual(1, len(self.allocations(server)))
        self.set_down('host1', True)

    def delete(self, server):
        self.api.delete_server(server['id'])
        self._wait_until_deleted(server)

    def assert_deletable(self, server):
        self.delete(server)
        self.run_command()
        self.assertEqual([], self.api.get_servers())
        self.assertEqual({}, self.allocations(server))
        self.assertEqual(set(), set(
            self.cinder.attachment_ids_for_instance(server['id'])))
        self.assertEqual([], recovery.find(self.context, 0))

    def send(self, server):
        """Rebuild, but keep the message to the conductor.

        :returns: a function that delivers it
        """
        kept = []
        patch = self.patch(_TASK_API + 'rebuild_instance_in_cell0',
                           lambda api, *args: kept.append(args))
        self.assertEqual(202, self.rebuild(server).status_code)
        patch.stop()
        context, build_request, spec, *rest = kept[0]
        return lambda: (
            self.conductor.manager.compute_task_mgr
            .schedule_and_build_instances(
                context, [build_request], [spec], *rest))

    def test_api(self):
        for step, install, status, remedy in API_STEPS:
            with self.named(step):
                server = self.make_failed()
                self.in_child(lambda: self.rebuild(server), install)
                self.assertEqual(status, self.status(server))
                self.assert_remedied(server, remedy)
                self.assert_rebuildable(server)
                self.delete(server)

    def test_api_and_delete(self):
        for step, install, _status, _remedy in API_STEPS:
            with self.named(step):
                server = self.make_failed()
                self.in_child(lambda: self.rebuild(server), install)
                self.assert_deletable(server)

    def test_api_after_the_message(self):
        """The conductor has it: nothing is to be done."""
        server = self.make_failed()
        reader, writer = os.pipe()
        serializer = objects_base.NovaObjectSerializer()

        def keep(api, context, *args):
            os.write(writer, json.dumps([
                context.to_dict(), *(serializer.serialize_entity(
                    context, arg) for arg in args)]).encode())
            _kill()

        def install():
            mock.patch(_TASK_API + 'rebuild_instance_in_cell0',
                       keep).start()

        self.in_child(lambda: self.rebuild(server), install)
        os.close(writer)
        with open(reader) as pipe:
            context, *args = json.load(pipe)
        context = type(self.context).from_dict(context)
        self.assertEqual('BUILD', self.status(server))
        self.set_down('host1', False)
        self.conductor_api().rebuild_instance_in_cell0(
            context, *(serializer.deserialize_entity(context, arg)
                       for arg in args))
        after = self.await_end(server)
        self.assertEqual('ACTIVE', after['status'], after.get('fault'))
        self.assertEqual([], recovery.find(self.context, 0))

    @staticmethod
    def conductor_api():
        from nova.conductor import api
        return api.ComputeTaskAPI()

    def test_conductor_that_builds(self):
        for step, install, remedy in BUILD_STEPS:
            with self.named(step):
                server = self.make_failed()
                self.set_down('host1', False)
                self.in_child(self.send(server), install)
                self.assertEqual('BUILD', self.status(server))
                self.assert_remedied(server, remedy)
                self.assert_rebuildable(server)
                self.delete(server)

    def test_conductor_that_builds_and_delete(self):
        for step, install, _remedy in BUILD_STEPS:
            with self.named(step):
                server = self.make_failed()
                self.set_down('host1', False)
                self.in_child(self.send(server), install)
                self.set_down('host1', True)
                self.assert_deletable(server)

    def test_host_that_is_down(self):
        """Was it asked? If so it builds the server when it comes back."""
        server = self.make_failed()
        self.set_down('host1', False)
        self.in_child(self.send(server), after(
            _CONDUCTOR + '_delete_build_request'))
        self.set_down('host1', True)
        found, = recovery.find(self.context, 0)
        self.assertEqual(recovery.FAIL, found.remedy)
        self.assertRaises(exception.ComputeServiceUnavailable,
                          recovery.remedy, self.context, found)
        self.assertEqual('BUILD', self.status(server))
        self.set_down('host1', False)
        self.assert_remedied(server, recovery.FAIL)
        self.assertEqual('cell1', self.cell_of(server))
        self.assert_rebuildable(server)

    def test_conductor_that_buries(self):
        for step, install, remedy in BURIAL_STEPS:
            with self.named(step):
                server = self.make_failed()
                self.in_child(self.send(server), install)
                self.assert_remedied(server, remedy)
                self.assert_rebuildable(server)
                self.delete(server)

    def test_conductor_that_buries_and_delete(self):
        for step, install, _remedy in BURIAL_STEPS:
            with self.named(step):
                server = self.make_failed()
                self.in_child(self.send(server), install)
                self.assert_deletable(server)

    def test_delete_at_the_end_of_a_burial(self):
        """It deletes the row; the BuildRequest would be listed for ever."""
        server = self.make_failed()
        self.in_child(self.send(server), after(
            _CONDUCTOR + '_set_vm_state_and_notify'))
        self.in_child(lambda: self.api.delete_server(server['id']),
                      before(_API + 'delete._forget_burial'))
        found, = recovery.find(self.context, 0)
        self.assertEqual(recovery.DELETE, found.remedy)
        recovery.remedy(self.context, found)
        self.assertEqual([], self.api.get_servers())
        self.assertEqual([], recovery.find(self.context, 0))

    def test_command(self):
        for step, install in COMMAND_STEPS:
            with self.named(step):
                server = self.make_failed()
                self.set_down('host1', False)
                self.in_child(self.send(server), after(
                    'nova.objects.InstanceMapping.save'))
                self.in_child(self.run_command, install)
                self.status(server)
                self.run_command()
                self.assertEqual([], recovery.find(self.context, 0))
                self.assert_failed(server)
                self.assert_rebuildable(server)
                self.delete(server)


class _Wanted:

    @classmethod
    def setUpClass(cls):
        database_servers.require_wanted()
        super().setUpClass()


class KilledTest(_KilledTests, rebuild_base.RebuildTestCase):

    SERVER = database_servers.SQLite


class DefaultIsCell0KilledTest(_Wanted, test_rebuild_cells.DefaultIsCell0,
                               KilledTest):
    pass


class MariaDBKilledTest(_Wanted, _KilledTests, rebuild_base.RebuildTestCase):

    SERVER = database_servers.MariaDB

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


"""An operator prepares the removal of the package."""

import os
import sys
import time
import types
from unittest import mock

from nova.conductor import manager as conductor_manager
from nova import context as nova_context
from nova import objects
from nova.tests import fixtures as nova_fixtures
from nova.tests.fixtures import libvirt
from nova.virt import fake

from tests.functional import base
from tests.functional import operator_base
from tests.functional import rebuild_base
from tests.functional import test_live_migration


class PrepareRemovalTest(operator_base.OperatorMixin,
                         test_live_migration.LiveMigrationTestCase):

    def setUp(self):
        super().setUp()
        self.serve_clouds(self.api.project_id)

    def prepare(self, *argv):
        code, output = self.run_command(
            'prepare-removal', '--os-cloud', self.api.project_id, *argv)
        return code, ' '.join(output.split())

    def test_nothing(self):
        code, output = self.prepare()
        self.assertEqual(0, code, output)
        self.assertIn('can be switched off now', output)
        self.assertNotIn(self.server['id'], output)

    def test_in_rescue(self):
        self.rescue_now()
        for task, words in ((None, 'Unrescue it'),
                            ('migrating', 'settle-migration'),
                            ('unrescuing', 'restart nova-compute'),
                            ('deleting', 'Wait until')):
            instance = self.instance(self.server)
            instance.task_state = task
            instance.save()
            code, output = self.prepare()
            self.assertEqual(1, code, output)
            self.assertIn(words, output)
            self.assertEqual(1, output.count(self.server['id']), output)
            self.assertNotIn('can be switched off', output)

    def test_task_in_another_state(self):
        """A reset state leaves the rescue at work."""
        for task in ('rescuing', 'unrescuing'):
            for vm_state in ('active', 'error'):
                instance = self.instance(self.server)
                instance.vm_state, instance.task_state = vm_state, task
                instance.save()
                code, output = self.prepare()
                self.assertEqual(1, code, output)
                self.assertIn(self.server['id'], output)

    def test_project(self):
        self.rescue_now()
        self.assertEqual(0, self.prepare('--project', 'other')[0])
        self.assertEqual(1, self.prepare('--project',
                                         self.server['tenant_id'])[0])

    def test_nova_without_the_package(self):
        """It may be off in nova-api already: no version is asked for."""
        self.prepare()
        self.assertEqual({'compute 2.94'}, {
            request['HTTP_OPENSTACK_API_VERSION']
            for request in self.requests
            if '/servers' in request['PATH_INFO']})

    def test_cell_that_is_down(self):
        """Its servers are in no list."""
        self.rescue_now()
        cells = objects.CellMappingList.get_all(
            nova_context.get_admin_context())
        with nova_fixtures.DownCellFixture(
                [cell for cell in cells if not cell.is_cell0()]):
            code, output = self.prepare()
        self.assertEqual(1, code, output)
        self.assertIn('does not answer: compute1, compute2', output)


class LeftoversTest(test_live_migration.LiveMigrationTestCase,
                    operator_base.OperatorMixin):
    """With the domains that Nova defines."""

    def setUp(self):
        super().setUp()
        connection = self.computes['compute1'].driver._host.get_connection()
        self.patch('nova.tests.fixtures.libvirt.Connection.close',
                   lambda connection: None)
        module = types.SimpleNamespace(**vars(libvirt))
        module.openReadOnly = lambda uri: connection
        patcher = mock.patch.dict(sys.modules, libvirt=module)
        patcher.start()
        self.addCleanup(patcher.stop)
        self.patch('nova_rescue_ext.cmd.rescue_leftovers._configure',
                   lambda config_files: types.SimpleNamespace(
                       instances_path=os.path.join(base.CONF.instances_path,
                                                   'compute1'),
                       libvirt=base.CONF.libvirt))

    def put_old(self, *names):
        self.put_files(self.server, *names)
        then = time.time() - 7200
        for name in names:
            os.utime(self.path(self.server['id'], 'compute1', name),
                     (then, then))

    def names(self):
        return sorted(os.listdir(self.path(self.server['id'], 'compute1')))

    def test_in_rescue_and_after_it(self):
        self.rescue_now()
        self.put_old('disk', 'disk.rescue')
        self.assertEqual(0, self.run_command('rescue-leftovers',
                                             '--remove')[0])
        self.assertIn('disk.rescue', self.names())
        self.unrescue_now()
        self.put_old('disk', 'disk.rescue')  # as without the package
        code, output = self.run_command('rescue-leftovers')
        self.assertEqual(1, code, output)
        self.assertIn('disk.rescue', self.names())
        code, output = self.run_command('rescue-leftovers', '--remove')
        self.assertEqual(0, code, output)
        self.assertNotIn('disk.rescue', self.names())
        self.assertIn('disk', self.names())

    def unrescue_now(self):
        self.api.post_server_action(self.server['id'], {'unrescue': None})
        self._wait_for_state_change(self.server, 'ACTIVE')


class PrepareRemovalDuringBuildTest(operator_base.OperatorMixin,
                                    rebuild_base.RebuildTestCase):

    def setUp(self):
        super().setUp()
        self.serve_clouds(self.api.project_id)
        self.results = []

    def prepare_before(self, name, original):
        """Run the command when Nova gets to a function."""

        def prepare_first(*args, **kwargs):
            self.results.append(self.run_command(
                'prepare-removal', '--os-cloud', self.api.project_id))
            return original(*args, **kwargs)

        self.patch(name, prepare_first)

    def assert_found(self, server, words):
        (code, output), = self.results
        self.assertEqual(1, code, output)
        self.assertRegex(output, server['id'] + '.*' + words)

    def test_build(self):
        self.add_capacity()
        self.prepare_before('nova.virt.fake.FakeDriver.spawn',
                            fake.FakeDriver.spawn)
        self.create()
        (code, output), = self.results
        self.assertEqual(0, code, output)

    def test_rebuild_on_the_host(self):
        server = self.create_failed()
        self.add_capacity()
        self.prepare_before('nova.virt.fake.FakeDriver.spawn',
                            fake.FakeDriver.spawn)
        self.rebuilt(server)
        self.assert_found(server, 'rebuild-interrupted')

    def test_rebuild_before_its_host_is_known(self):
        server = self.create_failed()
        self.add_capacity()
        self.prepare_before(
            'nova.conductor.manager.ComputeTaskManager._schedule_instances',
            conductor_manager.ComputeTaskManager._schedule_instances)
        self.rebuilt(server)
        self.assert_found(server, 'rebuild-interrupted')

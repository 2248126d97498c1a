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


"""What a caller sees of the live migration of a rescued server."""

import os
import pkgutil
import threading
import time
from unittest import mock

import ddt
import fixtures
from nova.db.main import api as main_api
from nova import exception
from nova import objects
from nova.tests.fixtures import libvirt
from oslo_db import exception as db_exc
from oslo_serialization import jsonutils

from nova_rescue_ext import capabilities
from nova_rescue_ext import instance_metadata
from nova_rescue_ext.live_migration import destination
from tests.functional import test_live_migration

# Answers with the result of the checks, up to this microversion.
SYNCHRONOUS = '2.33'
ASYNCHRONOUS = '2.34'


class ApiTestCase(test_live_migration.LiveMigrationTestCase):

    def setUp(self):
        super().setUp()
        self.rescue_now()
        self.put_raw_disks('disk', 'disk.rescue', 'disk.eph0')

    def act(self, action, parameters=None, version='1.3', compute='2.87',
            path=''):
        """Ask for an action; the response is returned."""
        with self.opted_in(version, compute):
            return self.api.api_request(
                '/servers/%s%s/action' % (self.server['id'], path),
                method='POST', headers={'Content-Type': 'application/json'},
                body=jsonutils.dumps({action: parameters}))

    def migration(self, status='running'):
        return objects.MigrationList.get_by_filters(self.context, {
            'instance_uuid': self.server['id'], 'status': status})[0]

    def event_details(self):
        """What the events of the migration say that failed."""
        with self.opted_in('1.3', '2.84'):
            request = next(
                action['request_id'] for action
                in self.api.get_instance_actions(self.server['id'])
                if action['action'] == 'live-migration')
            action = self.api.api_get('/servers/%s/os-instance-actions/%s' % (
                self.server['id'], request)).body['instanceAction']
        return [event['details'] for event in action['events']
                if event['result'] == 'Error']


class NoDestinationTest(ApiTestCase):
    """No host is left that can take the server."""

    def assert_refused_both_ways(self, *words, **parameters):
        files = self.files()
        response = self.ask_migration(
            self.server, compute=SYNCHRONOUS, **parameters)
        self.assertEqual(400, response.status_code, response.text)
        message = jsonutils.loads(response.text)['badRequest']['message']
        self.assert_in_rescue_on(self.server, 'compute1')

        response = self.ask_migration(
            self.server, compute=ASYNCHRONOUS, **parameters)
        self.assertEqual(202, response.status_code, response.text)
        self._wait_for_action_fail_completion(
            self.server, 'live-migration', 'conductor_live_migrate_instance')
        self.assert_in_rescue_on(self.server, 'compute1')
        details = self.event_details()
        for word in words:
            self.assertIn(word, message)
            self.assertIn(word, '; '.join(details))
        self.assertEqual([], self.migrations)
        self.assertEqual(files, self.files())

    def lose_capability(self, host):
        """As a host that has never had the package."""
        compute = self.computes[host]
        self.addCleanup(compute.driver.capabilities.pop,
                        capabilities.LIVE_MIGRATE_RESCUED)
        compute.driver.capabilities = dict(
            compute.driver.capabilities,
            **{capabilities.LIVE_MIGRATE_RESCUED: False})
        compute.manager.update_available_resource(self.context)
        self.forget_package(host)

    def test_none_has_the_package(self):
        self.lose_capability('compute2')
        self.assert_refused_both_ways(
            'No destination compute node supports live migration of rescued '
            'servers (compute-rescue 1.3)')

    def test_none_has_the_package_any_more(self):
        """The trait is left."""
        self.forget_package('compute2')
        self.assert_refused_both_ways(
            'No destination compute node supports live migration of rescued '
            'servers')

    def test_none_is_enabled(self):
        service = objects.Service.get_by_compute_host(self.context,
                                                      'compute2')
        self.api.put_service(service.uuid, {'status': 'disabled'})
        self.assert_refused_both_ways(
            'Of 1 compute nodes that support live migration of rescued '
            'servers, none can take this one', 'not enough hosts')

    def test_what_the_hosts_said(self):
        with mock.patch.object(
                destination, 'check',
                side_effect=exception.MigrationPreCheckError(
                    reason='no room')):
            self.assert_refused_both_ways('no room', '(compute2)')


class OldConductorTest(ApiTestCase):
    """nova-conductor has no package (hazard: unchecked-destination)."""

    WORDS = 'nova-conductor does not have nova-rescue-ext'

    def setUp(self):
        for name in ('execute', 'get_request_spec', 'call_checks_on_host',
                     'find_destination'):
            self.patch('nova_rescue_ext.live_migration.conductor.' + name,
                       self.stock)
        super().setUp()

    @staticmethod
    def stock(original, self, *args, **kwargs):
        return original(*args, **kwargs)

    def assert_stays(self):
        self.assert_fails()
        self._wait_for_action_fail_completion(
            self.server, 'live-migration', 'conductor_live_migrate_instance')
        self.assertIn(self.WORDS, '; '.join(self.event_details()))
        self.assert_files(self.server, 'disk', 'disk.rescue', 'disk.eph0',
                          host='compute1')

    def test_chosen_destination(self):
        self.assert_stays()

    def test_chosen_destination_without_the_package(self):
        """Nobody but the source is there to refuse it."""
        self.forget_package('compute2')
        self.assert_stays()

    def test_forced_destination(self):
        self.refused_by_host(self.WORDS, 'Install it there')


class VouchingTest(ApiTestCase):
    """What nova-conductor tells the source of a destination.

    Hazard: unchecked-destination.

    The CPUs of the server are pinned, so that the destination saves what it
    has got, too.
    """

    ADDITIONAL_FILTERS = ['NUMATopologyFilter']
    KEY = 'rescue_ext_destination'

    def setUp(self):
        super().setUp()
        self.saved, self.sent, self.claimed, self.taken = [], [], [], []
        self.spy('nova.db.main.api.instance_update_and_get_original',
                 lambda context, uuid, values, **kwargs: self.saved.append(
                     dict(values.get('system_metadata') or {})))
        self.spy('nova.compute.rpcapi.ComputeAPI.live_migration',
                 lambda itself, context, instance, **kwargs:
                 self.sent.append(self.traces(instance)))
        self.spy('nova.compute.resource_tracker.ResourceTracker.'
                 'live_migration_claim',
                 lambda itself, context, instance, *args:
                 self.claimed.append(self.traces(instance)))
        take = instance_metadata.take_checked_destination

        def take_destination(instance):
            changed = 'system_metadata' in instance.obj_what_changed()
            checked = take(instance)
            self.taken.append((checked.destination, changed,
                               self.traces(instance)))
            return checked

        self.patch(
            'nova_rescue_ext.instance_metadata.take_checked_destination',
            take_destination)

    def start_compute(self, *args, **kwargs):
        self.flags(cpu_dedicated_set='0,1', group='compute')
        return super().start_compute(*args, **kwargs)

    def boot(self):
        return super().boot(flavor_id=self._create_flavor(
            vcpu=1, disk=1, extra_spec={'hw:cpu_policy': 'dedicated'}))

    def traces(self, instance):
        """Whether the key is there, and would be saved."""
        return (self.KEY in instance.system_metadata,
                'system_metadata' in instance.obj_what_changed())

    def spy(self, name, look):
        """Look at what a function is called with."""
        original = pkgutil.resolve_name(name)

        def call(*args, **kwargs):
            look(*args, **kwargs)
            return original(*args, **kwargs)

        self.patch(name, call)

    def test_sent_and_never_saved(self):
        # What the source saves in the same object.
        instance = self.instance(self.server)
        instance_metadata.record_transfer(instance, 'of an earlier attempt')
        instance.save()
        self.migrate(host='compute2')
        self.assertEqual(
            [], [saved for saved in self.saved if self.KEY in saved])
        self.assertTrue(any(self.saved))
        self.assertEqual([(True, False)], self.claimed)
        self.assertEqual([('compute2', False, (False, False))], self.taken)
        self.assertEqual([(False, False)], self.sent)

    def test_a_late_refusal_leaves_nothing(self):
        """The destination refuses before Nova claims CPUs for the server.

        Nor does the source save what the conductor has made of the instance.
        """
        instance = self.instance(self.server)
        instance_metadata.record_transfer(instance, 'of an earlier attempt')
        instance.save()
        self.saved.clear()
        with mock.patch.object(
                destination, 'check',
                side_effect=exception.MigrationPreCheckError(
                    reason='no room')):
            self.assert_fails()
        self.assertEqual([], self.claimed)
        # By nova-api, with the task.
        saved, = [saved for saved in self.saved if saved]
        self.assertNotIn(self.KEY, saved)
        self.assertIsNone(self.instance(self.server).migration_context)

    def test_each_destination_is_told(self):
        """One that cannot take the server, and the next."""
        self.start_compute('compute3')
        self._tell_driver_its_host(self.computes['compute3'].driver,
                                   'compute3')
        os.makedirs(self.path('', 'compute3'), exist_ok=True)
        check, refused = destination.check, []

        def refuse_once(*args):
            if not refused:
                refused.append(self.taken[-1][0])
                raise exception.MigrationPreCheckError(reason='no room')
            check(*args)

        with mock.patch.object(destination, 'check', refuse_once):
            response = self.ask_migration(self.server)
            self.assertEqual(202, response.status_code, response.text)
            self.wait_for_migration(self.server, 'completed')
        told = [destination for destination, *_ in self.taken]
        self.assertEqual({'compute2', 'compute3'}, set(told))
        self.assert_migrated(self.server, told[1])
        self.assertEqual(refused, told[:1])


@ddt.ddt
class RaceTest(ApiTestCase):
    """Two requests that both saw the server without a task."""

    def win(self, **values):
        """Let another request take the server at the last moment."""
        save = objects.Instance.save

        def lose(itself, *args, **kwargs):
            if kwargs.get('expected_task_state') == [None]:
                winner = self.instance(self.server)
                winner.update(values)
                save(winner)
            return save(itself, *args, **kwargs)

        self.patch('nova.objects.Instance.save', lose)

    def assert_lost(self, response, task_state):
        self.assertEqual(409, response.status_code, response.text)
        self.assertIn('task_state %s' % task_state, response.text)
        self.assertEqual(task_state, self.instance(self.server).task_state)

    def test_migration_loses(self):
        self.win(task_state='unrescuing')
        self.assert_lost(self.ask_migration(self.server), 'unrescuing')

    @ddt.data('migrate', 'unrescue')
    def test_delete_was_quicker(self, action):
        """The server is gone when the task is saved."""
        save = objects.Instance.save

        def lose(itself, *args, **kwargs):
            if kwargs.get('expected_task_state') == [None]:
                raise exception.InstanceNotFound(instance_id=itself.uuid)
            return save(itself, *args, **kwargs)

        self.patch('nova.objects.Instance.save', lose)
        response = (self.ask_migration(self.server) if action == 'migrate'
                    else self.act('unrescue', version='1.0'))
        self.assertEqual(409, response.status_code, response.text)
        self.assertIn('task_state deleting', response.text)

    def test_unrescue_was_quicker(self):
        """What it has removed does not come back."""
        self.win(vm_state='active', system_metadata={})
        response = self.ask_migration(self.server)
        self.assertEqual(409, response.status_code, response.text)
        self.assertIn('vm_state active', response.text)
        instance = self.instance(self.server)
        self.assertIsNone(instance.task_state)
        self.assertEqual({}, instance.system_metadata)

    def test_unrescue_loses(self):
        self.win(task_state='migrating')
        self.assert_lost(self.act('unrescue', version='1.0'), 'migrating')


class UnexpectedTest(ApiTestCase):
    """Something is gone before a host has begun."""

    def lose_placement(self):
        self.useFixture(fixtures.MockPatch(
            'nova.conductor.tasks.migrate.replace_allocation_with_migration',
            side_effect=exception.ConsumerAllocationRetrievalFailed(
                consumer_uuid=self.server['id'], error='no database')))

    def test_rescued(self):
        self.lose_placement()
        response = self.ask_migration(self.server, compute=ASYNCHRONOUS)
        self.assertEqual(202, response.status_code, response.text)
        self._wait_for_action_fail_completion(
            self.server, 'live-migration', 'conductor_live_migrate_instance')
        self.assert_in_rescue_on(self.server, 'compute1')
        self.assertIn('no database', '; '.join(self.event_details()))
        self.assertEqual([], self.migrations)

    def test_rescued_synchronously(self):
        self.lose_placement()
        response = self.ask_migration(self.server, compute=SYNCHRONOUS)
        self.assertEqual(400, response.status_code, response.text)
        self.assert_in_rescue_on(self.server, 'compute1')

    def test_database(self):
        """It comes back after the second look."""
        gone, looks = threading.Event(), []

        def come_back(seconds):
            looks.append(seconds)
            if len(looks) == 2:
                gone.clear()

        def lose_it(*args):
            gone.set()
            raise db_exc.DBConnectionError('no database')

        self.useFixture(fixtures.MockPatch(
            'nova.conductor.tasks.migrate.replace_allocation_with_migration',
            side_effect=lose_it))
        self.useFixture(fixtures.MockPatch(
            'nova_rescue_ext.task.final_save.time',
            mock.Mock(sleep=come_back, monotonic=time.monotonic)))
        for name in ('instance_update_and_get_original',
                     'instance_get_by_uuid'):
            self.useFixture(fixtures.MockPatch(
                f'nova.db.main.api.{name}',
                self.failing(getattr(main_api, name), gone)))
        self.ask_migration(self.server, compute=ASYNCHRONOUS)
        self._wait_for_action_fail_completion(
            self.server, 'live-migration', 'conductor_live_migrate_instance')
        self.assertEqual(2, len(looks))
        self.assert_in_rescue_on(self.server, 'compute1')

    @staticmethod
    def failing(function, gone):
        def fail(*args, **kwargs):
            if gone.is_set():
                raise db_exc.DBConnectionError('no database')
            return function(*args, **kwargs)
        return fail


class StockWordsTest(test_live_migration.LiveMigrationTestCase):

    def test_active_server(self):
        """Nobody else's refusal is touched."""
        service = objects.Service.get_by_compute_host(self.context,
                                                      'compute2')
        self.api.put_service(service.uuid, {'status': 'disabled'})
        response = self.ask_migration(self.server, compute=SYNCHRONOUS)
        self.assertEqual(400, response.status_code, response.text)
        self.assertEqual(
            'No valid host was found. There are not enough hosts available.',
            jsonutils.loads(response.text)['badRequest']['message'])


class MeanwhileTestCase(ApiTestCase):
    """During the migration of the guest."""

    def in_the_middle(self, meanwhile, domain_job=True):
        """Migrate, and call this while QEMU is at it."""
        self.problems = []

        def call():
            self.domain = self.computes['compute1'].driver._host.get_guest(
                self.instance(self.server))._domain
            if domain_job:
                self.domain._job_type = libvirt.VIR_DOMAIN_JOB_UNBOUNDED
            try:
                meanwhile()
            except self.Stopped:
                raise
            except BaseException as exc:  # seen by the test, not by Nova
                self.problems.append(exc)

        self.before_migration = call
        response = self.ask_migration(self.server)
        self.assertEqual(202, response.status_code, response.text)

    # What libvirt raises in the thread of a migration that is aborted.
    Stopped = libvirt.libvirtError


class MeanwhileTest(MeanwhileTestCase):

    def test_progress_of_the_copies(self):
        """Of the files that QEMU does not copy, before its own."""
        self.patch('nova_rescue_ext.live_migration.manifest._SMALL', 0)
        self.put_raw_disks('disk', 'disk.rescue', 'disk.eph0', 'disk.swap')
        copy = self._copy_image
        shown = []

        def copy_image(src, dest, **kwargs):
            if os.path.basename(src) in ('disk.eph0', 'disk.swap'):
                shown.append(self.api.api_get(
                    '/servers/%s/migrations' % self.server['id']
                ).body['migrations'][0])
            copy(src, dest, **kwargs)

        self.patch('nova.virt.libvirt.utils.copy_image', copy_image)
        self.migrate()
        size = os.path.getsize(self.path(self.server['id'], 'compute2',
                                         'disk.eph0'))
        total = size + os.path.getsize(self.path(
            self.server['id'], 'compute2', 'disk.swap'))
        self.assertEqual(
            [(total, None, total), (total, size, total - size)],
            [(migration['disk_total_bytes'],
              migration['disk_processed_bytes'],
              migration['disk_remaining_bytes']) for migration in shown])

    def force_complete(self, version='1.3'):
        return self.act('force_complete', version=version,
                        path='/migrations/%d' % self.migration().id)

    def test_force_complete(self):
        answers = []

        def meanwhile():
            answers.append(self.force_complete('1.2').status_code)
            answers.append(self.force_complete().status_code)
            self.wait_until(lambda: self.domain._state ==
                            libvirt.VIR_DOMAIN_PAUSED)

        self.in_the_middle(meanwhile)
        self.assert_migrated(self.server)
        self.assertEqual([], self.problems)
        self.assertEqual([409, 202], answers)
        self.assert_files(self.server, 'disk', 'disk.rescue', 'disk.eph0')

    def test_force_complete_policy(self):
        self.policy.set_rules(
            {'rescue_ext:migrate_live:rescued': '!'}, overwrite=False)
        instance = self.instance(self.server)
        instance.task_state = 'migrating'
        instance.save()
        response = self.act('force_complete', path='/migrations/1')
        self.assertEqual(403, response.status_code, response.text)

    def test_abort(self):
        self.patch('nova.tests.fixtures.libvirt.Domain.abortJob',
                   lambda domain: setattr(domain, '_job_type',
                                          libvirt.VIR_DOMAIN_JOB_CANCELLED))
        files = self.files()

        def meanwhile():
            with self.opted_in('1.3', '2.87'):
                self.api.api_delete('/servers/%s/migrations/%d' % (
                    self.server['id'], self.migration().id))
            self.wait_until(lambda: self.domain._job_type ==
                            libvirt.VIR_DOMAIN_JOB_CANCELLED)
            raise self.Stopped('operation aborted')

        self.in_the_middle(meanwhile)
        self.wait_for_migration(self.server, 'cancelled')
        self.assert_in_rescue_on(self.server, 'compute1')
        self.assertEqual([], self.problems)
        self.assertEqual(files, self.files())
        self.assert_files(self.server, 'disk', 'disk.rescue', 'disk.eph0',
                          host='compute1')
        self.assert_cleaned('compute2')
        # And nothing of it is in the way of the next.
        self.before_migration = lambda: None
        self.domain._job_type = libvirt.VIR_DOMAIN_JOB_NONE
        self.migrate()
        self.unrescue(self.server)
        self.assert_files(self.server, 'disk', 'disk.eph0')

    ACTIONS = {'unrescue': None, 'rescue': None, 'reboot': {'type': 'HARD'},
               'os-stop': None, 'os-start': None, 'pause': None,
               'suspend': None, 'shelve': None, 'migrate': None,
               'rebuild': {'imageRef': ApiTestCase.IMAGE},
               'resize': {'flavorRef': '2'},
               'os-migrateLive': {'host': None, 'block_migration': 'auto'},
               'createImage': {'name': 'snapshot'},
               'createBackup': {'name': 'b', 'backup_type': 'daily',
                                'rotation': 1}}

    def test_other_actions(self):
        """Hazard: rescue-timeout."""
        answers = {}

        def meanwhile():
            for version in ('1.0', '1.3'):
                for action, parameters in self.ACTIONS.items():
                    answers[version, action] = self.act(
                        action, parameters, version).status_code

        self.in_the_middle(meanwhile, domain_job=False)
        self.assert_migrated(self.server)
        self.assertEqual([], self.problems)
        self.assertEqual(dict.fromkeys(answers, 409), answers)
        self.assertEqual(2 * len(self.ACTIONS), len(answers))
        self.assert_files(self.server, 'disk', 'disk.rescue', 'disk.eph0')
        self.unrescue(self.server)

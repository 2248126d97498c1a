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

"""Whether a rescue system came up, by a line on its console (1.4)."""

import os
import time

import fixtures
from nova import exception
from nova import objects

from nova_rescue_ext import instance_metadata
from nova_rescue_ext.rescue import readiness
from tests.fixtures import nightly
from tests.functional import base
from tests.functional import consoles
from tests.functional import migration_base
from tests.functional import test_rescue_session

LINE = 'rescue system is ready'
SEARCH = 'nova_rescue_ext.rescue.readiness.'


class ReadyMixin:
    """A server, an image that names a line, and a nova-compute by steps."""

    WHERE = {}

    def setUp(self):
        super().setUp()
        self.useFixture(consoles.Consoles())
        self.patch('nova.compute.manager.ComputeManager.run_periodic_tasks',
                   lambda *args, **kwargs: 7.5)
        self.patch('nova_rescue_ext.periodic._SECONDS', 0)
        self.patch(SEARCH + '_SECONDS_RETRY', 0)
        self.stop_threads()
        self.image = self.create_image({'os_rescue_ready_line': LINE})
        self.server = self._create_server(networks='none', **self.WHERE)

    def stop_threads(self):
        self.patch(SEARCH + 'Watcher._start', lambda watcher: None)

    def be_rescued(self, version='1.4', **parameters):
        parameters.setdefault('rescue_image_ref', self.image)
        self.assert_rescued(self.server, self.rescue_with(
            self.server, version, **parameters))

    rescue_with = test_rescue_session.SessionTestCase.rescue_with
    shown = test_rescue_session.SessionTestCase.shown

    def be_unrescued(self):
        self.api.post_server_action(self.server['id'], {'unrescue': None})
        self._wait_for_state_change(self.server, 'ACTIVE')

    def be_rescued_again(self):
        self.be_unrescued()
        time.sleep(1)  # a rescue is told from another by its second
        self.be_rescued()

    def instance(self, server=None):
        return objects.Instance.get_by_uuid(
            self.context, (server or self.server)['id'],
            expected_attrs=['system_metadata'])

    def log(self):
        (log,) = self.domains.find(self.server, 'devices/serial/log')
        return log.get('file')

    def print(self, text, path=None):
        """What the guest prints."""
        with open(path or self.log(), 'ab') as log:
            log.write(text.encode())

    def watcher(self, host='compute1'):
        return readiness._watcher_of(self.computes[host].manager)

    def look(self, host='compute1'):
        """:returns: whether anything is left to look for"""
        return self.watcher(host).look()

    def run_periodic_tasks(self, host='compute1'):
        self.computes[host].manager.periodic_tasks(self.context)

    def run_out_of_time(self):
        self.flags(group='rescue_ext', ready_timeout=0)

    def state(self):
        return self.shown(self.server)['rescue_session']['ready_line']

    def action(self):
        (action,) = [
            one for one in self.api.get_instance_actions(self.server['id'])
            if one['action'] == 'rescue']
        return self.api.api_get('/servers/%s/os-instance-actions/%s' % (
            self.server['id'], action['request_id'])).body['instanceAction']

    def events(self):
        """Results and details of the events of the last rescue that we add."""
        action = next(action for action
                      in objects.InstanceActionList.get_by_instance_uuid(
                          self.context, self.server['id'])
                      if action.action == 'rescue')
        return [(event.result, event.details) for event
                in objects.InstanceActionEventList.get_by_action(
                    self.context, action.id)
                if event.event == 'compute_rescue_ready']

    def told(self):
        """The faults in notifications of it, None for a system that is up."""
        return [notification['payload']['nova_object.data']['fault']
                for notification in self.notifier.versioned_notifications
                if notification['event_type'] == 'instance.rescue.progress']

    def assert_nothing_told(self):
        self.assertEqual([], self.events())
        self.assertEqual([], self.told())

    def assert_ready(self):
        self.assertEqual('seen', self.state())
        self.assertEqual([('Success', 'ready')], self.events())
        self.assertEqual([None], self.told())

    def assert_not_seen(self, words):
        self.assertEqual('not_seen', self.state())
        ((result, details),) = self.events()
        self.assertEqual('Error', result)
        self.assertIn('not seen: ' + words, details)
        (fault,) = self.told()
        fault = fault['nova_object.data']
        self.assertEqual('RescueNotReady', fault['exception'])
        self.assertIn(words, fault['exception_message'])
        for text in (details, fault['exception_message'],
                     self.stdlog.logger.output):
            self.assertNotIn(LINE, text)


class ReadyTest(ReadyMixin, base.RescueTestCase):

    def test_seen(self):
        self.be_rescued()
        self.assertEqual('waiting', self.state())
        self.print('booting\r\n')
        self.assertTrue(self.look())
        self.assert_nothing_told()
        self.print('[    1.0] %s\r\nlogin: ' % LINE)
        self.assertFalse(self.look())
        self.assert_ready()
        self.assertNotIn(LINE, self.stdlog.logger.output)
        # Once.
        self.run_periodic_tasks()
        self.assertFalse(self.look())
        self.assert_ready()

    def test_not_seen(self):
        """The rescue has succeeded all the same, also for its action."""
        self.be_rescued()
        self.print('panic')
        self.look()
        before, action = self.api.get_server(self.server['id']), self.action()
        self.run_out_of_time()
        self.assertFalse(self.look())
        self.assert_not_seen('the console did not show the line')
        after = self.api.get_server(self.server['id'])
        for name in ('status', 'OS-EXT-STS:vm_state', 'OS-EXT-STS:task_state',
                     'OS-EXT-STS:power_state', 'fault'):
            self.assertEqual(before.get(name), after.get(name))
        after = self.action()
        ours = after['events'].pop(0)
        self.assertEqual(('compute_rescue_ready', 'Error'),
                         (ours['event'], ours['result']))
        self.assertLess(action.pop('updated_at'), after.pop('updated_at'))
        self.assertEqual(action, after)
        self.assertIsNone(after['message'])

    def test_line_of_the_rescue_before(self):
        """libvirt empties the log when it starts the guest."""
        self.be_rescued()
        self.print(LINE)
        self.look()
        self.be_unrescued()
        self.print(LINE)
        self.be_rescued()
        self.look()
        self.assertEqual('waiting', self.state())
        self.assertEqual([], self.events())

    def test_log_that_is_not_emptied(self):
        """Nova asks for none; what it has may be of the guest before."""
        self.patch('tests.functional.consoles.APPEND', 'on')
        self.print(LINE)
        self.be_rescued()
        self.assertFalse(self.look())
        self.assert_not_seen('the host keeps no console log')

    def test_rotated(self):
        """By virtlogd, right after the line."""
        self.be_rescued()
        self.print('booting')
        self.look()
        self.print(LINE)
        os.rename(self.log(), self.log() + '.0')
        self.print('booting on')
        self.look()
        self.assert_ready()

    def test_cheap(self):
        """A log that has not grown is not read, and the server is not."""
        self.be_rescued()
        self.print('booting')
        self.look()
        for name in ('nova.privsep.path.last_bytes',
                     'nova.objects.Instance.get_by_uuid',
                     'nova_rescue_ext.host.guests.read_domain'):
            self.patch(name, self.fail_with(AssertionError(name)))
        self.assertTrue(self.look())
        (search,) = self.watcher()._searches.values()
        self.assertIsNone(search._pause)  # nothing has failed

    @staticmethod
    def fail_with(error):
        def fail(*args, **kwargs):
            raise error

        return fail

    def test_log_cannot_be_read(self):
        self.be_rescued()
        self.print(LINE)
        self.patch('nova.privsep.path.last_bytes',
                   self.fail_with(PermissionError('denied')))
        for _number in range(2):
            self.assertTrue(self.look())
        self.assertEqual(1, self.stdlog.logger.output.count('denied'))
        self.run_out_of_time()
        self.look()
        self.assert_not_seen('the console log of the server cannot be read')

    def test_restart_while_waiting(self):
        """What was printed until it is too late counts."""
        self.be_rescued()
        self.look()
        self.restart_compute_service('compute1')
        self.print(LINE)
        self.run_out_of_time()
        self.assertFalse(self.look())
        self.assert_nothing_told()
        self.run_periodic_tasks()
        self.look()
        self.assert_ready()

    def test_unrescued_while_waiting(self):
        self.be_rescued()
        self.look()
        self.be_unrescued()
        self.print(LINE)
        self.assertFalse(self.look())
        self.assert_nothing_told()
        self.assert_no_trace()

    def test_deleted_while_waiting(self):
        self.be_rescued()
        self.print('booting')
        self.look()
        os.remove(self.log())
        self._delete_server(self.server)
        self.assertFalse(self.look())
        self.assert_nothing_told()

    def test_rescued_again_while_waiting(self):
        self.be_rescued()
        self.look()
        (first,) = self.watcher()._searches.values()
        self.be_rescued_again()
        self.print(LINE)
        first.look()
        self.assertEqual('waiting', self.state())
        self.look()
        self.assert_ready()

    def test_told_once(self):
        """A request saves what nova-api had read before it was told."""
        self.be_rescued()
        older = self.instance()
        self.print(LINE)
        self.look()
        instance_metadata.request_previous_state(older, True)
        older.save()
        self.assertEqual('waiting', self.state())
        os.truncate(self.log(), 0)
        self.run_periodic_tasks()
        self.assertFalse(self.look())
        self.assert_ready()
        # Of this rescue.
        self.be_rescued_again()
        self.look()
        self.assertEqual('waiting', self.state())

    def test_busy(self):
        """Nothing is saved while somebody else saves."""
        self.be_rescued()
        self.print(LINE)
        instance = self.instance()
        instance.task_state = 'migrating'
        instance.save()
        self.assertTrue(self.look())
        self.assert_nothing_told()
        instance.task_state = None
        instance.save()
        self.assertFalse(self.look())
        self.assert_ready()

    def test_begins_to_be_unrescued_when_it_is_told(self):
        self.be_rescued()
        self.print(LINE)
        read = readiness.Search._read

        def read_and_unrescue(search):
            instance = read(search)
            later = self.instance()
            later.task_state = 'unrescuing'
            later.save()
            return instance

        self.patch(SEARCH + 'Search._read', read_and_unrescue)
        self.assertTrue(self.look())
        self.assertIsNone(
            self.instance().system_metadata.get('rescue_ext_ready'))
        self.assert_nothing_told()

    def test_database_fails(self):
        self.be_rescued()
        self.print(LINE)
        with fixtures.MonkeyPatch(
                'nova.objects.Instance.get_by_uuid',
                self.fail_with(exception.CellTimeout())):
            self.assertTrue(self.look())
        self.look()
        self.assert_ready()

    def test_answer_of_the_database_is_lost(self):
        """It is saved, and told all the same."""
        self.be_rescued()
        self.print(LINE)
        save = objects.Instance.save

        def save_and_fail(*args, **kwargs):
            save(*args, **kwargs)
            raise exception.CellTimeout()

        with fixtures.MonkeyPatch('nova.objects.Instance.save',
                                  save_and_fail):
            self.assertTrue(self.look())
        self.assertEqual('seen', self.state())
        self.assertFalse(self.look())
        self.assert_ready()

    def test_event_is_not_written(self):
        """Each is told once, be it that the answer is lost, or all."""
        create = objects.InstanceActionEvent.create
        for is_lost in (True, False):
            self.be_rescued()
            self.print(LINE)

            def fail(*args, is_lost=is_lost, **kwargs):
                if is_lost:
                    create(*args, **kwargs)
                raise exception.CellTimeout()

            self.notifier.reset()
            with fixtures.MonkeyPatch(
                    'nova.objects.InstanceActionEvent.create', fail):
                self.assertTrue(self.look())
            self.assertFalse(self.look())
            self.assert_ready()
            self.be_unrescued()

    def test_failed_before_it_was_recorded(self):
        """Nothing of what it was requested with is left."""
        self.fail_early('nova_rescue_ext.host.guests.has_shares')
        self.assertEqual(
            ['instance.rescue.start', 'instance.rescue.error'],
            [each['event_type'] for each
             in self.notifier.versioned_notifications
             if each['event_type'].startswith('instance.rescue.')])

    def test_failed_before_it_began(self):
        """In Nova's own code, which has told nobody of a begin."""
        self.fail_early('nova.network.neutron.API.get_instance_nw_info')

    def fail_early(self, name):
        """Nothing of a rescue is left in which a function fails."""
        with fixtures.MonkeyPatch(
                name, self.fail_with(exception.CellTimeout())):
            self.rescue_with(self.server, rescue_image_ref=self.image,
                             timeout=600, user_data='IyE=')
            self._wait_for_action_fail_completion(
                self.server, 'rescue', 'compute_rescue_instance')
        self._wait_for_server_parameter(self.server, {
            'status': 'ACTIVE', 'OS-EXT-STS:task_state': None})
        self.assertEqual([], [
            key for key in self.instance().system_metadata
            if key.startswith('rescue_ext_')])

    def test_nobody_looks(self):
        """Below the version, without a line, and if it is switched off."""
        other = self.create_image()
        for version, image, option in (
                ('1.3', self.image, 300), ('1.4', other, 300),
                ('1.4', self.image, 0)):
            self.flags(group='rescue_ext', ready_timeout=option)
            self.be_rescued(version, rescue_image_ref=image)
            self.print(LINE)
            self.run_periodic_tasks()
            self.assertFalse(self.watcher().has(self.server['id']))
            self.assertIsNone(self.state())
            self.assert_nothing_told()
            self.assert_no_trace()
            self.be_unrescued()

    def assert_no_trace(self):
        self.assertEqual([], [
            key for key in self.instance().system_metadata if 'ready' in key])

    def test_line_refused(self):
        for line in ('', ' ', 'x' * 256, 'two\nlines', 'bell\a', 'gr\xfcn'):
            image = self.create_image({'os_rescue_ready_line': line})
            self.assert_refused(
                self.server, self.rescue_with(
                    self.server, rescue_image_ref=image),
                'has os_rescue_ready_line, which must be one line of 1 to '
                '255 printable ASCII characters')
        self.be_rescued('1.3', rescue_image_ref=image)

    def test_failed_rescue(self):
        self.patch('nova.virt.libvirt.driver.LibvirtDriver._create_image',
                   test_rescue_session.TimeoutTest.fail_to_create)
        self.rescue_with(self.server, rescue_image_ref=self.image)
        self._wait_for_state_change(self.server, 'ACTIVE')
        self.assertFalse(self.watcher().has(self.server['id']))
        self.assert_no_trace()


class RealThreadTest(ReadyMixin, base.RescueTestCase):

    def stop_threads(self):
        self.patch(SEARCH + '_SECONDS', 0.05)

    def test_seen(self):
        self.be_rescued()
        self.print(LINE)
        self._wait_for(lambda: self.told())
        self.assert_ready()

    def _wait_for(self, condition):
        while not condition():  # the test's time-out
            time.sleep(0.05)


class MigrationTest(ReadyMixin, migration_base.MigrationTestCase):
    """The search goes where the server goes."""

    WHERE = {'host': 'compute1'}

    def setUp(self):
        super().setUp()
        self.be_rescued()
        self.put_files(self.server, 'disk', 'disk.rescue',
                       'disk.config.rescue')

    def migrate(self):
        self.ask_migration(self.server, host='compute2', version='1.4')
        self.assert_migrated(self.server)

    def log_on(self, host):
        return self.path(self.server['id'], host, 'console.log')

    def test_seen_on_the_destination(self):
        self.look()
        self.migrate()
        self.print(LINE, self.log_on('compute2'))
        self.run_periodic_tasks('compute2')
        self.look('compute2')
        self.assert_ready()
        self.run_out_of_time()
        self.assertFalse(self.look())
        self.assert_ready()

    @nightly
    def test_not_told_by_the_source(self):
        self.look()
        self.migrate()
        self.run_out_of_time()
        self.assertFalse(self.look())
        self.assertEqual('waiting', self.state())
        self.assert_nothing_told()

    def test_seen_before_it_was_moved(self):
        """And told when it is no longer busy, by whom it was seen."""
        def see():
            self.print(LINE, self.log_on('compute1'))
            self.assertTrue(self.look())

        self.before_migration = see
        self.migrate()
        self.assertFalse(self.look())
        self.assert_ready()

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

"""Messages of a live migration that come twice, or late.

Hazard: late-message.
"""

import datetime
import pkgutil
import re
import threading

import ddt
from nova.compute import vm_states
from nova import exception
from nova import objects
import oslo_messaging as messaging

from nova_rescue_ext.live_migration import conductor
from tests.functional import test_live_migration_recovery

TO_CONDUCTOR = 'nova.conductor.rpcapi.ComputeTaskAPI.live_migrate_instance'
TO_SOURCE = 'nova.compute.rpcapi.ComputeAPI.live_migration'


class MessageTestCase(test_live_migration_recovery.RecoveryTestCase):

    FILES = ['disk', 'disk.rescue', 'disk.eph0']

    def record(self, cast, delivered=True):
        """Keep what is sent in self.messages, as functions that send it.

        :param cast: the dotted name of the function that sends it
        :param delivered: whether it is sent now as well
        """
        self.messages = []
        original = pkgutil.resolve_name(cast)

        def send(*args, **kwargs):
            self.messages.append(lambda: original(*args, **kwargs))
            if delivered:
                original(*args, **kwargs)

        self.patch(cast, send)

    def send_again(self, words):
        """Nothing is done for the message but to log these words."""
        before = self.stdlog.logger.output.count(words)
        self.messages[0]()
        self.wait_until(
            lambda: self.stdlog.logger.output.count(words) > before)

    def statuses(self):
        return [migration.status for migration in sorted(
            objects.MigrationList.get_by_filters(
                self.context, {'instance_uuid': self.server['id']}),
            key=lambda migration: migration.id)]

    def assert_moved_once(self):
        self.assert_migrated(self.server)
        self.assertEqual(1, len(self.migrations))
        self.assertEqual({self.compute_rp_uuids['compute2']},
                         self.allocations(self.server['id']))
        for migration in objects.MigrationList.get_by_filters(
                self.context, {'instance_uuid': self.server['id']}):
            # Nova gives it back after the status is saved.
            self.wait_until(lambda: not self.allocations(migration.uuid))
        self.assert_files(self.server, *self.FILES)
        self.unrescue(self.server)
        self.assert_files(self.server, 'disk', 'disk.eph0')


@ddt.ddt
class DoubledTest(MessageTestCase):

    WORDS = {TO_CONDUCTOR: 'A doubled message to live-migrate the server',
             TO_SOURCE: 'A doubled or late message of the live migration'}

    @ddt.data(TO_CONDUCTOR, TO_SOURCE)
    def test_while_it_moves(self, cast):
        self.record(cast)
        statuses = []

        def send_again():
            self.send_again(self.WORDS[cast])
            statuses.extend(self.statuses())

        self.before_migration = send_again
        self.migrate()
        self.assertEqual(['running'], statuses)
        self.assert_moved_once()

    @ddt.data(TO_CONDUCTOR, TO_SOURCE)
    def test_when_it_has_moved(self, cast):
        self.record(cast)
        self.migrate()
        self.send_again(self.WORDS[cast])
        self.assertEqual(['completed'], self.statuses())
        self.assert_moved_once()

    @ddt.data(TO_CONDUCTOR, TO_SOURCE)
    def test_when_it_has_failed(self, cast):
        self.record(cast)
        before = self.allocations(self.server['id'])
        self.patch('nova_rescue_ext.live_migration.destination.Arrival.place',
                   lambda itself: 1 / 0)
        self.assert_fails()
        statuses = self.statuses()
        self.send_again(self.WORDS[cast])
        self.assertEqual(statuses, self.statuses())
        self.assertEqual(before, self.allocations(self.server['id']))
        self.assert_in_rescue_on(self.server, 'compute1')

    def test_two_conductors_at_once(self):
        """Both find no migration, and create one."""
        is_outdated, looked = conductor._is_outdated, []
        both = threading.Event()

        def look(*args):
            outdated = is_outdated(*args)
            looked.append(outdated)
            if len(looked) == 2:
                both.set()
            self.wait_until(both.is_set)
            return outdated

        self.patch('nova_rescue_ext.live_migration.conductor._is_outdated',
                   look)
        cast = pkgutil.resolve_name(TO_CONDUCTOR)

        def cast_twice(*args, **kwargs):
            cast(*args, **kwargs)
            cast(*args, **kwargs)

        self.patch(TO_CONDUCTOR, cast_twice)
        response = self.ask_migration(self.server)
        self.assertEqual(202, response.status_code, response.text)
        self.wait_until(lambda: 'completed' in self.statuses())
        self.assertEqual([False, False], looked)
        self.assertEqual(['completed', 'error'], sorted(self.statuses()))
        self.assert_in_rescue_on(self.server, 'compute2')
        self.assertEqual({self.compute_rp_uuids['compute2']},
                         self.allocations(self.server['id']))
        self.assert_files(self.server, *self.FILES)


class LateTest(MessageTestCase):
    """The task of the request was cleared before its message came."""

    WORDS = 'A late message to live-migrate the server is dropped'

    def setUp(self):
        super().setUp()
        self.record(TO_CONDUCTOR, delivered=False)
        self.ask_migration(self.server)
        self.pass_time()
        self.look()
        self.assertIsNone(self.task_state())

    def test_the_server_is_free(self):
        self.send_again(self.WORDS)
        self.assertEqual([], self.statuses())
        self.assert_in_rescue_on(self.server, 'compute1')

    def test_it_was_asked_for_again(self):
        self.ask_migration(self.server)
        self.send_again(self.WORDS)
        self.assertEqual('migrating', self.task_state())
        self.messages[1]()
        self.assert_moved_once()

    def test_the_database_is_away(self):
        """The task of the other request is not taken back."""
        self.ask_migration(self.server)
        self.patch('nova_rescue_ext.live_migration.conductor._is_outdated',
                   lambda *args: 1 / 0)
        self.messages[0]()
        self.wait_until(lambda: 'division by zero'
                        in self.stdlog.logger.output)
        self.assertEqual('migrating', self.task_state())

    def test_the_server_was_deleted(self):
        self.api.delete_server(self.server['id'])
        self._wait_until_deleted(self.server)
        self.send_again(self.WORDS)
        self.assertEqual([], self.statuses())


@ddt.ddt
class OvertakenTest(MessageTestCase):
    """The state of the server is reset, and it is rebooted or evacuated."""

    def overtake(self, host):
        instance = self.instance(self.server)
        instance.update(dict(vm_state=vm_states.ACTIVE, task_state=None,
                             host=host))
        instance.save()

    @ddt.data('compute1', 'compute2')
    def test_it_fails_then(self, host):
        """Nova would set the server to RESCUED."""
        before = self.allocations(self.server['id'])

        def check(*args, **kwargs):
            self.overtake(host)
            raise exception.MigrationPreCheckError(reason='too late')

        self.patch('nova.compute.rpcapi.ComputeAPI.'
                   'check_can_live_migrate_destination', check)
        self.ask_migration(self.server)
        self.wait_until(lambda: self.last_status(self.server) == 'error')
        server = self.api.get_server(self.server['id'])
        self.assertEqual(('ACTIVE', host), (
            server['status'], server['OS-EXT-SRV-ATTR:host']))
        self.assertEqual(before if host == 'compute1' else set(),
                         self.allocations(self.server['id']))
        self.assertEqual(set(), self.allocations(self.last_migration().uuid))

    def test_the_source_gets_the_message_then(self):
        """An evacuation has ended the migration in place of its own."""
        self.record(TO_SOURCE, delivered=False)
        self.ask_migration(self.server)
        self.wait_until(lambda: self.messages)
        migration = self.last_migration()
        migration.status = 'done'
        migration.save()
        self.overtake('compute2')
        self.assertNotEqual(set(), self.allocations(migration.uuid))
        self.send_again(DoubledTest.WORDS[TO_SOURCE])
        self.wait_until(lambda: not self.allocations(migration.uuid))
        self.assertEqual('done', self.last_status(self.server))

    @ddt.data((True, 'compute1'), (False, 'compute2'))
    @ddt.unpack
    def test_the_destination_does_not_answer(self, is_evacuated, host):
        """It has lost its power. The server may be here again by then."""
        def take_over(*args, **kwargs):
            self.overtake('compute1')
            if is_evacuated:  # and its owner may have stopped it
                instance = self.instance(self.server)
                instance.launched_at += datetime.timedelta(minutes=1)
                instance.save()
            raise messaging.MessagingTimeout()

        self.patch('nova.compute.rpcapi.ComputeAPI.'
                   'post_live_migration_at_destination', take_over)
        self.ask_migration(self.server)
        self.wait_until(lambda: re.search(
            'Error monitoring migration|is tried again every minute',
            self.stdlog.logger.output))
        self.assertEqual(host, self.instance(self.server).host)

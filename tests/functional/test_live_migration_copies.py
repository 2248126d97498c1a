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


"""How the files that QEMU does not copy get to the destination."""

import os
from unittest import mock

import oslo_messaging as messaging

from nova_rescue_ext import instance_metadata
from nova_rescue_ext.live_migration import destination
from nova_rescue_ext.live_migration import source
from nova_rescue_ext.live_migration import staging
from tests.functional import migration_base
from tests.functional import test_live_migration
from tests.functional import test_live_migration_recovery


class CopiesMixin:
    """For tests with a server that has files which QEMU does not copy."""

    FILES = ['disk.config', 'disk.eph0', 'disk.swap', 'kernel']

    def folder(self, host):
        """Names in the folder of the files on the way, None without it."""
        path = self.path(self.server['id'], host)
        folders = [name for name in os.listdir(path)
                   if staging.attempt_of(name)] if (
                       os.path.exists(path)) else []
        return [name for folder in folders
                for name in os.listdir(os.path.join(path, folder))
                ] if folders else None

    def patch_arrival(self, name, replacement):
        self.patch('nova_rescue_ext.live_migration.destination.Arrival.'
                   + name, replacement)


class CopiesTestCase(CopiesMixin, test_live_migration.LiveMigrationTestCase):

    def setUp(self):
        super().setUp()
        self.rescue_now()
        self.put_raw_disks('disk', 'disk.rescue', *self.FILES)


class CopiesTest(CopiesTestCase):

    def test_small_files_in_one_connection(self):
        self.before_migration = lambda: self.assertEqual(
            (None, None), (self.folder('compute1'), self.folder('compute2')))
        self.migrate()
        self.assertEqual([migration_base.FOLDER], self.connections)
        self.assert_files(self.server, *self.FILES)

    def test_big_files_one_by_one(self):
        """So that they show in the progress, and need no second copy."""
        big = self.path(self.server['id'], 'compute1', 'disk.eph0')
        os.truncate(big, 16 * 2 ** 20 + 1)
        staged = []
        fetch = destination.Arrival.fetch

        def look(itself):
            staged.extend(self.folder('compute1'))
            fetch(itself)

        self.patch_arrival('fetch', look)
        self.migrate()
        self.assertEqual(set(self.FILES) - {'disk.eph0'},
                         set(staged))
        self.assertEqual(
            [migration_base.FOLDER, 'disk.eph0'], self.connections)
        self.assertEqual(16 * 2 ** 20 + 1, os.path.getsize(
            self.path(self.server['id'], 'compute2', 'disk.eph0')))

    def test_no_room_for_copies_on_the_source(self):
        copy = self._copy_image

        def fail(src, dest, host=None, **kwargs):
            if not host:
                with open(dest, 'wb') as file:
                    file.write(b'half')
                raise OSError('disk full')
            copy(src, dest, host, **kwargs)

        self.patch('nova.virt.libvirt.utils.copy_image', fail)
        self.migrate()
        self.assertEqual([migration_base.FOLDER, *self.FILES],
                         self.connections)
        self.assert_files(self.server, *self.FILES)

    def test_copies_of_an_earlier_attempt_are_not_used(self):
        """They go with it: disks are large."""
        fetch = destination.Arrival.fetch

        def fail(itself):
            raise OSError('out of order')

        self.patch_arrival('fetch', fail)
        self.assert_fails()
        self.assertIsNone(self.folder('compute1'))
        self.assert_cleaned('compute2')
        self.patch_arrival('fetch', fetch)
        with open(self.path(self.server['id'], 'compute1', 'disk.eph0'),
                  'wb') as file:
            file.write(b'newer')
        os.unlink(self.path(self.server['id'], 'compute1', 'disk.swap'))
        self.migrate()
        with open(self.path(self.server['id'], 'compute2', 'disk.eph0'),
                  'rb') as file:
            self.assertEqual(b'newer', file.read())
        self.assertNotIn('disk.swap', self.files('compute2'))

    def test_another_proof_is_no_proof(self):
        """What an earlier attempt has recorded does not count."""
        place = destination.Arrival.place

        def record_another(itself):
            place(itself)
            instance = self.instance(self.server)
            instance_metadata.record_transfer(instance, 'another')
            instance.save()

        self.patch_arrival('place', record_another)
        self.assert_fails()
        self.assert_cleaned('compute2')

    def test_unrescue_removes_what_is_left(self):
        def fail(itself):
            raise OSError('out of order')

        self.patch_arrival('fetch', fail)
        self.assert_fails()
        self.unrescue(self.server)
        self.assertIsNone(self.folder('compute1'))


class KilledTest(CopiesMixin, test_live_migration_recovery.RecoveryTestCase):
    """nova-compute on the source is killed while the destination copies."""

    def setUp(self):
        super().setUp()
        self.put_raw_disks('disk', 'disk.rescue', *self.FILES)
        self.patch('nova_rescue_ext.live_migration.staging.CONF', mock.Mock(
            instances_path=self.path('', 'compute1')))

    def test_copies_are_removed(self):
        call = messaging.rpc.client._CallContext.call

        def die(itself, context, method, **kwargs):
            if method == 'pre_live_migration':
                raise test_live_migration_recovery.Death
            return call(itself, context, method, **kwargs)

        with mock.patch('oslo_messaging.rpc.client._CallContext.call', die):
            self.ask_migration(self.server)
            self.wait_until(lambda: self.last_status(self.server) ==
                            'preparing' and not source.is_at_work_on(
                                self.server['id']))
        copies = self.folder('compute1')
        self.assertEqual(set(self.FILES), set(copies))
        # Not before it is known that nobody needs them.
        self.look()
        self.assertEqual(copies, self.folder('compute1'))
        self.assert_in_rescue_on(self.server, 'compute1')
        self.look()
        self.assertIsNone(self.folder('compute1'))
        self.assert_files(self.server, *self.FILES, host='compute1')

    def test_copies_of_one_that_runs_are_not(self):
        """Its source is at work, whatever the database says."""
        fetch, seen = destination.Arrival.fetch, []

        def look_and_fetch(itself):
            for status in ('preparing', 'error'):
                migration = self.last_migration()
                migration.status = status
                migration.save()
                source.remove_left(self.context)
                seen.append(set(self.folder('compute1')))
            fetch(itself)

        self.patch_arrival('fetch', look_and_fetch)
        self.migrate()
        self.assertEqual([set(self.FILES)] * 2, seen)

    def test_copies_of_one_that_is_checked_are_not(self):
        check, seen = destination.check, []

        def look_and_check(*args):
            self.assertEqual('accepted', self.last_status(self.server))
            source.remove_left(self.context)
            seen.append(set(self.folder('compute1')))
            check(*args)

        self.patch('nova_rescue_ext.live_migration.destination.check',
                   look_and_check)
        self.migrate()
        self.assertEqual([set(self.FILES)], seen)

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


"""Attempts to migrate a rescued server that come too late, or are aborted."""

import os
import threading
import types
from unittest import mock

import ddt
from nova.console import serial
from nova import objects
from nova.tests.fixtures import libvirt
from oslo_concurrency import processutils
import oslo_messaging as messaging
from oslo_utils import uuidutils

from nova_rescue_ext import instance_metadata
from nova_rescue_ext.live_migration import destination
from nova_rescue_ext.live_migration import manifest
from nova_rescue_ext.live_migration import source
from tests.functional import migration_base
from tests.functional import test_live_migration_copies


class AttemptTestCase(test_live_migration_copies.CopiesTestCase):
    """Each file is copied alone, so that a test can hold the copies."""

    def setUp(self):
        super().setUp()
        self.patch('nova_rescue_ext.live_migration.manifest._SMALL', 0)
        self.patch('nova_rescue_ext.live_migration.stoppable.SECONDS', 0.1)
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.held = []  # the copies, by their names, in the order of their end

    def boot(self):
        server = super().boot()
        self.volume = self.cinder.IMAGE_BACKED_VOL
        self.api.post_server_volume(server['id'], {
            'volumeAttachment': {'volumeId': self.volume}})
        self._wait_for_volume_attach(server['id'], self.volume)
        return server

    def hold_copies(self, error=None):
        """The first copy waits for go_on, and then ends with an error."""
        copy = self._copy_image

        def copy_image(src, dest, host=None, on_execute=None, **kwargs):
            if (not host or self.begun.is_set()
                    or migration_base.name_of(src) == migration_base.FOLDER):
                return copy(src, dest, host, **kwargs)
            self.begun.set()
            self.hold(on_execute)
            self.held.append(os.path.basename(src))
            if error:
                raise error
            copy(src, dest, host, **kwargs)

        self.patch('nova.virt.libvirt.utils.copy_image', copy_image)

    def hold(self, on_execute):
        self.wait_until(self.go_on.is_set)

    def lose_answer(self):
        """The first call of the destination is answered too late."""
        call = messaging.rpc.client._CallContext.call
        self.late = []

        def lose(itself, context, method, **kwargs):
            if method != 'pre_live_migration' or self.late:
                return call(itself, context, method, **kwargs)

            def call_late():
                try:
                    call(itself, context, method, **kwargs)
                except BaseException as exc:
                    self.ended.append(exc)
                else:
                    self.ended.append(None)

            self.ended = []
            self.late.append(threading.Thread(target=call_late, daemon=True))
            self.late[0].start()
            self.wait_until(self.begun.is_set)
            raise messaging.MessagingTimeout()

        self.patch('oslo_messaging.rpc.client._CallContext.call', lose)

    def end_late(self):
        self.go_on.set()
        self.wait_until(lambda: self.ended)

    def attachment(self):
        bdm = objects.BlockDeviceMapping.get_by_volume_and_instance(
            self.context, self.volume, self.server['id'])
        return bdm.attachment_id, bdm.connection_info

    def entries(self, host):
        """What is in the directory of the servers of a host."""
        return sorted(os.listdir(self.path('', host)))

    def lose_first_attempt(self, error=None):
        self.hold_copies(error)
        self.lose_answer()
        response = self.ask_migration(self.server)
        self.assertEqual(202, response.status_code, response.text)
        self.wait_until(lambda: self.last_status(self.server) == 'failed')
        self.assert_in_rescue_on(self.server, 'compute1')


class LateTest(AttemptTestCase):

    def check_late_failure(self, error):
        self.lose_first_attempt(error)
        self.migrate()
        before = self.attachment()
        disconnected = []
        self.patch('nova.virt.libvirt.driver.LibvirtDriver.'
                   '_disconnect_volume',
                   lambda *args, **kwargs: disconnected.append(args))
        self.end_late()
        self.assertIsInstance(self.ended[0], Exception)
        self.assertEqual([], disconnected)
        self.assertEqual(before, self.attachment())
        self.assertEqual({self.volume}, {
            attachment['volumeId'] for attachment in self.api.api_get(
                '/servers/%s/os-volume_attachments' % self.server['id']
            ).body['volumeAttachments']})
        self.assert_in_rescue_on(self.server, 'compute2')
        self.assert_files(self.server, *self.FILES)
        self.assertEqual([self.server['id']], self.entries('compute2'))

    def test_a_late_copy_fails(self):
        """The server runs on that host by now."""
        self.check_late_failure(OSError('disk full'))

    def test_a_late_copy_ends(self):
        self.check_late_failure(None)

    def test_late_before_it_is_attached(self):
        """The source has rolled back what was not there yet."""
        there = self.computes['compute2'].driver
        connector = there.get_volume_connector

        def hold(instance):
            if not self.begun.is_set():
                self.begun.set()
                self.wait_until(self.go_on.is_set)
            return connector(instance)

        there.get_volume_connector = hold
        self.patch('nova.volume.cinder.cinderclient', self._cinderclient)
        before, _ = self.attachment()
        attached = self.cinder.volume_to_attachment[self.volume]
        attached[before]['connector'] = {'host': 'compute1'}
        self.lose_answer()
        self.assertEqual(202, self.ask_migration(self.server).status_code)
        self.wait_until(lambda: self.last_status(self.server) == 'failed')
        self.assert_in_rescue_on(self.server, 'compute1')
        self.end_late()
        self.assertEqual(before, self.attachment()[0])
        self.assertEqual([before], list(attached))
        self.migrate()
        self.assert_files(self.server, *self.FILES)

    def _cinderclient(self, *args, **kwargs):
        """What an administrator of Cinder sees."""
        return types.SimpleNamespace(
            volumes=types.SimpleNamespace(get=self._show_volume),
            attachments=types.SimpleNamespace(list=lambda search_opts: []))

    def _show_volume(self, volume):
        return types.SimpleNamespace(attachments=[
            {'attachment_id': attachment['id'],
             'server_id': attachment['instance_uuid'],
             # Nova's double of libvirt calls all hosts alike.
             'host_name': ('compute1' if attachment['connector'] == {
                 'host': 'compute1'} else 'compute2')}
            for attachment in self.cinder.volume_to_attachment[
                volume].values()])

    def test_nothing_in_the_way_of_the_next(self):
        """Also if the copy went on when all was rolled back."""
        self.lose_first_attempt()
        self.end_late()
        self.assertEqual([], self.entries('compute2'))
        self.migrate()
        self.assert_files(self.server, *self.FILES)

    def test_late_after_nova_has_prepared_the_host(self):
        """Before it has recorded anything."""
        place = destination.Arrival.place

        def hold(itself):
            if not self.begun.is_set():
                self.begun.set()
                self.wait_until(self.go_on.is_set)
            place(itself)

        self.patch_arrival('place', hold)
        self.lose_answer()
        self.assertEqual(202, self.ask_migration(self.server).status_code)
        self.wait_until(lambda: self.last_status(self.server) == 'failed')
        self.assert_in_rescue_on(self.server, 'compute1')
        disconnected = []
        self.patch('nova.virt.libvirt.driver.LibvirtDriver.'
                   '_disconnect_volume',
                   lambda *args, **kwargs: disconnected.append(args))
        self.end_late()
        self.assertIsNone(self.files('compute2'))
        self.assertEqual([], self.entries('compute2'))
        # What it had connected on that host, and once.
        self.assertEqual(1, len(disconnected))
        self.migrate()
        self.assert_files(self.server, *self.FILES)


@ddt.ddt
class SupersededTest(AttemptTestCase):
    """QEMU fails when the server is no longer the source's.

    Nova-compute on the source was taken for dead, or the state was reset.
    """

    def elsewhere(self):
        instance = self.instance(self.server)
        instance.host, instance.task_state = 'compute3', None
        instance.vm_state = 'active'
        instance.save()

    def another_attempt(self):
        instance = self.instance(self.server)
        instance_metadata.begin_attempt(instance, uuidutils.generate_uuid())
        instance.save()

    @ddt.data('elsewhere', 'another_attempt')
    def test_nothing_is_rolled_back(self, change):
        def fail():
            getattr(self, change)()
            self.before = self.attachment(), self.state()
            raise libvirt.libvirtError('out of order')

        self.before_migration = fail
        response = self.ask_migration(self.server)
        self.assertEqual(202, response.status_code, response.text)
        self.wait_for_migration(self.server, 'error')
        self.wait_until(lambda: not source.is_at_work_on(self.server['id']))
        self.assertEqual(self.before, (self.attachment(), self.state()))

    def state(self):
        instance = self.instance(self.server)
        return (instance.host, instance.vm_state, instance.task_state,
                instance.system_metadata)


class AbortTest(AttemptTestCase):

    def abort(self):
        migration, = objects.MigrationList.get_by_filters(
            self.context, {'instance_uuid': self.server['id']})
        with self.opted_in('1.3', '2.87'):
            self.api.api_delete('/servers/%s/migrations/%d' % (
                self.server['id'], migration.id))

    def assert_cancelled(self):
        # Nova's roll-back says error and failed first.
        self.wait_until(lambda: self.last_status(self.server) == 'cancelled')
        self.assert_in_rescue_on(self.server, 'compute1')
        self.assertEqual([], self.migrations)
        self.wait_until(lambda: not self.entries('compute2'))
        self.assert_files(self.server, *self.FILES, host='compute1')
        self.begun.set()
        self.migrate()

    def test_between_files(self):
        self.hold_copies()
        self.assertEqual(202, self.ask_migration(self.server).status_code)
        self.wait_until(self.begun.is_set)
        self.abort()
        self.wait_until(lambda: instance_metadata.attempt_of(
            self.instance(self.server)) is None)
        self.connections.clear()
        self.go_on.set()
        self.wait_until(lambda: self.held)
        self.wait_until(lambda: self.last_status(self.server) == 'cancelled')
        self.assertEqual([], self.connections[1:])
        self.assert_cancelled()

    def test_inside_a_file(self):
        process = mock.Mock(terminate=self.go_on.set)
        self.hold = lambda on_execute: (
            on_execute(process), self.wait_until(self.go_on.is_set))
        self.hold_copies(processutils.ProcessExecutionError('terminated'))
        self.assertEqual(202, self.ask_migration(self.server).status_code)
        self.wait_until(self.begun.is_set)
        self.abort()
        self.assert_cancelled()


class FailureTest(AttemptTestCase):

    def test_a_copy_fails(self):
        """What was never connected is not disconnected, and no disk full."""
        disconnected = []
        self.patch('nova.virt.libvirt.driver.LibvirtDriver.'
                   '_disconnect_volume',
                   lambda *args, **kwargs: disconnected.append(args))
        self.go_on.set()
        self.hold_copies(OSError('disk full'))
        self.assert_fails()
        self.assertEqual([], disconnected)
        self.assertIsNone(self.folder('compute1'))

    def test_serial_ports_are_given_back(self):
        self.flags(enabled=True, group='serial_console')
        self.patch('nova_rescue_ext.live_migration.checks.'
                   '_check_serial_ports', lambda *args: None)

        def fail(itself):
            self.assertGreater(len(serial.ALLOCATED_PORTS), len(before))
            raise OSError('disk full')

        before = set(serial.ALLOCATED_PORTS)
        self.patch_arrival('place', fail)
        self.assert_fails()
        self.assertEqual(before, serial.ALLOCATED_PORTS)

    def test_unreadable(self):
        """What nova-compute may not read, it cannot copy."""
        def fail(path, *args, **kwargs):
            if path.endswith('disk.eph0'):
                raise PermissionError(13, 'Permission denied')
            return open(path, *args, **kwargs)

        with mock.patch.object(manifest, 'open', fail, create=True):
            self.refused_by_host('disk.eph0 but cannot read it',
                                 'Permission denied')

    def test_what_is_made_anew_is_not_carried(self):
        """libvirt rotates what a tenant writes to the console."""
        made_anew = ['console.log', 'console.log.0', 'console.log.12',
                     'libvirt.xml', 'disk.info.tmp']
        self.put_files(self.server, *made_anew)
        self.migrate()
        self.assertEqual(
            set(), self.files('compute2') & set(made_anew))
        self.assertEqual([], [name for name in self.connections
                              if name in made_anew])


class DisconnectionTest(AttemptTestCase):
    """QEMU fails, and the destination does not disconnect the volume."""

    def test_the_attachment_is_kept(self):
        """The operator is told until they have deleted it."""
        def fail():
            self.theirs, _info = self.attachment()
            raise libvirt.libvirtError('out of order')

        before = self.attachment()
        self.before_migration = fail
        self.patch('nova.virt.libvirt.driver.LibvirtDriver.'
                   '_disconnect_volume',
                   mock.Mock(side_effect=OSError('device is busy')))
        self.assert_fails()
        self.assertEqual(before, self.attachment())
        self.assertNotEqual(before[0], self.theirs)
        self.assertEqual({before[0], self.theirs}, set(self.attached()))
        self.assertEqual(
            [(self.theirs, self.volume, 'compute2')],
            instance_metadata.left_attachments(self.instance(self.server)))
        self.assertIn('Attachment %s of volume' % self.theirs,
                      self.stdlog.logger.output)

    def disconnect_noting(self):
        self.disconnected = []
        self.patch('nova.virt.libvirt.driver.LibvirtDriver.'
                   '_disconnect_volume',
                   lambda driver, context, info, *args, **kwargs:
                   self.disconnected.append(
                       (self.host_of(driver), info['data']['attachment_id'])))

    def host_of(self, driver):
        return next(host for host, compute in self.computes.items()
                    if compute.driver is driver)

    def attached(self):
        return list(self.cinder.volume_to_attachment[self.volume])

    def test_the_destination_is_prepared_and_its_answer_is_lost(self):
        """Nova does not have it disconnect anything."""
        call, theirs = messaging.rpc.client._CallContext.call, []

        def lose(itself, context, method, **kwargs):
            result = call(itself, context, method, **kwargs)
            if method == 'pre_live_migration':
                theirs.append(self.attachment()[0])
                raise messaging.MessagingTimeout()
            return result

        self.patch('oslo_messaging.rpc.client._CallContext.call', lose)
        self.disconnect_noting()
        before = self.attachment()
        self.assert_fails()
        self.assertNotEqual(theirs, [before[0]])
        self.assertEqual([('compute2', theirs[0])], self.disconnected)
        self.assertEqual(before, self.attachment())
        self.assertEqual([before[0]], self.attached())

    def test_the_destination_fails_when_it_is_connected(self):
        """It disconnects the volume once, by its own attachment.

        Nova 29.0.0 to 29.2.1, 30.0.0 and 31.0.0 leave it connected.
        """
        theirs = []

        def fail(itself):
            theirs.append(self.attachment()[0])
            raise OSError('disk full')

        self.patch_arrival('place', fail)
        self.disconnect_noting()
        before = self.attachment()
        self.assert_fails()
        self.assert_cleaned('compute2')
        self.assertNotEqual(theirs, [before[0]])
        self.assertEqual([('compute2', theirs[0])], self.disconnected)
        self.assertEqual(before, self.attachment())
        self.assertEqual([before[0]], self.attached())

    def test_it_is_disconnected(self):
        before = self.attachment()
        self.before_migration = mock.Mock(
            side_effect=libvirt.libvirtError('out of order'))
        self.assert_fails()
        self.assertEqual([before[0]], self.attached())
        self.assertEqual([], instance_metadata.left_attachments(
            self.instance(self.server)))


@ddt.ddt
class MultiattachTest(AttemptTestCase):
    """Another server on the destination uses the volume."""

    def boot(self):
        server = self._create_server(host='compute1', networks='none')
        other = self._create_server(host='compute2', networks='none')
        self.volume = self.cinder.MULTIATTACH_VOL
        self.api.microversion = '2.60'
        for one in (server, other):
            self.api.post_server_volume(one['id'], {
                'volumeAttachment': {'volumeId': self.volume}})
            self._wait_for_volume_attach(one['id'], self.volume)
        return server

    @ddt.data('fetch', 'place')
    def test_a_failure_does_not_disconnect_it(self, step):
        disconnected = []
        self.patch('nova.virt.libvirt.volume.volume.'
                   'LibvirtBaseVolumeDriver.disconnect_volume',
                   lambda *args, **kwargs: disconnected.append(args))
        done = []

        def fail(itself):
            done.append(itself)
            raise OSError('out of order')

        self.patch_arrival(step, fail)
        self.assert_fails()
        self.assertEqual(1, len(done))
        self.assert_cleaned('compute2')
        self.assertEqual([], disconnected)

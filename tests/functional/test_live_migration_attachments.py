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

"""The attachments of volumes when a migration was interrupted."""

import types
from unittest import mock

from cinderclient import exceptions as cinder_exc
from nova.compute import power_state
from nova import objects
from oslo_utils import uuidutils

from nova_rescue_ext import instance_metadata
from nova_rescue_ext.live_migration import periodic
from tests.functional import operator_base
from tests.functional import test_live_migration_recovery

# Where the guest is, as libvirt on the source says.
HERE, AWAY = power_state.RUNNING, power_state.NOSTATE


class AttachmentsTestCase(test_live_migration_recovery.InterruptedTestCase):
    """nova-compute ended when both hosts were attached to the volume."""

    def boot(self):
        server = super().boot()
        self.api.post_server_volume(server['id'], {
            'volumeAttachment': {'volumeId': self.VOLUME}})
        self._wait_for_volume_attach(server['id'], self.VOLUME)
        return server

    def setUp(self):
        super().setUp()
        self.patch('nova.volume.cinder.cinderclient', self._make_client)
        self.show = self._show_volume
        self.tells_hosts = True
        self.disconnected = []
        self.patch('nova.virt.libvirt.driver.LibvirtDriver.'
                   '_disconnect_volume', self._disconnect)
        self.old, = self.attached()
        self.attached()[self.old]['connector'] = {'host': 'compute1'}
        self.attaching, self.reserved = set(), set()
        self.new = self._prepare_destination()
        self.answers['compute2'] = False

    def _make_client(self, *args, **kwargs):
        return types.SimpleNamespace(
            volumes=types.SimpleNamespace(
                get=lambda volume: self.show(volume)),
            attachments=types.SimpleNamespace(list=self._list_attachments))

    def _list_attachments(self, search_opts):
        """As Cinder lists them: a user sees those of a project only."""
        return [types.SimpleNamespace(
            id=attachment['id'], instance=attachment['instance_uuid'],
            status=('attaching' if attachment['id'] in self.attaching
                    else 'reserved' if attachment['id'] in self.reserved
                    else 'attached'))
                for attachment in self.attached(
                    search_opts['volume_id']).values()
                if search_opts.get('all_tenants')]

    def _show_volume(self, volume):
        """As Cinder shows an administrator a volume.

        That is, without the attachments that are not complete.
        """
        return types.SimpleNamespace(attachments=[{
            'attachment_id': attachment['id'],
            'server_id': attachment['instance_uuid'],
            'host_name': self.tells_hosts and attachment['connector'] and (
                attachment['connector']['host']) or None,
        } for attachment in self.attached(volume).values()
            if attachment['id'] not in self.attaching | self.reserved])

    def _disconnect(self, driver, context, connection_info, *args, **kwargs):
        self.disconnected.append((
            next(host for host, compute in self.computes.items()
                 if compute.driver is driver),
            connection_info['data']['attachment_id']))

    def _prepare_destination(self):
        """What Nova does there of it."""
        new = self.cinder.fake_attachment_create(
            self.context, self.VOLUME, self.server['id'],
            connector={'host': 'compute2'})
        bdm = self.bdm()
        bdm.attachment_id = new['id']
        bdm.connection_info = bdm.connection_info.replace(self.old, new['id'])
        bdm.save()
        return new['id']

    def attached(self, volume=None):
        return self.cinder.volume_to_attachment[volume or self.VOLUME]

    def bdm(self):
        return objects.BlockDeviceMapping.get_by_volume_and_instance(
            self.context, self.VOLUME, self.server['id'])

    def assert_named(self, attachment):
        bdm = self.bdm()
        self.assertEqual(attachment, bdm.attachment_id)
        self.assertIn(attachment, bdm.connection_info)
        self.assertNotIn(self.new if attachment == self.old else self.old,
                         bdm.connection_info)

    def assert_only(self, attachment):
        self.assert_named(attachment)
        self.assertEqual([attachment], list(self.attached()))


class LookTest(AttachmentsTestCase):

    def test_the_guest_has_stayed(self):
        self.interrupt(HERE)
        self.look()
        self.assert_in_rescue_on(self.server, 'compute1')
        self.assert_only(self.old)
        self.assertEqual([('compute2', self.new)], self.disconnected)
        self.unrescue(self.server)

    def test_the_guest_has_stayed_and_the_destination_is_down(self):
        """It may be connected there: nobody else may get the volume."""
        self.answers['compute2'] = None
        self.interrupt(HERE)
        service = objects.Service.get_by_compute_host(self.context,
                                                      'compute2')
        self.api.put_service_force_down(service.uuid, True)
        self.look()
        self.assert_in_rescue_on(self.server, 'compute1')
        self.assert_named(self.old)
        self.assertEqual({self.old, self.new}, set(self.attached()))
        self.assertIn('Attachment %s of volume' % self.new,
                      self.stdlog.logger.output)

    def test_the_destination_had_not_got_far(self):
        """It had an attachment, which no block device names."""
        bdm = self.bdm()
        bdm.attachment_id = self.old
        bdm.connection_info = bdm.connection_info.replace(self.new, self.old)
        bdm.save()
        self.attaching.add(self.new)
        self.interrupt(HERE, status='preparing')
        self.look()
        self.assert_in_rescue_on(self.server, 'compute1')
        self.assert_only(self.old)
        self.assertEqual([], self.disconnected)

    def test_the_destination_was_copying(self):
        """Nova completes its attachment after everything else."""
        self.attaching.add(self.new)
        attempts = []
        remove = self.computes['compute2'].manager._remove_volume_connection

        def note(*args, **kwargs):
            attempts.append(instance_metadata.attempt_of(
                self.instance(self.server)))
            return remove(*args, **kwargs)

        self.patch('nova.compute.manager.ComputeManager.'
                   '_remove_volume_connection',
                   lambda manager, *args, **kwargs: note(*args, **kwargs))
        self.interrupt(HERE, status='preparing')
        self.look()
        self.assert_in_rescue_on(self.server, 'compute1')
        self.assert_only(self.old)
        self.assertEqual([('compute2', self.new)], self.disconnected)
        # The destination would go on, and connect it again.
        self.assertEqual([None], attempts)

    def test_another_is_just_being_attached(self):
        """Cinder does not say where: perhaps to the destination."""
        other = self.share_volume('compute2')
        self.attaching.add(other)
        self.interrupt(HERE)
        self.look()
        self.assertEqual('migrating', self.task_state())
        self.pass_time()
        self.look()
        self.assert_in_rescue_on(self.server, 'compute1')
        self.assert_named(self.old)
        self.assertEqual([], self.disconnected)
        self.assertEqual({self.old, self.new, other}, set(self.attached()))
        self.assertIn('Attachment %s of volume' % self.new,
                      self.stdlog.logger.output)

    def test_it_is_attached_elsewhere_in_the_end(self):
        other = self.share_volume('compute3')
        self.attaching.add(other)
        self.interrupt(HERE)
        self.look()
        self.assertEqual([], self.disconnected)
        self.attaching.clear()
        self.look()
        self.assert_in_rescue_on(self.server, 'compute1')
        self.assertEqual({self.old, other}, set(self.attached()))
        self.assertEqual([('compute2', self.new)], self.disconnected)

    def failing_to_disconnect(self):
        return mock.patch('nova.virt.libvirt.driver.LibvirtDriver.'
                          '_disconnect_volume',
                          side_effect=OSError('device is busy'))

    def test_the_destination_fails_to_disconnect(self):
        """It is asked again."""
        self.interrupt(HERE)
        with self.failing_to_disconnect():
            self.look()
        self.assertEqual('migrating', self.task_state())
        self.assert_named(self.new)
        self.assertEqual({self.old, self.new}, set(self.attached()))
        self.assertIn('has not disconnected volumes ' + self.VOLUME,
                      self.stdlog.logger.output)
        self.look()
        self.assert_in_rescue_on(self.server, 'compute1')
        self.assert_only(self.old)
        self.assertEqual([('compute2', self.new)], self.disconnected)

    def test_the_destination_refuses_to_disconnect(self):
        """No answer of that kind says that it is done."""
        self.interrupt(HERE)
        with mock.patch('nova_rescue_ext.live_migration.compute.'
                        '_why_too_late', return_value='it runs here'):
            self.look()
        self.assertEqual('migrating', self.task_state())
        self.assertEqual({self.old, self.new}, set(self.attached()))
        self.look()
        self.assert_in_rescue_on(self.server, 'compute1')
        self.assert_only(self.old)

    def tell_again(self):
        """What the log says of the attachment ten minutes later."""
        words = 'Attachment %s of volume' % self.new
        before = self.stdlog.logger.output.count(words)
        periodic._watches_left.clear()
        self.look()
        return self.stdlog.logger.output.count(words) - before

    def test_the_destination_never_disconnects(self):
        """The owner gets the server; the operator is told, and again."""
        self.interrupt(HERE)
        self.pass_time()
        with self.failing_to_disconnect():
            self.look()
        self.assert_in_rescue_on(self.server, 'compute1')
        self.assert_named(self.old)
        self.assertEqual({self.old, self.new}, set(self.attached()))
        left = [(self.new, self.VOLUME, 'compute2')]
        self.assertEqual(left, instance_metadata.left_attachments(
            self.instance(self.server)))
        self.assertEqual(1, self.tell_again())
        self.unrescue(self.server)
        self.assertEqual(1, self.tell_again())
        # No later migration deletes it before it is disconnected.
        self.assertEqual(left, instance_metadata.left_attachments(
            self.instance(self.server)))
        self.attached().pop(self.new)
        self.assertEqual(0, self.tell_again())
        self.assertEqual([], instance_metadata.left_attachments(
            self.instance(self.server)))

    def test_what_is_left_is_not_taken_for_never_connected(self):
        """By the next migration to that host that is interrupted."""
        first = self.new
        instance = self.instance(self.server)
        instance_metadata.record_left_attachments(instance, [
            instance_metadata.LeftAttachment(first, self.VOLUME,
                                             'compute2')])
        instance.save()
        bdm = self.bdm()
        bdm.attachment_id = self.old
        bdm.connection_info = bdm.connection_info.replace(first, self.old)
        bdm.save()
        self.new = self._prepare_destination()
        self.interrupt(HERE)
        self.look()
        self.assert_in_rescue_on(self.server, 'compute1')
        self.assert_named(self.old)
        self.assertEqual({self.old, first}, set(self.attached()))
        self.assertEqual([('compute2', self.new)], self.disconnected)

    def test_the_guest_has_moved(self):
        self.interrupt(AWAY)
        self.move_guest()
        self.answers['compute2'] = True
        self.look()
        self.assert_migrated(self.server)
        self.assert_only(self.new)
        self.assertEqual([('compute1', self.old)], self.disconnected)

    def test_the_source_fails_to_disconnect(self):
        """The owner gets the server; the operator is told."""
        self.interrupt(AWAY)
        self.move_guest()
        self.answers['compute2'] = True
        with self.failing_to_disconnect():
            self.look()
        self.assert_migrated(self.server)
        self.assert_named(self.new)
        self.assertEqual({self.old, self.new}, set(self.attached()))
        self.assertEqual([(self.old, self.VOLUME, 'compute1')],
                         instance_metadata.left_attachments(
                             self.instance(self.server)))
        self.assertIn('compute1 has not disconnected volume %s: device is busy'
                      % self.VOLUME, self.stdlog.logger.output)

    def move_on(self, status='running', **changes):
        """A stock migration to a third host, from the destination."""
        self.interrupt(AWAY, status)
        third = self.cinder.fake_attachment_create(
            self.context, self.VOLUME, self.server['id'],
            connector={'host': 'compute3'})['id']
        bdm = self.bdm()
        bdm.attachment_id = third
        bdm.connection_info = bdm.connection_info.replace(self.new, third)
        bdm.save()
        instance = self.instance(self.server)
        instance.vm_state = 'active'
        instance.update(changes)
        instance.save()
        self.look()
        self.assertEqual(third, self.bdm().attachment_id)
        self.assertIn(third, self.bdm().connection_info)
        return third

    def test_reset_and_the_guest_has_stayed(self):
        self.interrupt(HERE)
        instance = self.instance(self.server)
        instance.vm_state, instance.task_state = 'active', None
        instance.save()
        self.look()
        self.assert_only(self.old)
        self.assertEqual([('compute2', self.new)], self.disconnected)
        self.assertEqual('error', self.last_status(self.server))
        self.assertIsNone(instance_metadata.attempt_of(
            self.instance(self.server)))

    def test_reset_while_the_destination_was_copying(self):
        self.assert_free_after_reset(HERE)

    def test_evacuated_while_the_destination_was_copying(self):
        third = self.move_on('preparing', host='compute3', task_state=None)
        self.assertEqual([third], list(self.attached()))
        self.assertEqual([('compute1', self.old)], self.disconnected)
        self.assertEqual('error', self.last_status(self.server))

    def test_evacuated_in_vain(self):
        """It has replaced the attachment, which Nova then has completed."""
        self.attached()[self.new]['connector'] = None
        self.assert_free_after_reset(AWAY)

    def test_evacuated_in_vain_and_not_completed(self):
        self.reserved.add(self.new)
        self.assert_free_after_reset(AWAY)

    def assert_free_after_reset(self, guest):
        self.interrupt(guest, status='preparing')
        instance = self.instance(self.server)
        instance.vm_state, instance.task_state = 'error', None
        instance.save()
        self.look()
        self.assert_only(self.old)
        self.assertEqual([('compute2', self.new)], self.disconnected)
        self.assertEqual('error', self.last_status(self.server))

    def test_nova_moves_it_on(self):
        third = self.move_on(host='compute2')
        self.assertEqual({self.old, self.new, third}, set(self.attached()))
        self.assertEqual('running', self.last_status(self.server))

    def test_nova_has_moved_it_on(self):
        self.attached().pop(self.new)
        third = self.move_on(host='compute3', task_state=None)
        self.assertEqual([third], list(self.attached()))
        self.assertEqual([('compute1', self.old)], self.disconnected)
        self.assertEqual('completed', self.last_status(self.server))

    def share_volume(self, host):
        """Another server on a host uses it, too."""
        other = uuidutils.generate_uuid()
        self.attached()[other] = {
            'id': other, 'instance_uuid': other, 'connector': {'host': host}}
        return other

    def test_it_has_stayed_and_another_uses_the_volume_there(self):
        other = self.share_volume('compute2')
        self.interrupt(HERE)
        self.look()
        self.assert_in_rescue_on(self.server, 'compute1')
        self.assert_named(self.old)
        self.assertEqual({self.old, other}, set(self.attached()))
        self.assertEqual([], self.disconnected)

    def test_it_has_moved_and_another_uses_the_volume_here(self):
        other = self.share_volume('compute1')
        self.interrupt(AWAY)
        self.move_guest()
        self.answers['compute2'] = True
        self.look()
        self.assert_migrated(self.server)
        self.assertEqual({self.new, other}, set(self.attached()))
        self.assertEqual([], self.disconnected)

    def test_cinder_does_not_answer(self):
        """Nothing is given back before it does."""
        self.interrupt(HERE)
        self.show = mock.Mock(side_effect=cinder_exc.ClientException(503))
        self.look()
        self.assertEqual('migrating', self.task_state())
        self.assert_named(self.new)
        self.assertEqual([], self.disconnected)
        self.show = self._show_volume
        self.look()
        self.assert_in_rescue_on(self.server, 'compute1')
        self.assert_only(self.old)

    def test_cinder_does_not_tell(self):
        """Nothing is guessed."""
        self.tells_hosts = False
        self.interrupt(HERE)
        self.look()
        self.assert_in_rescue_on(self.server, 'compute1')
        self.assert_named(self.new)
        self.assertEqual([], self.disconnected)
        self.assertIn('only administrators are told',
                      self.stdlog.logger.output)


class SettleTest(operator_base.OperatorMixin, AttachmentsTestCase):
    """nova-rescue-ext-manage settle-migration."""

    def setUp(self):
        super().setUp()
        self.patch('nova_rescue_ext.cmd.manage._start_as_nova',
                   lambda config_files: None)
        self.requests = self.failures = []

    def settle(self, *argv):
        code, output = self.run_command(
            'settle-migration', self.server['id'], '--older-than', '0', *argv)
        self.assertEqual(0, code, output)

    def test_the_guest_has_stayed(self):
        self.answers['compute1'] = True
        self.interrupt(HERE)
        self.settle()
        self.assert_in_rescue_on(self.server, 'compute1')
        self.assert_only(self.old)
        self.assertEqual([('compute2', self.new)], self.disconnected)

    def test_the_guest_has_moved(self):
        """The source is down: it has not disconnected the volume."""
        self.answers.update(compute1=None, compute2=True)
        self.interrupt(AWAY)
        self.move_guest()
        self.settle('--runs-on', 'compute2')
        self.assert_migrated(self.server)
        self.assert_named(self.new)
        self.assertEqual([], self.disconnected)
        self.assertIn('Attachment %s of volume' % self.old,
                      self.stdlog.logger.output)
        self.assertEqual([(self.old, self.VOLUME, 'compute1')],
                         instance_metadata.left_attachments(
                             self.instance(self.server)))

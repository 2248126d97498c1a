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


"""What a rebuild tells those who automate."""

from unittest import mock

from nova.compute import utils as compute_utils
from nova import exception
from oslo_db import exception as db_exc

from tests.functional import rebuild_base


class NotificationsTest(rebuild_base.RebuildTestCase):

    def types(self):
        """The notifications of rebuilds, and who sent them."""
        return [(notification['event_type'],
                 notification['publisher_id'].partition(':')[0])
                for notification in self.notifier.versioned_notifications
                if '.rebuild.' in notification['event_type']]

    def test_built(self):
        server = self.create_failed()
        self.add_capacity()
        self.rebuilt(server)
        self.await_true(lambda: len(self.types()) == 2)
        self.assertEqual([('instance.rebuild.start', 'nova-api'),
                          ('instance.rebuild.end', 'nova-compute')],
                         self.types())

    def test_buried(self):
        server = self.create_failed()
        self.assertEqual([], self.types())
        self.failed_again(server)
        self.assertEqual([('instance.rebuild.start', 'nova-api'),
                          ('instance.rebuild.error', 'nova-conductor')],
                         self.types())
        fault, = [
            notification['payload']['nova_object.data']['fault']
            for notification in self.notifier.versioned_notifications
            if notification['event_type'] == 'instance.rebuild.error']
        self.assertIn('No valid host', fault['nova_object.data'][
            'exception_message'])
        self.assertEqual('NoValidHost', fault['nova_object.data'][
            'exception'])

    def test_aborted(self):
        server = self.create_failed()
        self.add_capacity()
        self.patch('nova.virt.fake.FakeDriver.spawn', mock.Mock(
            side_effect=exception.BuildAbortException(
                instance_uuid='x', reason='broken')))
        self.failed_again(server)
        self.await_true(lambda: len(self.types()) == 2)
        self.assertEqual(('instance.rebuild.error', 'nova-compute'),
                         self.types()[-1])

    def test_retries_exhausted(self):
        server = self.create_failed()
        self.add_capacity()
        self.patch('nova.virt.fake.FakeDriver.spawn', mock.Mock(
            side_effect=RuntimeError('broken')))
        self.failed_again(server)
        self.await_true(lambda: len(self.types()) == 2)
        self.assertEqual(('instance.rebuild.error', 'nova-conductor'),
                         self.types()[-1])

    def test_deleted_while_it_is_built(self):
        """That is no failure."""
        server = self.create_failed()
        self.add_capacity()
        ends = []
        self.patch('nova.compute.manager.ComputeManager._build_failed',
                   lambda *args: ends.append(args))
        self.patch('nova.virt.fake.FakeDriver.spawn', mock.Mock(
            side_effect=exception.InstanceNotFound(instance_id='x')))
        self.assertEqual(202, self.rebuild(server).status_code)
        self.await_true(lambda: ends)
        self.assertEqual(['instance.rebuild.start'],
                         [name for name, _service in self.types()])

    def test_create(self):
        self.add_capacity()
        self.create()
        self.assertEqual([], self.types())

    def test_database_that_is_away_for_a_moment(self):
        """What a notification says is read then."""
        self.patch('nova_rescue_ext.rebuild.notifications._SECONDS_BETWEEN', 0)
        server = self.create_failed()
        self.add_capacity()
        notify, failed = compute_utils.notify_about_instance_rebuild, []

        def fail_first(*args, phase, **kwargs):
            if phase not in failed:
                failed.append(phase)
                raise db_exc.DBConnectionError()
            notify(*args, phase=phase, **kwargs)

        self.patch('nova.compute.utils.notify_about_instance_rebuild',
                   fail_first)
        self.rebuilt(server)
        self.await_true(lambda: len(self.types()) == 2)
        self.assertEqual(['instance.rebuild.start', 'instance.rebuild.end'],
                         [name for name, _service in self.types()])

    def test_that_cannot_be_sent(self):
        self.patch('nova_rescue_ext.rebuild.notifications._SECONDS_BETWEEN', 0)
        server = self.create_failed()
        self.patch('nova.compute.utils.notify_about_instance_rebuild',
                   mock.Mock(side_effect=RuntimeError))
        self.add_capacity()
        self.rebuilt(server)

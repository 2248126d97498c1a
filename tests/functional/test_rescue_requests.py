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


"""What a request is answered when others act, or the host is down."""

from nova.compute import api as compute_api
from nova import context as nova_context
from nova import exception
from nova import objects
from nova.tests.functional.api import client

from nova_rescue_ext import instance_metadata
from tests.functional import base


class ServiceDownTest(base.RescueTestCase):
    """The message would wait in its queue, with the password told."""

    def setUp(self):
        super().setUp()
        self.server = self._create_server(networks='none')
        self.is_up = False
        self.patch('nova.servicegroup.api.API.service_is_up',
                   lambda api, member: self.is_up)

    def test_opted_in(self):
        with self.opted_in():
            response = self.rescue(self.server)
        self.assert_refused(self.server, response,
                            'its compute service is down', status=409)

    def test_not_opted_in(self):
        self.assert_refused(self.server, self.rescue(self.server),
                            'its compute service is down', status=409)

    def test_not_known(self):
        """Then it is as in stock."""
        def fail(*args, **kwargs):
            raise RuntimeError('Injected')

        self.is_up = True
        self.patch('nova_rescue_ext.capabilities.is_up', fail)
        self.assert_rescued(self.server, self.rescue(self.server))

    def test_up_again(self):
        self.is_up = True
        self.assert_rescued(self.server, self.rescue(self.server))


class UnrescueTest(base.RescueTestCase):

    def setUp(self):
        super().setUp()
        self.server = self._create_server(networks='none')
        self.assert_rescued(self.server, self.rescue(self.server))

    def _at_save(self, act):
        """Act between the look at a server and the save of its task."""
        save = objects.Instance.save

        def act_and_save(instance, *args, **kwargs):
            if instance.task_state == 'unrescuing':
                act(instance)
            return save(instance, *args, **kwargs)

        self.patch('nova.objects.Instance.save', act_and_save)

    def test_loser_of_two(self):
        def win(instance):
            fresh = objects.Instance.get_by_uuid(self.context, instance.uuid)
            fresh.task_state = 'deleting'
            fresh.save()

        self._at_save(win)
        error = self.assertRaises(
            client.OpenStackApiException, self.api.post_server_action,
            self.server['id'], {'unrescue': None})
        self.assertEqual(409, error.response.status_code)

    def _time_out(self, error):
        """Whatever one server meets, the next one is unrescued."""
        other = self._create_server(networks='none')
        self.assert_rescued(other, self.rescue(other))
        for server in (self.server, other):
            instance = objects.Instance.get_by_uuid(self.context,
                                                    server['id'])
            instance.launched_at = instance.launched_at.replace(year=2000)
            instance_metadata.complete_record(instance)
            instance.save()
        first, asked = [], []
        unrescue = compute_api.API._record_action_start

        def fail_first(instance):
            first.append(instance.uuid)
            if len(set(first)) == 1:
                raise error

        self._at_save(fail_first)
        self.patch('nova.compute.api.API._record_action_start',
                   lambda api, context, instance, action: (
                       asked.append(instance.uuid),
                       unrescue(api, context, instance, action)))
        self.flags(rescue_timeout=60)
        self.computes['compute1'].manager._poll_rescued_instances(
            nova_context.get_admin_context())
        self.assertEqual(1, len(asked))
        self.assertNotEqual(first[0], asked[0])

    def test_time_out_of_a_deleted_server(self):
        self._time_out(exception.InstanceNotFound(instance_id='it'))

    def test_time_out_of_a_server_that_is_deleted(self):
        self._time_out(exception.UnexpectedDeletingTaskStateError(
            instance_uuid='it', expected={'task_state': [None]},
            actual={'task_state': 'deleting'}))

    def test_time_out_without_message_bus(self):
        self._time_out(RuntimeError('Injected'))

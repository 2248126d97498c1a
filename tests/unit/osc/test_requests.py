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

"""The version goes with the requests to Nova, and with no others."""

import contextlib

from osc_lib import exceptions

from nova_rescue_ext.osc import requests
from tests.unit.osc import base


class RequestsTest(base.CommandTestCase):

    def watch(self, version):
        seen = requests.Requests(self.session, version)
        stack = contextlib.ExitStack()
        self.addCleanup(stack.close)
        return stack.enter_context(seen)

    def act(self, **kwargs):
        return self.compute.post('servers/web/action', json={'rescue': None},
                                 raise_exc=False, **kwargs)

    def test_beside_the_version_that_the_client_chose(self):
        self.server({})
        self.watch('1.1')
        self.compute.get('/servers/web', microversion='2.37')
        self.compute.get('/servers/web')
        self.assertEqual(['compute 2.37, compute-rescue 1.1',
                          'compute 2.95, compute-rescue 1.1'], self.asked())

    def test_beside_a_header_of_the_client(self):
        """novaclient writes the header itself."""
        self.server({})
        self.watch('1.1')
        self.compute.get('/servers/web', headers={
            'openstack-api-version': 'compute 2.37'})
        self.assertEqual(['compute 2.37, compute-rescue 1.1'], self.asked())

    def test_alone(self):
        self.server({})
        self.watch('1.1')
        self.adapter('compute').get('/servers/web')
        self.assertEqual(['compute-rescue 1.1'], self.asked())

    def test_not_twice(self):
        self.server({})
        self.watch('1.1')
        self.compute.get('/servers/web', headers={
            'OpenStack-API-Version': 'compute 2.37, compute-rescue 1.3'})
        self.assertEqual(['compute 2.37, compute-rescue 1.3'], self.asked())

    def test_no_version(self):
        self.server({})
        self.answer()
        seen = self.watch(None)
        self.act()
        self.assertEqual(['compute 2.95'], self.asked())
        self.assertEqual('web', seen.server_id)

    def test_other_services(self):
        self.http.get(base.URL + '/v2/images')
        self.watch('1.1')
        self.adapter('image').get('/v2/images')
        self.assertEqual([None], self.asked())

    def test_server_before_the_action(self):
        self.server({'hostId': 'one'}, {'hostId': 'two'})
        self.answer({'adminPass': 'x'})
        seen = self.watch('1.1')
        self.act()
        self.assertEqual('one', seen.server['hostId'])
        self.assertEqual({'adminPass': 'x'}, seen.answer.json())

    def test_cloud_without_compute_rescue(self):
        """It would do what its Nova does, and nobody would notice."""
        self.server({}, headers=base.STOCK)
        self.answer()
        self.watch('1.1')
        self.assertRaisesRegex(exceptions.CommandError, 'does not offer',
                               self.act)
        self.assertEqual(
            ['GET'], [sent.method for sent in self.http.request_history])

    def test_answer_of_a_proxy(self):
        """It says nothing about the cloud."""
        self.http.get(base.URL + '/servers/web', status_code=503, text='-')
        self.answer(status=503)
        seen = self.watch('1.1')
        self.assertEqual(503, self.act().status_code)
        self.assertIsNone(seen.server)

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

"""A command of OpenStackClient, with doubles of all but the plugin."""

import io
import types
import unittest

from keystoneauth1 import adapter
from keystoneauth1 import session as ks_session
from keystoneauth1 import token_endpoint
import requests_mock

URL = 'http://nova/v2.1'
STOCK = {'OpenStack-API-Version': 'compute 2.95'}
OPTED_IN = {'OpenStack-API-Version': 'compute 2.95, compute-rescue 1.1'}


class CommandTestCase(unittest.TestCase):
    """A session, and the command whose hooks are called.

    :ivar http: answers for Nova, a requests_mock.Mocker
    :ivar compute: the adapter that OpenStackClient has for Nova
    """

    def setUp(self):
        super().setUp()
        self.http = requests_mock.Mocker()
        self.http.start()
        self.addCleanup(self.http.stop)
        self.session = ks_session.Session(
            auth=token_endpoint.Token(URL, 'a-token'))
        self.compute = self.adapter('compute', '2.95')
        self.stdout = io.StringIO()
        self.stderr = io.StringIO()

    def adapter(self, service_type, microversion=None):
        return adapter.Adapter(self.session, service_type=service_type,
                               default_microversion=microversion)

    def command(self, version=''):
        """A command, whose user chose a version of compute-rescue."""
        connection = types.SimpleNamespace(compute=types.SimpleNamespace(
            find_server=lambda name, ignore_missing: types.SimpleNamespace(
                id=name)))
        manager = types.SimpleNamespace(
            session=self.session, compute_rescue=self.compute,
            sdk_connection=connection)
        app = types.SimpleNamespace(
            api_version={'compute_rescue': version}, stdout=self.stdout,
            stderr=self.stderr, client_manager=manager)
        return types.SimpleNamespace(app=app)

    def server(self, *states, headers=OPTED_IN):
        """What Nova answers, one after the other, for server "web"."""
        self.http.get(URL + '/servers/web', [
            {'json': {'server': dict(
                {'id': 'web', 'status': 'ACTIVE', 'hostId': 'one',
                 'OS-EXT-STS:task_state': None}, **state)},
             'headers': headers} for state in states])

    def answer(self, content=None, headers=OPTED_IN, status=202):
        """What Nova answers to an action."""
        self.http.post(
            URL + '/servers/web/action', json=content, status_code=status,
            headers=dict(headers, **{'x-openstack-request-id': 'req-1'}))

    def asked(self):
        """The versions that were asked for, request by request."""
        return [request.headers.get('OpenStack-API-Version')
                for request in self.http.request_history]

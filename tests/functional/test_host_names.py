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

"""Nova shows the names of hosts to administrators only."""

from nova import exception

from tests.functional import base
from tests.functional import rebuild_base


class RescueTest(base.RescueTestCase):

    def test_refusals(self):
        server = self._create_server(image_uuid=self.IMAGE, networks='none')
        bfv = self.create_bfv_server()
        image = self.create_image()
        self.change_compute_node()
        user, admin = self.api_fixture.api, self.api_fixture.admin_api
        user.project_id = self.api.project_id
        texts = {}
        for api in (user, admin):
            with self.opted_in(api=api):
                texts[api] = [self.rescue(bfv, image, api).text]
        self.stub_out('nova.objects.ComputeNode.get_by_host_and_nodename',
                      self.node_is_gone)
        for api in (user, admin):
            with self.opted_in(api=api):
                texts[api].append(self.rescue(server, image, api).text)
        for api, is_shown in ((user, False), (admin, True)):
            for text, words in zip(texts[api], ('does not serve',
                                                'is no longer known')):
                self.assertIn(words, text)
                self.assertEqual(is_shown, 'compute1' in text, text)

    @staticmethod
    def node_is_gone(*args):
        raise exception.ComputeHostNotFound(host=args[-2])


class RebuildTest(rebuild_base.RebuildTestCase):

    def test_host_has_not_given_it_up(self):
        server = self.create_failed()
        self.change_row(server, host='secret-host')
        text = self.rebuild(server, api=self.api_fixture.api).text
        self.assertIn('is still assigned to host', text)
        self.assertNotIn('secret-host', text)
        self.assertIn('secret-host',
                      self.rebuild(server, api=self.admin_api).text)

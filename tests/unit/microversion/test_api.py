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


from nova.api.openstack import wsgi
import testtools

from nova_rescue_ext import microversion
from nova_rescue_ext.microversion import api


class SetVersionTest(testtools.TestCase):

    def setUp(self):
        super().setUp()
        self.addCleanup(microversion.set_default_version, '1.0')

    def _version(self, legacy=False):
        request = wsgi.Request.blank('/servers')
        if legacy:
            request.set_legacy_v2()
        api.set_api_version_request(lambda: None, request)
        return request.environ.get('nova_rescue_ext.compute_rescue')

    def test_default(self):
        self.assertIsNone(self._version())
        microversion.set_default_version('latest')
        self.assertEqual(microversion.MAX_VERSION, self._version())

    def test_legacy_v2_knows_no_microversions(self):
        """Whatever the default is."""
        microversion.set_default_version('latest')
        self.assertIsNone(self._version(legacy=True))


class ResourceCallTest(testtools.TestCase):

    def test_called_with_a_request(self):
        """As Nova's own tests call a resource: passed on as it is."""
        self.assertEqual(('response', 'request'), api.resource_call(
            lambda request: ('response', request), None, 'request'))

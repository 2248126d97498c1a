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


"""The API version compute-rescue, over HTTP."""

from oslo_serialization import jsonutils

from nova_rescue_ext import activation
from nova_rescue_ext import microversion
from tests.functional import base

MAX_VERSION = str(microversion.MAX_VERSION)
HEADER = 'OpenStack-API-Version'
# Differ from one response to the next in stock Nova, too.
UNIQUE = {'x-openstack-request-id', 'x-compute-request-id', 'date'}


class MicroversionTestCase(base.RescueTestCase):
    """Requests with a raw version header."""

    START_COMPUTE = False

    def get(self, path, header=None, **headers):
        """A GET request with the header as it is given."""
        if header is not None:
            headers[HEADER] = header
        headers.setdefault('X-Auth-User', 'fake')
        headers.setdefault('X-User-Id', 'fake')
        headers.setdefault('X-Auth-Project-Id', self.api.project_id)
        headers.setdefault('X-Roles', 'reader,member')
        host = '/'.join(self.api.base_url.split('/')[:3])
        return self.api.request(host + path, headers=headers)


class NegotiationTest(MicroversionTestCase):

    def assert_used(self, expected, header):
        response = self.get('/v2.1/servers', header)
        self.assertEqual(200, response.status_code, response.text)
        self.assertEqual(expected, response.headers[HEADER])
        self.assertIn(HEADER, response.headers['Vary'])

    def assert_fault(self, status, header, *words):
        response = self.get('/v2.1/servers', header)
        self.assertEqual(status, response.status_code, response.text)
        self.assertEqual('application/json',
                         response.headers['Content-Type'].split(';')[0])
        (name, fault), = jsonutils.loads(response.text).items()
        self.assertEqual(status, fault['code'])
        for word in words:
            self.assertIn(word, fault['message'])
        return name

    def test_named(self):
        self.assert_used('compute 2.95, compute-rescue 1.1',
                         'compute 2.95, compute-rescue 1.1')

    def test_minimum(self):
        self.assert_used('compute 2.95, compute-rescue 1.0',
                         'compute 2.95, compute-rescue 1.0')

    def test_other_order_and_case(self):
        self.assert_used('compute 2.95, compute-rescue 1.1',
                         'Compute-Rescue 1.1, COMPUTE 2.95')

    def test_without_compute(self):
        self.assert_used('compute 2.1, compute-rescue 1.1',
                         'compute-rescue 1.1')

    def test_latest(self):
        self.assert_used('compute 2.95, compute-rescue %s' % MAX_VERSION,
                         'compute 2.95, compute-rescue latest')

    def test_the_last_of_several(self):
        self.assert_used('compute 2.95, compute-rescue 1.0',
                         'compute-rescue 1.1, compute 2.95, '
                         'compute-rescue 1.0')

    def test_out_of_range(self):
        for version in ('1.99', '2.0', '1.%d' % 10**30):
            self.assert_fault(406, 'compute 2.95, compute-rescue ' + version,
                              'compute-rescue', 'Minimum is 1.0',
                              'maximum is %s' % MAX_VERSION)

    def test_malformed(self):
        for version in ('', ' ', ' 1', ' 1.', ' 1.x', ' 1.1.1', ' -1.1',
                        ' 1.-1', ' 01.1', ' 1.01', ' newest', ' 1.1 1.1'):
            name = self.assert_fault(
                400, 'compute 2.95, compute-rescue' + version,
                'compute-rescue', 'invalid format')
            self.assertEqual('badRequest', name)

    def test_fault_says_the_version(self):
        response = self.get('/v2.1/servers/nowhere',
                            'compute 2.95, compute-rescue 1.1')
        self.assertEqual(404, response.status_code)
        self.assertEqual('compute 2.95, compute-rescue 1.1',
                         response.headers[HEADER])


class StockTest(MicroversionTestCase):
    """Who does not reach a version gets the Nova underneath, to the byte."""

    REQUESTS = (
        ('/v2.1/servers', None),
        ('/v2.1/servers', 'compute 2.95'),
        ('/v2.1/servers', 'compute latest'),
        ('/v2.1/servers', 'compute 2.999'),
        ('/v2.1/servers', 'compute x'),
        ('/v2.1/servers', 'volume 3.70'),
        ('/v2.1/servers', 'compute-rescued 7'),
        ('/v2.1/servers/nowhere', 'compute 2.95'),
        ('/v2.1/nowhere', 'compute 2.95'),
        ('/v2/servers', None),
        ('/v2/servers', 'compute 2.95, compute-rescue 1.1'),
        ('/v2/servers', 'compute-rescue nonsense'),
        ('/v2/servers/nowhere', 'compute-rescue 1.1'),
        ('/v2/', None),
    )

    def _response(self, path, header):
        response = self.get(path, header)
        return (response.status_code, response.content, sorted(
            (name.lower(), value) for name, value in response.headers.items()
            if name.lower() not in UNIQUE))

    def test_to_the_byte(self):
        with_package = [self._response(*request)
                        for request in self.REQUESTS]
        activation.deactivate()
        for request, response in zip(self.REQUESTS, with_package):
            self.assertEqual(self._response(*request), response, request)


class RefusedRescueTest(base.RescueTestCase):
    """Below 2.87 or below 1.1: the refusal of stock Nova."""

    def _refusal(self, server, image, microversion):
        self.api.microversion = microversion
        response = self.rescue(server, image)
        return response.status_code, response.content

    def test_below(self):
        server = self.create_bfv_server()
        image = self.create_image()
        refusals = [
            self._refusal(server, image, '2.87'),
            self._refusal(server, image, '2.87, compute-rescue 1.0'),
            self._refusal(server, image, '2.86, compute-rescue 1.1'),
            self._refusal(server, None, '2.87'),
        ]
        activation.deactivate()
        for refusal in refusals:
            self.assertEqual(self._refusal(server, image, '2.87'), refusal)
        self.assertEqual(400, refusals[0][0])


class DefaultVersionTest(MicroversionTestCase):
    """[rescue_ext] default_api_version, for clients that name none."""

    OPTIONS = {'default_api_version': 'latest'}

    def test_named_none(self):
        response = self.get('/v2.1/servers', 'compute 2.95')
        self.assertEqual('compute 2.95, compute-rescue %s' % MAX_VERSION,
                         response.headers[HEADER])

    def test_named_one(self):
        response = self.get('/v2.1/servers',
                            'compute 2.95, compute-rescue 1.0')
        self.assertEqual('compute 2.95, compute-rescue 1.0',
                         response.headers[HEADER])

    def test_legacy_v2_knows_no_microversions(self):
        response = self.get('/v2/servers', 'compute-rescue 1.1')
        self.assertEqual(200, response.status_code)
        self.assertNotIn(HEADER, response.headers)


class DefaultVersionRescueTest(base.RescueTestCase):

    OPTIONS = {'default_api_version': '1.1'}

    def test_plain_client(self):
        server = self.create_bfv_server()
        response = self.rescue(server, self.create_image())
        self.assert_rescued(server, response)

    def test_legacy_v2_is_stock(self):
        server = self.create_bfv_server()
        url = self.api.base_url
        self.api.base_url = url.replace('/v2.1', '/v2')
        self.api.microversion = None
        response = self.rescue(server, None)
        self.api.base_url, self.api.microversion = url, '2.87'
        self.assert_refused(server, response,
                            'Cannot rescue a volume-backed instance')


class VersionDocumentTest(MicroversionTestCase):
    """The version documents advertise the range."""

    RANGE = {'version': MAX_VERSION, 'min_version': '1.0'}

    def test_list(self):
        versions = jsonutils.loads(self.get('/').text)['versions']
        self.assertEqual({'v2.0': None, 'v2.1': self.RANGE}, {
            version['id']: version.get('compute_rescue')
            for version in versions})

    def test_show(self):
        version = jsonutils.loads(self.get('/v2.1/').text)['version']
        self.assertEqual(self.RANGE, version['compute_rescue'])

    def test_legacy(self):
        version = jsonutils.loads(self.get('/v2/').text)['version']
        self.assertNotIn('compute_rescue', version)

    def test_not_after_deactivation(self):
        activation.deactivate()
        self.assertNotIn('compute_rescue', self.get('/').text)

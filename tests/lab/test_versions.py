# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.

"""How a caller sees and asks for the package: compute-rescue versions."""

from tests.lab import base
from tests.lab.cloud import settings


class Versions(base.LabTest):

    def _documents(self):
        """What Nova says of v2.1 at both of its front doors."""
        everything = self.ask('GET', settings.url('nova-api', '/')).json()
        yield '/', next(version for version in everything['versions']
                        if version['id'] == 'v2.1')
        one = self.ask('GET', settings.url('nova-api', '/v2.1/')).json()
        yield '/v2.1/', one['version']

    @base.with_package
    def test_documents_show_the_range(self):
        for path, document in self._documents():
            with self.subTest(path=path):
                shown = document['compute_rescue']
                self.assertEqual('1.0', shown['min_version'])
                self.assertRegex(shown['version'], r'^1\.[1-9]$')

    def test_documents_of_stock_do_not(self):
        if self.is_with_package():
            self.skipTest('the lab is up with the package (EXT=1)')
        for path, document in self._documents():
            with self.subTest(path=path):
                self.assertNotIn('rescue', str(document))

    @base.with_package
    def test_response_names_the_version(self):
        response = self.ask('GET', '/servers', base.RESCUE)
        self.assertEqual(200, response.status_code)
        self.assertIn('compute-rescue 1.1',
                      response.headers['OpenStack-API-Version'])
        self.assertIn('compute 2.95',
                      response.headers['OpenStack-API-Version'])

    def test_response_of_stock_does_not(self):
        response = self.ask('GET', '/servers', base.STOCK)
        self.assertEqual('compute 2.95',
                         response.headers['OpenStack-API-Version'])

    @base.with_package
    def test_out_of_range(self):
        for version in ('1.99', '2.0'):
            with self.subTest(version=version):
                self.assertRefused(
                    406, 'Minimum is 1.0', self.get, '/servers',
                    f'compute 2.95, compute-rescue {version}')

    @base.with_package
    def test_malformed(self):
        for version in ('one', '1', '1.01', '0.9', '-1.1'):
            with self.subTest(version=version):
                self.assertRefused(
                    400, 'version', self.get, '/servers',
                    f'compute 2.95, compute-rescue {version}')

    @base.with_package
    def test_latest(self):
        response = self.ask('GET', '/servers',
                            'compute 2.95, compute-rescue latest')
        self.assertRegex(response.headers['OpenStack-API-Version'],
                         r'compute-rescue 1\.[1-9]')

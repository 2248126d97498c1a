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


"""The policy file of nova-api has policies of Nova and of the package."""

import os
import subprocess
import sys

import fixtures
import testtools

from nova_rescue_ext import policies


class ValidatorTest(testtools.TestCase):
    """The tool of oslo.policy, as a deployer calls it."""

    def validate(self, text):
        """:returns: a CompletedProcess"""
        home = self.useFixture(fixtures.TempDir()).path
        policy = os.path.join(home, 'policy.yaml')
        with open(policy, 'w') as file:
            file.write(text)
        os.mkdir(os.path.join(home, '.nova'))
        with open(os.path.join(home, '.nova', 'nova.conf'), 'w') as file:
            file.write('[DEFAULT]\nconfig_source = rescue_ext\n[rescue_ext]\n'
                       'driver = nova_rescue_ext\n[oslo_policy]\n'
                       'policy_file = %s\n' % policy)
        return subprocess.run(
            [os.path.join(os.path.dirname(sys.executable),
                          'oslopolicy-validator'),
             '--namespace', 'nova_rescue_ext'],
            capture_output=True, text=True,
            env=dict(os.environ, HOME=home, PYTHONWARNINGS='ignore'))

    def test_valid(self):
        result = self.validate(
            '"%s": "rule:admin_api"\n"os_compute_api:os-rescue": "@"\n'
            % policies.BOOT_FROM_VOLUME)
        self.assertEqual(0, result.returncode, result.stdout + result.stderr)

    def test_unknown(self):
        result = self.validate('"rescue_ext:nothing": "@"\n')
        self.assertEqual(1, result.returncode)
        self.assertIn('rescue_ext:nothing', result.stdout)

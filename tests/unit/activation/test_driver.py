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


"""nova.conf of a service, and of a command, that names the driver."""

import os
import re
import subprocess
import sys

import fixtures
import testtools

from tests.unit.activation import processes
from tests.unit.activation import test_activation

ON = test_activation.ON

IMAGE = '70a599e0-31e7-49b7-b260-868f441e862b'

STATE = '''
from nova_rescue_ext import activation
import logging as python_logging
print('ACTIVE' if activation.is_active() else 'STOCK')
print('IMAGE', nova.conf.CONF.rescue_ext.default_rescue_image)
nova.conf.CONF.log_opt_values(
    python_logging.getLogger('x'), python_logging.DEBUG)
print('STARTED')
'''


class ConfTestCase(testtools.TestCase):

    def write(self, text):
        """:returns: the path of a nova.conf"""
        path = os.path.join(
            self.useFixture(fixtures.TempDir()).path, 'nova.conf')
        with open(path, 'w') as file:
            file.write(text)
        return path

    def start(self, text):
        """:returns: what a service prints and logs that starts with it"""
        output = processes.run(
            test_activation.SERVICE + STATE, self.write(text))
        self.assertIn('STARTED', output)
        return output


class LaterSourceTest(ConfTestCase):
    """Sources that oslo.config opens after ours may have our options."""

    def start_with(self, text, sources='rescue_ext, other'):
        folder = self.useFixture(fixtures.TempDir())
        with open(folder.join('x.conf'), 'w', encoding='utf-8') as file:
            file.write(text)
        # A process: some series patch threads when Nova is imported.
        server = subprocess.Popen(
            [sys.executable, '-u', '-m', 'http.server', '--bind', '127.0.0.1',
             '--directory', folder.path, '0'],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.addCleanup(server.__exit__, None, None, None)
        self.addCleanup(server.terminate)
        port = re.search(r'port (\d+)', server.stdout.readline())[1]
        output = self.start(
            ON.replace('= rescue_ext', '= ' + sources) + '[other]\n'
            'driver = remote_file\nuri = http://127.0.0.1:%s/x.conf\n' % port)
        if 'Timeout value connect was' in output:
            self.skipTest('remote_file fails in this oslo.config')
        return output

    def test_options(self):
        for sources in ('rescue_ext, other', 'other, rescue_ext'):
            output = self.start_with(
                '[rescue_ext]\ndefault_api_version = 1.1\n'
                'default_rescue_image = %s\n' % IMAGE, sources)
            self.assertIn('(default 1.1)', output)
            self.assertEqual(1, output.count('is active on'))
            self.assertIn('ACTIVE\n', output)
            self.assertIn('IMAGE ' + IMAGE, output)

    def test_bad_value(self):
        output = self.start_with('[rescue_ext]\ndefault_api_version = 9.9\n')
        self.assertIn('default_api_version: "9.9" is no version', output)
        self.assertIn('STOCK\n', output)


class OptionTest(ConfTestCase):
    """A value that cannot be used is a refusal, not the end of a service."""

    def assert_refused(self, line, *words):
        output = self.start(ON + line + '\n')
        self.assertIn('STOCK\n', output)
        self.assertIn('is NOT active', output)
        self.assertNotIn('Traceback', output)
        for word in words:
            self.assertIn(word, output)
        return output

    def test_unknown_variable(self):
        for name in ('default_api_version', 'default_rescue_image',
                     'stable_devices'):
            self.assert_refused('%s = $nosuch' % name, name)

    def test_group_as_variable(self):
        self.assert_refused('default_rescue_image = $libvirt',
                            'default_rescue_image')

    def test_name_of_an_image(self):
        for name in ('grml', 'http://example.org/v2/images/' + IMAGE):
            output = self.assert_refused(
                'default_rescue_image = ' + name,
                'default_rescue_image: "%s" is not the id of an image' % name,
                'openstack image show -f value -c id ' + name,
                'Correct group [rescue_ext]')
            self.assertIn('IMAGE None', output)

    def test_id_of_an_image(self):
        output = self.start(ON + 'default_rescue_image = %s\n' % IMAGE)
        self.assertIn('ACTIVE\n', output)


class CommandTest(ConfTestCase):
    """What a command prints is as in stock: scripts read it."""

    def manage(self, text):
        """:returns: what the real nova-manage does, a CompletedProcess"""
        return subprocess.run(
            [os.path.join(os.path.dirname(sys.executable), 'nova-manage'),
             '--config-file', self.write(text), 'version'],
            capture_output=True, text=True,
            env=dict(os.environ, PYTHONWARNINGS='ignore'))

    def test_nova_manage(self):
        stock = self.manage('[DEFAULT]\n')
        self.assertEqual(0, stock.returncode, stock.stderr)
        on = self.manage(ON)
        self.assertEqual((0, stock.stdout), (on.returncode, on.stdout))
        self.assertNotIn('nova-rescue-ext', on.stderr)

    def test_option_of_services(self):
        """nova-manage runs often, and the services log the warning."""
        text = ON + '[libvirt]\nrescue_image_id = grml\n'
        on = self.manage(text)
        self.assertEqual(0, on.returncode, on.stderr)
        self.assertNotIn('rescue_image_id', on.stderr)
        self.assertIn('[libvirt] rescue_image_id is "grml"', self.start(text))

    def test_refusal(self):
        on = self.manage(ON + 'default_api_version = 9.9\n')
        self.assertEqual(self.manage('[DEFAULT]\n').stdout, on.stdout)
        self.assertIn('is NOT active', on.stderr)


class EventletTest(ConfTestCase):
    """oslo.config imports drivers before Nova 34 patches for eventlet."""

    CODE = '''
import sys
from nova import monkey_patch
if hasattr(monkey_patch, 'patch'):  # else the import has patched
    monkey_patch.patch(backend='eventlet')
from nova import config
config.parse_args(sys.argv, configure_db=False, init_rpc=False)
import eventlet
from oslo_context import context
from urllib3.util import ssl_
ssl_.create_urllib3_context()
context.RequestContext(request_id='req-mine')
seen = eventlet.spawn(context.get_current).wait()
print('SEEN', seen, context.get_current().request_id)
'''

    def test_tls_and_contexts(self):
        for text in ('[DEFAULT]\n', ON):
            process = subprocess.run(
                [sys.executable, '-c', self.CODE, '--config-file',
                 self.write(text)], capture_output=True, text=True,
                env=dict(os.environ, PYTHONWARNINGS='ignore'))
            self.assertIn('SEEN None req-mine', process.stdout,
                          process.stderr)

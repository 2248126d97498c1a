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

"""What users and operators do with nothing but the openstack command.

Run by ``python -m tests.client``, with each release of OpenStackClient.
"""

import contextlib
import json
import os
import subprocess
import tempfile
import time
import unittest

from oslo_utils import uuidutils

from tests.client import cloud

_PATIENCE = 120  # seconds, on a slow and busy machine


def setUpModule():
    global _cloud, _clouds_yaml, _image, _rescue_image
    stack = contextlib.ExitStack()
    unittest.addModuleCleanup(stack.close)
    _cloud = stack.enter_context(cloud.Cloud())
    _image = _cloud.upload_image('debian-12')
    _rescue_image = _cloud.upload_image('grml')
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    _clouds_yaml = os.path.join(folder, 'clouds.yaml')
    with open(_clouds_yaml, 'w') as clouds:
        json.dump({'clouds': {
            'alice': _cloud.describe('alice'),
            'operator': _cloud.describe('operator'),
            'opted-in': _cloud.describe(
                'alice', compute_rescue_api_version='1.1'),
        }}, clouds)


class Story(unittest.TestCase):
    """Somebody at the command line."""

    def openstack(self, command, cloud='alice', version=None, status=0,
                  compute='2.95', **environment):
        """Run the command.

        :param command: what stands behind the global options
        :param cloud: in clouds.yaml
        :param version: of compute-rescue, which is chosen by option
        :param status: the exit status that it has to have
        :param compute: version of the compute API
        :returns: what it has written: standard output, or standard error if
            it fails
        """
        options = ['--os-compute-api-version', compute]
        if version:
            options += ['--os-compute-rescue-api-version', version]
        done = subprocess.run(
            ['openstack', '--os-cloud', cloud, *options, *command.split()],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=dict(os.environ, OS_CLIENT_CONFIG_FILE=_clouds_yaml,
                     **environment))
        self.assertEqual(status, done.returncode, '%s: %s' % (
            command, done.stdout + done.stderr))
        return done.stderr if status else done.stdout

    def create(self, options='--image debian-12', status=0):
        """Create a server, and wait for it.

        :returns: its name
        """
        name = 'web-%s' % uuidutils.generate_uuid()[:8]
        self.openstack('server create --flavor m1.tiny --nic none --wait %s %s'
                       % (options, name), status=status)
        self.addCleanup(self.openstack, 'server delete %s' % name)
        return name

    def create_from_volume(self):
        volume = _cloud.create_volume(name='root', image_id=_image)
        return self.create('--block-device uuid=%s,source_type=volume,'
                           'destination_type=volume,boot_index=0' % volume)

    def show(self, name, cloud='alice'):
        return json.loads(self.openstack('server show -f json ' + name,
                                         cloud=cloud))

    def assert_status(self, expected, name):
        server = self.show(name)
        self.assertEqual((expected, None), (
            server['status'], server['OS-EXT-STS:task_state']))

    def wait_for(self, status, name):
        deadline = time.monotonic() + _PATIENCE
        while self.show(name)['status'] != status:
            self.assertLess(time.monotonic(), deadline)
            time.sleep(1)

    def set_hosts(self, option):
        for host in ('compute1', 'compute2'):
            self.openstack('compute service set %s %s nova-compute' % (
                option, host), cloud='operator')


class VersionStory(Story):

    def test_show(self):
        shown = json.loads(self.openstack(
            'compute rescue version show -f json'))
        self.assertEqual(('1.0', '1.0', None), (
            shown['min_version'], shown['default_version'],
            shown['chosen_version']))
        self.assertGreaterEqual(shown['max_version'], '1.3')

    def test_choice(self):
        for arguments in ({'version': '1.1'}, {'cloud': 'opted-in'}, {
                'OS_COMPUTE_RESCUE_API_VERSION': '1.1'}):
            self.assertIn('"1.1"', self.openstack(
                'compute rescue version show -f json', **arguments))

    def test_malformed(self):
        self.assertIn('must be X.Y or latest', self.openstack(
            'server list', version='one', status=1))

    def test_too_new(self):
        name = self.create()
        self.assertIn('1.99 of compute-rescue is not supported',
                      self.openstack('server rescue ' + name, version='1.99',
                                     status=1))


class RescueStory(Story):

    def test_without_a_version(self):
        """Nothing has changed: no output, and Nova's own behavior."""
        name = self.create()
        self.assertEqual('', self.openstack('server rescue ' + name))
        self.wait_for('RESCUE', name)
        self.assertEqual('', self.openstack('server unrescue ' + name))
        self.wait_for('ACTIVE', name)
        name = self.create_from_volume()
        self.assertIn('Cannot rescue a volume-backed instance',
                      self.openstack('server rescue --image grml ' + name,
                                     status=1))

    def test_boot_from_volume(self):
        name = self.create_from_volume()
        for arguments in ({'version': '1.1'}, {'cloud': 'opted-in'}, {
                'OS_COMPUTE_RESCUE_API_VERSION': '1.1'}):
            self.assertRegex(
                self.openstack('server rescue --image grml --wait ' + name,
                               **arguments), r'\APassword: \w+\n\Z')
            self.assert_status('RESCUE', name)
            self.assertEqual(_rescue_image, _cloud.image_of_rescue_disk())
            self.assertEqual('', self.openstack(
                'server unrescue --wait ' + name, **arguments))
            self.assert_status('ACTIVE', name)

    def test_password_of_the_user(self):
        name = self.create()
        self.assertEqual('', self.openstack(
            'server rescue --password mine --wait ' + name, version='latest'))
        self.assert_status('RESCUE', name)

    def test_stopped_before_is_stopped_after(self):
        name = self.create()
        self.openstack('server stop ' + name)
        self.wait_for('SHUTOFF', name)
        self.openstack('server rescue --wait ' + name, version='1.1')
        self.openstack('server unrescue --wait ' + name, version='1.1')
        self.assert_status('SHUTOFF', name)

    def test_reason_of_a_failure(self):
        name = self.create()
        for cloud_, reason in (('operator', 'no room for another guest'),
                               ('alice', 'does not tell you why')):
            _cloud.fail_next_start()
            self.assertIn(reason, self.openstack(
                'server rescue --wait ' + name, cloud=cloud_, version='1.1',
                status=1))
            self.assert_status('ACTIVE', name)


class MigrationStory(Story):

    def test_there_and_back(self):
        name = self.create()
        self.openstack('server rescue --wait ' + name, version='1.1')
        host = self.show(name, 'operator')['OS-EXT-SRV-ATTR:host']
        for _number in range(2):
            self.assertEqual('Complete\n', self.openstack(
                'server migrate --live-migration --wait ' + name,
                cloud='operator', version='1.3'))
            server = self.show(name, 'operator')
            self.assertEqual('RESCUE', server['status'])
            self.assertNotEqual(host, server['OS-EXT-SRV-ATTR:host'])
            host = server['OS-EXT-SRV-ATTR:host']
        self.openstack('server unrescue --wait ' + name, version='1.1')
        self.assert_status('ACTIVE', name)

    def test_refused_without_a_version(self):
        name = self.create()
        self.openstack('server rescue --wait ' + name, version='1.1')
        self.assertIn('while it is in vm_state rescued', self.openstack(
            'server migrate --live-migration --wait ' + name,
            cloud='operator', status=1))


class RebuildStory(Story):

    def setUp(self):
        super().setUp()
        self.set_hosts('--disable')
        self.addCleanup(self.set_hosts, '--enable')

    def rebuild(self, **kwargs):
        return json.loads(self.openstack(
            'compute rescue rebuild -f json --wait ' + self.name, **kwargs))

    def test_no_room_and_room(self):
        self.name = self.create(status=1)
        before = self.show(self.name)
        self.assertEqual('ERROR', before['status'])
        # Stock Nova, before and after.
        self.openstack('server rebuild ' + self.name, status=1)
        self.assertIn('No valid host', self.openstack(
            'compute rescue rebuild --wait ' + self.name, status=1))
        self.set_hosts('--enable')
        rebuilt = self.rebuild()
        self.assertEqual((before['id'], 'ACTIVE'),
                         (rebuilt['id'], rebuilt['status']))
        self.assertTrue(rebuilt['adminPass'])
        self.assert_status('ACTIVE', self.name)

    def test_boot_from_volume(self):
        volume = _cloud.create_volume(name='root', image_id=_image)
        self.name = self.create(
            '--block-device uuid=%s,source_type=volume,'
            'destination_type=volume,boot_index=0' % volume, status=1)
        self.assertIn('--image option is required', self.openstack(
            'server rebuild ' + self.name, version='1.2', status=1))
        self.set_hosts('--enable')
        self.assertEqual('ACTIVE', self.rebuild(version='1.2')['status'])

    def test_command_of_openstackclient(self):
        self.name = self.create(status=1)
        self.set_hosts('--enable')
        self.openstack('server rebuild --wait ' + self.name, version='1.2')
        self.assert_status('ACTIVE', self.name)


class OperatorStory(Story):
    """Commands of the package that are clients of the API."""

    def manage(self, *argv):
        done = subprocess.run(
            ['nova-rescue-ext-manage', *argv], text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env=dict(os.environ, OS_CLIENT_CONFIG_FILE=_clouds_yaml))
        self.assertEqual(0, done.returncode, done.stdout)
        return done.stdout

    def test_drain_a_host(self):
        name = self.create()
        self.openstack('server rescue --wait ' + name, version='1.1')
        server = self.show(name, 'operator')
        self.assertIn(server['id'], self.manage(
            'migrate-rescued', server['OS-EXT-SRV-ATTR:host'], '--os-cloud',
            'operator'))
        self.assertNotEqual(
            server['OS-EXT-SRV-ATTR:host'],
            self.show(name, 'operator')['OS-EXT-SRV-ATTR:host'])

    def test_rebuild_failed(self):
        self.set_hosts('--disable')
        name = self.create(status=1)
        self.set_hosts('--enable')
        self.manage('rebuild-failed', '--os-cloud', 'operator', '--reason',
                    'No valid host', '--failed-before',
                    '2100-01-01T00:00:00')
        self.assert_status('ACTIVE', name)

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

"""OpenStackClient's own functional tests, with the plugin installed."""

import json
import shutil
import subprocess

from tests.lab.cloud import images
from tests.lab.cloud import install as lab_install
from tests.lab.cloud import keystone
from tests.lab.cloud import process
from tests.lab.cloud import settings
from tests.lab.cloud import tempest

_VENV = settings.ROOT / 'openstackclient-venv'
_WORK = settings.DATA / 'openstackclient'
# Of the names that the tests look for.
_IMAGE, _FLAVOR, _NETWORK = 'cirros-lab-disk', 'm1.tiny', 'private'
_TESTS = 'openstackclient.tests.functional.compute.v2.test_server'
_SERVER_TESTS = [f'{_TESTS}.ServerTests.test_{name}' for name in (
    'boot_from_volume', 'server_actions', 'server_add_remove_volume',
    'server_boot_from_volume', 'server_boot_with_bdm_volume',
    'server_list', 'server_migration_list', 'server_reboot', 'server_set',
    'server_show', 'server_stop_start')]


def install():
    lab_install.make_venv(_VENV, settings.CHECKOUT
                          / 'tests/lab/requirements-openstackclient.txt')
    lab_install.install_package(_VENV)


def run():
    """Run the tests inside the lab.

    :returns: {test: result}
    :raises: LabError if they did not run to their end
    """
    shutil.rmtree(_WORK, ignore_errors=True)
    _WORK.mkdir()
    _make_what_devstack_has()
    (_WORK / 'clouds.yaml').write_text(json.dumps({'clouds': {
        'devstack-admin': {
            'region_name': settings.REGION,
            'auth': {'auth_url': settings.url('keystone', '/v3'),
                     'username': 'admin', 'password': settings.PASSWORD,
                     'project_name': 'admin', 'user_domain_id': 'default',
                     'project_domain_id': 'default'}}}}))
    with open(settings.LOG / 'openstackclient.log', 'ab') as log:
        stream = subprocess.run(
            [_VENV / 'bin/python', '-m', 'subunit.run', *_SERVER_TESTS],
            cwd=_WORK, stdout=subprocess.PIPE, stderr=log,
            env=process.environment(PATH=f'{_VENV}/bin:/usr/bin:/bin'))
    found = tempest.read(stream.stdout, _VENV)
    tempest.check_end(stream.returncode, found, _SERVER_TESTS)
    return found


def _make_what_devstack_has():
    cloud = keystone.connect()
    if not cloud.image.find_image(_IMAGE):
        file, disk_format, _ = images.CATALOGUE['base']
        cloud.image.create_image(
            name=_IMAGE, disk_format=disk_format, container_format='bare',
            visibility='public', validate_checksum=False,
            data=(settings.IMAGES / file).read_bytes())
    if not cloud.compute.find_flavor(_FLAVOR):
        cloud.compute.create_flavor(name=_FLAVOR, ram=128, disk=1, vcpus=1)
    network = cloud.network.find_network('lab')
    if network:
        cloud.network.update_network(network, name=_NETWORK)

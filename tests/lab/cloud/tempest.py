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

"""Upstream's own judge: Tempest against the lab."""

import csv
import io
import shutil
import subprocess

from tests.lab.cloud import config
from tests.lab.cloud import install
from tests.lab.cloud import keystone
from tests.lab.cloud import process
from tests.lab.cloud import settings

VENV = settings.ROOT / 'tempest-venv'
_WORK = settings.DATA / 'tempest'
# A test that was interrupted is "inprogress".
_RESULTS = ('success', 'fail', 'skip', 'xfail', 'uxsuccess')


def results(regex):
    """Run tests inside the lab.

    :param regex: which, as "tempest run" takes it
    :returns: {test: result}
    :raises: LabError if they did not run to their end
    """
    shutil.rmtree(_WORK, ignore_errors=True)
    _WORK.mkdir()
    process.run(VENV / 'bin/tempest', 'init', '--workspace-path',
                _WORK / 'workspaces.yaml', _WORK / 'space')
    config.write(_WORK / 'space/etc/tempest.conf', _sections())
    command = [VENV / 'bin/tempest', 'run', '--serial', '--regex', regex]
    wanted = process.run(*command, '--list-tests', cwd=_WORK / 'space').split()
    status = subprocess.run(command, cwd=_WORK / 'space',
                            env=process.environment()).returncode
    stream = subprocess.run(
        [VENV / 'bin/stestr', 'last', '--subunit'], cwd=_WORK / 'space',
        env=process.environment(), stdout=subprocess.PIPE, check=False)
    found = read(stream.stdout, VENV)
    check_end(status, found, wanted)
    return found


def check_end(status, found, wanted):
    """Let no run count that was interrupted.

    A failed test is a result, and no error.

    :param status: the exit status of whatever ran the tests; negative if a
        signal has ended it
    :param found: {test: result}
    :param wanted: the tests that were to run
    :raises: LabError if one of them has no result
    """
    missing = [test for test in wanted
               if found.get(test) not in _RESULTS
               and f'setUpClass ({_class_of(test)})' not in found]
    if missing or status not in (0, 1):
        raise process.LabError(
            f'The tests have ended with {status}, and {len(missing)} of '
            f'{len(wanted)} have no result: {" ".join(missing[:5])}')


def _class_of(test):
    return test.partition('[')[0].rpartition('.')[0]


def read(stream, venv):
    """What became of each test in a stream of subunit.

    :param venv: an environment that has subunit
    :returns: {test: result}
    :raises: LabError if there is none
    """
    table = subprocess.run(
        [venv / 'bin/subunit2csv', '--no-passthrough'], input=stream,
        stdout=subprocess.PIPE, check=False)
    found = {row['test']: row['status'] for row in
             csv.DictReader(io.StringIO(table.stdout.decode()))}
    if not found:
        raise process.LabError('no test was run')
    return found


def install_it():
    install.make_venv(VENV, settings.CHECKOUT
                      / 'tests/lab/requirements-tempest.txt')


def _sections():
    cloud = keystone.connect()
    image = {name: cloud.image.find_image(name).id
             for name in ('base', 'base-scsi')}
    flavor = cloud.compute.find_flavor('lab').id
    other = cloud.compute.find_flavor('lab-uefi').id
    network = next(cloud.network.networks(), None)  # NET=ovs
    return {
        'DEFAULT': {'log_file': settings.LOG / 'tempest.log'},
        'auth': {
            'admin_username': 'admin',
            'admin_password': settings.PASSWORD,
            'admin_project_name': 'admin',
            'admin_domain_name': 'Default',
            'create_isolated_networks': 'false',
        },
        'identity': {
            'uri_v3': settings.url('keystone', '/v3'),
            'auth_version': 'v3',
            'region': settings.REGION,
        },
        'service_available': {
            'neutron': 'true', 'swift': 'false', 'horizon': 'false',
            'cinder': 'true', 'glance': 'true', 'nova': 'true',
        },
        'validation': {'run_validation': 'false'},
        'compute': {
            'image_ref': image['base'],
            'image_ref_alt': image['base-scsi'],
            'flavor_ref': flavor,
            'flavor_ref_alt': other,
            'min_compute_nodes': 2,
            **({'fixed_network_name': network.name} if network else {}),
            'max_microversion': 'latest',
            'build_timeout': 600,
        },
        'compute-feature-enabled': {
            'rescue': 'true',
            'stable_rescue': 'true',
            'live_migration': 'true',
            'live_migrate_back_and_forth': 'true',
            'block_migration_for_live_migration': 'true',
            'console_output': 'true',
            'vnc_console': 'false',
            'suspend': 'true',
            'resize': 'true',
            'cold_migration': 'true',
            'interface_attach': str(bool(network)).lower(),
        },
        # The package's plugin rescues with what the servers boot from.
        'compute_rescue': {'ready_line': 'LAB ready role=base'},
        'volume': {'build_timeout': 600, 'catalog_type': 'volumev3'},
        'volume-feature-enabled': {'backup': 'false'},
        'oslo_concurrency': {'lock_path': _WORK / 'locks'},
    }

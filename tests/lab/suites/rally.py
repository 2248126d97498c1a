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

"""Rally's scenarios about rescue, live migration and rebuild."""

import json
import shutil
import subprocess

from tests.lab.cloud import config
from tests.lab.cloud import install as lab_install
from tests.lab.cloud import process
from tests.lab.cloud import resources
from tests.lab.cloud import settings

_VENV = settings.ROOT / 'rally-venv'
_WORK = settings.DATA / 'rally'
_CONF = _WORK / 'rally.conf'
_TIMES = 1
_SERVER = {'image': {'name': 'base'}, 'flavor': {'name': 'lab'}}
_FROM_VOLUME = {'image': {'name': 'base'}, 'flavor': {'name': 'lab-bfv'},
                'volume_size': 1}
_SCENARIOS = {
    'NovaServers.boot_and_bounce_server': {
        **_SERVER, 'actions': [{'rescue_unrescue': _TIMES}]},
    'NovaServers.boot_and_live_migrate_server': {
        **_SERVER, 'block_migration': True},
    'NovaServers.boot_server_from_volume_and_live_migrate': _FROM_VOLUME,
    'NovaServers.boot_and_rebuild_server': {
        'from_image': {'name': 'base'}, 'to_image': {'name': 'base-scsi'},
        'flavor': {'name': 'lab'}},
}


def install():
    lab_install.make_venv(_VENV, settings.CHECKOUT
                          / 'tests/lab/requirements-rally.txt')


def run():
    """Run the scenarios inside the lab.

    :returns: {scenario: result}
    :raises: LabError if they did not run to their end
    """
    shutil.rmtree(_WORK, ignore_errors=True)
    _WORK.mkdir()
    config.write(_CONF, {
        'DEFAULT': {'log_file': settings.LOG / 'rally.log'},
        'database': {'connection': f'sqlite:///{_WORK}/rally.db'},
        'openstack': {f'nova_server_{action}_timeout': 600 for action in (
            'boot', 'live_migrate', 'rebuild', 'rescue', 'unrescue')}})
    _rally('db', 'create')
    _rally('env', 'create', '--name', 'lab', '--spec',
           _write('cloud', _cloud()))
    # A scenario that failed is a result here, not an error.
    subprocess.run(_command('task', 'start', _write('task', _task())),
                   env=_environment(), cwd=_WORK)
    report = _WORK / 'report.json'
    _rally('task', 'report', '--json', '--out', report)
    return results(json.loads(report.read_text()))


def _rally(*argv):
    process.run(*_command(*argv), env=_environment(), log='rally')


def _command(*argv):
    return [str(arg) for arg in (_VENV / 'bin/rally', '--config-file', _CONF,
                                 *argv)]


def _environment():
    return process.environment(HOME=str(_WORK))


def _write(name, content):
    path = _WORK / f'{name}.json'
    path.write_text(json.dumps(content, indent=1))
    return path


def _cloud():
    user = {'password': settings.PASSWORD, 'user_domain_name': 'Default',
            'project_domain_name': 'Default'}
    return {'existing@openstack': {
        'auth_url': settings.url('keystone', '/v3'),
        'region_name': settings.REGION,
        'admin': {**user, 'username': 'admin', 'project_name': 'admin'},
        'users': [{**user, 'username': resources.USER,
                   'project_name': resources.PROJECT}]}}


def _task():
    return {'version': 2, 'title': 'Rescue, live migration and rebuild',
            'subtasks': [{
                'title': name, 'scenario': {name: arguments},
                'runner': {'serial': {'times': _TIMES}}}
                for name, arguments in _SCENARIOS.items()]}


def results(report):
    """The results of a report.

    :param report: that of "rally task report", read
    :returns: {scenario: result}
    :raises: LabError if one was not run to its end
    """
    found = {}
    for task in report['tasks']:
        for subtask in task['subtasks']:
            for workload in subtask['workloads']:
                name, = workload['scenario']
                if workload['total_iteration_count'] == _TIMES:
                    found[name] = ('fail' if workload['failed_iteration_count']
                                   else 'success')
    missing = _SCENARIOS.keys() - found
    if missing:
        raise process.LabError('Rally has no result of ' + ', '.join(
            sorted(missing)))
    return found

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

"""RabbitMQ: a virtual host for the API level and one for each cell."""

from tests.lab.cloud import process
from tests.lab.cloud import settings

VHOSTS = ('cell1', 'cell2')
_DATA = settings.DATA / 'rabbit'


def _environment():
    return {
        'HOME': str(_DATA),
        'RABBITMQ_NODENAME': 'lab@localhost',
        'RABBITMQ_MNESIA_BASE': str(_DATA / 'mnesia'),
        'RABBITMQ_LOG_BASE': str(_DATA / 'log'),
        'RABBITMQ_CONFIG_FILE': str(_DATA / 'rabbitmq.conf'),
        'RABBITMQ_CONF_ENV_FILE': '/dev/null',
        'RABBITMQ_ENABLED_PLUGINS_FILE': str(_DATA / 'enabled_plugins'),
        'RABBITMQ_PID_FILE': str(_DATA / 'pid'),
        'ERL_EPMD_ADDRESS': '127.0.0.1',
    }


def up():
    _DATA.mkdir(exist_ok=True)
    (_DATA / 'rabbitmq.conf').write_text(
        f'listeners.tcp.1 = {settings.CONTROLLER}:'
        f'{settings.PORTS["rabbit"]}\n'
        'loopback_users = none\n'
        'log.console = true\n'
        'log.file = false\n')
    # Debian's wrappers want to become the user rabbitmq; these do not.
    process.start('rabbit', ['/usr/lib/rabbitmq/bin/rabbitmq-server'],
                  env=_environment())
    process.wait_port('rabbit')
    have = ctl('-q', 'list_vhosts', '--no-table-headers').split()
    for vhost in set(VHOSTS) - set(have):
        ctl('add_vhost', vhost)
        ctl('set_permissions', '-p', vhost, 'guest', '.*', '.*', '.*')


def ctl(*argv):
    return process.run('/usr/lib/rabbitmq/bin/rabbitmqctl', *argv,
                       env=_environment())

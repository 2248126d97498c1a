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

"""MariaDB: one server, one database a service, one a Nova cell."""

from tests.lab.cloud import process
from tests.lab.cloud import settings

DATABASES = ('keystone', 'glance', 'placement', 'neutron', 'cinder',
             'nova_api', 'nova_cell0', 'nova_cell1', 'nova_cell2')
_DATA = settings.DATA / 'mariadb'
_SOCKET = settings.RUN / 'mariadb.sock'


def up():
    if not (_DATA / 'mysql').exists():
        process.run(
            'mariadb-install-db', '--no-defaults', '--user=root',
            f'--datadir={_DATA}', '--skip-test-db',
            '--auth-root-authentication-method=normal',
            log='mariadb-install')
    process.start('mariadb', [
        'mariadbd', '--no-defaults', '--user=root', f'--datadir={_DATA}',
        f'--socket={_SOCKET}', f'--pid-file={_DATA}/mariadbd.pid',
        f'--tmpdir={settings.TMP}',
        f'--bind-address={settings.CONTROLLER}',
        f'--port={settings.PORTS["mariadb"]}', '--max-connections=2000',
        '--skip-name-resolve', '--character-set-server=utf8mb3',
        # From 11.6.2 on MariaDB refuses what OpenStack's services expect.
        '--loose-innodb-snapshot-isolation=OFF',
        # Crash safe against kill -9 of the server, which the fault tests
        # do; not against a power cut, which nobody can do here.
        '--innodb-flush-log-at-trx-commit=2'])
    process.wait_port('mariadb')
    sql("CREATE USER IF NOT EXISTS 'lab'@'%' "
        f"IDENTIFIED BY '{settings.PASSWORD}'")
    for name in DATABASES:
        sql(f'CREATE DATABASE IF NOT EXISTS {name} CHARACTER SET utf8mb3')
        sql(f"GRANT ALL ON {name}.* TO 'lab'@'%'")


def sql(statement):
    return process.run('mariadb', '--no-defaults', '-S', _SOCKET, '-uroot',
                       '--batch', '--skip-column-names', '-e', statement)

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


"""Database servers of our own, on a private socket, for one test class.

Where one is not installed, its tests are skipped, unless the environment says
that they are wanted (``make test-databases``).
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

import sqlalchemy as sa


# In the environment: run also what takes long, and skip nothing.
WANTED = 'TEST_DATABASES'


class Missing(Exception):
    """The database server or its driver is not installed."""


def start(server):
    """Start a server for a test class.

    :param server: a class of this module
    :raises: SkipTest
    """
    try:
        return server()
    except Missing as exc:
        if os.environ.get(WANTED):
            raise
        raise unittest.SkipTest(str(exc))


def require_wanted():
    """Skip what takes too long to be run each time.

    :raises: SkipTest
    """
    if not os.environ.get(WANTED):
        raise unittest.SkipTest('%s is not set' % WANTED)


def _find(name, *folders):
    path = shutil.which(name, path=os.pathsep.join(
        [os.environ['PATH'], '/usr/sbin', *folders]))
    if not path:
        raise Missing('%s is not installed' % name)
    return path


class _Server:

    end = signal.SIGTERM

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix='rescue-ext-')
        self.process = None

    def _start(self, command, user=None):
        self.log = open(os.path.join(self.folder, 'log'), 'wb')
        self.process = subprocess.Popen(
            command, stdout=self.log, stderr=self.log, user=user)
        for _retry in range(300):
            try:
                with self.engine(self.admin_database).connect():
                    return
            except sa.exc.OperationalError:
                time.sleep(0.1)
        self.stop()
        raise Missing('%s does not start' % command[0])

    def engine(self, database):
        return sa.create_engine(self.url(database), poolclass=sa.pool.NullPool)

    def create(self, database):
        """Create an empty database; its URL is returned."""
        engine = self.engine(self.admin_database).execution_options(
            isolation_level='AUTOCOMMIT')
        with engine.connect() as connection:
            connection.execute(sa.text('CREATE DATABASE %s' % database))
        return self.url(database)

    def stop(self):
        if self.process:
            self.process.send_signal(self.end)
            self.process.wait(30)
            self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)


class SQLite(_Server):
    """Files, which other processes can open: Nova's own are in memory."""

    def url(self, database):
        return 'sqlite:///%s/%s' % (self.folder, database)

    def create(self, database):
        return self.url(database)


class MariaDB(_Server):
    """:raises: Missing"""

    admin_database = 'mysql'

    def __init__(self):
        try:
            import pymysql  # noqa: F401
        except ImportError:
            raise Missing('PyMySQL is not installed')
        daemon = _find('mariadbd')
        install = _find('mariadb-install-db')
        super().__init__()
        data = os.path.join(self.folder, 'data')
        self.socket = os.path.join(self.folder, 'socket')
        as_root = ['--user=root'] if os.getuid() == 0 else []
        subprocess.run(
            [install, '--no-defaults', '--datadir=' + data,
             '--auth-root-authentication-method=normal', *as_root],
            check=True, capture_output=True)
        self._start([daemon, '--no-defaults', '--datadir=' + data,
                     '--socket=' + self.socket, '--skip-networking',
                     '--pid-file=' + os.path.join(self.folder, 'pid'),
                     # Nobody needs it after a power cut.
                     '--innodb-flush-log-at-trx-commit=0',
                     *as_root])

    def url(self, database):
        return 'mysql+pymysql://root@localhost/%s?unix_socket=%s&charset=' \
               'utf8mb4' % (database, self.socket)


class PostgreSQL(_Server):
    """:raises: Missing"""

    admin_database = 'postgres'
    end = signal.SIGINT  # does not wait for clients

    def __init__(self):
        try:
            import psycopg2  # noqa: F401
        except ImportError:
            raise Missing('psycopg2 is not installed')
        folders = ['/usr/lib/postgresql/%d/bin' % version
                   for version in range(13, 19)]
        initdb = _find('initdb', *folders)
        daemon = _find('postgres', *folders)
        super().__init__()
        # It refuses to run as root.
        user = 'postgres' if os.getuid() == 0 else None
        if user:
            shutil.chown(self.folder, user)
        data = os.path.join(self.folder, 'data')
        subprocess.run([initdb, '-D', data, '-A', 'trust', '-U', 'nova'],
                       check=True, capture_output=True, user=user,
                       cwd=self.folder)
        self._start([daemon, '-D', data, '-k', self.folder, '-c',
                     'listen_addresses=', '-c', 'timezone=Asia/Tokyo'],
                    user=user)

    def url(self, database):
        return 'postgresql+psycopg2://nova@/%s?host=%s' % (
            database, self.folder)

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


"""Rebuild of servers that never booted, against delete-and-create.

    python -m bench.rebuild [--rounds 3] [--database sqlite] [--write]
                            [--requests] [N ...]

N servers fail for lack of hosts, hosts are added, and one client, one request
at a time, gets them to ACTIVE in one of two ways. Pairs of runs alternate in
their order. Nova's services run in this process on Nova's own fixtures, with
the databases of a MariaDB of their own, a fake hypervisor and no network: what
is compared is the work of nova-api, conductor, scheduler, placement and
database, not that of a hypervisor or a broker.

With --requests the messages to the conductor are dropped: what is left is the
part of each way that is not the build. Wanted is a request of at most 0.75 of
the CPU time of DELETE and POST, a ratio of 1.33 or more:

    python -m bench.rebuild --requests --crowd 0 --rounds 9 20

For each N: medians of the time, of the CPU time of this process, and of the
SQL statements per server (cells and API database), and the medians of the
ratios of the pairs.
"""

import argparse
import collections
import os
import statistics
import sys
import time
import typing
import unittest

from nova.db.main import models as main_models
import sqlalchemy as sa

from bench import report
from tests.functional import database_servers
from tests.functional import own_databases
from tests.functional import rebuild_base

WAYS = ('rebuild', 'delete and create')
# How many servers of others are in cell0.
CROWDS = (0, 10000)
# For each server that comes to a host Nova asks placement for the allocations
# of all that are there.
_SERVERS_PER_HOST = 25
SERVERS = {'mariadb': database_servers.MariaDB,
           'sqlite': database_servers.SQLite}

_HEADING = '# Rebuild of servers that never booted'
_TEXT = """\
Written by `python -m bench.rebuild --write`: rebuild, and delete-and-create,
by one client, one request at a time, until all are ACTIVE. Medians of
alternating pairs on MariaDB, per server; a ratio above 1 is for rebuild.
All of Nova is in one process, whose CPU time it is; the hypervisor and the
broker are doubles. Statements are those of Nova's cells and API database.
There is one host for 25 servers.

| Servers | Others in cell0 | Pairs | Time | Ratio | CPU | Ratio | Statements |
|---|---|---|---|---|---|---|---|
"""


class Statements:
    """Counts SQL statements of Nova, by their text."""

    def __init__(self):
        self.texts = collections.Counter()
        sa.event.listen(sa.engine.Engine, 'before_cursor_execute', self._add)

    def _add(self, connection, cursor, statement, *args):
        engine = connection.engine
        # Those without a pool are ours.
        if (engine.pool.__class__ is not sa.pool.NullPool
                and 'placement' not in str(engine.url)):
            self.texts[statement.partition('\nFROM')[2][:60]
                       or statement[:60]] += 1

    def stop(self):
        sa.event.remove(sa.engine.Engine, 'before_cursor_execute', self._add)


class Run(own_databases.OwnDatabases, rebuild_base.RebuildTestCase):
    """One run, in a cloud of its own.

    :param way: one of WAYS
    :param number: of servers
    :param crowd: how many others are in cell0
    :param builds: whether the servers are built, or only asked for

    _seconds and _statements are per server. (The end of a test of Nova
    removes attributes without an underscore.)
    """

    def __init__(self, way, number, crowd, builds=True):
        super().__init__('measure')
        self._way = way
        self._number = number
        self._crowd = crowd
        self._builds = builds

    def measure(self):
        for quota in ('instances', 'cores', 'ram'):
            self.flags(**{quota: -1}, group='quota')
        self.flags(compute_driver='fake.FakeDriver')  # has room for all
        self.add_crowd(self._crowd)
        for _server in range(self._number):
            self.api.post_server(self._body())
        failed = self._await('cell0', 'error', self._number)
        for host in range(max(1, self._number // _SERVERS_PER_HOST)):
            self.add_capacity('host%d' % host)
        # A host may have reported itself, but not yet all of itself.
        while self.create()['status'] != 'ACTIVE':
            pass
        if not self._builds:
            self.patch('nova.conductor.rpcapi.ComputeTaskAPI.'
                       'schedule_and_build_instances',
                       lambda *args, **kwargs: None)
        statements = Statements()
        start, cpu = time.monotonic(), time.process_time()
        for server_id in failed:
            if self._way == 'rebuild':
                response = self.rebuild({'id': server_id})
                self.assertEqual(202, response.status_code, response.text)
            else:
                self.api.delete_server(server_id)
                self.api.post_server(self._body())
        if self._builds:
            self._await('cell1', 'active', self._number + 1)
        self._cpu = (time.process_time() - cpu) / self._number
        self._seconds = (time.monotonic() - start) / self._number
        statements.stop()
        self._texts = statements.texts
        self._statements = statements.texts.total() / self._number

    def _body(self):
        return {'server': {'name': 'web', 'flavorRef': '1',
                           'networks': 'none', 'imageRef': self.IMAGE}}

    def _await(self, cell, vm_state, number):
        """Wait for so many servers, without a burden on Nova.

        :returns: their UUIDs
        """
        table = main_models.Instance.__table__
        query = sa.select(table.c.uuid).where(
            table.c.vm_state == vm_state, table.c.deleted == 0,
            table.c.project_id == self.api.project_id)
        engine = self.server.engine('nova_' + cell)
        found = []
        deadline = time.monotonic() + 60 + 10 * number
        while len(found) < number:
            self.assertLess(time.monotonic(), deadline, 'not %d %s servers' % (
                number, vm_state))
            time.sleep(0.005 + number / 2000)
            with engine.connect() as connection:
                found = connection.execute(query).scalars().all()
        self._await_conductor()
        return found


class Line(typing.NamedTuple):
    """What came out for a number of servers."""

    number: int
    crowd: int
    builds: bool
    runs: dict  # way -> list of Run

    def _of(self, name):
        """The figures of a name, for each way."""
        return [[getattr(run, name) for run in self.runs[way]]
                for way in WAYS]

    def _median(self, name):
        return tuple(map(statistics.median, self._of(name)))

    def _ratio(self, name):
        """The median of the ratios of the pairs, others to ours."""
        ratios = [other / our for our, other in zip(*self._of(name))]
        return '%.2f (%.2f to %.2f)' % (
            statistics.median(ratios), min(ratios), max(ratios))

    def __str__(self):
        what = '%d%s' % (self.number,
                         '' if self.builds else ', requests only')
        cells = (
            what, self.crowd, len(self.runs[WAYS[0]]),
            '%.2f, %.2f s' % self._median('_seconds'),
            self._ratio('_seconds'),
            '%.0f, %.0f ms' % tuple(
                seconds * 1e3 for seconds in self._median('_cpu')),
            self._ratio('_cpu'), '%.1f, %.1f' % self._median('_statements'))
        return '| %s |' % ' | '.join(map(str, cells))


def measure(*args):
    run = Run(*args)
    result = unittest.TestResult()
    run.run(result)
    if not result.wasSuccessful():
        sys.exit((result.errors + result.failures)[0][1])
    return run


def compare(number, crowd, builds, rounds):
    runs = {way: [] for way in WAYS}
    for round_ in range(rounds):
        for way in WAYS if round_ % 2 else reversed(WAYS):
            runs[way].append(measure(way, number, crowd, builds))
    return Line(number, crowd, builds, runs)


def main():
    parser = argparse.ArgumentParser(
        prog='python -m bench.rebuild',
        description=__doc__.partition('\n')[0])
    parser.add_argument('--database', choices=sorted(SERVERS),
                        default='mariadb')
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--crowd', type=int, action='append',
                        help='servers of others in cell0 (%s)' % ', '.join(
                            map(str, CROWDS)))
    parser.add_argument('--statements', action='store_true',
                        help='show what was executed')
    parser.add_argument('--requests', action='store_true',
                        help='without the builds')
    parser.add_argument('--write', action='store_true',
                        help='to %s' % report.PATH)
    parser.add_argument('numbers', type=int, nargs='*', metavar='N',
                        default=[1, 10, 100, 1000])
    arguments = parser.parse_args()
    if arguments.write and arguments.database != 'mariadb':
        parser.error('the table is about MariaDB')
    os.environ['OS_TEST_TIMEOUT'] = str(20 * 60)
    Run.SERVER = SERVERS[arguments.database]
    Run.setUpClass()
    lines = []
    try:
        measure(WAYS[0], 1, 0)  # imports and caches
        for number in arguments.numbers:
            for crowd in arguments.crowd or CROWDS:
                # A thousand take long and vary little.
                rounds = 1 if number >= 1000 else arguments.rounds
                line = compare(number, crowd, not arguments.requests,
                               rounds)
                lines.append(line)
                print(line, flush=True)
    finally:
        Run.doClassCleanups()
    if arguments.statements:
        _show_statements(lines[-1])
    if arguments.write:
        report.write_rows(report.PATH, _HEADING, _TEXT, list(map(str, lines)))


def _show_statements(line):
    for way in WAYS:
        run = line.runs[way][-1]
        print('%s, statements per server:' % way)
        for text, count in run._texts.most_common():
            print('  %6.2f  %s' % (count / line.number, ' '.join(
                text.split())))


if __name__ == '__main__':
    main()

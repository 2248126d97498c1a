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

    python bench/rebuild.py [--rounds 5] [N ...]

N servers fail for lack of hosts, a host is added, and one client, one request
at a time, gets them to ACTIVE in one of two ways. Pairs of runs alternate in
their order. Nova's services run in this process on Nova's own fixtures
(SQLite, fake hypervisor, no network): what is compared is the work of
nova-api, conductor, scheduler and placement, not that of a hypervisor or a
broker.

Printed for each N: medians of servers per second and of SQL statements per
server (cells and API database), and the median of the ratios of the pairs.
"""

import argparse
import os
import statistics
import sys
import time
import unittest

import sqlalchemy as sa

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from tests.functional import rebuild_base  # noqa: E402

WAYS = ('rebuild', 'delete and create')


class Statements:
    """Counts SQL statements, those of placement aside."""

    def __init__(self):
        self.count = 0
        sa.event.listen(sa.engine.Engine, 'before_cursor_execute', self._add)

    def _add(self, connection, cursor, statement, *args):
        self.count += 'placement' not in str(connection.engine.url)

    def stop(self):
        sa.event.remove(sa.engine.Engine, 'before_cursor_execute', self._add)


class Run(rebuild_base.RebuildTestCase):
    """One run, in a cloud of its own."""

    def __init__(self, way, number):
        super().__init__('measure')
        self._way = way
        self._number = number

    def measure(self):
        for quota in ('instances', 'cores', 'ram'):
            self.flags(**{quota: -1}, group='quota')
        for _server in range(self._number):
            self.api.post_server(self._body())
        failed = self._await('ERROR')
        self.add_capacity()
        statements = Statements()
        start = time.monotonic()
        for server in failed:
            if self._way == 'rebuild':
                response = self.rebuild(server)
                self.assertEqual(202, response.status_code, response.text)
            else:
                self.api.delete_server(server['id'])
                self.api.post_server(self._body())
        self._await('ACTIVE')
        self._seconds = (time.monotonic() - start) / self._number
        statements.stop()
        self._statements = statements.count / self._number

    def _body(self):
        return {'server': {'name': 'web', 'flavorRef': '1',
                           'networks': 'none', 'imageRef': self.IMAGE}}

    def _await(self, status):
        while True:
            found = self.api.get_servers(
                search_opts={'status': status, 'limit': 1000})
            if len(found) == self._number:
                return found
            time.sleep(0.2)


def measure(way, number):
    run = Run(way, number)
    result = unittest.TestResult()
    run.run(result)
    if not result.wasSuccessful():
        sys.exit((result.errors + result.failures)[0][1])
    return run


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('numbers', type=int, nargs='*', metavar='N',
                        default=[1, 10, 100])
    arguments = parser.parse_args()
    for number in arguments.numbers:
        runs = {way: [] for way in WAYS}
        for round_ in range(arguments.rounds):
            for way in WAYS if round_ % 2 else reversed(WAYS):
                runs[way].append(measure(way, number))
        for way in WAYS:
            print('N = %4d  %-18s %7.2f servers/s  %6.1f statements/server' % (
                number, way,
                1 / statistics.median(run._seconds for run in runs[way]),
                statistics.median(run._statements for run in runs[way])))
        ratios = [other._seconds / ours._seconds
                  for ours, other in zip(*(runs[way] for way in WAYS))]
        print('N = %4d  throughput ratio %.2f (%.2f to %.2f)' % (
            number, statistics.median(ratios), min(ratios), max(ratios)),
            flush=True)


if __name__ == '__main__':
    main()

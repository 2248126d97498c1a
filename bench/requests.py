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

"""Requests that do not opt in, through the whole WSGI stack of nova-api."""

import gc
import json
import statistics
import sys
import time

from nova import monkey_patch
monkey_patch.patch()

from nova.tests import fixtures as nova_fixtures
import testtools
import webob

from bench import report
from nova_rescue_ext import activation
from tests.functional import base

ROUNDS = 101
REQUESTS = 10
GOAL = 0.98
# CPython takes the memory for frames in chunks, and a loop across the end of
# one is slower by several per cent. Where that is depends on the number of
# frames below, which the package adds three to: every depth gets its turn.
DEPTH = 200

HEADERS = {
    'X-Auth-User': 'alice',
    'X-Auth-Project-Id': nova_fixtures.PROJECT_ID,
    'X-Roles': 'reader,member',
    'OpenStack-API-Version': 'compute 2.95',
}


class Requests(base.RescueTestCase):
    """A cloud with a server, and requests for its API.

    A test case that tests nothing: its setUp() is the start of the cloud.

    :param rounds: how many pairs of batches
    :param results: a list; gets a report.Result for each kind of request
    """

    def __init__(self, rounds, results):
        super().__init__()
        self._rounds = rounds
        self._results = results

    def runTest(self):
        server = self.create_bfv_server()
        app = self.api_fixture.app()
        for path in ('/v2.1/servers/%s' % server['id'], '/v2.1/flavors'):
            request = webob.Request.blank(path, headers=HEADERS)
            self._batch(request, app)
            pairs = [self._pair(request, app, number)
                     for number in range(self._rounds)]
            name = path.replace(server['id'], '{id}')
            self._results.append(self._result(name, pairs))

    def _pair(self, request, app, number):
        seconds = {}
        for active in (False, True) if number % 2 else (True, False):
            # The same work before both: it shows in the next requests.
            activation.deactivate()
            activation.activate()
            if not active:
                activation.deactivate()
            seconds[active] = _deeper(number * 8 % DEPTH,
                                      self._batch, request, app)
        return seconds[False], seconds[True]

    @staticmethod
    def _batch(request, app):
        """Make some requests.

        :returns: the median of their CPU time in seconds
        """
        # The collector runs at the same request of each batch: who allocates
        # ten objects more may be hit always or never.
        gc.collect()
        gc.disable()
        seconds = []
        for _ in range(REQUESTS + 1):
            started = time.process_time()
            response = request.copy().get_response(app)
            seconds.append(time.process_time() - started)
            if response.status_code != 200:
                raise RuntimeError(response.text)
        gc.enable()
        return statistics.median(seconds[1:])  # the first warms up

    @staticmethod
    def _result(name, pairs):
        without, with_package = report.medians(pairs)
        ratio = 1 / report.median_ratio(pairs)
        return report.Result(
            'Requests that are not ours: `GET %s`' % name,
            '%.0f/s' % (1 / without), '%.0f/s' % (1 / with_package),
            'ratio %.3f' % ratio, '>= %.2f' % GOAL, ratio >= GOAL,
            len(pairs))


def _deeper(frames, call, *args):
    """Call a function with more frames below it."""
    return _deeper(frames - 1, call, *args) if frames else call(*args)


def main():
    results = []
    case = Requests(max(3, int(ROUNDS * float(sys.argv[1]))), results)
    outcome = testtools.TestResult()
    case.run(outcome)
    for _, details in outcome.errors + outcome.failures:
        print(details, file=sys.stderr)
    print(json.dumps(results))
    return 0 if outcome.wasSuccessful() else 1


if __name__ == '__main__':
    sys.exit(main())

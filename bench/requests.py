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

"""Requests through the whole WSGI stack of nova-api.

Those that do not opt in, and a rescue: opted in, against stock Nova's.
"""

import gc
import json
import statistics
import sys
import time
import typing

from nova import monkey_patch
monkey_patch.patch()

from nova import objects
from nova.tests import fixtures as nova_fixtures
from oslo_serialization import jsonutils
import testtools
import webob

from bench import report
from nova_rescue_ext import activation
from tests.functional import base

ROUNDS = 101
REQUESTS = 10
GOAL = 0.98  # of the requests of stock Nova
RESCUE_GOAL = 1.2  # times the CPU time of stock Nova's rescue
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


class Kind(typing.NamedTuple):
    """A kind of request.

    :ivar without: the webob.Request that stock Nova gets
    :ivar with_package: the one while the package is active
    :ivar reset: called after each
    """

    without: webob.Request
    with_package: webob.Request
    reset: typing.Callable[[], None] = lambda: None


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
        for path in ('/v2.1/servers/%s' % server['id'], '/v2.1/flavors'):
            request = webob.Request.blank(path, headers=HEADERS)
            name = path.replace(server['id'], '{id}')
            self._results.append(self._result(
                name, self._pairs(Kind(request, request), self._rounds)))
        self._results.append(self._rescue_result(
            self._pairs(self._rescue_request(), self._rounds // 2)))

    def _rescue_request(self):
        """The same rescue, opted in and not. Its message goes nowhere."""
        server = self._create_server(networks='none')
        self.patch('nova.compute.rpcapi.ComputeAPI.rescue_instance',
                   lambda *args, **kwargs: None)

        def reset():
            instance = objects.Instance.get_by_uuid(self.context, server['id'])
            instance.task_state = None
            instance.save()

        def request(version):
            return webob.Request.blank(
                '/v2.1/servers/%s/action' % server['id'], method='POST',
                headers={**HEADERS, 'Content-Type': 'application/json',
                         'OpenStack-API-Version': version}, body=body)

        body = jsonutils.dump_as_bytes(
            {'rescue': {'rescue_image_ref': self.create_image()}})
        return Kind(request('compute 2.95'),
                    request('compute 2.95, compute-rescue 1.1'), reset)

    def _pairs(self, kind, rounds):
        app = self.api_fixture.app()
        self._batch(kind.without, app, kind.reset)
        return [self._pair(kind, app, number) for number in range(rounds)]

    def _pair(self, kind, app, number):
        seconds = {}
        for active in (False, True) if number % 2 else (True, False):
            # The same work before both: it shows in the next requests.
            activation.deactivate()
            activation.activate()
            if not active:
                activation.deactivate()
            seconds[active] = _deeper(
                number * 8 % DEPTH, self._batch,
                kind.with_package if active else kind.without, app,
                kind.reset)
        return seconds[False], seconds[True]

    @staticmethod
    def _batch(request, app, reset):
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
            reset()
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
            len(pairs), (1 / without, 1 / with_package,
                         (1 - ratio) / (1 - GOAL)))

    @staticmethod
    def _rescue_result(pairs):
        without, with_package = report.medians(pairs)
        ratio = report.median_ratio(pairs)
        return report.Result(
            'A rescue that is ours: `POST /v2.1/servers/{id}/action`',
            '%.1f ms' % (without * 1e3), '%.1f ms' % (with_package * 1e3),
            'ratio %.3f' % ratio, '<= %.1f' % RESCUE_GOAL,
            ratio <= RESCUE_GOAL, len(pairs),
            (without, with_package, (ratio - 1) / (RESCUE_GOAL - 1)))


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

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

"""A process that has imported Nova and is forked to run tests.

Reads jobs, as lines of JSON, from stdin and writes what came of them to the
file descriptor that it is given. Each job is done by a fork, which imports the
package and the tests: as they are in the copy at that time.
"""

import contextlib
import importlib
import json
import os
import pickle
import resource
import select
import signal
import sys
import time
import unittest

from tests.mutants import hits

PASSED = 'passed'
FAILED = 'failed'
SKIPPED = 'skipped'
ENDLESS = 'endless'

# As they are before eventlet replaces them: the parent has no green threads.
_select, _read, _waitpid = select.select, os.read, os.waitpid
# "nova" in nova.tests.fixtures is something else.
_FIXTURES = 'nova.tests.fixtures.nova'
# Looks for a server that is in another state than is waited for. A test that
# passes needs few: what is never reached shall not take a minute.
_MOST_LOOKS = 25


def main():
    """Usage: worker {unit|functional} DESCRIPTOR"""
    kind, channel = sys.argv[1], os.fdopen(int(sys.argv[2]), 'w')
    del sys.argv[1:]
    warm_up(kind)

    def send(message):
        channel.write(json.dumps(message) + '\n')
        channel.flush()

    send({'ready': True})
    for line in iter(sys.stdin.readline, ''):
        send(serve(json.loads(line)))


def warm_up(kind):
    """Import all that the tests import, except the package and the tests."""
    modules, schemas = pickle.loads(_in_fork(
        lambda: pickle.dumps(_imported(kind)), 600))
    with contextlib.suppress(ImportError):
        importlib.import_module('tests.%s' % kind)
    for name in modules:
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    if schemas:
        sys.modules[_FIXTURES].DB_SCHEMA.update(schemas)
        sys.modules['nova.objects'].register_all()


def _imported(kind):
    """What is imported in the end.

    :returns: (names of modules, the schemas of databases)
    """
    from tests.mutants import coverage
    for module in coverage.modules(kind):
        with contextlib.suppress(Exception, unittest.SkipTest):
            importlib.import_module(module)
    schemas = {}
    if kind == 'functional':
        # One test makes the databases.
        suite = unittest.defaultTestLoader.loadTestsFromName(
            'tests.functional.test_microversion')
        next(_tests(suite)).run(unittest.TestResult())
        schemas = dict(sys.modules[_FIXTURES].DB_SCHEMA)
    return [name for name in sys.modules if name.partition('.')[0] not in (
        'tests', 'nova_rescue_ext', '__main__')], schemas


def _tests(suite):
    for each in suite:
        if isinstance(each, unittest.TestSuite):
            yield from _tests(each)
        else:
            yield each


def serve(job):
    """Do a job.

    :param job: {'tests': names of tests, or 'module': that of a module;
        'seconds': after so many it is endless; 'all': go on after a failure;
        'hits': tell what is executed}
    :returns: {'outcomes': [[test, outcome, seconds of CPU, seconds,
        statements, words]], 'ended': if it did not come to its end}
    """
    try:
        answer = _in_fork(lambda: json.dumps(_run(job)).encode(),
                          job['seconds'])
    except TimeoutError:
        return {'outcomes': [], 'ended': ENDLESS}
    if not answer:
        return {'outcomes': [], 'ended': FAILED}
    return {'outcomes': json.loads(answer)}


def _in_fork(function, seconds):
    """What a function returns in a child: bytes, none if it dies.

    :raises: TimeoutError
    """
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.setpgid(0, 0)
            os.close(reader)
            # CPU time: on a busy machine nothing is called endless.
            resource.setrlimit(resource.RLIMIT_CPU,
                               (int(seconds) + 1, int(seconds) + 5))
            pid = os.getpid()
            answer = function()
            if os.getpid() == pid:  # and not a fork that a test has made
                with os.fdopen(writer, 'wb') as file:
                    file.write(answer)
        except BaseException as exc:
            print(repr(exc), file=sys.stderr, flush=True)
        finally:
            os._exit(0)
    os.close(writer)
    parts = []
    deadline = time.monotonic() + 10 * seconds + 60
    try:
        while True:
            left = deadline - time.monotonic()
            if left < 0 or not _select([reader], [], [], left)[0]:
                raise TimeoutError()
            part = _read(reader, 1 << 20)
            if not part:
                break
            parts.append(part)
    finally:
        os.close(reader)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        _, status = _waitpid(child, 0)
    if not parts and os.WIFSIGNALED(status) and (
            os.WTERMSIG(status) == signal.SIGXCPU):
        raise TimeoutError()
    return b''.join(parts)


class _Result(unittest.TestResult):
    """Keeps what came of each test."""

    def __init__(self, job):
        super().__init__()
        self.failfast = not job.get('all')
        self._hits = job.get('hits')
        self.outcomes = []
        self._outcome = self._words = None

    def startTest(self, test):
        super().startTest(test)
        self._outcome, self._words = PASSED, ''
        self._began = time.process_time(), time.monotonic()
        if self._hits:
            hits.take()

    def stopTest(self, test):
        super().stopTest(test)
        self.outcomes.append([
            test.id(), self._outcome,
            round(time.process_time() - self._began[0], 3),
            round(time.monotonic() - self._began[1], 3),
            sorted(hits.take()) if self._hits else [], self._words])

    def _failed(self, test, error):
        self._outcome = FAILED
        self._words = self._exc_info_to_string(error, test)[-2000:]
        if self.failfast:
            self.stop()

    addError = addFailure = _failed

    def addSubTest(self, test, subtest, error):
        if error:
            self._failed(test, error)

    def addSkip(self, test, reason):
        self._outcome = SKIPPED


def _run(job):
    if job.get('hits'):
        hits.collect()
    names = job['tests'] if 'tests' in job else [job['module']]
    result = _Result(job)
    try:
        suite = unittest.defaultTestLoader.loadTestsFromNames(names)
        _look_less_often()
        suite.run(result)
    except Exception as exc:
        result.outcomes.append([names[0], FAILED, 0, 0, [], repr(exc)])
    return result.outcomes


def _look_less_often():
    base = sys.modules.get('tests.functional.base')
    if base:
        wait = base.base.ServersTestBase._wait_for_server_parameter

        def wait_less(self, server, expected_params, max_retries=10,
                      *args, **kwargs):
            return wait(self, server, expected_params,
                        max(max_retries, _MOST_LOOKS), *args, **kwargs)

        base.RescueTestCase._wait_for_server_parameter = wait_less


if __name__ == '__main__':
    main()

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

"""Runs tests of Nova, or of ours, in worker processes."""

from concurrent import futures
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import typing

from tests.nova_suite import selection
from tests.nova_suite import worker

# Small enough that the workers end at about the same time.
TESTS_PER_JOB = 20
# Seconds for one test, on a slow and busy machine.
TEST_TIMEOUT = 300
PROGRESS_INTERVAL = 60
# As Nova's tox.ini runs Nova's tests.
ENVIRONMENT = {
    'OS_TEST_TIMEOUT': str(TEST_TIMEOUT),
    'OS_STDOUT_CAPTURE': '1',
    'OS_STDERR_CAPTURE': '1',
    'LANGUAGE': 'en_US',
    'LC_ALL': 'C.UTF-8',
    'PYTHONWARNINGS': 'ignore',
}
# Nova runs them in different processes, too.
KINDS = ('nova.tests.unit.', 'nova.tests.functional.', 'tests.functional.')
# Nova 33 and 34 do not patch with eventlet then. If it is not set, they decide
# by which of their services is imported.
NATIVE = 'OS_NOVA_DISABLE_EVENTLET_PATCHING'
LOST = 'lost'


class WorkerDied(Exception):
    """A worker process ended before its work."""


class NotActive(Exception):
    """The package is not active in a worker process that should have it."""


class Outcome(typing.NamedTuple):
    """How a test went."""

    outcome: str
    details: str = ''
    seconds: float = 0.0

    @property
    def passed(self):
        return self.outcome in (worker.SUCCESS, worker.EXPECTED_FAILURE)


class Setting(typing.NamedTuple):
    """In what tests run."""

    python: str = sys.executable
    #: A folder from which Nova is imported, instead of the installed one
    source: str | None = None
    #: Whether on native threads
    native: bool = False
    #: How many processes at a time
    workers: int = 2


def threads(setting):
    """On what tests run: "native" threads or "eventlet"."""
    return 'native' if setting.native else 'eventlet'


class _Worker:
    """A worker process and the pipes to it."""

    def __init__(self, active, log, setting):
        receiving, sending = os.pipe()
        self._process = subprocess.Popen(
            [setting.python, '-m', 'tests.nova_suite.worker',
             'active' if active else 'stock', str(sending)],
            stdin=subprocess.PIPE, stdout=log, stderr=log, text=True,
            pass_fds=[sending], env=_environment(setting))
        os.close(sending)
        self._messages = queue.Queue()
        threading.Thread(target=self._receive, args=(os.fdopen(receiving),),
                         daemon=True).start()

    def run(self, job):
        """Give the process a job.

        :returns: what it says, until it is done
        """
        self._send(json.dumps(job) + '\n')
        while True:
            message = self._next()
            if 'done' in message:
                return
            yield message

    def finish(self):
        """Let the process end.

        :returns: its last message
        """
        self._process.stdin.close()
        message = self._next()
        self._process.wait()
        return message

    def kill(self):
        self._process.kill()
        self._process.wait()

    def _ending(self):
        """:returns: how the process has ended, in words"""
        status = self._process.wait()
        return ('by ' + signal.Signals(-status).name if status < 0
                else 'with exit status %d' % status)

    def _send(self, line):
        try:
            self._process.stdin.write(line)
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # what it said before it died tells more

    def _receive(self, pipe):
        with pipe:
            for line in pipe:
                self._messages.put(json.loads(line))
        self._messages.put(None)

    def _next(self):
        try:
            # A test's own timeout cannot end everything that may hang.
            message = self._messages.get(timeout=TEST_TIMEOUT + 120)
        except queue.Empty:
            raise WorkerDied('the process hangs')
        if message is None:
            raise WorkerDied('the process ended %s' % self._ending())
        if 'refusal' in message:
            raise NotActive(message['refusal'])
        return message


class Run:
    """One run of some tests.

    :param tests: dict, module -> ids of its tests
    :param active: whether with the package
    :param log: file for what the tests print
    :param setting: Setting

    .. attribute:: outcomes

        dict, id of a test -> Outcome

    .. attribute:: applied

        the overrides that were in place in one process at least
    """

    def __init__(self, tests, active, log, setting=Setting()):
        self.outcomes = {}
        self.applied = set()
        self._active = active
        self._log = log
        self._setting = setting
        self._total = sum(map(len, tests.values()))
        self._spoke = time.monotonic()
        for kind in KINDS:
            self._run({module: ids for module, ids in tests.items()
                       if module.startswith(kind)})
        if active and self.outcomes and not self.applied:
            raise NotActive('no override was applied in a worker process')

    def _run(self, tests):
        jobs = queue.Queue()
        alone = selection.read('alone')
        left = []
        for module in sorted(tests, key=lambda name: -len(tests[name])):
            names = [name for name in tests[module]
                     if not any(entry.names(name) for entry in alone)]
            left += [{'module': module, 'tests': [name]}
                     for name in tests[module] if name not in names]
            for first in range(0, len(names), TESTS_PER_JOB):
                jobs.put({'module': module,
                          'tests': names[first:first + TESTS_PER_JOB]})
        workers = min(self._setting.workers, jobs.qsize())
        with futures.ThreadPoolExecutor(max_workers=workers or 1) as pool:
            for done in [pool.submit(self._work, jobs)
                         for _ in range(workers)]:
                done.result()
        for job in left:
            jobs.put(job)
            self._work(jobs)

    def _work(self, jobs):
        """Do jobs in a process, or the next one if it dies."""
        while not jobs.empty():
            process = _Worker(self._active, self._log, self._setting)
            try:
                while self._do_next(process, jobs):
                    pass
                self._check(process.finish()['activation'])
            except WorkerDied as exc:
                print('A worker process is lost: %s' % exc, flush=True)
            finally:
                process.kill()

    def _do_next(self, process, jobs):
        """Do a job.

        :returns: whether there was one
        """
        try:
            job = jobs.get_nowait()
        except queue.Empty:
            return False
        try:
            for message in process.run(job):
                self.outcomes[message['test']] = Outcome(
                    message['outcome'], message['details'],
                    message['seconds'])
        finally:
            for name in job['tests']:
                self.outcomes.setdefault(name, Outcome(LOST))
        self._say_progress()
        return True

    def _check(self, activation):
        if not self._active:
            return
        if not activation['active'] or activation['missing']:
            raise NotActive('%s; not in place: %s' % (
                activation['summary'], ', '.join(activation['missing'])))
        self.applied.update(activation['applied'])

    def _say_progress(self):
        if time.monotonic() - self._spoke > PROGRESS_INTERVAL:
            self._spoke = time.monotonic()
            failed = sum(1 for outcome in self.outcomes.values()
                         if outcome.outcome in (worker.FAILURE, LOST))
            print('%d of %d tests, %d failed' % (
                len(self.outcomes), self._total, failed), flush=True)


def find(entries, log, setting=Setting()):
    """Find the tests that a selection names, in a process of their own.

    :returns: the attributes of selection.Found
    """
    process = _Worker(False, log, setting)
    try:
        found = [message['found'] for message in process.run(
            {'find': entries})]
        process.finish()
    finally:
        process.kill()
    return found[0]


def _environment(setting):
    """The environment of a worker: Nova's own, nothing opted in."""
    environment = {name: value for name, value in os.environ.items()
                   if not name.startswith('OS_RESCUE_EXT__')}
    environment.update(ENVIRONMENT)
    if setting.source:
        environment['PYTHONPATH'] = setting.source
    environment[NATIVE] = str(setting.native).lower()
    return environment

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

"""A process that runs tests, with the package active or without it.

Started by :mod:`~tests.nova_suite.runner`. Reads jobs from stdin and writes
what happens to the file descriptor that it is given, as lines of JSON: the
tests print to stdout and stderr as they like.
"""

import importlib
import json
import os
import sys
import time
import unittest

import testtools

from tests import fixtures
from tests.nova_suite import selection

SUCCESS = 'success'
FAILURE = 'failure'
SKIP = 'skip'
EXPECTED_FAILURE = 'expected failure'


class Result(testtools.TestResult):
    """Sends each outcome on as soon as it is known.

    :param names: the ids of the tests
    :param send: called with each message
    """

    def __init__(self, names, send):
        super().__init__()
        self._left = list(names)
        self._last = self._left[-1:]
        self._send = send
        self._started = None
        self._of_class = None

    def startTest(self, test):
        super().startTest(test)
        self._started = time.process_time()

    def _outcome(self, test, outcome, details=''):
        seconds = time.process_time() - (self._started or time.process_time())
        message = {'test': test.id(), 'outcome': outcome,
                   'details': details, 'seconds': round(seconds, 3)}
        if test.id() in self._left:
            self._left.remove(test.id())
            self._send(message)
        else:  # what a class of tests shares could not be set up, or not ended
            self._of_class = message

    def finish(self):
        """Send what went wrong with a class of tests, for its tests."""
        if self._of_class:
            failed = self._of_class['outcome'] == FAILURE
            for name in self._left or (self._last if failed else []):
                self._send(dict(self._of_class, test=name))

    def addSuccess(self, test, details=None):
        self._outcome(test, SUCCESS)

    def addError(self, test, err=None, details=None):
        self._outcome(test, FAILURE,
                      self._err_details_to_string(test, err, details))

    addFailure = addError

    def addSkip(self, test, reason=None, details=None):
        if reason is None and details and 'reason' in details:
            reason = details['reason'].as_text()
        self._outcome(test, SKIP, reason or '')

    def addExpectedFailure(self, test, err=None, details=None):
        self._outcome(test, EXPECTED_FAILURE)

    def addUnexpectedSuccess(self, test, details=None):
        self._outcome(test, FAILURE, 'unexpected success')


def main():
    """Usage: worker {active|stock} descriptor"""
    active = sys.argv[1] == 'active'
    channel = os.fdopen(int(sys.argv[2]), 'w')
    # Nova reads --config-file from the command line of the process.
    del sys.argv[1:]

    def send(message):
        channel.write(json.dumps(message) + '\n')
        channel.flush()

    prepare()
    if active:
        refusal = activate()
        if refusal:
            send({'refusal': refusal})
            return
    for line in iter(sys.stdin.readline, ''):
        serve(json.loads(line), send)
        send({'done': True})
    send({'activation': activation_state() if active else None})


def prepare():
    """Do what a service of Nova has done when its configuration is parsed."""
    fixtures.use_installed_api_paste()
    monkey_patch = importlib.import_module('nova.monkey_patch')
    if hasattr(monkey_patch, 'patch'):  # up to Nova 31 the import patches
        monkey_patch.patch()


def activate():
    """Activate the package.

    :returns: the reason if the package refuses
    """
    from nova_rescue_ext import activation
    return None if activation.activate() else activation.summary()


def activation_state():
    """What the package did in this process, looked up in Nova's modules."""
    from nova_rescue_ext import activation
    from nova_rescue_ext.activation import overrides
    state = {'active': activation.is_active(),
             'summary': activation.summary(),
             'applied': [], 'missing': [], 'not_imported': []}
    for override in overrides.declared():
        if override.module not in sys.modules:
            state['not_imported'].append(override.target)
        elif is_wrapped(override):
            state['applied'].append(override.target)
        else:
            state['missing'].append(override.target)
    return state


def is_wrapped(override):
    """Whether the callable in Nova is a wrapper."""
    import wrapt
    _, _, found = wrapt.resolve_path(sys.modules[override.module],
                                     override.qualname)
    return isinstance(found, wrapt.FunctionWrapper)


def serve(job, send):
    """Run the tests of a job, or find tests."""
    if 'find' in job:
        found = selection.find([selection.Entry(*entry)
                                for entry in job['find']])
        send({'found': found._asdict()})
        return
    result = Result(job['tests'], send)
    try:
        tests = loaded(job['module'])
    except Exception as exc:
        for name in job['tests']:
            send({'test': name, 'outcome': FAILURE, 'seconds': 0,
                  'details': 'cannot import the module: %r' % exc})
        return
    # A test is gone when it has run, what it keeps in memory with it.
    unittest.TestSuite(tests.pop(name) for name in job['tests']).run(result)
    result.finish()


_loaded = {}


def loaded(module):
    """The tests of a module that have not run yet, by id."""
    if module not in _loaded:
        _loaded[module] = selection.load(module)
    return _loaded[module]


if __name__ == '__main__':
    main()

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

"""The command ``python -m tests.nova_suite``.

Exit status: 0 if Nova with the package is the same as without it, 1 if a test
passes without it and fails with it, 2 if the package was not active.
"""

import argparse
import importlib.metadata
import sys
import tempfile
import time

from tests.nova_suite import runner
from tests.nova_suite import selection
from tests.nova_suite import verdict
from tests.nova_suite import worker


def main():
    arguments = parse_arguments()
    with tempfile.NamedTemporaryFile(
            'w', prefix='nova-suite-', suffix='.log', delete=False) as log:
        found = runner.find(selection.read(arguments.select), log)
        tests, unmatched = found['tests'], found['unmatched']
        if arguments.list:
            return show_tests(tests, unmatched)
        print('Nova %s, selection %s: %d tests; what they print is in %s' % (
            importlib.metadata.version('nova'), arguments.select,
            sum(map(len, tests.values())), log.name), flush=True)
        show_unmatched(unmatched)
        started = time.monotonic()
        try:
            return (run_stock if arguments.stock_only else compare)(
                tests, log)
        except runner.NotActive as exc:
            print('FAILED: the package is not active: %s' % exc)
            return 2
        finally:
            print('%.0f seconds' % (time.monotonic() - started))


def parse_arguments():
    parser = argparse.ArgumentParser(
        prog='python -m tests.nova_suite',
        description="Run Nova's own tests with nova-rescue-ext active.")
    parser.add_argument('--select', default='quick',
                        choices=['quick', 'full'])
    parser.add_argument('--list', action='store_true',
                        help='show the tests and do not run them')
    parser.add_argument('--stock-only', action='store_true',
                        help='run them once, without the package')
    return parser.parse_args()


def show_tests(tests, unmatched):
    for ids in tests.values():
        print('\n'.join(ids))
    show_unmatched(unmatched)


def show_unmatched(unmatched):
    for name, reason in unmatched.items():
        print('Nothing to run for %s: %s' % (name, reason))


def run_stock(tests, log):
    run = runner.Run(tests, False, log)
    show_slowest(run)
    for name, outcome in sorted(run.outcomes.items()):
        if outcome.outcome in (worker.FAILURE, runner.LOST):
            print('%s: %s' % (outcome.outcome, name))
    print(verdict.count_table([('stock', run)]))


def compare(tests, log):
    """Run the tests and say whether the package changes their results.

    :returns: the exit status
    """
    result = verdict.Verdict(tests, log)
    show_slowest(result.active)
    for name, outcome in sorted(result.active.outcomes.items()):
        if outcome.outcome == worker.FAILURE:
            log.write('\nFAILED WITH THE PACKAGE: %s\n%s\n' % (
                name, outcome.details))
    different = result.judged(verdict.DIFFERENT)
    for name in different:
        print('\n%s\n%s' % (name, result.again.outcomes[name].details))
    failures = result.failures()
    if failures:
        print(failures)
    print(result.table())
    print('%d overrides in place' % len(result.active.applied))
    if different:
        print('FAILED: %d tests pass without the package and fail with it'
              % len(different))
        return 1
    unclear = result.judged(verdict.FLAKY)
    if unclear:
        print('LOOK AT %d tests: they failed with the package and passed when '
              'run again. The reason is timing, or what ran before them; the '
              'log has the failures.' % len(unclear))
    print('PASSED: no test passes without the package and fails with it')
    return 0


def show_slowest(run, count=5):
    """Where the time goes."""
    seconds = {}
    for name, outcome in run.outcomes.items():
        group = name.rpartition('.')[0].rpartition('.')[0]
        seconds[group] = seconds.get(group, 0) + outcome.seconds
    for group in sorted(seconds, key=seconds.get, reverse=True)[:count]:
        print('%6.0f s  %s' % (seconds[group], group))


if __name__ == '__main__':
    sys.exit(main())

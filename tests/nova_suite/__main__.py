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

With ``--slice`` a part is run, all results are compared with those without
the package, which are got once for a release of Nova, and what was found is
kept in ``tests/records/data``.
"""

import argparse
import importlib.metadata
import sys
import tempfile
import time

from nova_rescue_ext.activation import verification
from tests.nova_suite import recorded
from tests.nova_suite import runner
from tests.nova_suite import selection
from tests.nova_suite import slices
from tests.nova_suite import source
from tests.nova_suite import verdict
from tests.nova_suite import worker

# Series of which "full" is all functional tests: the newest and an older one.
ALL_FUNCTIONAL = ('31', '34')


def main():
    arguments = parse_arguments()
    release = importlib.metadata.version('nova')
    chosen = [arguments.select]
    if arguments.select == 'full':
        series = verification.series_of(release)
        chosen = ['unit', 'functional' if series in ALL_FUNCTIONAL
                  else 'touched']
    setting = runner.Setting(
        # What is part of "make test" is run without a download.
        source=None if chosen == ['quick'] else source.unpacked(),
        native=arguments.native, workers=arguments.workers)
    with tempfile.NamedTemporaryFile(
            'w', prefix='nova-suite-', suffix='.log', delete=False) as log:
        started = time.monotonic()
        try:
            if arguments.slice:
                return run_slices(chosen, arguments.slice, setting, log)
            return run_at_once(chosen, arguments, setting, log)
        except runner.NotActive as exc:
            print('FAILED: the package is not active: %s' % exc)
            return 2
        except runner.WorkerDied as exc:
            print('FAILED: %s; see %s' % (exc, log.name))
            return 2
        finally:
            print('%.0f seconds' % (time.monotonic() - started))


def run_at_once(chosen, arguments, setting, log):
    """Run all tests of the selections, and keep nothing.

    :returns: the exit status
    """
    entries = [entry for name in chosen for entry in selection.read(name)]
    found = runner.find(entries, log, setting)
    tests, unmatched = found['tests'], found['unmatched']
    if arguments.list:
        return show_tests(tests, unmatched)
    print('Nova %s, selection %s: %d tests; what they print is in %s' % (
        importlib.metadata.version('nova'), ', '.join(chosen),
        sum(map(len, tests.values())), log.name), flush=True)
    show_unmatched(dict(unmatched, **found['not_imported']))
    if arguments.stock_only:
        return run_stock(tests, log, setting)
    return judge(verdict.Verdict(tests, log, setting), log)


def run_slices(chosen, part, setting, log):
    """Run a slice of each selection.

    :returns: the exit status
    """
    status = 0
    for name in chosen:
        try:
            result = recorded.run(name, part, setting, log)
        except recorded.OtherSlices as exc:
            print(exc)
            return 2
        if result is None:
            print('All slices of %s have been run with this package' % name)
        else:
            status = max(status, judge(result, log))
    return status


def parse_arguments():
    parser = argparse.ArgumentParser(
        prog='python -m tests.nova_suite',
        description="Run Nova's own tests with nova-rescue-ext active.")
    parser.add_argument('--select', default='quick',
                        choices=['quick', 'unit', 'functional', 'touched',
                                 'full'],
                        help='full is "unit" and, by the series of Nova, '
                        '"functional" or "touched"')
    parser.add_argument('--slice', type=slices.parse,
                        help='3/12 or next/12: run a part and keep what it '
                        'finds')
    parser.add_argument('--native', action='store_true',
                        help='on native threads')
    parser.add_argument('--workers', type=int, default=2)
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


def run_stock(tests, log, setting):
    run = runner.Run(tests, False, log, setting)
    show_slowest(run)
    for name, outcome in sorted(run.outcomes.items()):
        if outcome.outcome in (worker.FAILURE, runner.LOST):
            print('%s: %s' % (outcome.outcome, name))
    print(verdict.count_table([('stock', run)]))


def judge(result, log):
    """Say whether the package changes the results of the tests.

    :param result: verdict.Verdict
    :returns: the exit status
    """
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
        print('FAILED: %d tests have other results with the package'
              % len(different))
        return 1
    unclear = result.judged(verdict.FLAKY)
    if unclear:
        print('LOOK AT %d tests: they had another result when they were run '
              'with the package again. The reason is timing, or what ran '
              'before them; the log has the failures.' % len(unclear))
    print('PASSED: no test has another result with the package')
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

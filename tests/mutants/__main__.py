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

"""The command ``python -m tests.mutants``: see "make help"."""

import argparse
import datetime
import random
import subprocess
import sys
import time

from tests.mutants import coverage
from tests.mutants import processes
from tests.mutants import results
from tests.mutants import tree
from tests.mutants import worker

# What a test may take when a machine is busy, by what it takes in the map.
_SECONDS = 20
_TIMES = 4
# Seconds of CPU.
_BUDGET = 60
# After so many changes a test is run without one.
_CONTROL = 10


def main(argv=None):
    parser = argparse.ArgumentParser(prog='python -m tests.mutants')
    parser.add_argument(
        'what', choices=('map', 'run', 'again', 'one', 'list', 'page'),
        help='map: which tests execute what; run: a random choice; again: '
        'the survivors that are not explained; one: those that are named; '
        'list: what can be changed; page: keep the results in git')
    parser.add_argument('names', nargs='*',
                        help='ids of mutants; of "map": modules of tests')
    parser.add_argument('--area', default='',
                        help='a folder of the package; all if empty')
    parser.add_argument('--seed', default='', help='by default the date')
    parser.add_argument('--count', type=int, default=20)
    parser.add_argument('--budget', type=int, default=_BUDGET,
                        help='seconds of tests for each (%(default)s)')
    parser.add_argument('--kind', default='unit functional',
                        help='of tests (%(default)s)')
    arguments = parser.parse_intermixed_args(argv)
    return globals()['_' + arguments.what](arguments) or 0


def _map(arguments):
    """Find out which tests execute what."""
    for kind in arguments.kind.split():
        modules = [
            module for module in coverage.modules(kind)
            if any(name in module for name in arguments.names or [''])
            and not coverage.is_known(module)]
        if not modules:
            continue
        copy = tree.Tree()
        for file in tree.sources():
            path = copy.path / file
            path.write_bytes(coverage.instrument(file, path.read_bytes()))
        with processes.Worker(copy, kind, hits=True) as process:
            for module in modules:
                _map_module(process, module)


def _map_module(process, module):
    if coverage.is_known(module):  # by another process, meanwhile
        return
    began = time.monotonic()
    answer = process.ask(module=module, seconds=1500, all=True, hits=True)
    outcomes = {
        test: (seconds, seen) for test, outcome, seconds, _, seen, _
        in answer['outcomes'] if outcome == worker.PASSED}
    for test, outcome, *_, words in answer['outcomes']:
        if outcome == worker.FAILED:
            print('%s: left out, as it fails here: %s' % (
                test, words.strip().rpartition('\n')[2]))
    if outcomes:
        coverage.save(module, outcomes)
    print('%s: %d tests, %.0f seconds%s' % (
        module, len(outcomes), time.monotonic() - began,
        ', ' + answer['ended'] if 'ended' in answer else ''), flush=True)


def _run(arguments):
    """Try some that were not tried yet."""
    seed = arguments.seed or datetime.date.today().strftime('%Y%m%d')
    tried = results.read()
    found = [mutant for mutant in results.places().values()
             if mutant.id not in tried
             and arguments.area in ('', results.area(mutant.file))]
    found.sort(key=lambda mutant: mutant.id)
    random.Random(seed).shuffle(found)
    print('make mutants AREA=%s SEED=%s COUNT=%d' % (
        arguments.area, seed, arguments.count), flush=True)
    return _try(found[:arguments.count], seed, arguments)


def _again(arguments):
    """Try survivors again: tests may have come, and there may be more time."""
    reasons, today = results.explained(), results.places()
    return _try([today[name] for name, result in results.read().items()
                 if result['outcome'] == results.SURVIVED
                 and name in today and name not in reasons
                 and arguments.area in ('', results.area(result['file']))],
                arguments.seed, arguments)


def _one(arguments):
    today = results.places()
    return _try([today[name] for name in arguments.names], arguments.seed,
                arguments)


def _list(arguments):
    for mutant in results.places().values():
        if arguments.area in ('', results.area(mutant.file)):
            print(mutant.id, mutant.file, mutant.line, mutant.function,
                  results.shown(mutant))


def _page(arguments):
    results.merge()
    left = results.write_page()
    for name in left:
        print('%s survives and is not explained' % name)
    return 1 if left else 0


def _try(mutants, seed, arguments):
    """Make changes and see whether the tests notice.

    :returns: the exit code: 1 if one was not noticed
    """
    known = coverage.Map()
    commit = subprocess.run(
        ['git', 'rev-parse', '--short=8', 'HEAD'], cwd=tree.ROOT, check=True,
        stdout=subprocess.PIPE, text=True).stdout.strip()
    copy = tree.Tree()
    survived, doubted = 0, []
    with processes.Workers(copy) as workers:
        for place, mutant in enumerate(mutants, 1):
            began = time.monotonic()
            test, number, of = _noticed_by(workers, copy, known, mutant,
                                           arguments)
            survived += not test
            doubted.append((
                mutant, results.KILLED if test else results.SURVIVED, test,
                (number, of), seed, commit))
            print('%s %s:%d %s: %s\n    %s, %.0f seconds' % (
                mutant.id, mutant.file, mutant.line, mutant.function,
                results.shown(mutant),
                'noticed by %s, the %d. test' % (test, number) if test
                else 'SURVIVES %d of %d tests' % (number, of),
                time.monotonic() - began), flush=True)
            if place % _CONTROL == 0 or place == len(mutants):
                if not _is_in_order(workers, doubted):
                    print('The last %d do not count: a test fails without '
                          'a change, too.' % len(doubted))
                    return 2
                for result in doubted:
                    results.add(*result)
                doubted.clear()
    print('%d of %d survive.' % (survived, len(mutants)))
    return 1 if survived else 0


def _is_in_order(workers, doubted):
    """Whether the test that failed last passes without a change."""
    tests = [test for _, _, test, *_ in doubted
             if test and test.startswith('tests.')]
    if not tests:
        return True
    answer = workers.ask(coverage.kind(tests[-1]), tests=tests[-1:],
                         seconds=300)
    return [outcome for _, outcome, *_ in answer['outcomes']] == [
        worker.PASSED]


def _noticed_by(workers, copy, known, mutant, arguments):
    """Run the tests that cover a change, until one fails.

    :returns: (the test or None, how many were run, how many there are)
    """
    kinds = arguments.kind.split()
    covering = known.covering(mutant)
    chosen, spent = [], 0
    for test in covering:
        if coverage.kind(test) in kinds and (
                spent + known.seconds[test] <= arguments.budget):
            chosen.append(test)
            spent += known.seconds[test]
    number = 0
    with copy.changed(mutant):
        for kind in kinds:
            tests = [test for test in chosen if coverage.kind(test) == kind]
            if not tests:
                continue
            answer = workers.ask(
                kind, tests=tests, seconds=_SECONDS + _TIMES * sum(
                    known.seconds[test] for test in tests))
            if 'ended' in answer:
                return answer['ended'], number + len(tests), len(covering)
            number += len(answer['outcomes'])
            for test, outcome, *_ in answer['outcomes']:
                if outcome == worker.FAILED:
                    return test, number, len(covering)
    return None, number, len(covering)


if __name__ == '__main__':
    sys.exit(main())

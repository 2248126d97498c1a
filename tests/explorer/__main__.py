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

"""The explorer at the command line: see "make help"."""

import argparse
import concurrent.futures
import contextlib
import datetime
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time

_DIRECTORY = '.explorer'
_ALL = os.path.join(_DIRECTORY, 'all')
# A cloud takes some seconds to come up; fewer would not pay.
_SECONDS_OF_AN_OPERATION = 60
# One more than that for what has begun.
_GRACE = 300
# How many of the violated schedules of an operation stock Nova runs, too.
_MOST_BESIDE = 40


def _arguments(argv):
    parser = argparse.ArgumentParser(prog='python -m tests.explorer')
    parser.add_argument(
        'what', choices=('some', 'known', 'all', 'replay', 'sequences',
                         'mutations', 'page'),
        help='some: what there is time for; known: the same, with one '
        'happening, of the operations in which all of these have ended well; '
        'all: everything; replay: the schedules named; sequences: of '
        'operations, one after the other; mutations: the proof that it '
        'works; page: only write the page, with the results of the '
        'operations named')
    parser.add_argument('schedules', nargs='*', metavar='SCHEDULE')
    parser.add_argument('--seconds', type=int, default=None,
                        help='how long; by default 600, with mutations for '
                        'each, and with all until everything has run')
    parser.add_argument('--seed', default=None,
                        help='by default that of the day')
    parser.add_argument('--operations', default='',
                        help='names, separated by commas')
    parser.add_argument('--happenings', default='',
                        help='names, separated by commas; all if empty')
    parser.add_argument('--several', type=int, default=None,
                        help='how many schedules with several happenings, '
                        'in each operation; or how many sequences')
    parser.add_argument('--jobs', type=int, default=os.cpu_count(),
                        help='how many operations at the same time')
    parser.add_argument('--stock', action='store_true',
                        help='the same with the package off')
    arguments = parser.parse_intermixed_args(argv)
    if arguments.seconds is None and arguments.what != 'all':
        arguments.seconds = 600
    return arguments


def _work(operation, directory=_DIRECTORY, limit=None, environ=None,
          resume=False, **work):
    """Let a worker do something.

    :param resume: whether to go on where an earlier worker has stopped
    :returns: (its Results, whether the cloud came up, how long it took)
    """
    from tests.explorer import report

    os.makedirs(directory, exist_ok=True)
    path = os.path.join(directory, operation)
    if not resume and os.path.exists(path):
        os.unlink(path)
    work.update(operation=operation, results=os.path.abspath(path),
                resume=resume)
    began = time.monotonic()
    # A worker ends without the fixtures' way down.
    with open(path + '.out', 'w') as output, tempfile.TemporaryDirectory(
            prefix='explorer-') as temporary:
        process = subprocess.Popen(
            [sys.executable, '-W', 'ignore', '-m', 'tests.explorer.worker',
             json.dumps(work)], stdout=output, stderr=output,
            # The order of sets is part of a schedule.
            env=dict(os.environ, TMPDIR=temporary, PYTHONHASHSEED='0',
                     **(environ or {})))
        try:
            came_up = not process.wait(limit and limit + _GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            came_up = False
    return report.read(path), came_up, time.monotonic() - began


def _work_and_compare(name, directory=_DIRECTORY, stock=False, resume=False,
                      most_beside=_MOST_BESIDE, **work):
    """Let a worker do something, and stock Nova what is violated then.

    :param most_beside: how many schedules stock Nova runs at most, or None
    :returns: as _work()
    """
    from tests.explorer import operations
    from tests.explorer import report

    path = os.path.join(directory, name)
    if not resume:
        shutil.rmtree(path + '.stock', ignore_errors=True)
    results, came_up, seconds = _work(name, directory=directory, stock=stock,
                                      resume=resume, **work)
    beside = operations.ALL[name].BESIDE
    new = [result.schedule for result in results
           if result.is_new and result.is_schedule]
    if beside and new and not stock:
        _work(beside, directory=path + '.stock', stock=True, resume=resume,
              replay=[report.renamed(each, beside)
                      for each in new[:most_beside]])
        results = report.read(path)
    return results, came_up, seconds


def _explore(names, jobs, act=_work_and_compare, keep=None,
             directory=_DIRECTORY, **work):
    """Let workers do something.

    :param act: lets one of them do it
    :param keep: called with the name of each operation that is done
    :returns: the exit code
    """
    from tests.explorer import report

    new = down = 0
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        running = {pool.submit(act, name, limit=work.get('seconds'),
                               directory=directory, **work): name
                   for name in names}
        for each in concurrent.futures.as_completed(running):
            name, (results, came_up, seconds) = running[each], each.result()
            new += report.say(name, results, seconds)
            if keep is not None:
                keep(name)
            if not came_up:
                down += 1
                print('%s: the cloud did not come up, or the worker has '
                      'ended: see %s' % (name, os.path.join(
                          directory, name + '.out')), flush=True)
    return 1 if new else 2 if down else 0


def _some(arguments, seed):
    from tests.explorer import explored
    from tests.explorer import operations

    names = _named(arguments) or list(operations.EXPLORED)
    if arguments.what == 'known':
        names = [each for each in explored.ended_well() if each in names]
        arguments.several = 0
        if not names:
            sys.exit('None of these is known to end well.')
    number = max(1, arguments.seconds * arguments.jobs
                 // _SECONDS_OF_AN_OPERATION)
    random.Random(str(seed)).shuffle(names)
    names = names[:number]
    print('make explore%s SEED=%s SECONDS=%d: %s' % (
        '-known' if arguments.what == 'known' else '', seed,
        arguments.seconds, ', '.join(names)), flush=True)
    return _explore(
        names, arguments.jobs, seed=seed,
        seconds=arguments.seconds * arguments.jobs // len(names),
        several=arguments.several, only=_split(arguments.happenings),
        stock=arguments.stock)


def _all(arguments, seed):
    from tests.explorer import explored
    from tests.explorer import operations

    code = _explore(
        _named(arguments) or list(operations.EXPLORED), arguments.jobs,
        act=_go_on(arguments.seconds),
        keep=None if arguments.stock else _keep,
        directory=_ALL + '.stock' if arguments.stock else _ALL, seed=seed,
        several=400 if arguments.several is None else arguments.several,
        only=_split(arguments.happenings), stock=arguments.stock)
    if not arguments.stock:
        explored.write_page()
    return code


def _go_on(seconds):
    """Lets workers go on where those before were stopped.

    :param seconds: how long all of them have; None for as long as it takes
    """
    from tests.explorer import explored
    from tests.explorer import report

    until = seconds and time.monotonic() + seconds
    code = explored.fingerprint()

    def act(name, limit, directory, **work):
        left = until and int(until - time.monotonic())
        path = os.path.join(directory, name)
        if until and left <= 0:
            return report.read(path), True, 0
        return _work_and_compare(
            name, limit=left, seconds=left, directory=directory,
            resume=_is_of(path + '.code', code), most_beside=None, **work)

    return act


def _is_of(path, code):
    """Whether results are those of this code; from here on they are.

    :param path: of the file that says so
    :param code: fingerprint of the code
    """
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with contextlib.suppress(FileNotFoundError), open(path) as file:
        if file.read() == code:
            return True
    with open(path, 'w') as file:
        file.write(code)
    return False


def _keep(name):
    from tests.explorer import explored

    explored.add(name, os.path.join(_ALL, name))


def _write_page(arguments):
    from tests.explorer import explored

    for name in _named(arguments):
        _keep(name)
    explored.write_page()
    return 0


def _replay(arguments):
    from tests.explorer import schedules

    by_operation = {}
    for text in arguments.schedules:
        by_operation.setdefault(schedules.parse(text).operation,
                                []).append(text)
    return max(_explore([name], 1, replay=texts, stock=arguments.stock)
               for name, texts in by_operation.items())


def _named(arguments):
    from tests.explorer import operations

    names = _split(arguments.operations)
    unknown = set(names) - set(operations.ALL)
    if unknown:
        sys.exit('No such operation: %s' % ', '.join(sorted(unknown)))
    return names


def _split(text):
    return [each for each in text.replace(',', ' ').split() if each]


def main(argv=None):
    arguments = _arguments(argv)
    seed = arguments.seed or datetime.date.today().strftime('%Y%m%d')
    if arguments.what in ('some', 'known'):
        return _some(arguments, seed)
    if arguments.what == 'all':
        return _all(arguments, seed)
    if arguments.what == 'replay':
        return _replay(arguments)
    if arguments.what == 'sequences':
        print('make explore-sequences SEED=%s' % seed, flush=True)
        # That only names the cloud.
        return _explore(['migrate-running'], 1, seed=seed,
                        sequences=arguments.several or 100)
    if arguments.what == 'page':
        return _write_page(arguments)
    from tests.explorer import proof

    return proof.main(_work, arguments)


if __name__ == '__main__':
    sys.exit(main())

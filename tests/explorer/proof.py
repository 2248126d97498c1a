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

"""The proof that the explorer works: without a remedy it finds the fault.

What became of each mutation is kept in a file of the repository. So the proof
can be made in pieces, and goes on where it was interrupted.
"""

import datetime
import hashlib
import inspect
import json
import os
import re
import subprocess
import sys
import textwrap

from tests.explorer import left_open
from tests.explorer import mutations

_DIRECTORY = '.explorer/mutations'
_ANSWERS = os.path.join(os.path.dirname(__file__), 'mutations.json')
TABLE = os.path.join(os.path.dirname(__file__), '..', '..',
                     'doc/source/contributor/explorer-mutations.inc')
# More than what one finds in SECONDS.
_SEVERAL = 2000
_MOST_OF_A_VIOLATION = 150
_WIDTH = 79
_HEAD = '''..
    Made by the explorer ("make explore-mutations"); do not edit.

{found} of {all} faults were found.

.. list-table::
   :header-rows: 1
   :widths: 35 40 10 15

   * - The fault that comes back
     - Found by
     - After schedules
     - On, with the package of commit
'''


def main(work, arguments):
    """Make the proof, or go on with it, and write the table.

    :param work: lets a worker do something
    :param arguments: those of the command line; ``schedules`` are names of
        mutations, or ``all``, or part N of M as ``N/M``
    :returns: the exit code: 1 if one was not found
    """
    answers = read()
    names = chosen(arguments.schedules, answers)
    print('%d mutations to run: %s' % (len(names), ' '.join(names)),
          flush=True)
    for name in names:
        answer = _answer(work, name, arguments)
        if answer is None:
            return 2
        # Others may have been run meanwhile.
        answers = dict(read(), **{name: answer})
        _write(answers)
    missed = [name for name in mutations.ALL
              if not _is_found(name, answers)]
    if missed:
        print('Not found, or not run yet: %s' % ' '.join(missed))
    return int(bool(missed))


def read():
    """What became of the mutations: {name: a dictionary}."""
    if not os.path.exists(_ANSWERS):
        return {}
    with open(_ANSWERS) as file:
        return json.load(file)


def table(answers):
    """The text of the table in the documentation.

    :param answers: what became of the mutations
    """
    rows = [_row(mutation, answers.get(name))
            for name, mutation in mutations.ALL.items()]
    return _HEAD.format(
        found=sum(_is_found(name, answers) for name in mutations.ALL),
        all=len(rows)) + ''.join(rows)


def _row(mutation, answer):
    if not answer:
        answer, found = {}, '**Not run yet.**'
    elif answer['schedule']:
        found = '``%s``' % answer['schedule']
    else:
        found = '**Not found.** %s' % mutation.missed
    return ''.join((lead + _cell(text)).rstrip() + '\n' for lead, text in (
        ('   * - ', mutation.words), ('     - ', found.strip()),
        ('     - ', str(answer.get('number', ''))),
        ('     - ', '%s, ``%s``' % (answer['date'], answer['commit'])
         if answer else '')))


def _cell(text):
    return ('\n' + ' ' * 7).join(textwrap.wrap(
        text, _WIDTH - 7, break_long_words=False, break_on_hyphens=False))


def _write(answers):
    for path, text in (
            (_ANSWERS, json.dumps({name: answers[name] for name
                                   in mutations.ALL if name in answers},
                                  indent=1) + '\n'),
            (TABLE, table(answers))):
        with open(path + '.new', 'w') as file:
            file.write(text)
        os.replace(path + '.new', path)


def chosen(wanted, answers):
    """The names of the mutations to run.

    :param wanted: names, or ``['all']``, or ``['N/M']``
    :param answers: what became of the mutations before
    """
    names = list(mutations.ALL)
    if wanted == ['all']:
        return names
    part = re.match(r'(\d+)/(\d+)$', wanted[0]) if wanted else None
    if part:
        names = names[int(part[1]) - 1::int(part[2])]
    elif wanted:
        unknown = set(wanted) - set(names)
        if unknown:
            sys.exit('No such mutation: %s' % ', '.join(sorted(unknown)))
        return wanted
    # Those that were never run come first.
    return sorted((name for name in names if not _is_found(name, answers)),
                  key=lambda name: name in answers)


def _is_found(name, answers):
    """Whether a mutation was found as it is now."""
    answer = answers.get(name)
    return bool(answer and answer['schedule']
                and answer['definition'] == definition(name))


def definition(name):
    """What a result is for; another one when the mutation is changed."""
    mutation = mutations.ALL[name]
    parts = mutation._asdict()
    del parts['words'], parts['missed']
    parts['replacement'] = inspect.getsource(mutation.replacement)
    return hashlib.sha256(repr(sorted(parts.items())).encode()).hexdigest()[
        :12]


def _answer(work, name, arguments):
    """Run a mutation.

    :returns: what became of it; None if its cloud did not come up
    """
    mutation = mutations.ALL[name]
    results, _, seconds = work(
        mutation.operation, directory=os.path.join(_DIRECTORY, name),
        limit=arguments.seconds, environ={mutations.VARIABLE: name},
        seconds=arguments.seconds, seed=arguments.seed or '1',
        only=mutation.happenings,
        several=_SEVERAL if mutation.several else 0,
        stop_at=mutation.violation)
    if not results:
        print('%s: the cloud did not come up: see %s' % (name, os.path.join(
            _DIRECTORY, name, mutation.operation + '.out')), file=sys.stderr)
        return None
    schedule, violation = confirmed(work, mutation, results)
    print('%-24s %s: %s\n    after %d schedules and %d s, by %s\n    %s' % (
        name, 'found' if schedule else 'NOT FOUND', mutation.words,
        len(results), seconds, schedule, violation), flush=True)
    return dict(schedule=schedule, number=len(results),
                seconds=round(seconds),
                violation=violation and violation[:_MOST_OF_A_VIOLATION],
                date=datetime.date.today().isoformat(),
                commit=_commit(), definition=definition(name))


def confirmed(work, mutation, results):
    """A schedule that has the violation, and not with the remedy.

    :param work: lets a worker do something
    :param mutation: the Mutation
    :param results: those with the remedy taken out
    :returns: its text and the violation; None and None if there is none
    """
    for result in results:
        violation = _match(mutation, result)
        if violation and not any(
                _match(mutation, each) for each in work(
                    mutation.operation, directory=_DIRECTORY,
                    replay=[result.schedule])[0]):
            return result.schedule, violation
    return None, None


def _match(mutation, result):
    """The violation of a result that a mutation is known for, or None."""
    return next((each for each in result.violations
                 if re.search(mutation.violation, each)
                 and not each.startswith('harness')
                 and not left_open.reason_of(
                     result.schedule, [each], happened=result.happened)),
                None)


def _commit():
    """The last one that has changed the package."""
    return subprocess.run(
        ['git', 'log', '-1', '--format=%h', '--', 'nova_rescue_ext'],
        check=True, capture_output=True, text=True).stdout.strip()

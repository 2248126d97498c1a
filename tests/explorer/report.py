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

"""What was explored: for the terminal, and as a page of the documentation."""

import collections
import datetime
import json
import os
import subprocess
import textwrap

from tests.explorer import boundaries
from tests.explorer import failures
from tests.explorer import intruders
from tests.explorer import left_open
from tests.explorer import operations
from tests.explorer import schedules

_HEAD = '''..
    Made by the explorer ("make explore-all"); do not edit.

=================
What was explored
=================

Made on {date} with the package as of commit ``{commit}``, on Nova {nova}.
:doc:`explorer` says how, and how to read it.

{singles} of {possible} schedules with one happening ran, and {several} with
several. {violated} ended in a violation; {open} of these are left open.

.. list-table::
   :header-rows: 1
   :widths: 20 30 10 10 10 10 10

   * - Operation
     - What it is
     - Boundaries
     - One happening
     - Several
     - End states
     - Violated
'''


class Result:
    """One line of a worker's results."""

    def __init__(self, line):
        values = json.loads(line)
        self.schedule = values['schedule']
        self.violations = values['violations']
        self.missed = values.get('missed', 0)
        self.end = values.get('end') or {}
        self.where = values.get('where', ())
        self.happened = values.get('happened', ())
        self.seconds = values.get('seconds', 0)
        self.stock = None
        self.reasons = left_open.reason_of(self.schedule, self.violations)

    def compare(self, stock):
        """See what stock Nova does in the same moment.

        :param stock: its violations, or None if it has no such moment
        """
        self.stock = stock
        self.reasons = left_open.reason_of(self.schedule, self.violations,
                                           stock or ())

    @property
    def is_schedule(self):
        """Whether it can be replayed."""
        return '@' in self.schedule

    @property
    def has_several(self):
        return '+' in self.schedule

    @property
    def is_new(self):
        """Whether it is violated, and nobody has said why that may be."""
        return bool(self.violations) and self.reasons is None

    @property
    def end_state(self):
        """What is the same in schedules that end alike."""
        guests = self.end.get('guests', ())
        return (self.end.get('status'), self.end.get('task'), len(guests),
                any(in_rescue for _, in_rescue in guests))


def read(path):
    """The Results of an operation."""
    if not os.path.exists(path):
        return []
    with open(path) as file:
        results = [Result(line) for line in file]
    name = os.path.basename(path)
    stock = {}
    if name in operations.ALL and operations.ALL[name].BESIDE:
        stock = {renamed(result.schedule, name): result.violations
                 for result in read(os.path.join(
                     path + '.stock', operations.ALL[name].BESIDE))
                 if result.is_schedule and not result.missed}
    for result in results:
        if result.schedule in stock:
            result.compare(stock[result.schedule])
    return results


def renamed(schedule, operation):
    """The text of a schedule in another operation."""
    return str(schedules.parse(schedule)._replace(operation=operation))


def _boundaries(path):
    """The Boundaries of an operation; none if it was never run."""
    path += '.seen'
    if not os.path.exists(path):
        return []
    with open(path) as file:
        return [boundaries.Boundary(**each) for each in json.load(file)]


def say(operation, results, seconds):
    """Print what became of an operation.

    :returns: how many schedules ended in a violation that is new
    """
    new = [result for result in results if result.is_new]
    print('%-16s %5d schedules, %3d violated, of which %d are left open, '
          '%d s' % (operation, len(results),
                    sum(bool(result.violations) for result in results),
                    sum(bool(result.violations) for result in results)
                    - len(new), seconds), flush=True)
    for result in new[:20]:
        print('\n  %s\n%s\n    at %s\n    replay: make explore '
              "SCHEDULE='%s'" % (
                  result.schedule,
                  '\n'.join('    ' + each for each in result.violations),
                  ' < '.join(result.where[:3]), result.schedule), flush=True)
        if result.stock is not None:
            print('    stock Nova: %s' % (
                '; '.join(result.stock) or 'nothing is violated'), flush=True)
    if len(new) > 20:
        print('\n  and %d more: see the logs' % (len(new) - 20))
    return len(new)


def write(path, directory, nova):
    """Write the page.

    :param path: of the page
    :param directory: that of the results
    :param nova: the version of Nova
    """
    rows = [_Row(name, os.path.join(directory, name))
            for name in operations.EXPLORED]
    everything = [result for row in rows for result in row.results]
    text = _HEAD.format(
        date=datetime.date.today().isoformat(), commit=_commit(), nova=nova,
        singles=sum(row.singles for row in rows),
        possible=sum(row.possible for row in rows),
        several=sum(row.several for row in rows),
        violated=sum(bool(result.violations) for result in everything),
        open=sum(bool(result.violations) and not result.is_new
                 for result in everything))
    text += ''.join(row.text() for row in rows)
    text += _happenings(everything) + _left(everything) + _new(everything)
    with open(path, 'w') as file:
        file.write(text)


class _Row:
    """An operation in the table.

    :ivar singles: how many schedules with one happening ran
    :ivar possible: how many there are
    :ivar several: how many with several ran
    """

    def __init__(self, name, path):
        self.results = read(path)
        self._operation = operations.ALL[name]
        self._boundaries = _boundaries(path)
        self.several = sum(result.has_several for result in self.results)
        self.singles = len(self.results) - self.several
        self.possible = len(schedules.singles(
            name, self._boundaries, self._operation.INTRUDERS))

    def text(self):
        """The lines of the table."""
        return ''.join(
            '%s - %s\n' % ('   *' if not number else '    ', value)
            for number, value in enumerate((
                self._operation.NAME, self._operation.WORDS,
                len(self._boundaries),
                '%d of %d' % (self.singles, self.possible), self.several,
                len({result.end_state for result in self.results}),
                sum(bool(result.violations) for result in self.results))))


def _commit():
    """The last one that has changed the package."""
    return subprocess.run(
        ['git', 'log', '-1', '--format=%h', '--', 'nova_rescue_ext'],
        check=True, capture_output=True, text=True).stdout.strip()


def _title(text):
    return '\n%s\n%s\n\n' % (text, '=' * len(text))


def _happenings(results):
    counts = collections.Counter(
        part.partition('=')[2] for result in results
        for part in result.schedule.split('@', 1)[1].replace(
            '#', ' #').split('+') if '=' in part)
    words = dict(failures.ALL, **{name: each.words for name, each
                                  in intruders.ALL.items()})
    text = _title('What happened') + (
        '.. list-table::\n   :header-rows: 1\n   :widths: 20 60 20\n\n'
        '   * - Name\n     - What\n     - How often\n')
    for name in words:
        text += '   * - ``%s``\n     - %s\n     - %d\n' % (
            name, words[name], counts[name])
    return text


def _left(results):
    text = _title('What is left open')
    by_reason = collections.Counter(
        reason for result in results if result.violations
        for reason in result.reasons or ())
    if not by_reason:
        return text + 'Nothing.\n'
    return text + ''.join(_item('%s (%d schedules)' % each) + '\n'
                          for each in sorted(by_reason.items()))


def _item(text):
    return textwrap.fill(text, 79, initial_indent='* ',
                         subsequent_indent='  ')


def _new(results):
    by_text = collections.defaultdict(list)
    for result in results:
        if result.is_new:
            by_text[result.violations[0]].append(result.schedule)
    if not by_text:
        return ''
    text = _title('What is to be mended') + (
        'Violations that nobody has explained yet, each with one schedule '
        'that has it.\n\n')
    for violation, having in sorted(by_text.items(),
                                    key=lambda item: -len(item[1])):
        text += '%s\n\n  ``%s``\n\n' % (
            _item('%s (%d schedules)' % (
                violation.splitlines()[0][:150].replace('*', r'\*'),
                len(having))), having[0])
    return text

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

"""What was explored: kept as data, and as a page of the documentation.

A whole run takes hours. So what a run adds is kept in a file, by operation:
that with one happening, and that with several for each seed.
"""

import collections
import datetime
import hashlib
import importlib.metadata
import json
import os
import subprocess
import textwrap

from tests.explorer import failures
from tests.explorer import intruders
from tests.explorer import operations
from tests.explorer import report
from tests.explorer import schedules

_DATA = 'tests/explorer/explored.json'
_PAGE = 'doc/source/contributor/explored.rst'

_SINGLES = 'singles'

# These choose what is said of results, not what they are.
_ONLY_TELL = ('left_open.py', 'report.py', 'explored.py', 'mutations.py',
              'proof.py', '__main__.py')

_HEAD = '''..
    Made by the explorer ("make explore-all"); do not edit.

=================
What was explored
=================

:doc:`explorer` says how, and how to read it. Each operation has been explored
with the package as of the commit in the last column, on Nova {nova}.

{singles} of {possible} schedules with one happening ran, and {several} with
several. {violated} ended in a violation; {open} of these are left open.

.. list-table::
   :header-rows: 1
   :widths: 17 25 10 10 10 10 9 9

   * - Operation
     - What it is
     - Boundaries
     - One happening
     - Several
     - End states
     - Violated
     - As of
'''


def fingerprint():
    """What tells whether results are those of the code that is here."""
    digest = hashlib.sha256(importlib.metadata.version('nova').encode())
    for top in ('nova_rescue_ext', 'tests/explorer', 'tests/functional'):
        for parent, directories, names in os.walk(top):
            directories.sort()
            for name in sorted(names):
                if (not name.endswith('.py') or name in _ONLY_TELL
                        or name.startswith('test_')):
                    continue
                with open(os.path.join(parent, name), 'rb') as file:
                    digest.update(file.read())
    return digest.hexdigest()


def add(name, path):
    """Add the results of an operation to what is known of it.

    :param name: of the operation
    :param path: of its results
    """
    data = _load()
    results, boundaries = report.read(path), report.boundaries_of(path)
    by_slice = collections.defaultdict(list)
    for result in results:
        by_slice[str(result.seed) if result.has_several
                 else _SINGLES].append(result)
    if not by_slice:
        return
    of_operation = data.setdefault(name, {})
    for each, slice_results in by_slice.items():
        summary = _summary(slice_results)
        if each == _SINGLES:
            summary.update(boundaries=len(boundaries),
                           possible=len(schedules.singles(
                               name, boundaries,
                               operations.ALL[name].INTRUDERS)))
        # A few of today do not stand for many of the day before.
        if summary['ran'] >= of_operation.get(each, summary)['ran']:
            of_operation[each] = summary
    with open(_DATA, 'w') as file:
        json.dump(data, file, indent=1, sort_keys=True)
        file.write('\n')


def ended_well():
    """Names of operations of which all schedules with one happening ran.

    And none is violated but those that are left open.
    """
    singles = {name: of_operation[_SINGLES]
               for name, of_operation in _load().items()
               if _SINGLES in of_operation}
    return [name for name in operations.EXPLORED if name in singles
            and singles[name]['ran'] == singles[name]['possible']
            and not singles[name]['new']]


def write_page():
    """Write the page of what is known."""
    with open(_PAGE, 'w') as file:
        file.write(page(_load()))
    print('%s is written.' % _PAGE)


def page(data):
    """The text of the page.

    :param data: what is known: {operation: {slice: summary}}
    """
    slices = [each for name in operations.EXPLORED
              for each in data.get(name, {}).values()]
    rows = [_Row(name, data[name]) for name in operations.EXPLORED
            if name in data]
    text = _HEAD.format(
        nova=', '.join(sorted({each['nova'] for each in slices})),
        singles=sum(row.singles['ran'] for row in rows),
        possible=sum(row.singles['possible'] for row in rows),
        several=sum(row.several for row in rows),
        violated=sum(each['violated'] for each in slices),
        open=sum(each['violated'] - sum(
            number for number, _ in each['new'].values())
            for each in slices))
    text += ''.join(row.text() for row in rows)
    missing = [name for name in operations.EXPLORED if name not in data]
    if missing:
        text += '\n%s\n' % textwrap.fill(
            'Not explored yet: %s.' % ', '.join(missing), 79,
            break_on_hyphens=False)
    text += _happenings(slices) + _left(slices) + _new(slices)
    return '\n'.join(line.rstrip() for line in text.splitlines()).rstrip() + (
        '\n')


def _load():
    if not os.path.exists(_DATA):
        return {}
    with open(_DATA) as file:
        return json.load(file)


def _summary(results):
    """What is kept of results, as data."""
    new = {}
    for result in results:
        if result.is_new:
            text = result.violations[0].splitlines()[0][:150]
            number, schedule = new.get(text, (0, result.schedule))
            new[text] = (number + 1, schedule)
    return dict(
        commit=_commit(), date=datetime.date.today().isoformat(),
        nova=importlib.metadata.version('nova'), ran=len(results),
        violated=sum(bool(result.violations) for result in results),
        end_states=sorted({str(result.end_state) for result in results}),
        left_open=collections.Counter(
            reason for result in results if result.violations
            for reason in result.reasons or ()),
        happenings=collections.Counter(
            name for result in results for name in result.happenings),
        new=new)


class _Row:
    """An operation in the table.

    :ivar singles: the summary of what ran with one happening
    :ivar several: how many ran with several
    """

    def __init__(self, name, slices):
        self._operation = operations.ALL[name]
        self._slices = slices.values()
        self.singles = dict({'ran': 0, 'possible': 0, 'boundaries': 0},
                            **slices.get(_SINGLES, {}))
        self.several = sum(each['ran'] for kind, each in slices.items()
                           if kind != _SINGLES)

    def text(self):
        """The lines of the table."""
        return ''.join(
            '%s - %s\n' % ('   *' if not number else '    ', value)
            for number, value in enumerate((
                self._operation.NAME, self._operation.WORDS,
                self.singles['boundaries'],
                '%(ran)d of %(possible)d' % self.singles, self.several,
                len({state for each in self._slices
                     for state in each['end_states']}),
                sum(each['violated'] for each in self._slices),
                ', '.join(sorted({each['commit']
                                  for each in self._slices})))))


def _commit():
    """The last one that has changed the package."""
    return subprocess.run(
        ['git', 'log', '-1', '--format=%h', '--', 'nova_rescue_ext'],
        check=True, capture_output=True, text=True).stdout.strip()


def _sum(slices, what):
    return sum((collections.Counter(each[what]) for each in slices),
               collections.Counter())


def _title(text):
    return '\n%s\n%s\n\n' % (text, '=' * len(text))


def _happenings(slices):
    counts = _sum(slices, 'happenings')
    words = dict(failures.ALL, **{name: each.words for name, each
                                  in intruders.ALL.items()})
    text = _title('What happened') + (
        '.. list-table::\n   :header-rows: 1\n   :widths: 20 60 20\n\n'
        '   * - Name\n     - What\n     - How often\n')
    for name in words:
        text += '   * - ``%s``\n     - %s\n     - %d\n' % (
            name, words[name], counts[name])
    return text


def _left(slices):
    counts = _sum(slices, 'left_open')
    text = _title('What is left open')
    if not counts:
        return text + 'Nothing.\n'
    return text + ''.join(_item('%s (%d schedules)' % each) + '\n'
                          for each in sorted(counts.items()))


def _item(text):
    return textwrap.fill(text, 79, initial_indent='* ',
                         subsequent_indent='  ')


def _new(slices):
    by_text = {}
    for each in slices:
        for text, (number, schedule) in each['new'].items():
            before, first = by_text.get(text, (0, schedule))
            by_text[text] = before + number, first
    if not by_text:
        return ''
    text = _title('What is to be mended') + (
        'Violations that nobody has explained yet, each with one schedule '
        'that has it.\n\n')
    for violation, (number, schedule) in sorted(
            by_text.items(), key=lambda item: -item[1][0]):
        text += '%s\n\n  ``%s``\n\n' % (
            _item('%s (%d schedules)' % (violation.replace('*', r'\*'),
                                         number)), schedule)
    return text

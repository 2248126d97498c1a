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

"""What came of the changes, and the page.

``results.jsonl`` has a line for each change that was tried, ``explained.txt``
why nobody needs to notice those that no test notices. A run writes to
``.mutants``; :func:`merge` adds that to the file.
"""

import collections
import datetime
import fcntl
import json
import pathlib
import re

from tests.mutants import operators
from tests.mutants import tree

KILLED = 'killed'
SURVIVED = 'survived'

_NEW = tree.DIRECTORY / 'results.jsonl'
_FOLDER = pathlib.Path(__file__).parent
_RESULTS = _FOLDER / 'results.jsonl'
_EXPLAINED = _FOLDER / 'explained.txt'
_PAGE = tree.ROOT / 'doc/source/contributor/mutants.inc'

_HEAD = '''..
    Made by "make mutants-page"; do not edit.

.. list-table::
   :header-rows: 1

   * - Folder
     - Places
     - Tried
     - Noticed
     - Explained
     - Open
     - Share
'''
_ROW = '''   * - ``{area}``
     - {places}
     - {tried}
     - {killed}
     - {explained}
     - {open}
     - {percent} %
'''


def add(mutant, outcome, test, numbers, seed, commit):
    """Keep a result.

    :param outcome: KILLED or SURVIVED
    :param test: the test that has noticed it, or None
    :param numbers: how many tests were run, and how many cover it
    """
    line = json.dumps({
        'id': mutant.id, 'file': mutant.file, 'function': mutant.function,
        'number': mutant.number, 'before': mutant.before,
        'after': mutant.after, 'outcome': outcome, 'test': test,
        'tests': numbers, 'seed': seed, 'commit': commit})
    with open(_NEW, 'a') as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(line + '\n')


def read():
    """All results, those of this machine included.

    :returns: {id of the mutant: the last result of it}
    """
    found = {}
    for path in (_RESULTS, _NEW):
        if path.exists():
            for line in path.read_text().splitlines():
                result = json.loads(line)
                found[result['id']] = result
    return found


def merge():
    """Add what is new to the file that is kept in git.

    What the code no longer has is dropped.
    """
    today = places()
    found = {name: result for name, result in read().items()
             if name in today}
    _RESULTS.write_text(''.join(
        json.dumps(result) + '\n' for result in sorted(
            found.values(), key=lambda each: (each['file'], each['function'],
                                              each['id']))))
    _NEW.unlink(missing_ok=True)


def explained():
    """Why nobody needs to notice a change.

    :returns: {id of the mutant: the reason}
    """
    reasons = {}
    ids = words = ()
    for line in [*_EXPLAINED.read_text().splitlines(), '']:
        if line.startswith(' '):
            words = (*words, line.strip())
        elif not words and re.fullmatch('[0-9a-f]{8}( [0-9a-f]{8})*', line):
            ids = (*ids, *line.split())
        elif not line:
            reasons.update(dict.fromkeys(ids, ' '.join(words)))
            ids = words = ()
        elif not line.startswith('#'):
            raise ValueError('%s: %s' % (_EXPLAINED, line))
    return reasons


def area(file):
    """The folder of the package that a source is in."""
    parts = pathlib.PurePath(file).parts
    return parts[1] if len(parts) > 2 else '.'


def places():
    """What can be changed today: {id: Mutant}."""
    return {mutant.id: mutant for file in tree.sources()
            for mutant in operators.find(
                file, (tree.ROOT / file).read_bytes())}


def write_page():
    """Write the page of results that are about today's code.

    :returns: the ids of survivors that are not explained
    """
    today, reasons = places(), explained()
    results = read()
    rows = collections.defaultdict(collections.Counter)
    for mutant in today.values():
        rows[area(mutant.file)]['places'] += 1
    left, survivors = [], []
    for name, result in results.items():
        row = rows[area(result['file'])]
        row['tried'] += 1
        if result['outcome'] == KILLED:
            row['killed'] += 1
            continue
        row['explained' if name in reasons else 'open'] += 1
        survivors.append((today[name], reasons.get(name) or (
            '**Open**; %d of %d tests were run.' % tuple(result['tests']))))
        if name not in reasons:
            left.append(name)
    text = _HEAD + ''.join(
        _ROW.format(area=name, percent=100 * row['killed'] // row['tried'],
                    **{key: row[key] for key in (
                        'places', 'tried', 'killed', 'explained', 'open')})
        for name, row in sorted(rows.items()) if row['tried'])
    text += '\nWritten on %s. Commits: %s. Seeds: %s.\n' % (
        datetime.date.today(), *(', '.join(sorted({
            result[what] for result in results.values()} - {''}))
            for what in ('commit', 'seed')))
    text += '\nWhat no test notices:\n\n'
    for mutant, reason in sorted(
            survivors, key=lambda each: (each[0].file, each[0].line)):
        text += '* %s, ``%s``: %s\n  %s\n' % (
            mutant.file, mutant.function or 'module', shown(mutant),
            reason)
    _PAGE.write_text(text)
    return left


def shown(mutant, most=60):
    """A change in words."""
    return '``%s`` becomes ``%s``.' % tuple(
        ' '.join(text.split())[:most] for text in (mutant.before,
                                                   mutant.after))

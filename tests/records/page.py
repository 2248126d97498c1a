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

"""Makes pages of the contributor guide: ``python -m tests.records.page``.

``--check`` writes nothing and exits with 1 if they are not those of the data.
"""

import argparse
import collections
import sys

from tests.lab.suites import page as lab_suites
from tests.nova_suite import explained
from tests.records import rst
from tests.records import store

PAGE = store.ROOT / 'doc' / 'source' / 'contributor' / 'tested-on.rst'

_HEAD = """\
..  Made by "python -m tests.records.page" of what is in tests/records/data.

=======================
What was tested on what
=======================

Made of what ``make nova-suite SLICE=``, ``make functional-matrix`` and ``make
distributors`` keep in ``tests/records/data``; :doc:`testing` has these
commands. A commit is the one that changed the package last before the run.

"""
_SUITE = """\
Nova's own tests
================

Each test was run without the package and with it, with nothing opted in. A
difference is a test with another result, each time that it is run. A test is
unsteady if it had another result only once.

"""
_EXPLAINED = """\
Explained differences
---------------------

"""
_FUNCTIONAL = """\
Our functional tests
====================

On each series of Nova, with the Pythons that it supports, and on native
threads where Nova can run on them.

"""
_DISTRIBUTORS = """\
Nova of distributors
====================

Distributors patch Nova. ``nova-rescue-ext-status overrides`` was run on the
code of their packages.

"""


def page():
    """The page.

    :returns: text
    """
    parts = [_HEAD, _SUITE, *_suite(), _FUNCTIONAL, *_functional(),
             _DISTRIBUTORS, *_distributors()]
    return ''.join(parts).rstrip() + '\n'


def _suite():
    rows, notes, seen = [], [], collections.defaultdict(set)
    for content in store.load_all('nova-suite-'):
        for _, run in sorted(content['runs'].items()):
            rows.append(_suite_row(content['nova'], run))
            notes += _suite_notes(content['nova'], run)
            for part in _active(run):
                for name in part['explained']:
                    seen[explained.reason(name, explained.read())].add(
                        content['nova'])
    yield from rst.table(
        ('Nova', 'Selection', 'Python', 'Threads', 'Slices', 'Tests',
         'Differences', 'Explained', 'Unsteady', 'Run', 'Commits'), rows)
    yield from notes
    yield _EXPLAINED
    yield from rst.table(
        ('Tests', 'Reason', 'Seen on Nova'),
        [('``%s``' % line.entry.name, line.reason,
          ', '.join(sorted(seen[line.reason], key=store.as_numbers)))
         for line in explained.read()])


def _suite_row(nova, run):
    parts = _active(run)
    return (nova, run['selection'], run['python'], run['threads'],
            _progress(len(parts), run['slices']),
            sum(part['tests'] for part in run['parts'].values()
                if 'active' in part),
            *(sum(len(part[kind]) for part in parts)
              for kind in ('different', 'explained', 'unsteady')),
            _span(part['date'] for part in parts),
            _commits(part['commit'] for part in parts))


def _suite_notes(nova, run):
    where = 'Nova %s, %s' % (nova, run['selection'])
    for title, kind in (('Differences', 'different'),
                        ('Unsteady', 'unsteady')):
        names = sorted(name for part in _active(run) for name in part[kind])
        if names:
            yield '%s (%s):\n\n' % (title, where)
            yield from ('* ``%s``\n' % name for name in names)
            yield '\n'
    reasons = collections.Counter(run.get('not imported', {}).values())
    if reasons:
        yield 'Modules that cannot be imported (%s):\n\n' % where
        yield from rst.table(('Modules', 'Reason'), [
            (count, '``%s``' % reason)
            for reason, count in sorted(reasons.items())])


def _active(run):
    return [part['active'] for part in run['parts'].values()
            if 'active' in part]


def _functional():
    rows, reasons = [], collections.defaultdict(set)
    failed, unsteady = [], []
    for content in store.load_all('functional-'):
        for _, run in sorted(content['runs'].items()):
            parts = list(run['parts'].values())
            rows.append((
                content['nova'], run['python'], run['threads'],
                _progress(len(parts), run['slices']),
                sum(part['passed'] for part in parts),
                sum(len(part['failed']) for part in parts),
                len(run['broken']),
                sum(sum(part['skipped'].values()) for part in parts),
                _span(part['date'] for part in parts),
                _commits(part['commit'] for part in parts)))
            where = 'Nova %s, Python %s, %s' % (
                content['nova'], run['python'], run['threads'])
            for names, kind in ((failed, 'failed'), (unsteady, 'unsteady')):
                names += ['* ``%s`` (%s)\n' % (name, where) for part in parts
                          for name in part[kind]]
            failed += ['* ``%s`` cannot be imported: ``%s`` (%s)\n' % (
                name, reason, where) for name, reason in run['broken'].items()]
            for reason in [*run['skipped'].values()] + [
                    reason for part in parts for reason in part['skipped']]:
                reasons[reason].add(content['nova'])
    yield from rst.table(('Nova', 'Python', 'Threads', 'Slices', 'Passed',
                          'Failed', 'Modules not imported', 'Skipped', 'Run',
                          'Commits'), rows)
    for title, names in (('Failed', failed),
                         ('Failed, and passed when run again', unsteady)):
        if names:
            yield '%s:\n\n%s\n' % (title, ''.join(names))
    if reasons:
        yield from rst.table(('Why tests are skipped', 'On Nova'), [
            (reason, ', '.join(sorted(found, key=store.as_numbers)))
            for reason, found in sorted(reasons.items())])


def _distributors():
    yield from rst.table(
        ('Distribution', 'Suites', 'Version', 'Result', 'Run', 'Commit'),
        [(distribution.capitalize(), ', '.join(found['suites']),
          found['version'], '; '.join(found['objections']) or 'as tested',
          found['date'], found['commit'])
         for distribution, packages in sorted(
             store.load('distributors').items()) for found in packages])


def _progress(done, count):
    return 'all %d' % count if done == count else '%d of %d' % (done, count)


def _span(dates):
    found = sorted(set(dates))
    return ' to '.join(dict.fromkeys(found[:1] + found[-1:]))


def _commits(commits):
    return ', '.join(sorted(set(commits)))


def pages():
    """All pages.

    :returns: dict, path -> text
    """
    return {PAGE: page(), lab_suites.PAGE: lab_suites.page()}


def main():
    parser = argparse.ArgumentParser(prog='python -m tests.records.page')
    parser.add_argument('--check', action='store_true',
                        help='write nothing, exit with 1 if one is stale')
    arguments = parser.parse_args()
    if arguments.check:
        return int(any(not path.exists() or path.read_text() != text
                       for path, text in pages().items()))
    for path, text in pages().items():
        path.write_text(text)


if __name__ == '__main__':
    sys.exit(main())

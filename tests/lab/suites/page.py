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

"""The page with the results of each suite on each cloud."""

import pathlib
import typing

from tests.lab.suites import record
from tests.nova_suite import explained
from tests.records import rst
from tests.records import store

PAGE = store.ROOT / 'doc' / 'source' / 'contributor' / 'lab-suites.rst'
EXPLAINED = pathlib.Path(__file__).parent / 'explained.txt'

_TITLES = {
    'plugin': "The package's plugin for Tempest",
    'openstackclient': "OpenStackClient's functional tests",
    'rally': 'Rally',
    'tempest-rescue': 'Tempest: rescue',
    'tempest-migration': 'Tempest: migration',
    'tempest-live-migration': 'Tempest: live migration',
    'tempest-actions': 'Tempest: server actions',
}
_CLOUDS = {record.OFF: 'without the package', record.ON: 'with the package',
           record.LATEST: '``default_api_version = latest``'}
_ABSENT = 'absent'
_HEAD = """\
..  Made by "python -m tests.records.page" of what is in tests/records/data.

====================================
Suites of others on real hypervisors
====================================

Suites of tests that know nothing of the package, in the cloud of :doc:`lab`:
without the package, with it, and with ``[rescue_ext] default_api_version =
latest``. The package's own plugin for Tempest opts in, so it has one cloud
only. Made of what ``make lab-suites`` keeps in ``tests/records/data``. A
commit is the one that changed the package last before the run.

"""


class Row(typing.NamedTuple):
    """A test, with its result on each cloud that its suite has run on."""

    test: str
    results: tuple
    #: whether this should not be
    differs: bool
    #: what explains it; None if nothing does
    reason: str | None


def page():
    """The page.

    :returns: text
    """
    kept = record.load()
    parts = [_HEAD, *rst.table(
        ('Suite', 'Cloud', 'Passed', 'Failed', 'Skipped', 'PROFILE', 'Run',
         'Commit'),
        _overview(kept))]
    for suite, title in _TITLES.items():
        runs = _runs(kept, suite)
        if runs:
            parts += ['%s\n%s\n\n' % (title, '=' * len(title)), *rst.table(
                ('Test', *(_CLOUDS[cloud] for cloud in runs), 'Why'),
                [_cells(row) for row in _rows(suite, runs)])]
    return ''.join(parts).rstrip() + '\n'


def wrong():
    """What should not be, and nothing explains it.

    :returns: list of text: differences, and failures of the plugin
    """
    kept = record.load()
    return ['%s: %s: %s' % (suite, row.test, ', '.join(row.results))
            for suite in _TITLES for row in _rows(suite, _runs(kept, suite))
            if row.differs and not row.reason]


def _overview(kept):
    for suite, title in _TITLES.items():
        for cloud in record.clouds(suite):
            run = kept.get(suite, {}).get(cloud)
            yield (title, _CLOUDS[cloud], *(
                _numbers(run) if run else ['not run'] + [''] * 5))


def _numbers(run):
    results = list(record.results(run).values())
    return (*(results.count(result) for result in ('success', 'fail', 'skip')),
            run['profile'], run['date'], run['commit'])


def _runs(kept, suite):
    """{cloud: what is kept of a suite there}, in the order of the clouds."""
    return {cloud: kept[suite][cloud] for cloud in record.clouds(suite)
            if cloud in kept.get(suite, {})}


def _rows(suite, runs):
    table = explained.read(EXPLAINED)
    found = [record.results(run) for run in runs.values()]
    for test in sorted(set().union(*found)):
        results = tuple(of_cloud.get(test, _ABSENT) for of_cloud in found)
        differs = len(set(results)) > 1 or (
            len(record.clouds(suite)) == 1 and results == ('fail',))
        yield Row(test, results, differs,
                  explained.reason(test, table) if differs else None)


def _cells(row):
    mark = '**%s**' if row.differs else '%s'
    return ('``%s``' % row.test, *(mark % result for result in row.results),
            row.reason or '')

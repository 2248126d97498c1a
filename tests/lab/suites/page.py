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

from tests.lab.cloud import process
from tests.lab.cloud import settings

WITHOUT = 'without the package'
WITH = 'with the package'
LATEST = 'default_api_version = latest'
_CLOUDS = (WITHOUT, WITH, LATEST)

_PAGE = settings.CHECKOUT / 'doc/source/contributor/lab-suites.rst'
_ABSENT = 'absent'


def write(results):
    """Write the page.

    :param results: {suite: {cloud: {test: result}}}
    :raises: LabError if the package makes a difference, or if a test of a
        suite that runs on one cloud fails
    """
    lines = ['Suites of others on real hypervisors', '=' * 36, '',
             'Written by ``make lab-suites`` with',
             f'``{settings.Shape.current()}``. Results that should not be,',
             'or are not the same in all columns of a table, are in bold.', '']
    bad = []
    for suite, of_clouds in results.items():
        clouds = [cloud for cloud in _CLOUDS if cloud in of_clouds]
        rows = _rows(of_clouds, clouds)
        bad += [(suite, *row) for row in rows if _is_bad(row)]
        lines += [suite, '-' * len(suite), '', *_summary(clouds, rows),
                  *_table(clouds, rows)]
    _PAGE.write_text('\n'.join(lines))
    if bad:
        raise process.LabError('The package makes a difference:\n' + '\n'.join(
            ': '.join((suite, test, ', '.join(found)))
            for suite, test, *found in bad))


def _rows(of_clouds, clouds):
    """(test, result on each cloud) for each test."""
    tests = sorted(set().union(*of_clouds.values()))
    return [(test, *(of_clouds[cloud].get(test, _ABSENT)
                     for cloud in clouds)) for test in tests]


def _is_bad(row):
    """Whether clouds differ; in a suite for one of them, a failure."""
    return len(set(row[1:])) > 1 or row[1:] == ('fail',)


def _summary(clouds, rows):
    passed = ', '.join(
        f'{[row[number] for row in rows].count("success")} {cloud}'
        for number, cloud in enumerate(clouds, 1))
    return [f'{len(rows)} tests, of which pass: {passed}.', '']


def _table(clouds, rows):
    lines = ['.. list-table::', '   :header-rows: 1', '']
    for row in [('Test', *clouds), *(_marked(row) for row in rows)]:
        lines.append(f'   * - {row[0]}')
        lines += [f'     - {cell}' for cell in row[1:]]
    return lines + ['']


def _marked(row):
    # Without the ID that Tempest has in the name.
    test, *found = row
    if _is_bad(row):
        found = [f'**{result}**' for result in found]
    return f'``{test.partition("[")[0]}``', *found

# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.

"""The page with the outcomes of faults, one table a shape of the lab.

The page is its own memory: a run of some faults replaces their rows and
leaves all others as they are committed.
"""

_HEAD = """\
Faults and what became of the server
====================================

Written by ``make lab-faults``. A run replaces the rows of its own faults.
"""
_TABLE = """
{shape}
{line}

.. list-table::
   :header-rows: 1

   * - During
     - Fault
     - When
     - State after
     - Left by
     - Disks whole
"""
_FIRST, _OTHER = '   * - ', '     - '
_HEADER_ROWS = 1


def note(page, shape, fault, outcome):
    """Write one row.

    :param page: the path of the page; need not be there yet
    :param shape: the lab's shape, as text
    :param fault: what failed: during, fault and when
    :param outcome: the row's other three cells
    """
    tables = read(page)
    tables.setdefault(shape, {})[tuple(fault)] = tuple(outcome)
    page.write_text(_HEAD + ''.join(
        _TABLE.format(shape=shape, line='-' * len(shape)) + ''.join(
            _row([*key, *cells]) for key, cells in sorted(rows.items()))
        for shape, rows in sorted(tables.items())))


def read(page):
    """{shape: {(during, fault, when): (state after, left by, whole)}}"""
    if not page.exists():
        return {}
    tables, rows = {}, None
    for line in page.read_text().splitlines():
        if line.startswith('PROFILE='):
            rows = tables[line] = []
        elif line.startswith(_FIRST):
            rows.append([line[len(_FIRST):]])
        elif line.startswith(_OTHER):
            rows[-1].append(line[len(_OTHER):])
    return {shape: {tuple(row[:3]): tuple(row[3:])
                    for row in rows[_HEADER_ROWS:]}
            for shape, rows in tables.items()}


def _row(cells):
    return ''.join(f'{_OTHER if number else _FIRST}{cell}\n'
                   for number, cell in enumerate(cells))

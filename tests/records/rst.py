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

"""What the pages are made of."""


def table(heads, rows):
    """Yield a table.

    :param heads: the cells of the first row
    :param rows: list of rows, which are lists of cells
    """
    rows = list(rows)
    if not rows:
        yield 'Nothing yet.\n\n'
        return
    yield '.. list-table::\n   :header-rows: 1\n\n'
    for row in [heads, *rows]:
        for position, cell in enumerate(row):
            yield ('   %s - %s' % (' ' if position else '*', cell)).rstrip()
            yield '\n'
    yield '\n'

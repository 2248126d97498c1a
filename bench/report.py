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

"""What was measured, in a table."""

import importlib.metadata
import os
import platform
import re
import statistics
import typing

PATH = os.path.join('doc', 'performance.md')

_HEAD = """\
# What nova-rescue-ext costs

Written by `make bench`: medians of %(rounds)s alternating pairs each, CPU
time. Nova %(nova)s, Python %(python)s, wrapt %(wrapt)s, %(cpus)d CPUs
(%(machine)s). The last line is a rescue that opts in, against one that does
not; all others are what the package costs who does not use it.

"""
_TABLE = """\
| Measure | Without | With | Cost | Goal | Met |
|---|---|---|---|---|---|
"""
_DOWN_TIMES_HEADING = '# How long a server is down for its rescue'
_DOWN_TIMES = """\
Medians of %(rounds)s alternating pairs, wall-clock time from the moment the
server's guest is told to shut down to the moment the rescue guest has been
started. The host does not have the rescue image. The download is simulated: a
sleep of the size of the image at 100 MB/s. libvirt is Nova's double, whose
guests shut down and start at once; what a real guest takes for that comes on
top of both. The ratio in the last line is that of what the bigger image adds.

"""


class Result(typing.NamedTuple):
    """One line of the table.

    :ivar numbers: what the history keeps: the medians without and with the
        package, and the cost as a share of what the goal allows
    """

    measure: str
    without: str
    with_package: str
    cost: str
    goal: str
    met: bool
    rounds: int
    numbers: tuple[float, float, float] | tuple[()] = ()


def median_difference(pairs):
    """The median of with - without.

    :param pairs: list of (without, with)
    """
    return statistics.median(after - before for before, after in pairs)


def median_ratio(pairs):
    """The median of with / without."""
    return statistics.median(after / before for before, after in pairs)


def medians(pairs):
    """The median without and the median with."""
    return tuple(statistics.median(column) for column in zip(*pairs))


def line(result):
    """A line of the Markdown table."""
    return '| %s | %s | %s | %s | %s | %s |' % (
        result.measure, result.without, result.with_package, result.cost,
        result.goal, 'yes' if result.met else '**no**')


def write(path, costs, down_times):
    """Write the tables.

    :param path: of the Markdown file
    :param costs: a list of Result, what the package costs
    :param down_times: a list of Result, how long a rescue takes a server down
    """
    rounds = sorted({result.rounds for result in costs})
    head = _HEAD % {
        'rounds': ' to '.join(str(n) for n in (rounds[0], rounds[-1])),
        'nova': importlib.metadata.version('nova'),
        'wrapt': importlib.metadata.version('wrapt'),
        'python': platform.python_version(), 'cpus': os.cpu_count(),
        'machine': platform.machine()}
    _write(path, [head + _table(costs), *_sections(path)[1:]])
    write_section(path, _DOWN_TIMES_HEADING,
                  _DOWN_TIMES % {'rounds': down_times[0].rounds}
                  + _table(down_times))


def write_section(path, heading, text):
    """Write a section, in the place of one of that heading.

    :param heading: with its "# "
    :param text: Markdown
    """
    _write(path, [section for section in _sections(path)
                  if not section.startswith(heading)]
           + ['%s\n\n%s' % (heading, text)])


def write_rows(path, heading, text, rows):
    """Write rows of the table in a section.

    What else the section says, and other rows of the table, stay.

    :param heading: with its "# "
    :param text: Markdown of a new section, which ends with an empty table
    :param rows: lines of the table. The first two columns tell which they are
    """
    sections = _sections(path)
    section = next((section for section in sections
                    if section.startswith(heading)), None)
    if section is None:
        section = '%s\n\n%s' % (heading, text)
        sections.append(section)
    lines = section.rstrip('\n').split('\n')
    table = [number for number, line in enumerate(lines)
             if line.startswith('|')]
    first, end = table[0] + 2, table[-1] + 1
    merged = {tuple(_which(row)): row for row in lines[first:end] + rows}
    lines[first:end] = [row for _key, row in sorted(merged.items())]
    sections[sections.index(section)] = '\n'.join(lines) + '\n'
    _write(path, sections)


def _which(row):
    """The first two columns, so that 9 is before 10."""
    cells = [cell.strip() for cell in row.split('|')[1:3]]
    return [(int(re.match(r'\d*', cell).group() or 0), cell)
            for cell in cells]


def _sections(path):
    try:
        with open(path, encoding='utf-8') as existing:
            text = existing.read()
    except FileNotFoundError:
        return []
    return re.split(r'\n(?=# )', text)


def _write(path, sections):
    with open(path, 'w', encoding='utf-8') as output:
        output.write('\n'.join(sections))


def _table(results):
    return _TABLE + '\n'.join(map(line, results)) + '\n'

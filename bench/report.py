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
# What nova-rescue-ext costs who does not use it

Written by `make bench`: medians of %(rounds)s alternating pairs each, CPU
time. Nova %(nova)s, Python %(python)s, wrapt %(wrapt)s, %(cpus)d CPUs
(%(machine)s).

| Measure | Without | With | Cost | Goal | Met |
|---|---|---|---|---|---|
"""


class Result(typing.NamedTuple):
    """One line of the table."""

    measure: str
    without: str
    with_package: str
    cost: str
    goal: str
    met: bool
    rounds: int


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


def write(path, results):
    """Write the table.

    :param path: of the Markdown file
    :param results: a list of Result
    """
    rounds = sorted({result.rounds for result in results})
    head = _HEAD % {
        'rounds': ' to '.join(str(n) for n in (rounds[0], rounds[-1])),
        'nova': importlib.metadata.version('nova'),
        'wrapt': importlib.metadata.version('wrapt'),
        'python': platform.python_version(), 'cpus': os.cpu_count(),
        'machine': platform.machine()}
    others = _sections(path)[1:]
    _write(path, [head + '\n'.join(map(line, results)) + '\n', *others])


def write_section(path, heading, text):
    """Write a section, in the place of one of that heading.

    :param heading: with its "# "
    :param text: Markdown
    """
    _write(path, [section for section in _sections(path)
                  if not section.startswith(heading)]
           + ['%s\n\n%s' % (heading, text)])


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

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

"""What was measured when, so that a regression shows.

``doc/performance-history.jsonl`` has a line for each run of ``make bench``,
and ``performance.svg`` of the contributor guide shows them.
"""

import datetime
import html
import importlib.metadata
import json
import os
import platform
import subprocess

PATH = os.path.join('doc', 'performance-history.jsonl')
PLOT = os.path.join('doc', 'source', 'contributor', 'performance.svg')

# The plot, in pixels.
_LEFT, _TOP, _WIDTH, _HEIGHT = 60, 20, 480, 300
_LEGEND = 16
# Shares of the goal at the bottom and at the top.
_LOWEST, _HIGHEST = -0.5, 1.5
_COLOURS = ('#4477aa', '#ee6677', '#228833', '#ccbb44', '#66ccee', '#aa3377',
            '#bbbbbb', '#000000', '#997700', '#994455', '#004488', '#7d8c00')


def add(path, results):
    """Add a line.

    :param path: of the history
    :param results: a list of report.Result
    """
    line = {
        'date': datetime.date.today().isoformat(), 'commit': _commit(),
        'machine': _machine(), **_versions(),
        'measures': {result.measure: result.numbers for result in results}}
    with open(path, 'a', encoding='utf-8') as file:
        file.write(json.dumps(line, ensure_ascii=False) + '\n')


def read(path):
    """All runs, the oldest first.

    :returns: a list of dicts, as in the file
    """
    with open(path, encoding='utf-8') as file:
        return [json.loads(line) for line in file]


def _versions():
    return {'python': platform.python_version(), **{
        name: importlib.metadata.version(name) for name in ('nova', 'wrapt')}}


def _commit():
    """The commit that is measured, with a + if there are changes."""
    def git(*arguments):
        return subprocess.run(['git', *arguments], check=True, text=True,
                              stdout=subprocess.PIPE).stdout.strip()

    # What is measured does not depend on what was written about it.
    changed = git('status', '--porcelain', '--untracked-files=no', '--', '.',
                  ':!doc')
    return git('rev-parse', '--short=8', 'HEAD') + ('+' if changed else '')


def _machine():
    """The model of the CPUs, and how many there are."""
    model = platform.machine()
    try:
        with open('/proc/cpuinfo') as file:
            model = next(line.partition(':')[2].strip() for line in file
                         if line.startswith('model name'))
    except (OSError, StopIteration):
        pass
    return '%d x %s' % (os.cpu_count(), model)


def plot(path, runs):
    """Draw the share of its goal that each measure takes, run by run.

    Points of one machine are joined: figures of others do not compare.

    :param path: of the SVG file
    :param runs: from :func:`read`
    """
    measures = list(dict.fromkeys(
        name for run in runs for name in run['measures']))
    parts = [_axes(runs)]
    for number, measure in enumerate(measures):
        colour = _COLOURS[number % len(_COLOURS)]
        parts += _lines(runs, measure, colour)
        parts.append(_text(
            _LEFT, _TOP + _HEIGHT + 40 + _LEGEND * number,
            measure.replace('`', ''), fill=colour))
    height = _TOP + _HEIGHT + 50 + _LEGEND * len(measures)
    with open(path, 'w', encoding='utf-8') as file:
        file.write('<svg xmlns="http://www.w3.org/2000/svg" width="%d" '
                   'height="%d" font-family="sans-serif" font-size="11">\n'
                   '<rect width="100%%" height="100%%" fill="white"/>\n'
                   '%s\n</svg>\n' % (_LEFT + _WIDTH + 20, height,
                                     '\n'.join(parts)))


def _axes(runs):
    parts = []
    for share, words in ((0, 'no cost'), (0.5, 'half'), (1, 'goal')):
        parts.append(
            '<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" stroke="%s"/>' % (
                _LEFT, _LEFT + _WIDTH, _y(share), _y(share),
                'red' if share == 1 else '#cccccc'))
        parts.append(_text(4, _y(share) + 4, words))
    parts += [_text(_x(number, runs) - 20, _TOP + _HEIGHT + 16, run['commit'])
              for number, run in enumerate(runs)]
    return '\n'.join(parts)


def _lines(runs, measure, colour):
    """The points of a measure, and the lines between them."""
    lines = {}
    for number, run in enumerate(runs):
        if measure in run['measures']:
            lines.setdefault(run['machine'], []).append(
                (_x(number, runs), _y(run['measures'][measure][2])))
    for points in lines.values():
        yield '<polyline fill="none" stroke="%s" points="%s"/>' % (
            colour, ' '.join('%.1f,%.1f' % point for point in points))
        for point in points:
            yield '<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>' % (
                *point, colour)


def _x(number, runs):
    return _LEFT + (number + 0.5) * _WIDTH / len(runs)


def _y(share):
    inside = min(max(share, _LOWEST), _HIGHEST)
    return _TOP + (_HIGHEST - inside) / (_HIGHEST - _LOWEST) * _HEIGHT


def _text(x, y, words, fill='black'):
    return '<text x="%.1f" y="%.1f" fill="%s">%s</text>' % (
        x, y, fill, html.escape(words))

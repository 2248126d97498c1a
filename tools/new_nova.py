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

"""Take in new releases of a Nova series.

    python tools/new_nova.py [--wheels DIR] [--report FILE]
        [--upper-constraints FILE] SERIES

Looks at which releases of the series the package registry has that the digests
do not know, and for these

* writes the digests;
* writes ``constraints/nova-<series>.txt``: of a known series it only moves
  Nova, of a new one it takes the numbers from OpenStack's upper constraints;
* writes a page with each callable that the package overrides or relies on and
  that has changed, before and after, side by side.

``make new-nova`` runs the tests on the newest after that. The contributor
guide tells the rest (new-nova).
"""

import argparse
import difflib
import html
import os
import re
import sys
import tempfile
import time
import typing

import make_digests  # beside this file
from nova_rescue_ext.activation import exception
from nova_rescue_ext.activation import relied_on
from nova_rescue_ext.activation import verification

_PAGE = """\
<!DOCTYPE html>
<meta charset="utf-8">
<title>%(title)s</title>
<style>
body { font-family: sans-serif }
table.diff { font-family: monospace; border-collapse: collapse }
.diff_header { color: gray; padding: 0 0.5em; text-align: right }
.diff_next { display: none }
.diff_add { background: #bfb }
.diff_chg { background: #ffa }
.diff_sub { background: #fbb }
</style>
<h1>%(title)s</h1>
%(body)s
"""


class Change(typing.NamedTuple):
    """A callable that is not what it was."""

    name: str
    before: str
    after: str

    @property
    def kind(self):
        if not self.before:
            return 'new'
        return 'changed' if self.after else 'gone'


def known_releases(series):
    """The releases that the digests are made of; none for a new series."""
    return make_digests.read(make_digests.path_of(series)).get('releases', [])


def pairs(known, available, before):
    """The releases to compare.

    :param known: releases of the series that the digests know, oldest first
    :param available: those that the registry has, oldest first
    :param before: the newest release of the series before
    :returns: list of (older, newer), for each newer that is not known
    """
    return [(available[position - 1] if position else before, release)
            for position, release in enumerate(available)
            if release not in known]


def changes(older, newer, overridden):
    """What has changed between two releases.

    :param older: path of a wheel
    :param newer: path of a wheel
    :param overridden: names of the callables that the package overrides
    :returns: list of Change
    """
    names = sorted({*overridden, *relied_on.CALLABLES})
    modules = {name.partition(':')[0] for name in names}
    texts = [make_digests.sources(path, modules) for path in (older, newer)]
    found = [Change(name, *(_extract(text, name) for text in texts))
             for name in names]
    return [change for change in found if change.before != change.after]


def _extract(texts, name):
    module, _, qualname = name.partition(':')
    try:
        return verification.extract(texts.get(module, ''), qualname)
    except exception.SourceNotFound:
        return ''


def section(change, overrides):
    """A part of the page.

    :param overrides: dict, callable -> ours
    """
    ours = overrides.get(change.name)
    table = difflib.HtmlDiff(tabsize=4, wrapcolumn=79).make_table(
        change.before.splitlines(), change.after.splitlines())
    return '<h3>%s</h3>\n<p>%s, %s</p>\n%s\n' % (
        html.escape(change.name), change.kind,
        'overridden by ' + html.escape(ours) if ours else 'relied on',
        table.replace('&nbsp;', ' ').replace(
            'nowrap="nowrap"', 'style="white-space: pre"'))


def bump(text, release):
    """Constraints with another release of Nova."""
    text = re.sub(r'^nova==.*$', 'nova==' + release, text, flags=re.MULTILINE)
    return re.sub(r'^(# Nova )[\d.]+\d', r'\g<1>' + release, text, count=1)


def constraints(previous, release, upper, placement):
    """Constraints of a new series.

    :param previous: those of the series before
    :param release: of Nova
    :param upper: OpenStack's upper constraints of the series
    :param placement: the release of openstack-placement
    :returns: text, and the names that the upper constraints do not have
    """
    numbers = dict(re.findall(r'^([A-Za-z0-9._-]+)===?([^;\s]+)', upper,
                              re.MULTILINE))
    numbers = {_canonical(name): number for name, number in numbers.items()}
    numbers.update({'nova': release, 'openstack-placement': placement})
    lines = ['# Nova %s and all that its own tests and ours need.' % release,
             '# Written %s.' % time.strftime('%Y-%m-%d'),
             "# The numbers are from OpenStack's published upper constraints.",
             '# nova and openstack-placement, which those do not list, are',
             '# the newest releases of the series.']
    missing = []
    for line in previous.splitlines():
        name, equal, number = line.partition('==')
        if line.startswith('#'):
            continue
        if equal and _canonical(name) not in numbers:
            missing.append(name)
        lines.append(name + equal + numbers.get(_canonical(name), number))
    return '\n'.join(lines) + '\n', missing


def _canonical(name):
    return re.sub('[-_.]+', '-', name).lower()


def write_constraints(series, release, upper):
    """Write the constraints of a series.

    :param upper: path of OpenStack's upper constraints, for a new series
    """
    path = _constraints(series)
    if os.path.exists(path):
        text = bump(_read(path), release)
    elif not upper:
        sys.exit('%s is new: name its upper constraints with '
                 '--upper-constraints' % series)
    else:
        text, missing = constraints(
            _read(_constraints(str(int(series) - 1))), release, _read(upper),
            make_digests.releases_of('openstack-placement')[-1])
        if missing:
            print('As in the series before, since the upper constraints do '
                  'not have them: %s' % ', '.join(missing))
    with open(path, 'w', encoding='utf-8') as output:
        output.write(text)


def _constraints(series):
    return os.path.join(make_digests.ROOT, 'constraints',
                        'nova-%s.txt' % series)


def _read(path):
    with open(path, encoding='utf-8') as text:
        return text.read()


def take_in(series, folder, report, upper):
    """Do all that a new release needs.

    :param folder: for wheels
    :param report: path of the page with what has changed
    :param upper: path of OpenStack's upper constraints, for a new series
    :returns: whether there is a new release
    """
    available = make_digests.releases(series)
    if not available:
        sys.exit('the registry has no release of Nova %s' % series)
    before = (make_digests.releases(str(int(series) - 1)) or [None])[-1]
    new = pairs(known_releases(series), available, before)
    if not new:
        print('Nova %s is the newest, and known' % available[-1])
        return False
    overrides = make_digests.overrides()
    body = []
    for older, newer in new:
        wheels = [make_digests.wheel(release, folder)
                  for release in (older, newer)]
        changed = changes(*wheels, overrides)
        title = 'Nova %s to %s: %d of our callables differ' % (
            older, newer, len(changed))
        print(title)
        body.append('<h2>%s</h2>\n' % title)
        for change in changed:
            print('  %s: %s (%s)' % (
                change.kind, change.name,
                overrides.get(change.name, 'relied on')))
            body.append(section(change, overrides))
    with open(report, 'w', encoding='utf-8') as output:
        output.write(_PAGE % {'title': 'Nova %s' % available[-1],
                              'body': ''.join(body)})
    print('Side by side: %s' % report)
    write_constraints(series, available[-1], upper)
    make_digests.write(series, make_digests.digests(series, folder))
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--wheels', help='keep downloaded wheels here')
    parser.add_argument('--report', default='new-nova.html',
                        help='page with what has changed')
    parser.add_argument('--upper-constraints',
                        help='for a new series: the file of OpenStack')
    parser.add_argument('series')
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        take_in(arguments.series, arguments.wheels or temporary,
                arguments.report,
                arguments.upper_constraints)


if __name__ == '__main__':
    main()

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

"""The files in ``data``."""

import json
import pathlib
import subprocess

from oslo_utils import timeutils

ROOT = pathlib.Path(__file__).parents[2]
DATA = pathlib.Path(__file__).parent / 'data'
# What the behaviour of the package is in.
PACKAGE = ('nova_rescue_ext', 'setup.cfg')


def load(name):
    """Read a file.

    :param name: without its extension
    :returns: what it holds; an empty dict if there is none
    """
    path = DATA / (name + '.json')
    return json.loads(path.read_text()) if path.exists() else {}


def load_all(prefix):
    """Read the files whose names start alike.

    :returns: list of what they hold, the newest Nova first
    """
    names = sorted((path.stem for path in DATA.glob(prefix + '*.json')),
                   key=lambda name: as_numbers(name.removeprefix(prefix)),
                   reverse=True)
    return [load(name) for name in names]


def save(name, content):
    """Write a file."""
    text = json.dumps(content, indent=1, sort_keys=True) + '\n'
    DATA.mkdir(exist_ok=True)
    (DATA / (name + '.json')).write_text(text)


def as_numbers(release):
    """A release of Nova, to be sorted by."""
    return [int(part) for part in release.split('.') if part.isdigit()]


def commit(*paths):
    """The commit that changed the package last.

    :param paths: what else counts
    :returns: its short name, with "+" if something is not committed
    """
    paths = PACKAGE + paths
    changed = _git('status', '--porcelain', '--', *paths)
    # Each clone abbreviates as it needs to.
    return _git('log', '-1', '--format=%h', '--abbrev=8', '--', *paths) + (
        '+' if changed else '')


def today():
    """The date, as it is written in the files."""
    return timeutils.utcnow().date().isoformat()


def due(parts, count, commit):
    """The slice that is to be run next.

    :param parts: dict, number of a slice as text -> its record, which has a
        "commit" once it was run with the package
    :param count: how many slices there are
    :param commit: the commit whose results are wanted
    :returns: its number, or None if all have results of that commit
    """
    commits = {number: parts.get(str(number), {}).get('commit')
               for number in range(1, count + 1)}
    return next(iter(outdated(commits, commit)), None)


def outdated(commits, commit):
    """What has no results of a commit.

    :param commits: dict, what -> the commit of its results, None if it has
        none
    :returns: list, what has none first
    """
    return [what for what, found in commits.items() if found is None] + [
        what for what, found in commits.items()
        if found not in (None, commit)]


def _git(*arguments):
    return subprocess.run(('git', *arguments), cwd=ROOT, check=True,
                          capture_output=True, text=True).stdout.strip()

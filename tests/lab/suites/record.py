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

"""What each suite has found on each cloud, kept as data.

A run of a suite on a cloud takes up to an hour, so the table of all is filled
by several. Each adds what it found to ``lab-suites.json`` of the records.
"""

from tests.records import store

#: without the package, with it, and with its newest version for all requests
CLOUDS = OFF, ON, LATEST = ('off', 'on', 'latest')

_FILE = 'lab-suites'
# Its tests opt in, and some want a cloud that changes nothing else.
_ONLY = {'plugin': (ON,)}


def clouds(suite):
    """The clouds that a suite is for."""
    return _ONLY.get(suite, CLOUDS)


def load():
    """What is kept.

    :returns: dict, suite -> cloud -> what save() keeps
    """
    return store.load(_FILE)


def save(suite, cloud, found, **where):
    """Keep what a suite has found on a cloud.

    :param found: {test: result}
    :param where: what else is kept: "commit" of the package and "profile"
        of the lab
    """
    by_result = {}
    for test, result in sorted(found.items()):
        # Without the ID that Tempest has in the name.
        by_result.setdefault(result, []).append(test.partition('[')[0])
    content = load()
    content.setdefault(suite, {})[cloud] = dict(
        where, date=store.today(), results=by_result)
    store.save(_FILE, content)


def results(run):
    """The result of each test.

    :param run: what save() keeps
    :returns: {test: result}
    """
    return {test: result for result, tests in run['results'].items()
            for test in tests}


def due(pairs, commit):
    """What is to be run: what was never run first, then what is older.

    :param pairs: list of suite and cloud
    :param commit: that of the package
    :returns: list of those of them that have no results of this commit
    """
    content = load()
    return store.outdated(
        {(suite, cloud): content.get(suite, {}).get(cloud, {}).get('commit')
         for suite, cloud in pairs}, commit)

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

"""Runs slices of Nova's own tests and keeps what they find.

The stock results of a slice are those of its release: they are taken from the
record if it has them.
"""

import hashlib
import importlib.metadata
import json
import os
import platform

from tests.nova_suite import runner
from tests.nova_suite import selection
from tests.nova_suite import slices
from tests.nova_suite import source
from tests.nova_suite import verdict
from tests.nova_suite import worker
from tests.records import store


class OtherSlices(Exception):
    """The record is one of another number of slices."""


class Record:
    """The results of a selection on the installed Nova.

    :param chosen: the name of the selection
    :param count: how many slices there are
    :param setting: runner.Setting
    """

    def __init__(self, chosen, count, setting):
        release = importlib.metadata.version('nova')
        self._file = 'nova-suite-' + release
        self._empty = {'nova': release, 'runs': {}}
        self._run = {
            'selection': chosen, 'slices': count, 'parts': {},
            'python': '.'.join(platform.python_version_tuple()[:2]),
            'threads': runner.threads(setting)}
        self._key = '%(selection)s, Python %(python)s, %(threads)s' % self._run
        recorded = self._load()[1]['slices']
        if recorded != count:
            raise OtherSlices(
                'The results of "%s" are kept in %d slices. Run these, or '
                'remove them from %s.json first.' % (
                    self._key, recorded, store.DATA / self._file))

    def due(self, commit):
        """The slice to run next: see store.due()."""
        run = self._load()[1]
        return store.due({number: part.get('active', {})
                          for number, part in run['parts'].items()},
                         run['slices'], commit)

    def stock(self, number, tests):
        """The outcomes of those tests that do not pass stock.

        :returns: dict, id -> outcome; None if they are not known
        """
        part = self._load()[1]['parts'].get(str(number), {})
        if part.get('digest') != digest(tests):
            return None
        return {name: outcome
                for outcome, names in part['stock']['outcomes'].items()
                for name in names}

    def save_stock(self, number, tests, outcomes):
        """Keep the outcomes of a run without the package."""
        by_outcome = {}
        for name, outcome in sorted(outcomes.items()):
            if outcome.outcome != worker.SUCCESS:
                by_outcome.setdefault(outcome.outcome, []).append(name)
        self._save(number, {
            'tests': sum(map(len, tests.values())), 'digest': digest(tests),
            'stock': {'date': store.today(), 'outcomes': by_outcome}})

    def save_active(self, number, commit, result):
        """Keep what a verdict found.

        :param result: verdict.Verdict
        """
        part = self._load()[1]['parts'][str(number)]
        different = {
            judgement: {name: list(result.outcomes(name)[1:])
                        for name in result.judged(judgement)}
            for judgement in (verdict.DIFFERENT, verdict.EXPLAINED)}
        # SAME: as stock when both were run again, but not at first.
        unsteady = result.judged(verdict.FLAKY) + result.judged(verdict.SAME)
        part['active'] = {
            'commit': commit, 'date': store.today(),
            'overrides': len(result.active.applied),
            'different': different[verdict.DIFFERENT],
            'explained': different[verdict.EXPLAINED],
            'unsteady': sorted(unsteady)}
        self._save(number, part)

    def save_not_imported(self, modules):
        """Keep which modules of tests cannot be imported, and why."""
        content, run = self._load()
        run['not imported'] = modules
        store.save(self._file, content)

    def _load(self):
        content = store.load(self._file) or self._empty
        return content, content['runs'].setdefault(self._key, self._run)

    def _save(self, number, part):
        content, run = self._load()
        run['parts'][str(number)] = part
        store.save(self._file, content)


def digest(tests):
    """What tells whether two slices have the same tests."""
    names = json.dumps(tests, sort_keys=True).encode()
    return hashlib.sha256(names).hexdigest()[:16]


def run(chosen, part, setting, log):
    """Run a slice without the package, if need be, and with it.

    :param chosen: the name of the selection
    :param part: slices.Slice
    :returns: verdict.Verdict, or None if no slice is due
    :raises: OtherSlices
    """
    record = Record(chosen, part.count, setting)
    commit = store.commit()
    number = part.number or record.due(commit)
    if number is None:
        return None
    found = find(chosen, setting, log)
    record.save_not_imported(found['not_imported'])
    tests = slices.cut(found['tests'], number, part.count)
    print('Slice %d/%d of %s: %d tests; what they print is in %s' % (
        number, part.count, chosen, sum(map(len, tests.values())), log.name),
        flush=True)
    known = record.stock(number, tests)
    if known is None:
        outcomes = runner.Run(tests, False, log, setting).outcomes
        record.save_stock(number, tests, outcomes)
        known = record.stock(number, tests)
        print('Without the package: done', flush=True)
    result = verdict.Verdict(tests, log, setting, known)
    record.save_active(number, commit, result)
    return result


def find(chosen, setting, log):
    """Find the tests of a selection, once in an environment.

    :returns: the attributes of selection.Found
    """
    entries = selection.read(chosen)
    name = 'tests-%s-%s-%s.json' % (
        importlib.metadata.version('nova'), runner.threads(setting),
        digest({'entries': entries}))
    path = os.path.join(source.folder(), name)
    if not os.path.exists(path):
        found = runner.find(entries, log, setting)
        with open(path, 'w') as output:
            json.dump(found, output)
    with open(path) as text:
        return json.load(text)

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

"""Runs slices of our functional tests and keeps what they find."""

import collections

from tests.nova_suite import runner
from tests.nova_suite import selection
from tests.nova_suite import slices
from tests.nova_suite import worker
from tests.records import store

# What the outcome of a test depends on, beside the package.
TESTS = ('tests/functional',)


class Record:
    """The results at a place.

    :param place: places.Place
    """

    def __init__(self, place):
        self._file = 'functional-' + place.release
        self._key = 'Python %s, %s' % (place.python, place.threads)
        self._place = place

    def due(self, count, commit):
        """The slice to run next: see store.due()."""
        return store.due(self._parts(self._load()[1], count), count, commit)

    def save(self, part, found, result):
        """Keep what was found.

        :param part: slices.Slice
        :param found: the attributes of selection.Found
        :param result: what is kept of the slice
        """
        content, run = self._load()
        skipped, broken = split(found['not_imported'])
        run.update({'slices': part.count, 'skipped': skipped, 'broken': broken,
                    'parts': dict(self._parts(run, part.count),
                                  **{str(part.number): result})})
        store.save(self._file, content)

    def _load(self):
        content = store.load(self._file) or {
            'nova': self._place.release, 'runs': {}}
        return content, content['runs'].setdefault(self._key, {
            'python': self._place.python, 'threads': self._place.threads})

    @staticmethod
    def _parts(run, count):
        # Those of another number of slices tell nothing about these.
        return run['parts'] if run.get('slices') == count else {}


def commit():
    """The commit that changed the package, or these tests, last."""
    return store.commit(*TESTS)


def find_next(chosen, part):
    """The first place with a slice to run, and the slice.

    :param chosen: list of places.Place
    :param part: slices.Slice
    :returns: Place and Slice, or (None, None)
    """
    wanted = commit()
    for place in chosen:
        number = part.number or Record(place).due(part.count, wanted)
        if number:
            return place, part._replace(number=number)
    return None, None


def run(place, part, folder, workers, log):
    """Run a slice at a place.

    :param place: places.Place
    :param part: slices.Slice
    :param folder: for the environments of all places
    :param workers: how many processes at a time
    :param log: file for what the tests print
    :returns: what is kept of it, and "broken", which modules of all slices
        cannot be imported
    :raises: places.Missing
    """
    setting = runner.Setting(python=str(place.make(folder)),
                             native=place.native, workers=workers)
    before = commit()
    found = runner.find([selection.Entry('tests.functional')], log, setting)
    tests = slices.cut(found['tests'], part.number, part.count)
    outcomes = runner.Run(tests, False, log, setting).outcomes
    again = runner.Run(_failed(tests, outcomes), False, log, setting).outcomes
    result = dict(summary(outcomes, again), commit=before, date=store.today())
    Record(place).save(part, found, result)
    return dict(result, broken=split(found['not_imported'])[1])


def split(not_imported):
    """What modules that cannot be imported are.

    :param not_imported: as in selection.Found
    :returns: the same of those that are skipped and of those that are broken
    """
    return tuple(
        {module: reason for module, reason in not_imported.items()
         if reason.startswith('SkipTest: ') is skipped}
        for skipped in (True, False))


def summary(outcomes, again):
    """What is kept of outcomes.

    :param outcomes: dict, id -> runner.Outcome
    :param again: the same of those that failed, in a fresh process
    """
    skipped = collections.Counter(
        outcome.details.strip() or 'no reason'
        for outcome in outcomes.values() if outcome.outcome == worker.SKIP)
    return {
        'passed': sum(outcome.passed for outcome in outcomes.values())
        + sum(outcome.passed for outcome in again.values()),
        'failed': sorted(name for name, outcome in again.items()
                         if not outcome.passed),
        'unsteady': sorted(name for name, outcome in again.items()
                           if outcome.passed),
        'skipped': dict(skipped)}


def _failed(tests, outcomes):
    failed = {module: [name for name in names if outcomes[name].outcome in (
        worker.FAILURE, runner.LOST)] for module, names in tests.items()}
    return {module: names for module, names in failed.items() if names}

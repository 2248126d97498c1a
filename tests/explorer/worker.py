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

"""One operation in a process of its own: set up once, forked for the rest."""

import json
import sys
import unittest

import fixtures
import greenlet

from tests.explorer import boundaries
from tests.explorer import clock
from tests.explorer import explorer
from tests.explorer import fork
from tests.explorer import intruders
from tests.explorer import mutations
from tests.explorer import operations
from tests.explorer import report
from tests.explorer import schedules
from tests.explorer import sequences

# How many schedules one run of the operation serves. With little time these
# are few, as a run that is cut off has seen the operation's beginning only.
_CHUNK = 40
_CHUNK_IN_LIMITED_TIME = 10


class Work:
    """What a worker is asked to do; what it answers is in ``results``.

    :ivar operation: its name
    :ivar results: path of a file, to which a line of JSON is added for each
        schedule, and of ``<path>.seen`` with the boundaries
    :ivar replay: texts of schedules; all else is left out
    :ivar seed: of the order, and of the schedules with several happenings
    :ivar seconds: how long new ones are begun; None for all of them
    :ivar several: how many with several happenings; None for as many as there
        is time for
    :ivar only: names of happenings, or empty
    :ivar resume: whether what has its results already is left out
    :ivar stock: whether to leave the package off
    :ivar stop_at: a regular expression: a violation that matches it is the
        last
    :ivar sequences: how many sequences of operations; all else is left out
    """

    def __init__(self, operation, results, replay=(), seed='0', seconds=None,
                 several=0, only=(), resume=False, stock=False, stop_at=None,
                 sequences=None):
        self.operation = operation
        self.results = results
        self.replay = list(replay)
        self.seed = seed
        self.seconds = seconds
        self.several = several
        self.only = list(only)
        self.resume = resume
        self.stock = stock
        self.stop_at = stop_at
        self.sequences = sequences


class _NotActive(fixtures.Fixture):
    """In place of the Activation of the functional tests."""

    def __init__(self, **options):
        super().__init__()


def run(work):
    """Do the work.

    :returns: whether the cloud came up
    """
    mutations.apply_from_environment()
    cls = operations.ALL[work.operation]

    class Case(cls):
        STOCK = work.stock

        def setUp(self):
            if work.stock:
                self.useFixture(fixtures.MonkeyPatch(
                    'tests.functional.base.Activation', _NotActive))
            super().setUp()

        def explore(self):
            _explore(self, work)
            # The fixtures' way down is of no interest, and waits for threads.
            sys.stdout.flush()
            fork.leave()

    Case.__name__ = cls.__name__
    result = unittest.TextTestRunner(stream=sys.stderr).run(Case('explore'))
    return result.wasSuccessful()


def _explore(cloud, work):
    cloud.main = greenlet.getcurrent()
    found = explorer.Explorer(cloud, work.results, work.stop_at, work.seed)
    cloud.actors = found.actors
    fork.use_one_thread()
    clock.VirtualClock()
    _warm_up(cloud, found)
    boundaries.install(found)
    fork.prepare()
    if work.sequences:
        sequences.run(found, work.seed, work.sequences)
        return
    until = work.seconds and clock.real_time() + work.seconds
    seen = found.record()
    for chunk in _chunks(_choose(work, seen, cls=type(cloud)),
                         _CHUNK_IN_LIMITED_TIME if until else _CHUNK):
        if found.is_over(until):
            break
        found.explore(chunk, until)


def _warm_up(cloud, found):
    """Do once, with another server, what each child does at its end.

    What libraries make when they need it first, such as compiled statements,
    is the parent's then, and not made in each child anew.
    """
    kept, cloud.server = cloud.server, cloud.another_server()
    for act in cloud.ways_of_all():
        found.as_caller(act)
    cloud.server = kept
    intruders.ALL['archive'].act(cloud)
    intruders.let_periodic_tasks_run(cloud)
    cloud.look()


def _choose(work, seen, cls):
    if work.replay:
        return _not_done(work, map(schedules.parse, work.replay))
    singles = schedules.singles(work.operation, seen, cls.INTRUDERS)
    if work.only:
        singles = [each for each in singles if each.happening in work.only]
    several = schedules.several(
        work.operation, seen, cls.INTRUDERS, work.seed,
        len(singles) if work.several is None else work.several, work.only)
    return _not_done(work, schedules.shuffled(singles + several, work.seed))


def _not_done(work, chosen):
    done = {result.schedule for result in report.read(work.results)
            if not result.missed} if work.resume else ()
    return [each for each in chosen if str(each) not in done]


def _chunks(chosen, size):
    for start in range(0, len(chosen), size):
        yield chosen[start:start + size]


if __name__ == '__main__':
    sys.exit(not run(Work(**json.loads(sys.argv[1]))))

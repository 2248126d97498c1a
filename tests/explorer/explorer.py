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

"""Stop an operation at a boundary, fork, let something happen, and check."""

import collections
import contextlib
import dataclasses
import json
import os
import re
import traceback

from eventlet import patcher
import greenlet

from tests.explorer import actors
from tests.explorer import boundaries
from tests.explorer import clock
from tests.explorer import failures
from tests.explorer import fork
from tests.explorer import intruders
from tests.explorer import left_open

_os = patcher.original('os')

# Seconds of the virtual clock.
_INTRUDER_IS_WAITED_FOR = 15
_SWITCHED_OFF_FOR = 300
_UNTIL_REST = 4000
# Looks at rest that must agree.
_CALM = 4

# Seconds of CPU that one schedule may use.
_BUDGET = 60


class Explorer:
    """Runs schedules in one cloud.

    :ivar path: of the file that results are added to
    :ivar schedule: the Schedule of this process, which is a child; else None
    :ivar seen: the Boundaries that the operation has reached
    :ivar happened: what has happened in each step, as texts
    """

    def __init__(self, cloud, results, stop_at=None, seed=None):
        """Put an explorer into a cloud.

        :param cloud: an operations.Cloud
        :param results: path of the file that results are added to
        :param stop_at: a regular expression; a violation that matches it is
            the last
        :param seed: what has chosen the schedules
        """
        self.cloud = cloud
        self._seed = seed
        self.actors = actors.Actors()
        self.schedule = None
        self.seen = []
        self.path = results
        self._stop_at = stop_at
        self._stopped = results + '.stopped'  # a file, as processes share it
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._stopped)
        self._plan = {}
        self._until = None
        self._active = False
        self._counts = collections.Counter()
        self._inside = set()  # green threads that are in a call
        self._steps = []
        self._since = 0
        self.happened = []
        self._notes = {}
        self._operation = None

    # --- the operation ---------------------------------------------------

    def record(self):
        """Run the operation in a child, and note its boundaries.

        :returns: a list of Boundary
        """
        path = self.path + '.seen'
        child = fork.Child(self.cloud.directories, _BUDGET * 10)
        if child.fork(self._give_up):
            self._run({})
            with open(path, 'w') as file:
                json.dump([dataclasses.asdict(each) for each in self.seen],
                          file)
            fork.leave()
        with open(path) as file:
            return [boundaries.Boundary(**each) for each in json.load(file)]

    def explore(self, plan, until=None):
        """Run the operation in a child, and schedules in its children.

        :param plan: the Schedules
        :param until: the real time at which no other is begun
        """
        child = fork.Child(self.cloud.directories, 100000)
        if child.fork(self._give_up):
            self._until = until
            by_key = collections.defaultdict(list)
            for each in plan:
                by_key[each.key].append(each)
            self._run(by_key)
            missed = [each for rest in self._plan.values() for each in rest]
            if missed and not self.is_over(until):
                self.write(dict(schedule=str(missed[0]), missed=len(missed),
                                violations=['harness: %d schedules name a '
                                            'boundary that is not reached'
                                            % len(missed)]))
            fork.leave()

    def is_over(self, until):
        """Whether no other schedule is to be begun.

        :param until: a real time, or None
        """
        return (until is not None and clock.real_time() > until
                or os.path.exists(self._stopped))

    def _run(self, plan):
        self._plan = plan
        self._active = True
        self.cloud.answers.clear()
        self._operation = self.actors.spawn(
            self.actors.actor(actors.API, actors.OPERATION),
            self.call, self.cloud.operate)
        rest = self._wait_for_rest()
        if self.schedule is not None:  # a child comes out of it here, too
            self._finish(rest)
        self._active = False

    def call(self, function):
        """Call a function; what it raises is noted."""
        try:
            return function()
        except Exception as exc:
            self._notes.setdefault('raised', []).append(repr(exc)[:300])

    def _wait_for_rest(self):
        """Whether all come to rest."""
        calm = 0
        for _ in clock.looks(_UNTIL_REST):
            calm = calm + 1 if self.actors.is_quiet() else 0
            if calm > _CALM:
                return True
        return False

    rest = _wait_for_rest

    # --- a boundary --------------------------------------------------------

    @contextlib.contextmanager
    def at(self, kind, label, error, only_reads):
        """Around a call that leaves the process.

        :param kind: of the call
        :param label: what is called, or a function that tells it
        :param error: makes the exception of a call of this kind
        :param only_reads: whether it changes nothing
        :returns: a failures.Outcome
        """
        current = greenlet.getcurrent()
        actor = self.actors.current()
        if actor is None or current in self._inside:
            yield failures.Outcome(None, None, None)
            return
        self._stop_if_dead(actor)
        if not self._active:
            yield failures.Outcome(None, None, None)
            return
        self._inside.add(current)
        try:
            outcome = self._reach(actor, kind, label, error, only_reads)
            self._stop_if_dead(actor)  # an intruder may have cut its power
            outcome.before()
            yield outcome
            self._stop_if_dead(actor)
            outcome.after()
        finally:
            self._inside.discard(current)

    def _stop_if_dead(self, actor):
        if self.actors.is_dead(actor):
            self.actors.stop_here()

    def _reach(self, actor, kind, label, error, only_reads):
        label = label() if callable(label) else label
        happening = failures.NONE
        if self.schedule is not None:
            happening = self._next_step(actor, label)
        elif actor.lineage == actors.OPERATION:
            happening = self._reached_by_operation(actor, kind, label,
                                                   only_reads)
        return failures.Outcome(
            self._let_happen(happening, actor, label), lambda: error(label),
            lambda function, args, kwargs: self.actors.spawn(
                actor._replace(lineage=actors.LATE),
                lambda: function(*args, **kwargs)))

    def _reached_by_operation(self, actor, kind, label, only_reads):
        self._counts[actor.service, label] += 1
        boundary = boundaries.Boundary(
            actor.service, label, kind, self._counts[actor.service, label],
            only_reads, boundaries.where())
        self.seen.append(boundary)
        for schedule in self._plan.pop(boundary.key, ()):
            if self.is_over(self._until):
                break
            child = fork.Child(self.cloud.directories, _BUDGET)
            if child.fork(self._give_up):
                self.schedule = schedule
                self._steps = list(schedule.steps)
                self._notes['where'] = boundary.where
                self._notes['began'] = clock.real_time()
                self.cloud.answers.clear()
                return schedule.happening
            if child.status:
                self.write(dict(schedule=str(schedule), violations=[
                    'harness: the child ended with status %s'
                    % child.status]))
        return failures.NONE

    def _next_step(self, actor, label):
        self._since += 1
        if not self._steps or self._steps[0].after != self._since:
            return failures.NONE
        self._since = 0
        return self._steps.pop(0).happening

    # --- what happens --------------------------------------------------------

    def _let_happen(self, happening, actor, label):
        """:returns: the name of the happening, if it is one of the call"""
        if happening == failures.NONE:
            return happening
        self.happened.append('%s at %s/%s of the %s' % (
            happening, actor.service, label, actor.lineage))
        if happening == failures.CRASH:
            # Nova's tests cannot start a service that is about to start.
            if actor.lineage != actors.RESTART:
                self._crash(actor)
        elif happening == failures.SWITCH:
            self._wait_while_others_work(actor)
        elif happening in intruders.ALL:
            self._intrude(happening)
        else:
            return happening
        return failures.NONE

    def _crash(self, actor):
        self.cloud.kill_and_restart(actor.service)
        self.actors.stop_here()

    def _wait_while_others_work(self, actor):
        others = self._lineages() - {actor.lineage}
        for _ in clock.looks(_SWITCHED_OFF_FOR):
            if all(map(self.actors.is_quiet, others)):
                return

    def _lineages(self):
        return {actors.OPERATION, actors.LATE, actors.RESTART,
                *intruders.ALL}

    def _intrude(self, name):
        self.actors.spawn(self.actors.actor(actors.API, name), self.call,
                          lambda: intruders.ALL[name].act(self.cloud))
        for _ in clock.looks(_INTRUDER_IS_WAITED_FOR):
            if self.actors.is_quiet(name):
                return

    # --- the end of a child --------------------------------------------------

    def _finish(self, rest):
        violations = []
        try:
            self._steps = []
            if not rest:
                violations.append('not at rest: %s' % [
                    '%s %s' % (actor, number) for actor, number
                    in self.actors._at_work.items() if number])
                self._notes['stacks'] = self._stacks()
            if (self.schedule.happening == failures.NONE
                    and 'raised' in self._notes):
                violations.append('harness: the operation raises %s'
                                  % self._notes['raised'])
            self._notes['end'] = self.cloud.state()
            violations += self.cloud.check(self)
        except BaseException:
            violations.append('harness: %s' % traceback.format_exc()[-1500:])
        self._end(violations)

    def as_caller(self, function):
        """Call a function as a request, and come to rest."""
        with self.actors.acting(self.actors.actor(actors.API, 'check')):
            result = function()
        self._wait_for_rest()
        return result

    @staticmethod
    def _stacks():
        return fork.green_stacks(('/nova/compute/manager', '/nova/conductor/',
                                  '/nova_rescue_ext/'))[:5]

    def _give_up(self):
        self._notes['stacks'] = self._stacks()
        self._notes['awaited'] = self.actors.awaited()
        self._end(['not at rest after %d s of CPU' % _BUDGET])

    def _end(self, violations):
        began = self._notes.pop('began', clock.real_time())
        result = dict(
            self._notes, schedule=str(self.schedule), violations=violations,
            seed=self._seed,
            happened=self.happened, unreached=len(self._steps),
            answers=[each for each in self.cloud.answers if each[0] >= 400],
            seconds=round(clock.real_time() - began, 2))
        self.write(result)
        if self._stop_at and any(
                re.search(self._stop_at, each) and not left_open.reason_of(
                    result['schedule'], [each], happened=self.happened)
                for each in violations):
            with open(self._stopped, 'w'):
                pass
        if violations and self.schedule is not None:
            self._keep_log(result)
        fork.leave()

    def write(self, result):
        """Add a line to the results."""
        descriptor = _os.open(self.path, os.O_WRONLY | os.O_APPEND
                              | os.O_CREAT, 0o644)
        _os.write(descriptor, json.dumps(result).encode() + b'\n')
        _os.close(descriptor)

    def _keep_log(self, result):
        directory = self.path + '.logs'
        os.makedirs(directory, exist_ok=True)
        name = str(self.schedule).replace('/', '_')[:200]
        with open(os.path.join(directory, name + '.log'), 'w') as file:
            file.write(json.dumps(result, indent=1) + '\n')
            file.write(self.cloud.log())

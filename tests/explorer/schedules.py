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

"""What happens when: a schedule, as text that replays it, and their choice.

``rescue-legacy@compute1/Domain.destroy#1=delete+5=switch+2=fail``: at the
first call of ``Domain.destroy`` in ``compute1`` during operation
``rescue-legacy`` somebody deletes the server; at the fifth boundary from then
on whoever comes there is stopped until all others have come to rest; at the
second from then on the call fails.
"""

import random
import re
import typing

from tests.explorer import failures
from tests.explorer import intruders

_PATTERN = re.compile(r'(?P<operation>[\w-]+)@(?P<key>.+#\d+)'
                      r'=(?P<first>[\w-]+)(?P<rest>(\+\d+=[\w-]+)*)$')
# How far apart two points are at most.
_FARTHEST = 80
_WAY_BACK = 20


class Step(typing.NamedTuple):
    """What happens at the n-th boundary after the step before."""

    after: int
    happening: str


class Schedule(typing.NamedTuple):
    """What happens in an operation.

    ``key`` is that of the boundary of the first happening, ``steps`` are the
    others.
    """

    operation: str
    key: str
    happening: str
    steps: tuple = ()

    def __str__(self):
        return '%s@%s=%s%s' % (self.operation, self.key, self.happening,
                               ''.join('+%d=%s' % step
                                       for step in self.steps))


def parse(text):
    """A Schedule from its text.

    :raises: ValueError
    """
    match = _PATTERN.match(text)
    if match is None:
        raise ValueError('%r is not a schedule: write '
                         'OPERATION@BOUNDARY#N=HAPPENING' % text)
    steps = tuple(Step(int(step.split('=')[0]), step.split('=')[1])
                  for step in match['rest'].split('+')[1:])
    return Schedule(match['operation'], match['key'], match['first'], steps)


def happenings(boundary, intruders_of_operation):
    """What can happen at a boundary.

    :param boundary: a Boundary
    :param intruders_of_operation: the names of those who can come
    """
    found = failures.possible(boundary)
    if not boundary.only_reads:
        # A read is the same moment as the boundary before it.
        found += list(intruders_of_operation)
    return found


def singles(operation, boundaries, names):
    """All schedules with one happening.

    :param operation: its name
    :param boundaries: those that it reaches if nothing happens
    :param names: the names of the intruders
    """
    return [Schedule(operation, boundary.key, happening)
            for boundary in boundaries
            for happening in happenings(boundary, names)]


def several(operation, boundaries, names, seed, number, only=()):
    """Schedules with two or three happenings, at random.

    :param names: the names of the intruders
    :param seed: the same seed gives the same schedules
    :param number: how many
    :param only: names of happenings; all if it is empty
    """
    chance = random.Random('%s %s several' % (seed, operation))
    names = [name for name in names if not only or name in only]
    found = _Tree()
    for boundary in boundaries:
        failing = [name for name in failures.possible(boundary)
                   if name != failures.NONE and (not only or name in only)]
        if not boundary.only_reads and (failing or names):
            found.add(boundary, failing)
    return [_random_schedule(chance, operation, *found.choose(chance),
                             names, only)
            for _ in range(number)] if found.by_kind else []


class _Tree:
    """Boundaries by kind and label.

    What an operation calls often is not more dangerous for that.
    """

    def __init__(self):
        self.by_kind = {}

    def add(self, boundary, failing):
        self.by_kind.setdefault(boundary.kind, {}).setdefault(
            (boundary.service, boundary.label), []).append(
                (boundary, failing))

    def choose(self, chance):
        """A boundary and the names of what can become of its call."""
        by_label = chance.choice(list(self.by_kind.values()))
        return chance.choice(chance.choice(list(by_label.values())))


def _random_schedule(chance, operation, boundary, failing, names, only):
    happening = _choose(chance, failing, names)
    anywhere = [name for name in (failures.FAIL, failures.LOST,
                                  failures.CRASH)
                if not only or name in only]
    steps = []
    for _ in range(chance.choice((1, 1, 1, 2))):
        if failures.is_alone({happening, *(each for _, each in steps)}):
            # On the way back from the first failure, which is short.
            steps.append(Step(_near(chance, _WAY_BACK),
                              _choose(chance, anywhere, names)
                              or failures.SWITCH))
        else:
            steps.append(Step(_near(chance, _FARTHEST),
                              failures.SWITCH if chance.random() < .5
                              else _choose(chance, anywhere, names)
                              or failures.SWITCH))
    return Schedule(operation, boundary.key, happening, tuple(steps))


def _near(chance, farthest):
    """How far to go: near moments are more dangerous than far ones."""
    return max(1, int(chance.triangular(0, farthest, 0)))


def _choose(chance, failing, names):
    """A failure or an intruder; None if there is neither."""
    kinds = [kind for kind in (failing, names) if kind]
    return chance.choice(chance.choice(kinds)) if kinds else None


def shuffled(schedules, seed):
    """In another order, which a seed determines."""
    mixed = list(schedules)
    random.Random('%s order' % seed).shuffle(mixed)
    return mixed


def is_known(happening):
    """Whether something of this name can happen."""
    return happening in failures.ALL or happening in intruders.ALL

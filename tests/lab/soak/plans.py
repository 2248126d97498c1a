# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.

"""What happens in a round of the soak, chosen by a seed.

A plan depends on the seed and the number of its round and on nothing else, so
that it can be replayed alone.
"""

import random
import typing

# What there is to act on: see subjects.py.
SERVERS = ('disks', 'plain', 'volume')
UNBUILT = 'unbuilt'

# {state that the round begins in: what is asked for first}
_FIRST = {
    'ACTIVE': ('rescue_legacy', 'rescue_stable', 'rescue_stable',
               'migrate_active', 'stop', 'reboot_hard'),
    'SHUTOFF': ('rescue_legacy', 'rescue_stable', 'start'),
    'RESCUE legacy': ('migrate', 'migrate', 'migrate', 'unrescue'),
    'RESCUE stable': ('migrate', 'migrate', 'migrate', 'unrescue'),
    'ERROR': ('rebuild',),
}
# Who comes in between; rare ones are named once.
_INTRUDERS = ('look', 'look', 'rescue_legacy', 'rescue_stable', 'unrescue',
              'unrescue', 'migrate', 'abort', 'stop', 'start', 'reboot_soft',
              'reboot_hard', 'rebuild', 'delete', 'reset_active',
              'reset_error')
# What is all our own, so that a failure in it tells nothing of stock Nova.
_OURS = {'rescue_legacy', 'rescue_stable', 'unrescue', 'migrate', 'rebuild'}

_RESETS = {'reset_active', 'reset_error'}
# What must not come into what the round begins with: stock Nova leaves things
# behind, or has no row yet that could be reset.
_NOT_INTO = {'migrate_active': {'delete', *_RESETS}, 'rebuild': _RESETS}

_ANYWHERE = ('conductor', 'super_conductor')
_ON_HOSTS = ('nova_compute', 'qemu', 'network', 'libvirtd')
_ON_DESTINATION = tuple(f'{name}_destination' for name in _ON_HOSTS)

_MOST_INTRUDERS = 3
# An operation takes ten to thirty seconds on an emulated processor.
_SECONDS = 15


class Call(typing.NamedTuple):
    """What somebody asks for.

    :ivar after: seconds after the round began
    :ivar name: a name of calls.ALL
    """

    after: float
    name: str

    def __str__(self):
        return f'{self.name} at {self.after}'


class Act(typing.NamedTuple):
    """What happens to one server."""

    server: str
    state: str
    calls: tuple

    @property
    def names(self):
        return {call.name for call in self.calls}

    def __str__(self):
        return (f'{self.server} {self.state}: '
                + ', '.join(str(call) for call in self.calls))


class Round(typing.NamedTuple):
    """What happens at the same time.

    :ivar acts: the first is what the fault is aimed at
    :ivar fault: the Call of a fault of tests.lab.faults, or None
    """

    acts: tuple
    fault: typing.Optional[Call]

    def __str__(self):
        return ' | '.join([str(act) for act in self.acts]
                          + [str(self.fault)] * bool(self.fault))


def choose(seed, number):
    """The plan of a round.

    :param seed: any text or number
    :param number: the number of the round
    """
    dice = random.Random(f'{seed}/{number}')
    names = dice.sample(SERVERS, 2)
    if dice.random() < 0.2:
        names[0] = UNBUILT
    fails = dice.random() < 0.5
    acts = tuple(_choose_act(dice, name, fails) for name in names)
    fault = None
    if fails:
        fault = Call(_when(dice), dice.choice(_faults_of(acts[0])))
    return Round(acts, fault)


def _choose_act(dice, name, fails):
    state = 'ERROR' if name == UNBUILT else dice.choice(
        [state for state in sorted(_FIRST) if state != 'ERROR'])
    first = dice.choice([each for each in _FIRST[state]
                         if not fails or each in _OURS])
    calls = [Call(0.0, first)]
    for _ in range(dice.randint(0, _MOST_INTRUDERS)):
        calls.append(Call(_when(dice), dice.choice(_INTRUDERS)))
    forbidden = _NOT_INTO.get(first, set())
    if 'migrate' in {call.name for call in calls}:
        # "nova-rescue-ext-manage settle-migration" is for that.
        forbidden = forbidden | _RESETS
    calls = [call for call in calls if call.name not in forbidden]
    return Act(name, state, tuple(sorted(calls, key=lambda call: call.after)))


def _faults_of(act):
    if act.state == 'ERROR':
        return _ANYWHERE
    if act.calls[0].name == 'migrate':
        return (*_ANYWHERE, *_ON_HOSTS, *_ON_DESTINATION)
    return (*_ANYWHERE, *_ON_HOSTS)


def _when(dice):
    """Seconds, early ones more often."""
    return round(_SECONDS * dice.random() ** 2, 1)

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

"""Sequences of operations, one after the other, each to its end.

hypothesis chooses them, and shrinks one that violates something to the
shortest that does. Each runs in a fork of the cloud.
"""

import json

import hypothesis
from hypothesis import stateful

from tests.explorer import actors
from tests.explorer import fork
from tests.explorer import intruders
from tests.explorer import invariants

# Seconds of CPU that one sequence may use.
_BUDGET = 120
_MOST_STEPS = 8


def _by_owner(name):
    return lambda cloud: intruders.ALL[name].act(cloud)


# Nothing here changes what the API says without changing what runs.
STEPS = {name: _by_owner(name) for name in (
    'rescue', 'unrescue', 'reboot', 'stop', 'start', 'rebuild', 'migrate',
    'delete', 'sync_power_states', 'poll_rescued', 'purge', 'image_cache',
    'evacuate', 'drain', 'leftovers')}
STEPS['crash of compute1'] = lambda cloud: cloud.kill_and_restart('compute1')
STEPS['crash of compute2'] = lambda cloud: cloud.kill_and_restart('compute2')


def run(explorer, seed, number):
    """Run sequences in the cloud of an explorer.

    :param explorer: an Explorer
    :param seed: the same seed gives the same sequences
    :param number: how many
    """
    machine = hypothesis.seed(str(seed))(_machine(explorer))
    try:
        stateful.run_state_machine_as_test(
            machine, settings=hypothesis.settings(
                max_examples=number, stateful_step_count=_MOST_STEPS,
                deadline=None, database=None, print_blob=False,
                suppress_health_check=list(hypothesis.HealthCheck)))
    except _Violated as exc:
        # The last one is the shortest.
        explorer.write(exc.result)


class _Violated(Exception):

    def __init__(self, result):
        super().__init__(result['violations'])
        self.result = result


def _machine(explorer):
    class Machine(stateful.RuleBasedStateMachine):

        def __init__(self):
            super().__init__()
            self.steps = []

        def teardown(self):
            result = _run_in_child(explorer, self.steps)
            if result['violations']:
                raise _Violated(result)
            explorer.write(result)

    for name in STEPS:
        def add(machine, name=name):
            machine.steps.append(name)

        add.__name__ = name.replace(' ', '_')
        setattr(Machine, add.__name__, stateful.rule()(add))
    return Machine


def _run_in_child(explorer, steps):
    """:returns: what became of a sequence: see Explorer"""
    path = explorer.path + '.sequence'
    child = fork.Child(explorer.cloud.directories, _BUDGET)
    if child.fork(lambda: _answer(path, steps, [
            'not at rest after %d s of CPU' % _BUDGET])):
        violations = []
        for number, name in enumerate(steps, 1):
            violations = ['after step %d, %s: %s' % (number, name, each)
                          for each in _step(explorer, name)]
            if violations:
                break
        _answer(path, steps, violations)
    with open(path) as file:
        return json.load(file)


def _step(explorer, name):
    explorer.actors.spawn(
        explorer.actors.actor(actors.API, name), explorer.call,
        lambda: STEPS[name](explorer.cloud))
    if not explorer.rest():
        return ['not at rest']
    return invariants.violations(explorer.cloud)


def _answer(path, steps, violations):
    with open(path, 'w') as file:
        json.dump(dict(schedule='sequence: ' + ', '.join(steps),
                       violations=violations), file)
    fork.leave()

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

"""What became of schedules: what workers wrote, and for the terminal."""

import json
import os

from tests.explorer import boundaries
from tests.explorer import left_open
from tests.explorer import operations
from tests.explorer import schedules


class Result:
    """One line of a worker's results."""

    def __init__(self, line):
        values = json.loads(line)
        self.schedule = values['schedule']
        self.violations = values['violations']
        self.missed = values.get('missed', 0)
        self.seed = values.get('seed')
        self.end = values.get('end') or {}
        self.where = values.get('where', ())
        self.happened = values.get('happened', ())
        self.seconds = values.get('seconds', 0)
        self.stock = None
        self.reasons = left_open.reason_of(self.schedule, self.violations,
                                           happened=self.happened)

    def compare(self, stock):
        """See what stock Nova does in the same moment.

        :param stock: its violations, or None if it has no such moment
        """
        self.stock = stock
        self.reasons = left_open.reason_of(self.schedule, self.violations,
                                           stock or (), self.happened)

    @property
    def is_schedule(self):
        """Whether it can be replayed."""
        return '@' in self.schedule

    @property
    def has_several(self):
        return '+' in self.schedule

    @property
    def happenings(self):
        """The names of all that happens in it."""
        if not self.is_schedule:
            return ()
        schedule = schedules.parse(self.schedule)
        return (schedule.happening,
                *(step.happening for step in schedule.steps))

    @property
    def is_new(self):
        """Whether it is violated, and nobody has said why that may be."""
        return bool(self.violations) and self.reasons is None

    @property
    def end_state(self):
        """What is the same in schedules that end alike."""
        guests = self.end.get('guests', ())
        return (self.end.get('status'), self.end.get('task'), len(guests),
                any(in_rescue for _, in_rescue in guests))


def read(path):
    """The Results of an operation."""
    if not os.path.exists(path):
        return []
    with open(path) as file:
        # What was run again counts once.
        results = list({result.schedule: result for result in
                        map(Result, file)}.values())
    name = os.path.basename(path)
    stock = {}
    if name in operations.ALL and operations.ALL[name].BESIDE:
        stock = {renamed(result.schedule, name): result.violations
                 for result in read(os.path.join(
                     path + '.stock', operations.ALL[name].BESIDE))
                 if result.is_schedule and not result.missed}
    for result in results:
        if result.schedule in stock:
            result.compare(stock[result.schedule])
    return results


def renamed(schedule, operation):
    """The text of a schedule in another operation."""
    return str(schedules.parse(schedule)._replace(operation=operation))


def boundaries_of(path):
    """The Boundaries of an operation; none if it was never run.

    :param path: of its results
    """
    path += '.seen'
    if not os.path.exists(path):
        return []
    with open(path) as file:
        return [boundaries.Boundary(**each) for each in json.load(file)]


def say(operation, results, seconds):
    """Print what became of an operation.

    :returns: how many schedules ended in a violation that is new
    """
    new = [result for result in results if result.is_new]
    print('%-16s %5d schedules, %3d violated, of which %d are left open, '
          '%d s' % (operation, len(results),
                    sum(bool(result.violations) for result in results),
                    sum(bool(result.violations) for result in results)
                    - len(new), seconds), flush=True)
    for result in new[:20]:
        print('\n  %s\n%s\n    at %s\n    replay: make explore '
              "SCHEDULE='%s'" % (
                  result.schedule,
                  '\n'.join('    ' + each for each in result.violations),
                  ' < '.join(result.where[:3]), result.schedule), flush=True)
        if result.stock is not None:
            print('    stock Nova: %s' % (
                '; '.join(result.stock) or 'nothing is violated'), flush=True)
    if len(new) > 20:
        print('\n  and %d more: see the logs' % (len(new) - 20))
    return len(new)

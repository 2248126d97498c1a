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

"""Is Nova with the package the same as without it?"""

import collections

import prettytable

from tests.nova_suite import runner
from tests.nova_suite import worker

DIFFERENT = 'DIFFERENT'
SAME = 'same without the package'
FLAKY = 'unclear: passed when run again'


class Verdict:
    """Three runs of the tests, and what follows.

    Only what did not pass is run again, in fresh processes, without the
    package and with it, so that neither a test that fails stock nor one that
    fails now and then is held against the package. A test that fails only
    after certain others passes when it is run again, whoever is to blame:
    such tests are named, and a person has to look.
    """

    def __init__(self, tests, log):
        self.active = runner.Run(tests, True, log)
        doubtful = _select(tests, self.active.outcomes)
        self.stock = runner.Run(doubtful, False, log)
        self.again = runner.Run(doubtful, True, log)

    def judgements(self):
        """How each test is judged that did not pass at first.

        :returns: dict, id -> DIFFERENT, SAME or FLAKY
        """
        return {name: self._judge(name)
                for name, outcome in sorted(self.active.outcomes.items())
                if not outcome.passed}

    def _judge(self, name):
        if self.again.outcomes[name].passed:
            return FLAKY
        if self.stock.outcomes[name].passed:
            return DIFFERENT
        return SAME

    def table(self):
        """The counts of the three runs."""
        return count_table([('active', self.active),
                            ('stock (those that did not pass)', self.stock),
                            ('active (the same again)', self.again)])

    def failures(self):
        """The tests that failed at first: a table, or None."""
        table = prettytable.PrettyTable(
            ['test', 'active', 'stock', 'active again', 'judgement'])
        table.align = 'l'
        for name, judgement in self.judgements().items():
            outcomes = [run.outcomes[name].outcome
                        for run in (self.active, self.stock, self.again)]
            # What is skipped by Nova itself is no news.
            if outcomes != [worker.SKIP] * 3:
                table.add_row([name] + outcomes + [judgement])
        return table if table.rows else None

    def judged(self, wanted):
        """The tests that are judged DIFFERENT, SAME or FLAKY."""
        return [name for name, judgement in self.judgements().items()
                if judgement == wanted]


def count_table(runs):
    """A table of runs and how many tests had which outcome."""
    columns = (worker.SUCCESS, worker.EXPECTED_FAILURE, worker.SKIP,
               worker.FAILURE, runner.LOST)
    table = prettytable.PrettyTable(('run', 'tests') + columns)
    table.align = 'r'
    table.align['run'] = 'l'
    for name, run in runs:
        counts = collections.Counter(
            outcome.outcome for outcome in run.outcomes.values())
        table.add_row([name, len(run.outcomes)]
                      + [counts[column] for column in columns])
    return table


def _select(tests, outcomes):
    """Those of the tests that did not pass."""
    selected = {module: [name for name in ids if not outcomes[name].passed]
                for module, ids in tests.items()}
    return {module: ids for module, ids in selected.items() if ids}

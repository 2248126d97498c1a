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

from tests.nova_suite import explained
from tests.nova_suite import runner
from tests.nova_suite import worker

DIFFERENT = 'DIFFERENT'
EXPLAINED = 'explained'
SAME = 'same without the package'
FLAKY = 'unclear: another result when run again'


class Verdict:
    """Three runs of the tests, and what follows.

    Only what did not pass, or not as it is known to do stock, is run again, in
    fresh processes, without the package and with it, so that neither a test
    that fails stock nor one that fails now and then is held against the
    package. A test that fails only after certain others passes when it is run
    again, whoever is to blame: such tests are named, and a person has to look.

    :param tests: dict, module -> ids of its tests
    :param log: file for what the tests print
    :param setting: runner.Setting
    :param known: the outcomes of those tests that do not pass stock, by id, or
        None if that is not known
    """

    def __init__(self, tests, log, setting=runner.Setting(), known=None):
        self._explained = explained.read()
        self.active = runner.Run(tests, True, log, setting)
        doubtful = _select(tests, self.active.outcomes, known)
        self.stock = runner.Run(doubtful, False, log, setting)
        self.again = runner.Run(doubtful, True, log, setting)

    def judgements(self):
        """How each test is judged that was run again.

        :returns: dict, id -> DIFFERENT, EXPLAINED, SAME or FLAKY
        """
        return {name: self._judge(name)
                for name in sorted(self.again.outcomes)}

    def _judge(self, name):
        active, stock, again = self.outcomes(name)
        if active != again:
            return FLAKY
        if again == stock:
            return SAME
        if explained.reason(name, self._explained):
            return EXPLAINED
        return DIFFERENT

    def outcomes(self, name):
        """The three outcomes of a test that was run again.

        :returns: active, stock, and active again
        """
        return tuple(run.outcomes[name].outcome
                     for run in (self.active, self.stock, self.again))

    def table(self):
        """The counts of the three runs."""
        return count_table([('active', self.active),
                            ('stock (those that did not pass)', self.stock),
                            ('active (the same again)', self.again)])

    def failures(self):
        """The tests that were run again: a table, or None."""
        table = prettytable.PrettyTable(
            ['test', 'active', 'stock', 'active again', 'judgement'])
        table.align = 'l'
        for name, judgement in self.judgements().items():
            outcomes = self.outcomes(name)
            # What is skipped by Nova itself is no news.
            if set(outcomes) != {worker.SKIP}:
                table.add_row([name, *outcomes, judgement])
        return table if table.rows else None

    def judged(self, wanted):
        """The tests that are judged DIFFERENT, EXPLAINED, SAME or FLAKY."""
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


def _select(tests, outcomes, known):
    """Those of the tests that did not pass, or not as is known."""
    selected = {module: [name for name in ids
                         if _is_doubtful(outcomes[name], name, known)]
                for module, ids in tests.items()}
    return {module: ids for module, ids in selected.items() if ids}


def _is_doubtful(outcome, name, known):
    if known is None:
        return not outcome.passed
    return outcome.outcome != known.get(name, worker.SUCCESS)

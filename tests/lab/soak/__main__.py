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

"""python -m tests.lab.soak: random rounds of calls and faults in the lab.

A round brings servers to a state, lets what its plan says happen to them, and
waits for the cloud to come to rest. Then what must be true is checked, the
servers are left as their owner can leave them, and it is checked again.
"""

import argparse
import collections
import datetime
import itertools
import shutil
import sys
import time
import traceback

from tests.lab.cloud import keystone
from tests.lab.cloud import logs
from tests.lab.cloud import process
from tests.lab.cloud import settings
from tests.lab.soak import left_open
from tests.lab.soak import plans
from tests.lab.soak import rounds
from tests.lab.soak import subjects

# Beside the logs, which the next "up" throws away.
_KEPT = settings.ROOT / 'soak'


class Soak:
    """Rounds, one after the other.

    :ivar violations: {a text: in which rounds}
    :ivar left_open: {reason: how often}
    :ivar ends: {how a server ended and was left: how often}
    """

    def __init__(self, seed):
        self.seed = seed
        self.admin = keystone.connect()
        self.violations = collections.defaultdict(list)
        self.left_open = collections.Counter()
        self.ends = collections.Counter()
        self._subjects = {}

    def play(self, number):
        """Play one round, and note what it violates.

        :param number: the number of the round
        """
        plan = plans.choose(self.seed, number)
        print(f'round {number}: {plan}', flush=True)
        begin = logs.positions()
        acting = [self._subject(act.server) for act in plan.acts]
        servers = []
        try:
            played = rounds.play(plan, acting, self._are_services_up)
            servers = [each.subject.server.id for each in played]
            is_bad = [self._note(each, number) for each in played]
        except Exception:
            # Whatever it was, the next round begins with new servers.
            servers = [subject.server.id for subject in acting
                       if subject.server]
            self._violated(number, 'the round ended early',
                           traceback.format_exc())
            is_bad = [True] * len(acting)
        if any(is_bad):
            print(f'  replay: make lab-soak SEED={self.seed} ROUND={number}\n'
                  f'  logs: {self._keep_logs(number, servers, begin)}',
                  flush=True)
        for subject, bad in zip(acting, is_bad, strict=True):
            if bad or subject.kind == plans.UNBUILT or not subject.shown():
                self._forget(subject)

    def end(self):
        """Take all servers away."""
        for subject in self._subjects.values():
            self._forget(subject)

    def _subject(self, kind):
        if kind not in self._subjects:
            self._subjects[kind] = subjects.Subject(kind)
        return self._subjects[kind]

    def _are_services_up(self):
        return all(service.state == 'up'
                   for service in self.admin.compute.services())

    def _note(self, played, number):
        """Count how a server ended; return whether anything is violated."""
        self.ends[played.end] += 1
        for seconds, name, answer in played.history:
            print(f'  {seconds:6.1f} {played.act.server} {name}: '
                  f'{answer[:150]}')
        print(f'  {played.act.server}: {played.end}', flush=True)
        happened = f'{played.act} | {played.fault}'
        is_bad = False
        for violation in played.found:
            reason = left_open.reason_of(happened, violation)
            if reason:
                self.left_open[reason] += 1
            else:
                is_bad = True
                self._violated(number, violation, played.subject.server.id)
        return is_bad

    def _violated(self, number, violation, details):
        self.violations[violation].append(number)
        print(f'  VIOLATED: {violation}\n  {details}')

    def _forget(self, subject):
        try:
            subject.forget()
        except Exception as exc:
            print(f'  {subject.kind} cannot be taken away: {exc}')
            # Not again: whoever looks at it finds it.
            del self._subjects[subject.kind]

    def _keep_logs(self, number, servers, begin):
        """Keep what the services have said in this round; return where."""
        folder = _KEPT / f'{self.seed}-{number}'
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / 'servers').write_text('\n'.join(servers))
        for path in settings.LOG.glob('*.log'):
            lines = logs.lines_since(begin, path.stem)
            (folder / path.name).write_text(''.join(lines))
        return folder


def _report(soak, number):
    print(f'{number} rounds. How servers ended, and what it took to leave '
          'that:')
    for end, times in soak.ends.most_common():
        print(f'  {times:4} {end}')
    for reason, times in soak.left_open.most_common():
        print(f'Left open, {times} times: {reason}')
    for violation, numbers in soak.violations.items():
        print(f'VIOLATED in {numbers}: {violation}')
    print(f'{len(soak.violations)} violations with SEED={soak.seed}.')


def main():
    parser = argparse.ArgumentParser(prog='python -m tests.lab.soak')
    parser.add_argument('--minutes', type=float, default=60)
    parser.add_argument('--seed', default=datetime.date.today().isoformat())
    parser.add_argument('--round', type=int, help='this one only')
    args = parser.parse_args()
    if not settings.Shape.current().ext:
        raise process.LabError('The lab is up without the package (EXT=0).')
    print(f'SEED={args.seed}', flush=True)
    soak = Soak(args.seed)
    end = time.monotonic() + args.minutes * 60
    played = 0
    try:
        for number in ([args.round] if args.round is not None
                       else itertools.count(1)):
            soak.play(number)
            played += 1
            if time.monotonic() > end:
                break
    finally:
        soak.end()
        _report(soak, played)
    return 1 if soak.violations else 0


if __name__ == '__main__':
    sys.exit(main())

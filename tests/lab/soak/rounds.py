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

"""One round of the soak, from bringing the servers to their states on."""

import threading
import time

from tests.lab import base
from tests.lab.cloud import process
from tests.lab import faults
from tests.lab.soak import calls
from tests.lab.soak import invariants

# Until all services are up, all tasks over, and abandoned migrations ended.
_REST_SECONDS = 600
# Until periodic tasks have put right what they can, after that.
_GRACE_SECONDS = 120


class Played:
    """What happens to one server in a round.

    :ivar act: the plans.Act
    :ivar fault: the Call of the fault that is aimed at it, or None
    :ivar subject: the subjects.Subject
    :ivar history: [(seconds, call, answer)]
    :ivar found: what is violated, as a list of texts
    :ivar end: the state that the round ended in, and what it took to leave it
    """

    def __init__(self, act, subject, fault):
        self.act = act
        self.fault = fault
        self.subject = subject
        self.history = []
        self.found = []
        self.end = 'none'

    def call(self, begin):
        """Ask for what the plan says, when it says so."""
        for call in self.act.calls:
            time.sleep(max(0, begin + call.after - time.monotonic()))
            answer = _ask(calls.ALL[call.name], self.subject.server)
            self.history.append((time.monotonic() - begin, call.name,
                                 answer))

    def answers(self, name):
        return [answer for _, called, answer in self.history
                if called == name]


def _ask(call, server):
    try:
        call(server)
    except base.Refused as refused:
        return str(refused)
    except Exception as exc:
        return f'no answer: {type(exc).__name__}: {exc}'
    return 'accepted'


def play(plan, subjects, are_services_up):
    """Play a round.

    :param plan: the plans.Round
    :param subjects: the subjects.Subject of each act
    :param are_services_up: a function
    :returns: [Played], one for each act
    """
    acts = [Played(act, subject, fault) for act, subject, fault
            in zip(plan.acts, subjects, (plan.fault, None), strict=True)]
    for played in acts:
        played.subject.bring_to(played.act.state)
    _let_happen(plan.fault, acts)
    _wait_for_rest(acts, are_services_up)
    for played in acts:
        played.found += _bad_answers(played, plan.fault)
        played.found += _persisting(played.subject)
    acts[0].found += invariants.files_of_migrations()
    for played in acts:
        _leave(played)
    return acts


def _let_happen(fault, acts):
    broken = fault and faults.ALL[fault.name]
    if broken:
        broken.aim(acts[0].subject.server)
    begin = time.monotonic()
    threads = [threading.Thread(target=played.call, args=(begin,))
               for played in acts]
    for thread in threads:
        thread.start()
    try:
        if broken:
            _break(broken, begin + fault.after)
    finally:
        for thread in threads:
            thread.join()


def _break(broken, when):
    time.sleep(max(0, when - time.monotonic()))
    broken.begin()
    try:
        time.sleep(broken.seconds)
    finally:
        broken.end()


def _wait_for_rest(acts, are_services_up):
    """Wait, but not for ever: what does not end by itself is found then."""
    for _ in process.wait_steps(_REST_SECONDS, 2):
        try:
            if are_services_up() and all(
                    invariants.at_rest(played.subject) for played in acts):
                return
        except Exception:
            # The services find each other again.
            continue


def _bad_answers(played, fault):
    """Answers that nobody but a service with a fault may give."""
    if ('accepted' in played.answers('delete')
            and played.subject.shown() is not None):
        yield 'DELETE was answered 204, and the server is there'
    if fault:
        return
    for _, name, answer in played.history:
        if answer.startswith(('5', 'no answer')):
            yield f'answer to {name}: {answer}'


def _persisting(subject):
    """What is violated, and stays so."""
    if invariants.two_run(subject):
        return ['two guests of one server run']
    found = []
    for _ in process.wait_steps(_GRACE_SECONDS, 5):
        found = invariants.violations(subject)
        if not found:
            break
    return found


def _leave(played):
    """Leave the state that the round ended in, as the owner can."""
    subject, shown = played.subject, played.subject.shown()
    if shown is None:
        played.end = 'deleted'
        return
    state = shown['status']
    try:
        took = subject.leave(shown)
        if set(played.act.names) & {'reset_active', 'reset_error'} and (
                took == 'nothing'):
            # What it says need not be what it is.
            took = subject.reboot_hard()
    except (base.Refused, base.WentWrong, process.LabError) as exc:
        played.end = f'{state}, no way out'
        played.found.append(f'no way out of {state}: {exc}')
        return
    played.end = f'{state}, {took}'
    played.found += [f'after the {took}: {text}'
                     for text in _persisting(subject)]
    played.found += _unlike_first(subject)


def _unlike_first(subject):
    """What the guest sees otherwise than when it booted first."""
    if subject.report is None or subject.shown() is None:
        return
    after = subject.server.report()
    if (after.role, after.is_ready) != ('base', True):
        return  # it has moved, and its console is a new one
    for mark, content in subject.report.contents.items():
        if after.contents.get(mark) != content:
            yield f'the content of {mark} has changed: the guest says so'

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

"""What a call that leaves the process can end in, and a service, too."""

import eventlet

NONE = 'none'
FAIL = 'fail'
LOST = 'lost'
LATE = 'late'
DELAYED = 'delayed'
DOUBLED = 'doubled'
CRASH = 'crash'
SWITCH = 'switch'

# In words, for the report.
ALL = {
    NONE: 'nothing: the harness itself',
    FAIL: 'the call fails, and nothing was done',
    LOST: 'the call has worked, and its answer is lost',
    LATE: 'the call times out, and the work goes on',
    DELAYED: 'the message comes a minute later',
    DOUBLED: 'the message comes twice',
    CRASH: 'the service is killed and started again',
    SWITCH: 'whoever is here is stopped until all others are at rest',
}

# Longer than anything but a time-out of RPC takes.
_DELAY = 61


def possible(boundary):
    """The names of what can become of a call.

    :param boundary: a Boundary
    """
    found = [NONE, FAIL]
    if boundary.only_reads:
        return found[1:]
    found.append(LOST)
    if boundary.kind == 'rpc':
        if '.cast.' in boundary.label:
            found += [DELAYED, DOUBLED]
        else:
            found.append(LATE)
    found.append(CRASH)
    return found


def is_alone(happenings):
    """Whether nobody but the operation is at work after these.

    :param happenings: their names
    """
    return set(happenings) <= {NONE, FAIL, LOST, CRASH}


class Outcome:
    """What becomes of one call."""

    def __init__(self, name, error, spawn):
        """Choose what becomes of a call.

        :param name: FAIL, LOST, LATE, DELAYED, DOUBLED or anything else
        :param error: makes the exception of a call of this kind
        :param spawn: runs a function in a green thread of the same service
        """
        self.name = name
        self._error = error
        self._spawn = spawn

    def before(self):
        """Fail, if that is what it does."""
        if self.name == FAIL:
            raise self._error()

    def after(self):
        """Lose the answer, if that is what it does."""
        if self.name == LOST:
            raise self._error()

    def run(self, function, args, kwargs):
        """Call a function, with what becomes of it."""
        if self.name == LATE:
            self._spawn(function, args, kwargs)
            raise self._error()
        if self.name == DELAYED:
            self._spawn(_later, (function, args, kwargs), {})
            return None
        result = function(*args, **kwargs)
        if self.name == DOUBLED:
            self._spawn(_later, (function, args, kwargs), {})
        return result


def _later(function, args, kwargs):
    eventlet.sleep(_DELAY)
    return function(*args, **kwargs)

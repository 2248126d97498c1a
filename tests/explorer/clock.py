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

"""A clock that moves when nobody has anything to do.

No sleep and no time-out costs time, and two runs of the same schedule see the
same times.
"""

import datetime
import time

import eventlet
from eventlet import patcher
from oslo_utils import timeutils

_native = patcher.original('time')

# A clock that stands still would make an endless loop of a loop that polls.
_TICK = 1e-6
# For what is no green thread: a process that runs, a socket.
_LONGEST_REAL_WAIT = 0.05

_SHORTEST_PAUSE = 0.05
_LONGEST_PAUSE = 5

_clocks = []


def pass_time(seconds):
    """Let time pass for all, whatever they are at.

    What they wait for has come, or timed out, when they run again.

    :param seconds: of the virtual clock
    """
    for clock in _clocks:
        clock.passed += seconds


def looks(seconds):
    """Let time pass between looks at what is waited for.

    More of it each time: each look costs real time.

    :param seconds: after which there are no more looks
    """
    waited = 0.0
    while waited < seconds:
        yield
        pause = min(max(_SHORTEST_PAUSE, waited / 50), _LONGEST_PAUSE)
        eventlet.sleep(pause)
        waited += pause


def real_time():
    """Seconds that have really passed, for budgets of CPU and reports."""
    return _native.monotonic()


class VirtualClock:
    """Replace the clocks of the hub, of ``time`` and of oslo.utils.

    There is no way back: use it in a process of its own.

    :ivar passed: how many seconds it has moved
    """

    def __init__(self):
        self._began = _native.time()
        self.passed = 0.0
        hub = eventlet.hubs.get_hub()
        self._hub = hub
        self._really_wait = hub.wait
        _clocks.append(self)
        hub.clock = self._read
        hub.wait = self._wait
        time.time = lambda: self._began + self._read()
        time.monotonic = time.perf_counter = self._read
        timeutils.utcnow = self._utcnow
        timeutils.now = self._read
        # Timers that were set before count from the clock of the system.
        offset = _native.monotonic()
        hub.timers[:] = [(when - offset, timer) for when, timer in hub.timers]
        hub.next_timers[:] = [(when - offset, timer)
                              for when, timer in hub.next_timers]

    def _read(self):
        self.passed += _TICK
        return self.passed

    def _utcnow(self, with_timezone=False):
        now = datetime.datetime.fromtimestamp(
            self._began + self._read(), datetime.timezone.utc)
        return now if with_timezone else now.replace(tzinfo=None)

    def _wait(self, seconds=None):
        if self._hub.listeners['read'] or self._hub.listeners['write']:
            began = real_time()
            self._really_wait(min(seconds or 0, _LONGEST_REAL_WAIT))
            self.passed += min(real_time() - began, seconds or 0)
        elif seconds and seconds > 0:
            self.passed += seconds

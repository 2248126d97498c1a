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

"""Fork a whole cloud, and come back to it as if nothing had been.

In eventlet mode with casts as messages the process has one thread of the
operating system, and fork copies all green threads, locks, queues and
databases in memory. What it does not copy, and what notices the fork, is
treated here.
"""

import ctypes
import gc
import os
import shutil
import signal

import eventlet
from eventlet import patcher
from eventlet import tpool
from sqlalchemy import pool

from tests.explorer import clock

_os = patcher.original('os')

_PR_SET_PDEATHSIG = 1  # of prctl(2)


def use_one_thread():
    """Let nothing run in a thread of the system: the child would miss it."""
    tpool.execute = lambda function, *args, **kwargs: function(*args,
                                                               **kwargs)


def prepare():
    """Make the process one that can be forked at any moment."""
    # oslo.db takes a connection away from a process that was forked, and an
    # old one from everybody; with it goes the database in memory.
    pid = os.getpid()
    os.getpid = lambda: pid
    for each in gc.get_objects():
        if isinstance(each, pool.Pool):
            each._recycle = -1
    gc.collect()
    gc.freeze()


class Child:
    """A process that is forked from this one, and what it reports.

    :ivar seconds: how long it took, really
    """

    def __init__(self, directories, budget):
        """Say what a child may do.

        :param directories: what is in them is afterwards as it was before
        :param budget: seconds of CPU after which the child is at an end
        """
        self._directories = directories
        self._budget = budget
        self.seconds = 0.0
        self.status = None

    def fork(self, at_end):
        """Fork.

        :param at_end: called in the child when its budget is used up
        :returns: True in the child, which ends by :func:`leave`; False in the
            parent, when the child has ended
        """
        began = clock.real_time()
        kept = {path: _read(path) for path in self._directories}
        pid = _os.fork()
        if not pid:
            _die_with_parent()
            # CPU time: on a busy machine nothing is reported as stuck.
            signal.signal(signal.SIGPROF, lambda *args: at_end())
            signal.setitimer(signal.ITIMER_PROF, self._budget)
            return True
        _, self.status = _os.waitpid(pid, 0)
        for path, content in kept.items():
            _write(path, content)
        self.seconds = clock.real_time() - began
        return False


def _die_with_parent():
    """Be killed when the parent ends, however that is."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def leave():
    """End a child at once: its fixtures and threads are the parent's."""
    _os._exit(0)


def _read(directory):
    """What is in a directory: {path: bytes, or None for a directory}."""
    found = {}
    for parent, _, names in os.walk(directory):
        found[parent] = None
        for name in names:
            path = os.path.join(parent, name)
            with _open(path, 'rb') as file:
                found[path] = file.read()
    return found


def _write(directory, wanted):
    there = _read(directory)
    for path in sorted(set(there) - set(wanted), reverse=True):
        if there[path] is None:
            shutil.rmtree(path, ignore_errors=True)
        elif os.path.exists(path):
            os.unlink(path)
    for path in sorted(wanted):
        if wanted[path] is None:
            os.makedirs(path, exist_ok=True)
        elif there.get(path) != wanted[path]:
            with _open(path, 'wb') as file:
                file.write(wanted[path])


_open = open


def green_stacks(match):
    """Where the green threads are that run one of our or Nova's lines.

    :param match: parts of paths
    """
    import greenlet
    import traceback

    stacks = []
    for each in gc.get_objects():
        if isinstance(each, greenlet.greenlet) and each.gr_frame:
            lines = traceback.format_stack(each.gr_frame)
            if any(part in line for line in lines for part in match):
                stacks.append(''.join(lines[-8:]))
    return stacks


def sleep(seconds):
    """Sleep by the virtual clock."""
    eventlet.sleep(seconds)

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


"""Processes that are stopped when their result is no longer wanted.

A migration may be aborted, or given up by the source, while gigabytes are
copied. Nothing tells the process that copies, so it has to be checked.
"""

import contextlib
import subprocess
import threading
import typing

from oslo_log import log as logging

from nova_rescue_ext import exception

LOG = logging.getLogger(__name__)

# Seconds between two checks during a copy.
SECONDS = 10

IsWanted = typing.Callable[[], bool]


@contextlib.contextmanager
def process(is_wanted: IsWanted) -> typing.Iterator[
        typing.Callable[[subprocess.Popen], None]]:
    """Stop the process in this block when its result is no longer wanted.

    :param is_wanted: called before the block, and every few seconds from
        another thread, where an exception counts as yes
    :returns: what processutils.execute takes as ``on_execute``
    :raises: CopyUnwanted
    """
    if not is_wanted():
        raise exception.CopyUnwanted()
    watch = _Watch(is_wanted)
    try:
        yield watch.begin
    except Exception:
        if watch.is_stopped:
            raise exception.CopyUnwanted()
        raise
    finally:
        watch.end()


class _Watch:

    def __init__(self, is_wanted: IsWanted) -> None:
        self._is_wanted = is_wanted
        self._ended = threading.Event()
        self.is_stopped = False

    def begin(self, popen: subprocess.Popen) -> None:
        threading.Thread(target=self._look, args=(popen,),
                         daemon=True).start()

    def end(self) -> None:
        self._ended.set()

    def _look(self, popen: subprocess.Popen) -> None:
        while not self._ended.wait(SECONDS):
            if self._nobody_wants():
                self.is_stopped = True
                popen.terminate()
                return

    def _nobody_wants(self) -> bool:
        try:
            return not self._is_wanted()
        except Exception as exc:
            LOG.debug('Could not check whether a copy is still wanted: %s',
                      exc)
            return False

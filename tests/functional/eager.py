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


"""Nova's functional fixtures without their waiting and compiling.

Nothing of what is tested changes: the same services, statements and messages,
only sooner.
"""

import gc
import sys
import time

from nova.tests.functional import integrated_helpers
from oslo_messaging._drivers import impl_fake
import sqlalchemy
from sqlalchemy import util as sqlalchemy_util

# Seconds between the looks of a loop that waits. The sum of the first ten is
# that of Nova's, whose loops count their looks.
_PAUSES = (0.02, 0.03, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0, 1.2, 1.3)

# Seconds between the looks of a service for messages.
_RPC_PAUSE = 0.004


# A test allocates so much that the collector, which goes through all of Nova,
# would take a seventh of its time.
_GC_THRESHOLD = (20000, 10, 10)


class _EagerTime:
    """The module time, for loops that wait for something in half seconds."""

    def __init__(self):
        self._frame = None
        self._looks = 0

    def __getattr__(self, name):
        return getattr(time, name)

    def sleep(self, seconds):
        frame = sys._getframe(1)
        if frame is not self._frame:
            self._frame, self._looks = frame, 0
        pause = _PAUSES[min(self._looks, len(_PAUSES) - 1)]
        self._looks += 1
        time.sleep(pause if seconds >= 0.5 else seconds)


class _RpcTime:

    def __getattr__(self, name):
        return getattr(time, name)

    @staticmethod
    def sleep(seconds):
        time.sleep(min(seconds, _RPC_PAUSE))


_compiled = sqlalchemy_util.LRUCache(5000)


def _share_compiled_statements():
    """Compile a statement once, not once for each database of a test.

    SQLAlchemy keeps what it has compiled for each engine, by the dialect.
    """
    create_engine = sqlalchemy.create_engine
    shared = {}

    def create(url, *args, **kwargs):
        engine = create_engine(url, *args, **kwargs)
        if engine.dialect.name == 'sqlite':
            kind = type(engine.dialect)
            if kind not in shared:
                shared[kind] = type(kind.__name__, (kind,), {
                    'supports_statement_cache': True,
                    '__hash__': lambda self: hash(kind),
                    '__eq__': lambda self, other: type(self) is type(other)})
            engine.dialect.__class__ = shared[kind]
            engine._compiled_cache = _compiled
        return engine

    sqlalchemy.create_engine = create


def use():
    """Hurry all tests of this process."""
    integrated_helpers.time = _EagerTime()
    impl_fake.time = _RpcTime()
    gc.set_threshold(*_GC_THRESHOLD)
    _share_compiled_statements()

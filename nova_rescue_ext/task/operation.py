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


"""The operation that a thread runs on a server.

No argument reaches Nova's manager, its driver and everything they call, so an
object cannot be passed on. What they share is the thread, or green thread. An
operation can be reached from that thread only: not from a second request for
the same server, nor from a periodic task.
"""

import contextvars
import typing

_Kind = typing.TypeVar('_Kind', bound='Operation')

# Each thread and each green thread starts with an empty context, even if this
# was imported before eventlet patched Python.
_running: contextvars.ContextVar[tuple['Operation', ...]] = (
    contextvars.ContextVar('operations', default=()))


class Operation:
    """What a thread does to a server, for as long as its ``with`` block.

    Subclasses hold the state of one kind of operation, with a method for each
    thing that happens to the server.

    :ivar instance_uuid: the UUID of the server
    """

    def __init__(self, instance_uuid: str) -> None:
        self.instance_uuid = instance_uuid

    def __enter__(self: _Kind) -> _Kind:
        _running.set((*_running.get(), self))
        return self

    def __exit__(self, *exc_info: object) -> None:
        _running.set(tuple(
            operation for operation in _running.get()
            if operation is not self))

    @classmethod
    def of_this_thread(cls: type[_Kind],
                       instance_uuid: str) -> _Kind | None:
        """Find the operation of this class that this thread runs on a server.

        :param instance_uuid: the UUID of the server
        :returns: the innermost one, or None
        """
        for operation in reversed(_running.get()):
            if (isinstance(operation, cls)
                    and operation.instance_uuid == instance_uuid):
                return operation
        return None

    @classmethod
    def on(cls: type[_Kind], instance: typing.Any) -> _Kind | None:
        """The same, for overrides that Nova calls for every instance.

        The instance is only read if this thread runs an operation.

        :param instance: the Instance
        :returns: the innermost one, or None
        """
        return cls.of_this_thread(instance.uuid) if _running.get() else None

    @classmethod
    def is_run_by_this_thread(cls) -> bool:
        """Whether this thread runs an operation of this class on any server.

        For callables of Nova that are not told which server they work on.
        """
        return any(isinstance(operation, cls) for operation in _running.get())

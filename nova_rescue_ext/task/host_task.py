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


"""A task of a server that nova-compute works on.

Nova's lock of the instance protects the guest and its files. While a task
waits for that lock, or for an image, the server may be deleted, its state
reset, and another task begun.
"""

import contextlib
import typing

from nova import exception
from nova import objects
from oslo_concurrency import lockutils
from oslo_log import log as logging

from nova_rescue_ext import exception as ext_exception
from nova_rescue_ext.task import operation

LOG = logging.getLogger(__name__)


def lock_of(
        instance_uuid: str) -> contextlib.AbstractContextManager[typing.Any]:
    """The lock of an instance: of nova.utils.synchronized(), for functions."""
    return lockutils.lock(instance_uuid, lock_file_prefix='nova-')


class HostTask(operation.Operation):
    """A task, from its RPC message to its end.

    :param instance: the Instance
    :ivar is_lost: whether the server was found deleted, or with another task
    :ivar has_moved: whether it was found on another host
    """

    ACTION = ''  # as in nova.compute.instance_actions
    TASK_STATE = ''  # what the server has until the task ends
    TASK_STATES: tuple[str, ...] = ()  # if it has one after the other

    def __init__(self, instance: 'objects.Instance') -> None:
        super().__init__(instance.uuid)
        self.instance = instance
        self.is_lost = False
        self._is_deleted = False
        self.has_moved = False
        self._turn: contextlib.ExitStack | None = None

    @property
    def has_turn(self) -> bool:
        """Whether this task holds the lock of the instance."""
        return self._turn is not None

    def take_turn(self) -> None:
        """Wait for the lock of the instance, then check its task again.

        Does nothing if this task already holds the lock.

        :raises: TaskEnded; InstanceNotFound; what reading the database raises
        """
        if self.has_turn:
            return
        self._lock()
        try:
            self._check()
        except Exception:
            self.end_turn()
            raise

    def end_turn(self) -> None:
        """Release the lock of the instance."""
        turn, self._turn = self._turn, None
        if turn is not None:
            turn.close()

    @contextlib.contextmanager
    def turn(self) -> typing.Iterator[None]:
        """Hold the lock of the instance in this block.

        :raises: as take_turn()
        """
        self.take_turn()
        try:
            yield
        finally:
            self.end_turn()

    def _lock(self) -> None:
        turn = contextlib.ExitStack()
        turn.enter_context(self._lock_of_instance())
        self._turn = turn

    def _lock_of_instance(
            self) -> contextlib.AbstractContextManager[typing.Any]:
        return lock_of(self.instance_uuid)

    def _check(self) -> None:
        try:
            fresh = self._read()
        except exception.InstanceNotFound:
            self.is_lost = self._is_deleted = True
            raise
        if not self._is_still_in(fresh):
            self.is_lost = True
            raise ext_exception.TaskEnded(action=self.ACTION)

    def _is_still_in(self, fresh: 'objects.Instance') -> bool:
        # After a reset and an evacuation it may have the same task elsewhere.
        self.has_moved = fresh.host != self.instance.host
        return fresh.task_state in self._states and not self.has_moved

    @property
    def _states(self) -> tuple[str, ...]:
        return self.TASK_STATES or (self.TASK_STATE,)

    def _read(self) -> 'objects.Instance':
        return objects.Instance.get_by_uuid(self.instance._context,
                                            self.instance_uuid)

    # Asked before the manager ends the task.

    def may_set_error(self) -> bool:
        """Whether the manager may set the server to ERROR after a failure."""
        return not self.is_lost

    def may_end(self) -> bool:
        """Whether the manager may clear the task of the server."""
        return not self.is_lost

    def save_if_ours(self, **values: typing.Any) -> bool:
        """Save values of the instance, if it still has this task.

        Nova saves the end of a failed task unconditionally.

        :param values: attributes of the Instance
        :returns: whether they were saved
        :raises: what saving the instance raises
        """
        for name, value in values.items():
            setattr(self.instance, name, value)
        try:
            self.instance.save(expected_task_state=list(self._states))
        except (exception.InstanceNotFound,
                exception.UnexpectedTaskStateError) as exc:
            self.is_lost = True
            LOG.info('The end of the %(action)s is not saved, as the server '
                     'no longer has that task: %(reason)s',
                     {'action': self.ACTION, 'reason': exc},
                     instance=self.instance)
            return False
        return True

    def see_power_state(self, state: int) -> None:
        """See the power state that the manager is about to save.

        :param state: of nova.compute.power_state; NOSTATE if it cannot be read
        """

    def see_return(self) -> None:
        """See that Nova's method has returned, and its event is to be ended.

        What fails after that is no failure of the task.
        """

    def replace_hard_reboot(self, context: typing.Any,
                            network_info: typing.Any,
                            block_device_info: typing.Any) -> bool:
        """Do something else than the hard reboot that Nova is about to do.

        :param context: the RequestContext of Nova
        :param network_info: a NetworkInfo, the interfaces of the server
        :param block_device_info: what Nova tells the driver of its disks
        :returns: whether this was done
        """
        return False


_Saving = typing.TypeVar('_Saving', bound='SavingTask')


class SavingTask(HostTask):
    """A task that has a say in what Nova's manager saves of its instance."""

    def __enter__(self: _Saving) -> _Saving:
        self.instance.save = self._save
        return super().__enter__()

    def __exit__(self, *exc_info: object) -> None:
        super().__exit__(*exc_info)
        del self.instance.save  # that of the class

    def _save(self, *args: typing.Any, **kwargs: typing.Any) -> None:
        self.before_save()
        type(self.instance).save(self.instance, *args, **kwargs)

    def before_save(self) -> None:
        """Change what is about to be saved of the instance."""

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

"""Whether a rescue system came up: nova-compute looks at its console.

The rescue image names a line. Where that is printed, and by when, says nothing
about the server, whose state does not depend on it: no lock is held, and what
becomes of the server meanwhile ends the search or carries it along.

The line is the user's, and so is the console. The one is looked for in the
other as it is: a pattern could be made to take forever. Neither is logged.

Only imported where the libvirt driver runs.
"""

from __future__ import annotations

import datetime
import threading
import time
import typing
import weakref

from nova.compute import instance_actions
from nova.compute import vm_states
from nova import conf
from nova import context as nova_context
from nova import exception
from nova import objects
from oslo_log import log as logging
from oslo_utils import timeutils

from nova_rescue_ext import exception as ext_exception
from nova_rescue_ext.host import console
from nova_rescue_ext.i18n import _
from nova_rescue_ext import instance_metadata
from nova_rescue_ext.rescue import notifications

if typing.TYPE_CHECKING:
    from nova.compute import manager as compute_manager

CONF = conf.CONF
LOG = logging.getLogger(__name__)

EVENT = 'compute_rescue_ready'

_SUCCESS = 'Success'  # of an event

_SECONDS = 2  # between two looks at a console log
_TRIES = 3  # to notify
_SECONDS_RETRY = 10  # until the database, or a busy server, is tried again

_watchers: weakref.WeakKeyDictionary[
    compute_manager.ComputeManager, Watcher] = weakref.WeakKeyDictionary()


def watch(manager: compute_manager.ComputeManager,
          instance: objects.Instance) -> None:
    """Look for the ready line of a server, if its rescue has one.

    :param manager: the ComputeManager of the host that the server is on
    :param instance: the Instance
    """
    if (instance_metadata.readiness_of(instance)
            == instance_metadata.WAITING):
        _watcher_of(manager).add(instance.uuid)


def resume(manager: compute_manager.ComputeManager,
           instances: typing.Iterable[objects.Instance]) -> None:
    """Look for the ready lines that nobody looks for.

    After a restart of nova-compute, or a migration to this host.

    :param manager: the ComputeManager
    :param instances: the Instances in rescue on its host
    """
    for instance in instances:
        if not _watcher_of(manager).has(instance.uuid):
            watch(manager, instance)


def _watcher_of(manager: compute_manager.ComputeManager) -> Watcher:
    return _watchers.setdefault(manager, Watcher(manager))


class Watcher:
    """Looks for the ready lines of all servers of a host, in one thread.

    There is a thread only while there is something to look for.

    :param manager: the ComputeManager
    """

    def __init__(self, manager: compute_manager.ComputeManager) -> None:
        # Its key in _watchers, which does not keep it alive.
        self._manager = weakref.proxy(manager)
        self._searches: dict[str, Search] = {}
        self._lock = threading.Lock()
        self._has_thread = False

    def has(self, instance_uuid: str) -> bool:
        """Whether the ready line of a server is looked for."""
        return instance_uuid in self._searches

    def add(self, instance_uuid: str) -> None:
        """Look for the ready line of a server, in place of an earlier one."""
        with self._lock:
            self._searches[instance_uuid] = Search(self._manager,
                                                   instance_uuid)
            start = not self._has_thread
            self._has_thread = True
        if start:
            self._start()

    def _start(self) -> None:
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while self.look():
            time.sleep(_SECONDS)

    def look(self) -> bool:
        """Look once for each.

        :returns: whether to go on
        """
        for uuid, search in list(self._searches.items()):
            if not search.look():
                with self._lock:
                    # Another rescue may have begun.
                    if self._searches.get(uuid) is search:
                        del self._searches[uuid]
        with self._lock:
            self._has_thread = bool(self._searches)
            return self._has_thread


class _Ended(Exception):
    """There is nothing to tell any more, or not from this host."""


class Search:
    """The search for the ready line of one rescue.

    :param manager: the ComputeManager
    :param instance_uuid: the UUID of the server
    """

    def __init__(self, manager: compute_manager.ComputeManager,
                 instance_uuid: str) -> None:
        self._manager = manager
        self._uuid = instance_uuid
        self._since: datetime.datetime | None = None
        self._line = b''
        self._log: console.Log | None = None
        self._has_seen = False
        self._told: str | None = None  # the result, if it was told before
        # What may be recorded: an answer of the database can be lost.
        self._recorded = {instance_metadata.WAITING}
        self._has_event = False  # it is ours, or would be
        self._verdict: tuple[str | None] | None = None  # that is being told
        self._notified_in_vain = 0
        self._trouble = ''
        self._pause: timeutils.StopWatch | None = None

    def look(self) -> bool:
        """Look at the console, and tell what is to be told. Never raises.

        :returns: whether to look again
        """
        if self._pause is not None and not self._pause.expired():
            return True
        try:
            if self._since is None:
                self._begin(self._read())
            return not self._look()
        except (_Ended, exception.InstanceNotFound, ReferenceError):
            return False
        except Exception as exc:
            LOG.warning('Whether the rescue system is ready cannot be told '
                        'now: %(exc)s. It is tried again in %(seconds)d '
                        'seconds.',
                        {'exc': exc, 'seconds': _SECONDS_RETRY},
                        instance_uuid=self._uuid)
            self._wait()
            return True

    def _begin(self, instance: objects.Instance) -> None:
        path = console.log_path(self._manager.driver, instance)
        self._log = console.Log(path) if path else None
        self._line = (instance_metadata.ready_line_of(instance)
                      or '').encode()
        # nova-api may have saved what it had read before it was recorded.
        self._told = _told_in(_action_of(instance))
        self._since = instance.launched_at

    def _look(self) -> bool:
        """:returns: whether it has been told"""
        if self._verdict is not None:
            return self._tell(*self._verdict)
        if self._told:
            return self._tell(None if self._told == _SUCCESS else self._told)
        self._look_at_log()
        if self._has_seen:
            return self._tell(None)
        if self._log is None:
            return self._tell(_('the host keeps no console log of the server'))
        if self._log.has_begun_anew:
            self._read()  # Has the rescue ended?
        if self._is_late():
            return self._tell(self._trouble or _(
                'the console did not show the line of the rescue image in '
                '%d seconds') % CONF.rescue_ext.ready_timeout)
        return False

    def _look_at_log(self) -> None:
        if self._log is None or self._has_seen:
            return
        try:
            self._has_seen = self._line in self._log.read_new()
        except Exception as exc:
            if not self._trouble:
                LOG.warning('The console log of the server, which is in '
                            'rescue, cannot be read: %s', exc,
                            instance_uuid=self._uuid)
            self._trouble = _('the console log of the server cannot be read')
        else:
            self._trouble = ''

    def _is_late(self) -> bool:
        return self._since is not None and timeutils.is_older_than(
            self._since, CONF.rescue_ext.ready_timeout)

    def _read(self) -> objects.Instance:
        """Read the server anew.

        :raises: _Ended if it is no longer in this rescue, InstanceNotFound
        """
        instance = objects.Instance.get_by_uuid(
            nova_context.get_admin_context(), self._uuid,
            expected_attrs=['system_metadata'])
        if (instance_metadata.readiness_of(instance) not in self._recorded
                or self._since not in (None, instance.launched_at)):
            raise _Ended()
        return instance

    def _tell(self, reason: str | None) -> bool:
        """Tell whether the line was seen: once, and not of a busy server.

        :param reason: why it was not seen; None if it was
        :returns: whether it has been told
        :raises: _Ended, InstanceNotFound; what the database raises
        """
        instance = self._read()
        if reason and instance.host != self._manager.host:
            raise _Ended()  # its host goes on
        readiness = (instance_metadata.NOT_SEEN if reason
                     else instance_metadata.SEEN)
        instance_metadata.record_readiness(instance, readiness)
        try:
            # Nothing that changes its metadata, too, is under way then.
            instance.save(expected_vm_state=[vm_states.RESCUED],
                          expected_task_state=[None])
        except exception.InstanceUpdateConflict:
            self._wait()
            return False
        finally:
            self._recorded.add(readiness)
        if not self._told:
            self._verdict = (reason,)
            self._tell_all(instance, reason)
        return True

    def _tell_all(self, instance: objects.Instance,
                  reason: str | None) -> None:
        """Tell by an event and a notification, each once.

        :raises: what the database raises; then this is to be called again,
            and what was told is not told again
        """
        error = (ext_exception.RescueNotReady(reason=reason) if reason
                 else None)
        context, action = instance._context, _action_of(instance)
        if _told_in(action) is None:
            self._has_event = True
            _add_event(context, self._manager.host, instance, action, error)
        if not self._has_event:
            return  # of another host
        LOG.info('The rescue system of the server is %s',
                 'not known to be ready: %s' % reason if reason else 'ready',
                 instance=instance)
        try:
            notifications.tell_of_readiness(
                self._manager, context, instance,
                instance_metadata.recorded_image_id(instance), error)
        except Exception as exc:
            self._notified_in_vain += 1
            if self._notified_in_vain < _TRIES:
                raise
            LOG.warning('The notification of whether the rescue system is '
                        'ready was not sent: %s', exc, instance=instance)

    def _wait(self) -> None:
        self._pause = timeutils.StopWatch(_SECONDS_RETRY).start()


def _add_event(context: nova_context.RequestContext, host: str,
               instance: objects.Instance,
               action: objects.InstanceAction | None,
               error: Exception | None) -> None:
    """Add an event to the action of the rescue, from its begin to its end.

    The action itself is what it was: it succeeded when the guest was started,
    which is what everybody knows of it. An event that is finished with an
    error would change that.
    """
    if action is None:
        return
    now = timeutils.utcnow()
    objects.InstanceActionEvent(
        context, event=EVENT, host=host, start_time=now, finish_time=now,
        result='Error' if error else _SUCCESS,
        details=str(error) if error else 'ready').create(
            instance.uuid, action.request_id)


def _action_of(instance: objects.Instance) -> objects.InstanceAction | None:
    """The action of the rescue that a server is in."""
    return next((begun for begun
                 in objects.InstanceActionList.get_by_instance_uuid(
                     instance._context, instance.uuid)
                 if begun.action == instance_actions.RESCUE), None)


def _told_in(action: objects.InstanceAction | None) -> str | None:
    """The result of our event of an action, or None if it has none."""
    if action is None:
        return None
    return next((event.result for event
                 in objects.InstanceActionEventList.get_by_action(
                     action._context, action.id)
                 if event.event == EVENT), None)

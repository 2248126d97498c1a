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


"""Messages that reach nova-compute after their task has ended.

A message waits in its queue while nova-compute restarts, and the restart
finishes or rolls back every task that it finds in the database (hazard:
restart-in-rescue). Nova checks the task only after its work: too late.
"""

from __future__ import annotations

import contextlib
import typing

from nova.compute import utils as compute_utils
from nova import exception
from nova import objects
from nova import utils
from oslo_log import log as logging

from nova_rescue_ext import capabilities
from nova_rescue_ext import exception as ext_exception
from nova_rescue_ext.task import final_save

if typing.TYPE_CHECKING:
    from nova.compute import manager as compute_manager

LOG = logging.getLogger(__name__)


def act_in_time(
        manager: compute_manager.ComputeManager, instance: objects.Instance,
        action: str, task_state: str, act: typing.Callable[[], typing.Any],
        is_done: typing.Callable[[objects.Instance], bool] | None = None,
        is_replaced: typing.Callable[[objects.Instance], bool] | None = None
) -> typing.Any:
    """Do what a message asks for, if the server still has that task.

    If not, only the event of the action is ended.

    The messages for a server are handled one after the other, but not under
    Nova's lock of the instance: the driver takes that in an unrescue, and a
    DELETE must not wait for an image. Drivers other than libvirt are left
    alone, as no restart ends their tasks.

    :param manager: the ComputeManager
    :param instance: the Instance of the message
    :param action: 'rescue' or 'unrescue'
    :param task_state: the task state of the server until then
    :param act: does what the message asks for
    :param is_done: whether the Instance that it is passed, read from the
        database, shows that this was done without the message
    :param is_replaced: whether that Instance shows that the task is that of a
        newer request
    :returns: what act returns, or None
    """
    if not capabilities.is_libvirt(manager.driver):
        return act()

    @utils.synchronized('rescue_ext-' + instance.uuid)
    def one_after_the_other() -> typing.Any:
        try:
            fresh = final_save.read(instance)
        except exception.InstanceNotFound:
            LOG.info('The message to %s the server arrived after the server '
                     'had been deleted.', action, instance=instance)
            return _end_event(manager, instance, action)
        # Without a database Nova fails in its own way.
        if fresh is None:
            return act()
        # Checked first, as the task may belong to a newer request.
        if _has_ended(instance, action):
            # Nova would end the event of the first message a second time.
            LOG.info('The message to %s the server arrived after that had '
                     'ended. Nothing is left to do.', action,
                     instance=instance)
            return None
        if fresh.task_state == task_state and not (is_replaced
                                                   and is_replaced(fresh)):
            return act()
        if is_done is not None and is_done(fresh):
            LOG.info('The message to %s the server arrived after that had '
                     'been done. Nothing is left to do.', action,
                     instance=instance)
            return _end_event(manager, instance, action, done=True)
        LOG.warning('The message to %(action)s the server arrived when the '
                    'server was no longer %(task)s, or was so for a newer '
                    'request: nova-compute was restarted, or the state was '
                    'reset. Nothing is done, and the server stays %(state)s. '
                    'If it is still wanted, %(action)s the server again.',
                    {'action': action, 'task': task_state,
                     'state': fresh.vm_state}, instance=instance)
        return _end_event(manager, instance, action)

    return one_after_the_other()


def _has_ended(instance: objects.Instance, action: str) -> bool:
    """Whether the action that a message belongs to has already ended."""
    try:
        asked = objects.InstanceAction.get_by_request_id(
            instance._context, instance.uuid, instance._context.request_id)
        return asked is not None and any(
            event.finish_time is not None and event.event == _event(action)
            for event in objects.InstanceActionEventList.get_by_action(
                instance._context, asked.id))
    except Exception as exc:
        # Raised here, it would leave the server in its task.
        LOG.warning('Whether the message to %(action)s the server is a late '
                    'duplicate cannot be read. It is taken for a new one: '
                    '%(reason)s', {'action': action, 'reason': exc},
                    instance=instance)
        return False


def _event(action: str) -> str:
    return 'compute_%s_instance' % action


def _end_event(manager: compute_manager.ComputeManager,
               instance: objects.Instance, action: str,
               done: bool = False) -> None:
    # Raised inside the event only: outside, Nova would clear the task of the
    # server, which may be another by now.
    with contextlib.suppress(
            ext_exception.TaskEnded,
            exception.InstanceActionNotFound), compute_utils.EventReporter(
                instance._context, _event(action), manager.host,
                instance.uuid):
        if not done:
            raise ext_exception.TaskEnded(action=action)

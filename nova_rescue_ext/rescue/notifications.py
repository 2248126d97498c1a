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


"""The notifications of what does not end as Nova expects.

Nova notifies of the start of a rescue or an unrescue, and of its success.
Billing and monitoring are not left with a start that is never closed.
"""

from __future__ import annotations

import typing

from nova.compute import utils as compute_utils
from nova import context as nova_context
from nova import objects
from nova.objects import fields
from oslo_log import log as logging

if typing.TYPE_CHECKING:
    from nova.compute import manager as compute_manager

LOG = logging.getLogger(__name__)


def close(manager: compute_manager.ComputeManager,
          context: nova_context.RequestContext, instance: objects.Instance,
          image_id: str | None, error: Exception | None = None) -> None:
    """Send the notification of the end of a rescue. Never raises.

    :param manager: the ComputeManager
    :param context: a RequestContext
    :param instance: the Instance
    :param image_id: the id of the rescue image, or None
    :param error: the exception with which it ended; None if it succeeded
    """
    try:
        if error is None:
            # There is no legacy rescue.error; Nova has sent its notification
            # of the exception.
            manager._notify_about_instance_usage(context, instance,
                                                 'rescue.end')
            _notify(manager, context, instance, image_id,
                    fields.NotificationPhase.END)
            return
        try:
            raise error
        except type(error):  # Nova reads the traceback of what is handled
            _notify(manager, context, instance, image_id,
                    fields.NotificationPhase.ERROR, error)
    except Exception as exc:
        LOG.warning('The notification of the end of the rescue was not sent: '
                    '%s', exc, instance=instance)


def tell_of_readiness(manager: compute_manager.ComputeManager,
                      context: nova_context.RequestContext,
                      instance: objects.Instance, image_id: str | None,
                      error: Exception | None) -> None:
    """Notify of whether a rescue system is ready.

    That is instance.rescue.progress, as instance.rescue.end has been sent, and
    billing may count those.

    :param manager: the ComputeManager
    :param context: a RequestContext
    :param instance: the Instance
    :param image_id: the id of the rescue image, or None
    :param error: why it was not seen to be ready; None if it was
    :raises: whatever the database raises, from which it is made
    """
    if error is None:
        _notify(manager, context, instance, image_id,
                fields.NotificationPhase.PROGRESS)
        return
    try:
        raise error
    except type(error):  # Nova reads the traceback of what is handled
        _notify(manager, context, instance, image_id,
                fields.NotificationPhase.PROGRESS, error)


def close_unrescue(manager: compute_manager.ComputeManager,
                   context: nova_context.RequestContext,
                   instance: objects.Instance,
                   error: Exception | None = None) -> None:
    """Notify of the end of an unrescue that Nova has notified of the start of.

    A failure to do so costs nothing else.

    :param manager: the ComputeManager
    :param context: a RequestContext
    :param instance: the Instance
    :param error: the exception with which it ended; None if it succeeded
    """
    try:
        if error is None:
            manager._notify_about_instance_usage(context, instance,
                                                 'unrescue.end')
            _notify_unrescue(manager, context, instance,
                             fields.NotificationPhase.END)
            return
        # Without a legacy unrescue.error, as for a rescue.
        try:
            raise error
        except type(error):
            _notify_unrescue(manager, context, instance,
                             fields.NotificationPhase.ERROR, error)
    except Exception as exc:
        LOG.warning('The end of an unrescue was not notified of: %s', exc,
                    instance=instance)


def _notify_unrescue(manager: compute_manager.ComputeManager,
                     context: nova_context.RequestContext,
                     instance: objects.Instance, phase: str,
                     error: Exception | None = None) -> None:
    compute_utils.notify_about_instance_action(
        context, instance, manager.host,
        action=fields.NotificationAction.UNRESCUE, phase=phase,
        exception=error)


def _notify(manager: compute_manager.ComputeManager,
            context: nova_context.RequestContext, instance: objects.Instance,
            image_id: str | None, phase: str,
            error: Exception | None = None) -> None:
    compute_utils.notify_about_instance_rescue_action(
        context, instance, manager.host, image_id, phase=phase,
        exception=error)

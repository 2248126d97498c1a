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


"""Versioned notifications of a rebuild: instance.rebuild.start, .end, .error.

The build itself notifies of instance.create, as that of a new server. Who
automates has to know, too, that it was a rebuild.
"""

from __future__ import annotations

import typing

from nova.compute import utils as compute_utils
import nova.conf
from nova import context as nova_context
from nova import exception as nova_exception
from nova import objects
from nova.objects import fields
from nova import rpc
from oslo_log import log as logging

from nova_rescue_ext.rebuild import fault

CONF = nova.conf.CONF
LOG = logging.getLogger(__name__)


def started(context: nova_context.RequestContext,
            instance: objects.Instance,
            bdms: objects.BlockDeviceMappingList) -> None:
    """Tell that nova-api has begun a rebuild. Never raises.

    :param instance: the new Instance
    :param bdms: what it is built with
    """
    _notify(context, instance, fields.NotificationPhase.START,
            fields.NotificationSource.API, bdms)


def ended(context: nova_context.RequestContext, instance: objects.Instance,
          bdms: objects.BlockDeviceMappingList) -> None:
    """Tell that nova-compute has built the server. Never raises."""
    _notify(context, instance, fields.NotificationPhase.END,
            fields.NotificationSource.COMPUTE, bdms)


@rpc.if_notifications_enabled
def failed(context: nova_context.RequestContext, instance: objects.Instance,
           source: str) -> None:
    """Tell that the server was not built, and why. Never raises.

    :param source: a NotificationSource
    """
    try:
        latest = objects.InstanceFault.get_latest_for_instance(
            context, instance.uuid)
        reason = _reason(instance, latest)
    except Exception:
        LOG.exception('A notification of the failed rebuild was not sent.',
                      instance=instance)
        return
    try:
        raise reason  # the notification says where from
    except Exception:
        _notify(context, instance, fields.NotificationPhase.ERROR, source,
                objects.BlockDeviceMappingList(objects=[]), reason)


def _reason(instance: objects.Instance,
            latest: objects.InstanceFault | None) -> Exception:
    """An exception with the class and the message of the fault.

    :param latest: the fault, None if there is none
    """
    message = latest.message if latest else ''
    module, _dot, name = (
        latest and fault.exception_of(latest) or '').rpartition('.')
    if module == nova_exception.__name__ and message:
        # Another release of Nova may have recorded it.
        return getattr(nova_exception, name,
                       nova_exception.BuildAbortException)(message)
    return nova_exception.BuildAbortException(instance_uuid=instance.uuid,
                                              reason=message)


def _notify(context: nova_context.RequestContext, instance: objects.Instance,
            phase: str, source: str, bdms: objects.BlockDeviceMappingList,
            reason: typing.Optional[Exception] = None) -> None:
    try:
        compute_utils.notify_about_instance_rebuild(
            context, instance, CONF.host, phase=phase, source=source,
            exception=reason, bdms=bdms)
    except Exception:
        LOG.exception('The notification instance.rebuild.%s was not sent.',
                      phase, instance=instance)

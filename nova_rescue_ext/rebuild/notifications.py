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

Who was told of a start is told of the end. In the cell of a host, whoever sets
the server to ERROR, or has it run, tells so. That a server was buried is told
by whoever ends the attempt to rebuild it: conductor.finish_attempt().
"""

from __future__ import annotations

import time
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

# What a notification says is read from the database, which may be away.
_TRIES = 3
_SECONDS_BETWEEN = 1

# What it says of an Instance.
ATTRIBUTES = ['flavor', 'info_cache', 'keypairs', 'metadata', 'tags',
              'trusted_certs']


def started(context: nova_context.RequestContext,
            instance: objects.Instance,
            bdms: objects.BlockDeviceMappingList) -> None:
    """Tell that nova-api has begun a rebuild. Never raises.

    :param instance: the new Instance
    :param bdms: what it is built with
    """
    _try(_notify, context, instance, fields.NotificationPhase.START,
         fields.NotificationSource.API, bdms)


def ended(context: nova_context.RequestContext, instance: objects.Instance,
          bdms: objects.BlockDeviceMappingList) -> None:
    """Tell that nova-compute has built the server. Never raises."""
    _try(_notify, context, instance, fields.NotificationPhase.END,
         fields.NotificationSource.COMPUTE, bdms)


@rpc.if_notifications_enabled
def failed(context: nova_context.RequestContext, instance: objects.Instance,
           source: str, reason: Exception | None = None) -> None:
    """Tell that the server was not built, and why. Never raises.

    :param source: a NotificationSource
    :param reason: what reason_of() returned, if it was asked
    """
    _try(_notify_of_failure, context, instance, source, reason)


@rpc.if_notifications_enabled
def replaced(context: nova_context.RequestContext, instance_uuid: str,
             cell: objects.CellMapping) -> None:
    """Tell of the end of a rebuild that another one has replaced.

    Never raises.

    :param cell: cell0, where the server is
    """
    _try(_notify_of_replaced, context, objects.Instance(uuid=instance_uuid),
         cell)


@rpc.if_notifications_enabled
def reason_of(context: nova_context.RequestContext,
              instance: objects.Instance) -> Exception:
    """An exception with the class and the message of the server's fault."""
    latest = objects.InstanceFault.get_latest_for_instance(context,
                                                           instance.uuid)
    message = latest.message if latest else ''
    module, _dot, name = (
        latest and fault.exception_of(latest) or '').rpartition('.')
    if module == nova_exception.__name__ and message:
        # Another release of Nova may have recorded it.
        return getattr(nova_exception, name,
                       nova_exception.BuildAbortException)(message)
    return nova_exception.BuildAbortException(instance_uuid=instance.uuid,
                                              reason=message)


def _try(notify: typing.Callable[..., None],
         context: nova_context.RequestContext, instance: objects.Instance,
         *args: typing.Any) -> None:
    for left in reversed(range(_TRIES)):
        try:
            return notify(context, instance, *args)
        except Exception:
            if not left:
                LOG.exception('A notification of the rebuild was not sent.',
                              instance=instance)
                return None
        time.sleep(_SECONDS_BETWEEN)


def _notify_of_failure(context: nova_context.RequestContext,
                       instance: objects.Instance, source: str,
                       reason: Exception | None) -> None:
    if reason is None:
        reason = reason_of(context, instance)
    try:
        raise reason  # the notification says where from
    except Exception:
        _notify(context, instance, fields.NotificationPhase.ERROR, source,
                objects.BlockDeviceMappingList(objects=[]), reason)


def _notify_of_replaced(context: nova_context.RequestContext,
                        instance: objects.Instance,
                        cell: objects.CellMapping) -> None:
    with nova_context.target_cell(context, cell) as cctxt:
        _notify_of_failure(
            cctxt, objects.Instance.get_by_uuid(
                cctxt, instance.uuid, expected_attrs=ATTRIBUTES),
            fields.NotificationSource.API, None)


def _notify(context: nova_context.RequestContext, instance: objects.Instance,
            phase: str, source: str, bdms: objects.BlockDeviceMappingList,
            reason: Exception | None = None) -> None:
    compute_utils.notify_about_instance_rebuild(
        context, instance, CONF.host, phase=phase, source=source,
        exception=reason, bdms=bdms)

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

"""A periodic task of nova-compute that ends rescues after their timeout."""

from __future__ import annotations

import copy
import typing

from nova.compute import vm_states
from nova import context as nova_context
from nova import exception
from nova import objects
from oslo_log import log as logging
from oslo_utils import timeutils

from nova_rescue_ext import instance_metadata
from nova_rescue_ext import microversion

if typing.TYPE_CHECKING:
    from nova.compute import manager as compute_manager

LOG = logging.getLogger(__name__)


def servers_in_rescue(
        manager: compute_manager.ComputeManager,
        context: nova_context.RequestContext) -> list[objects.Instance]:
    """The servers of this host that are in rescue.

    :param manager: the ComputeManager
    :param context: a RequestContext with an administrator's rights
    :returns: none if they cannot be read now
    """
    try:
        return list(objects.InstanceList.get_by_filters(context, {
            'host': manager.host, 'vm_state': vm_states.RESCUED,
            'deleted': False}, expected_attrs=['system_metadata']))
    except Exception as exc:
        LOG.warning('nova-compute cannot look for servers in rescue, whose '
                    'time may be up: %s', exc)
        return []


def unrescue_expired(manager: compute_manager.ComputeManager,
                     context: nova_context.RequestContext,
                     instances: typing.Iterable[objects.Instance]) -> None:
    """Unrescue servers that have been in rescue for as long as requested.

    They go back to their state before the rescue. One that is busy or cannot
    be unrescued is tried again the next time.

    :param manager: the ComputeManager
    :param context: a RequestContext with an administrator's rights
    :param instances: the servers of this host that are in rescue
    """
    context = copy.copy(context)
    context.compute_rescue = microversion.RESCUE_SESSION
    context.compute_rescue_is_named = True
    for instance in instances:
        if _has_expired(instance):
            _unrescue(manager, context, instance)


def _has_expired(instance: objects.Instance) -> bool:
    end = instance_metadata.end_of_rescue(instance)
    return end is not None and timeutils.is_older_than(end, 0)


def _unrescue(manager: compute_manager.ComputeManager,
              context: nova_context.RequestContext,
              instance: objects.Instance) -> None:
    """Unrescue a server. Never raises: others wait for their turn."""
    try:
        # Others before it in the list take their time.
        instance = objects.Instance.get_by_uuid(
            context, instance.uuid,
            expected_attrs=['info_cache', 'security_groups',
                            'system_metadata'])
        if (instance.host == manager.host and instance.task_state is None
                and _has_expired(instance)):
            LOG.info('Unrescuing the server after its timeout',
                     instance=instance)
            manager.compute_api.unrescue(context, instance)
    except exception.InstanceNotFound:
        return
    except Exception as exc:
        LOG.warning('The server has been in rescue for as long as requested, '
                    'and cannot be unrescued: %s. It is tried again in a '
                    'minute.', exc, instance=instance)

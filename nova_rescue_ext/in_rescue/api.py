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


"""Actions on servers in rescue, in nova-api.

Only for a caller who names compute-rescue 1.4: everybody else gets Nova's own
answer, 409.
"""

from __future__ import annotations

import typing

from nova.compute import api as compute_api
from nova.compute import power_state
from nova.compute import task_states
from nova.compute import vm_states
from nova import context as nova_context
from nova import exception
from nova import objects
import oslo_messaging as messaging

from nova_rescue_ext import capabilities
from nova_rescue_ext import exception as ext_exception
from nova_rescue_ext import host_names
from nova_rescue_ext import microversion
from nova_rescue_ext import nova_types
from nova_rescue_ext import policies
from nova_rescue_ext import state_check
from nova_rescue_ext.task import conflict

_TIMEOUT = messaging.MessagingTimeout.__name__


def reboot(original: nova_types.Original, self: compute_api.API,
           context: nova_context.RequestContext, instance: objects.Instance,
           reboot_type: str) -> None:
    """Reboot the rescue system of a server in rescue.

    :raises: NodeDoesNotServe, answered with 409; PolicyNotAuthorized, 403;
        all that Nova raises
    """
    if not _is_ours(context, instance):
        return original(context, instance, reboot_type)
    if reboot_type == 'SOFT':
        _check_soft_reboot(self, context, instance)
    else:
        _check_hard_reboot(self, context, instance)
    with conflict.loser_is_refused(instance, 'reboot'):
        return original(context, state_check.AsActive(instance), reboot_type)


def stop(original: nova_types.Original, self: compute_api.API,
         context: nova_context.RequestContext, instance: objects.Instance,
         *args: typing.Any, **kwargs: typing.Any) -> None:
    """Power off the rescue system of a server in rescue.

    :raises: as reboot()
    """
    if not _is_ours(context, instance):
        return original(context, instance, *args, **kwargs)
    _check_idle(self, context, instance, policies.STOP_RESCUED)
    with conflict.loser_is_refused(instance, 'stop'):
        return original(context, state_check.AsActive(instance), *args,
                        **kwargs)


def start(original: nova_types.Original, self: compute_api.API,
          context: nova_context.RequestContext,
          instance: objects.Instance) -> None:
    """Power on the rescue system of a server in rescue.

    :raises: as reboot()
    """
    if not _is_ours(context, instance):
        return original(context, instance)
    _check_idle(self, context, instance, policies.START_RESCUED)
    if instance.power_state == power_state.RUNNING:
        _refuse_power_state(instance, 'start')
    with conflict.loser_is_refused(instance, 'start'):
        return original(context, state_check.AsStopped(instance))


def attach_volume(original: nova_types.Original, self: compute_api.API,
                  context: nova_context.RequestContext,
                  instance: objects.Instance, *args: typing.Any,
                  **kwargs: typing.Any) -> str | None:
    """Attach a volume to a server in rescue.

    :raises: HostDidNotAnswer, answered with 409; as reboot()
    """
    return _attach(original, self, context, instance,
                   policies.ATTACH_VOLUME_RESCUED, *args, **kwargs)


def detach_volume(original: nova_types.Original, self: compute_api.API,
                  context: nova_context.RequestContext,
                  instance: objects.Instance, *args: typing.Any,
                  **kwargs: typing.Any) -> None:
    """Detach a volume from a server in rescue; Nova refuses its root.

    :raises: as reboot()
    """
    return _detach(original, self, context, instance,
                   policies.DETACH_VOLUME_RESCUED, *args, **kwargs)


def attach_interface(original: nova_types.Original, self: compute_api.API,
                     context: nova_context.RequestContext,
                     instance: objects.Instance, *args: typing.Any,
                     **kwargs: typing.Any) -> typing.Any:
    """Attach a port to a server in rescue.

    :raises: HostDidNotAnswer, answered with 409; as reboot()
    """
    return _attach(original, self, context, instance,
                   policies.ATTACH_PORT_RESCUED, *args, **kwargs)


def detach_interface(original: nova_types.Original, self: compute_api.API,
                     context: nova_context.RequestContext,
                     instance: objects.Instance, *args: typing.Any,
                     **kwargs: typing.Any) -> None:
    """Detach a port from a server in rescue.

    :raises: as reboot()
    """
    return _detach(original, self, context, instance,
                   policies.DETACH_PORT_RESCUED, *args, **kwargs)


def _attach(original: nova_types.Original, api: compute_api.API,
            context: nova_context.RequestContext, instance: objects.Instance,
            policy: str, *args: typing.Any, **kwargs: typing.Any
            ) -> typing.Any:
    """Attach something, which a host is asked for and answers.

    :raises: HostDidNotAnswer
    """
    if not _is_ours(context, instance):
        return original(context, instance, *args, **kwargs)
    _check_idle(api, context, instance, policy)
    try:
        return original(context, state_check.AsActive(instance), *args,
                        **kwargs)
    except (messaging.MessagingTimeout, messaging.RemoteError) as exc:
        # That of a service which was asked by the one that was asked.
        if getattr(exc, 'exc_type', _TIMEOUT) != _TIMEOUT:
            raise
        raise ext_exception.HostDidNotAnswer(
            instance_uuid=instance.uuid) from exc


def _detach(original: nova_types.Original, api: compute_api.API,
            context: nova_context.RequestContext, instance: objects.Instance,
            policy: str, *args: typing.Any, **kwargs: typing.Any) -> None:
    if _is_ours(context, instance):
        _check_idle(api, context, instance, policy)
        instance = state_check.AsActive(instance)
    return original(context, instance, *args, **kwargs)


def _is_ours(context: nova_context.RequestContext,
             instance: objects.Instance) -> bool:
    return (microversion.is_named(context, microversion.RESCUE_SESSION)
            and instance.vm_state == vm_states.RESCUED)


# Nova checks this, too, but only after us: a locked or busy server answers
# 409, whatever its compute node is like.
@compute_api.check_instance_lock
@compute_api.check_instance_state(vm_state=[vm_states.RESCUED])
def _check_idle(self: compute_api.API, context: nova_context.RequestContext,
                instance: objects.Instance, policy: str) -> None:
    _check(context, instance, policy)


def _check_soft_reboot(api: compute_api.API,
                       context: nova_context.RequestContext,
                       instance: objects.Instance) -> None:
    _check_idle(api, context, instance, policies.REBOOT_RESCUED)
    if instance.power_state == power_state.SHUTDOWN:
        # As that of a server that is stopped.
        _refuse_power_state(instance, 'reboot')


@compute_api.check_instance_lock
@compute_api.check_instance_state(vm_state=[vm_states.RESCUED],
                                  task_state=task_states.ALLOW_REBOOT)
def _check_hard_reboot(self: compute_api.API,
                       context: nova_context.RequestContext,
                       instance: objects.Instance) -> None:
    _check(context, instance, policies.REBOOT_RESCUED)


def _check(context: nova_context.RequestContext, instance: objects.Instance,
           policy: str) -> None:
    """Check the policy, and that the compute node serves the request.

    :raises: PolicyNotAuthorized; NodeDoesNotServe
    """
    policies.authorize(context, policy, instance)
    try:
        node = objects.ComputeNode.get_by_host_and_nodename(
            context, instance.host, instance.node)
        serves = capabilities.host_can(node, microversion.RESCUE_SESSION)
    except exception.ComputeHostNotFound:
        serves = False
    if not serves:
        raise ext_exception.NodeDoesNotServe(
            node=host_names.after(context, instance.node),
            version=microversion.RESCUE_SESSION,
            instance_uuid=instance.uuid)


def _refuse_power_state(instance: objects.Instance,
                        method: str) -> typing.NoReturn:
    raise exception.InstanceInvalidState(
        attr='power_state', instance_uuid=instance.uuid,
        state=power_state.STATE_MAP[instance.power_state], method=method)

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


"""Reboots of rescue systems that a restart of nova-compute interrupted.

Nova would let such a server be ACTIVE, or rebooting forever.

Only imported where the libvirt driver runs.
"""

from __future__ import annotations

import typing

from nova.compute import instance_actions
from nova.compute import power_state
from nova.compute import task_states
from nova.compute import utils as compute_utils
from nova import context as nova_context
from nova import exception
from nova import objects
from oslo_log import log as logging

from nova_rescue_ext.in_rescue import operation
from nova_rescue_ext.task import events

if typing.TYPE_CHECKING:
    from nova.compute import manager as compute_manager

LOG = logging.getLogger(__name__)

_PENDING = (task_states.REBOOT_PENDING, task_states.REBOOT_PENDING_HARD)


def is_needed(instance: objects.Instance) -> bool:
    """Whether a server was being rebooted in rescue.

    :param instance: the Instance, in rescue
    """
    return instance.task_state in operation.Reboot.TASK_STATES


def recover(manager: compute_manager.ComputeManager,
            context: nova_context.RequestContext,
            instance: objects.Instance) -> bool:
    """End the reboot of a rescue system, or do it again.

    :param manager: the ComputeManager
    :param context: a RequestContext
    :param instance: the Instance
    :returns: False if it was done again, or the server is gone: then nothing
        is left to initialize
    """
    state = manager._get_power_state(instance)
    try:
        # As Nova decides for other servers.
        if state == power_state.RUNNING and (
                instance.task_state not in _PENDING):
            return _end(context, instance)
        reboot_type = compute_utils.get_reboot_type(instance.task_state, state)
        _reboot_again(manager, context, instance, reboot_type)
    except (exception.InstanceNotFound,
            exception.UnexpectedTaskStateError) as exc:
        LOG.info('The reboot of the rescue system need not be recovered: %s',
                 exc, instance=instance)
    except Exception:
        LOG.exception('nova-compute was restarted while the rescue system of '
                      'the server was rebooted, and could not reboot it '
                      'again. The server stays in rescue. Hard reboot it, or '
                      'unrescue it.', instance=instance)
    return False


def _end(context: nova_context.RequestContext,
         instance: objects.Instance) -> bool:
    before = instance.task_state
    instance.task_state = None
    instance.save(expected_task_state=[before])
    events.end(context, instance, instance_actions.REBOOT)
    return True


def _reboot_again(manager: compute_manager.ComputeManager,
                  context: nova_context.RequestContext,
                  instance: objects.Instance, reboot_type: str) -> None:
    before = instance.task_state
    instance.task_state = (task_states.REBOOT_PENDING if reboot_type == 'SOFT'
                           else task_states.REBOOT_PENDING_HARD)
    instance.save(expected_task_state=[before])
    manager.reboot_instance(context, instance, block_device_info=None,
                            reboot_type=reboot_type)

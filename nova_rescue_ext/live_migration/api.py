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


"""Live migration of rescued servers in nova-api."""

from __future__ import annotations

import contextlib
import typing

from nova.compute import api as compute_api
from nova.compute import task_states
from nova.compute import vm_states
from nova import context as nova_context
from nova import objects
import oslo_messaging as messaging
from oslo_utils import excutils
from oslo_utils import uuidutils

from nova_rescue_ext import capabilities
from nova_rescue_ext import exception as ext_exception
from nova_rescue_ext import host_names
from nova_rescue_ext import instance_metadata
from nova_rescue_ext.live_migration import recovery
from nova_rescue_ext import microversion
from nova_rescue_ext import nova_types
from nova_rescue_ext import policies
from nova_rescue_ext import state_check
from nova_rescue_ext.task import conflict
from nova_rescue_ext import tpm


def live_migrate(original: nova_types.Original, self: compute_api.API,
                 context: nova_context.RequestContext,
                 instance: objects.Instance, block_migration: bool | None,
                 disk_over_commit: bool | None, host_name: str | None,
                 force: bool | None = None, async_: bool = False) -> None:
    """Migrate rescued servers, too, from compute-rescue 1.3 on.

    :raises: NodeCannotMigrateRescued, TPMCannotMigrate, answered with 400;
        PolicyNotAuthorized, 403; all that Nova raises
    """
    if _is_ours(context, instance):
        _check(self, context, instance, host_name)
        instance_metadata.request_attempt(instance,
                                          uuidutils.generate_uuid())
        with conflict.loser_is_refused(instance, 'live_migrate'), \
                _task_is_taken_back(context, instance):
            return original(context, state_check.AsActive(instance),
                            block_migration, disk_over_commit, host_name,
                            force=force, async_=async_)
    return original(context, instance, block_migration, disk_over_commit,
                    host_name, force=force, async_=async_)


@contextlib.contextmanager
def _task_is_taken_back(context: nova_context.RequestContext,
                        instance: objects.Instance) -> typing.Iterator[None]:
    """Clear the task of the server if the request in this block fails."""
    try:
        yield
    except messaging.MessagingTimeout:
        raise  # nova-conductor may be working on it
    except Exception:
        with excutils.save_and_reraise_exception():
            # But not if another request has set the task.
            if (instance.task_state == task_states.MIGRATING
                    and 'task_state' not in instance.obj_what_changed()):
                recovery.take_back_task(context, instance)


# Nova checks this, too, but only after us: a locked or migrating server
# answers 409, whatever its compute node is like.
@compute_api.check_instance_lock
@compute_api.check_instance_state(vm_state=[vm_states.RESCUED])
def _check(self: compute_api.API, context: nova_context.RequestContext,
           instance: objects.Instance, host_name: str | None) -> None:
    policies.authorize(context, policies.LIVE_MIGRATE_RESCUED, instance)
    _check_node(
        context, 'source', objects.ComputeNode.get_by_host_and_nodename(
            context, instance.host, instance.node))
    if host_name:
        for node in objects.ComputeNodeList.get_all_by_host(context,
                                                            host_name):
            _check_node(context, 'destination', node)
    if tpm.has_tpm(instance):
        raise ext_exception.TPMCannotMigrate()


def _check_node(context: nova_context.RequestContext, role: str,
                node: objects.ComputeNode) -> None:
    if not capabilities.host_can(node, microversion.LIVE_MIGRATE_RESCUED):
        raise ext_exception.NodeCannotMigrateRescued(
            role=role,
            node=host_names.after(context, node.hypervisor_hostname),
            version=microversion.LIVE_MIGRATE_RESCUED)


def live_migrate_force_complete(original: nova_types.Original,
                                self: compute_api.API,
                                context: nova_context.RequestContext,
                                instance: objects.Instance,
                                migration_id: int) -> None:
    """Force such a migration to complete; Nova only accepts ACTIVE."""
    if _is_ours(context, instance):
        policies.authorize(context, policies.LIVE_MIGRATE_RESCUED, instance)
        instance = state_check.AsActive(instance)
    return original(context, instance, migration_id)


def delete(original: nova_types.Original, self: compute_api.API,
           context: nova_context.RequestContext,
           instance: objects.Instance) -> None:
    """Refuse to delete a rescued server while it migrates.

    For every caller, and for all three ways to delete a server: Nova would
    leave its directory, attachments and allocations on the destination
    (hazard: delete-in-migration). But if nova-compute on the source is down,
    nothing else would end the migration.

    :raises: RescuedServerMigrates, answered with 409; all that Nova raises
    """
    # Only these can migrate in rescue. Nova has already read the metadata.
    if (instance.obj_attr_is_set('system_metadata')
            and instance_metadata.rescue_of(instance)):
        _refuse_while_migrating(self, context, instance)
    return original(context, instance)


@compute_api.check_instance_lock
def _refuse_while_migrating(self: compute_api.API,
                            context: nova_context.RequestContext,
                            instance: objects.Instance) -> None:
    # The migration may have been requested after the server was read.
    fresh = objects.Instance.get_by_uuid(context, instance.uuid)
    if (fresh.vm_state == vm_states.RESCUED
            and fresh.task_state == task_states.MIGRATING
            # Otherwise no host is working on it.
            and recovery.may_be_run(context, instance.uuid)
            and capabilities.is_up(self, context, fresh.host)):
        raise ext_exception.RescuedServerMigrates(instance_uuid=instance.uuid)


def _is_ours(context: nova_context.RequestContext,
             instance: objects.Instance) -> bool:
    return (instance.vm_state == vm_states.RESCUED and
            microversion.is_requested(context,
                                      microversion.LIVE_MIGRATE_RESCUED))

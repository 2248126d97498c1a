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


"""Abandoned migrations of rescued servers.

The service that ran one may have died, or lost its database when it started or
ended the migration. Then the server keeps its task, and its owner can do
nothing with it. What to do depends on where the guest runs.
"""

from __future__ import annotations

import typing

from nova.compute import instance_actions
from nova.compute import task_states
from nova.compute import vm_states
from nova import conf
from nova import context as nova_context
from nova import exception
from nova import objects
from nova import servicegroup
from oslo_log import log as logging
from oslo_utils import timeutils

from nova_rescue_ext import instance_metadata
from nova_rescue_ext.live_migration import attachments
from nova_rescue_ext import placement

CONF = conf.CONF
LOG = logging.getLogger(__name__)

# Migration states while nova-conductor, or the source, works on it.
OF_THE_CONDUCTOR = ('accepted', 'pre-migrating')
BEFORE_THE_MOVE = ('queued', 'preparing')
OF_QEMU = ('running', 'running (post-copy)')
OF_THE_SOURCE = (*BEFORE_THE_MOVE, *OF_QEMU, 'post-migrating')

# Seconds for which a destination is asked to disconnect volumes.
_PATIENCE = 600

Services = attachments.Services


def unfinished(context: nova_context.RequestContext,
               instance_uuid: str) -> objects.Migration | None:
    """The newest live migration of a server that has not ended, or None.

    :param context: a RequestContext of the server's cell
    :param instance_uuid: the UUID of the server
    """
    return max(all_unfinished(context, instance_uuid),
               key=lambda migration: migration.id, default=None)


def all_unfinished(context: nova_context.RequestContext,
                   instance_uuid: str) -> objects.MigrationList:
    """The live migrations of a server that have not ended.

    :param context: a RequestContext of the server's cell
    :param instance_uuid: the UUID of the server
    """
    return objects.MigrationList.get_by_filters(context, {
        'instance_uuid': instance_uuid, 'migration_type': 'live-migration',
        'status': list(OF_THE_CONDUCTOR + OF_THE_SOURCE)})


def to_settle(context: nova_context.RequestContext,
              instance_uuid: str) -> objects.Migration | None:
    """The migration whose destination may run the guest as well, or None.

    That is the unfinished one, or else the last one if it ended with an error,
    as not every such migration is rolled back.

    :param context: a RequestContext of the server's cell
    :param instance_uuid: the UUID of the server
    """
    last = _last(context, instance_uuid)
    return unfinished(context, instance_uuid) or (
        last if last is not None and last.status == 'error' else None)


def all_of(context: nova_context.RequestContext,
           instance_uuid: str) -> objects.MigrationList:
    """The live migrations of a server.

    :param context: a RequestContext of the server's cell
    :param instance_uuid: the UUID of the server
    """
    return objects.MigrationList.get_by_filters(context, {
        'instance_uuid': instance_uuid, 'migration_type': 'live-migration'})


def is_unfinished(migration: objects.Migration) -> bool:
    """Whether a live migration has not ended.

    :param migration: the Migration
    """
    return migration.status in OF_THE_CONDUCTOR + OF_THE_SOURCE


def may_copy(context: nova_context.RequestContext, attempt: str) -> bool:
    """Whether files may still be copied for a live migration.

    :param context: a RequestContext of the server's cell
    :param attempt: the UUID of the migration
    """
    try:
        migration = objects.Migration.get_by_uuid(context, attempt)
    except exception.MigrationNotFound:
        return False
    return migration.status in OF_THE_CONDUCTOR + BEFORE_THE_MOVE


def end(context: nova_context.RequestContext, migration: objects.Migration,
        status: str) -> bool:
    """End a live migration, unless it has ended since it was read.

    One that has ended otherwise may turn out to be completed.

    :param context: a RequestContext of the server's cell
    :param migration: the Migration
    :param status: the status with which it ends
    :returns: whether it has not ended so before
    """
    fresh = objects.Migration.get_by_id(context, migration.id)
    if not is_unfinished(fresh) and (
            status != 'completed' or fresh.status == status):
        return False
    fresh.status = status
    fresh.save()
    return True


def _last(context: nova_context.RequestContext,
          instance_uuid: str) -> objects.Migration | None:
    return max(all_of(context, instance_uuid),
               key=lambda migration: migration.id, default=None)


def was_cancelled(context: nova_context.RequestContext,
                  instance_uuid: str) -> bool:
    """Whether the last migration of a server was cancelled.

    A nova-compute that is stopped cancels those that wait, and does nothing
    else about them.

    :param context: a RequestContext of the server's cell
    :param instance_uuid: the UUID of the server
    """
    last = _last(context, instance_uuid)
    return last is not None and last.status == 'cancelled'


def may_be_run(context: nova_context.RequestContext,
               instance_uuid: str) -> bool:
    """Whether a service may be working on a migration of a server.

    Nova sets the status to error before it rolls the migration back. If
    nothing rolls it back, the source clears the task of the server long before
    this no longer takes such a migration for one that is worked on.

    :param context: a RequestContext of the server's cell
    :param instance_uuid: the UUID of the server
    """
    if unfinished(context, instance_uuid) is not None:
        return True
    last = _last(context, instance_uuid)
    return (last is not None and last.status in ('error', 'failed')
            and age(last) < CONF.long_rpc_timeout)


def age(record: objects.Instance | objects.Migration) -> float:
    """Seconds since a record was changed.

    :param record: an object that Nova keeps in the database
    """
    return timeutils.delta_seconds(record.updated_at or record.created_at,
                                   timeutils.utcnow(with_timezone=True))


def runs_on(services: Services, context: nova_context.RequestContext,
            instance: objects.Instance, host: str) -> bool | None:
    """Whether a nova-compute says that it runs the guest of a server.

    :param services: a Services
    :param context: a RequestContext of the server's cell
    :param instance: the Instance
    :param host: the host to ask
    :returns: None if it does not answer
    """
    there = instance.obj_clone()
    there.host = host
    # Else Nova keeps a fault of the server each time that it does not.
    there.vm_state, there.task_state = (vm_states.RESCUED,
                                        task_states.MIGRATING)
    try:
        services.compute_rpcapi.get_diagnostics(context, there)
    except exception.InstanceInvalidState:
        return False
    except Exception as exc:
        LOG.debug('Host %(host)s did not answer whether it runs the guest: '
                  '%(error)s', {'host': host, 'error': exc},
                  instance=instance)
        return None
    return True


def is_up(context: nova_context.RequestContext, host: str) -> bool | None:
    """Whether the nova-compute of a host is up, None if there is none.

    :param context: a RequestContext of the host's cell
    :param host: the host
    """
    try:
        service = objects.Service.get_by_compute_host(context, host)
    except exception.ComputeHostNotFound:
        return None
    return servicegroup.API().service_is_up(service)


def is_awaited(fresh: objects.Instance, sent: objects.Instance) -> bool:
    """Whether a server waits for the migration that a message is about.

    Its task may have been cleared since, and set by another request.

    :param fresh: the Instance as the database has it
    :param sent: the Instance as the request has sent it
    """
    return (fresh.vm_state == vm_states.RESCUED
            and fresh.task_state == task_states.MIGRATING
            and (instance_metadata.requested_attempt(fresh)
                 == instance_metadata.requested_attempt(sent)))


def take_back_task(context: nova_context.RequestContext,
                   instance: objects.Instance) -> None:
    """Clear the task of a server if no migration of it has begun.

    :param context: a RequestContext of the server's cell
    :param instance: the Instance, whose migration was requested
    """
    try:
        fresh = objects.Instance.get_by_uuid(
            context, instance.uuid, expected_attrs=['system_metadata'])
        if (not is_awaited(fresh, instance)
                or unfinished(context, instance.uuid) is not None):
            return
        fresh.task_state = None
        fresh.save(expected_task_state=[task_states.MIGRATING])
    except (exception.InstanceNotFound, exception.UnexpectedTaskStateError):
        return
    except Exception as exc:
        LOG.warning('The live migration has not begun, but the task of the '
                    'server cannot be cleared: %s. nova-compute does it '
                    'later.', exc, instance=instance)


def give_back(services: Services, context: nova_context.RequestContext,
              instance: objects.Instance,
              migration: objects.Migration | None) -> None:
    """End a migration and leave the server on its host, with its guest.

    :param services: a Services
    :param context: a RequestContext of the server's cell
    :param instance: the Instance
    :param migration: the abandoned Migration, or None
    """
    if migration is None:
        migration = _last_that_was_left(services, context, instance.uuid)
    left: list[attachments.LeftAttachment] = []
    if migration is not None:
        if migration.status in BEFORE_THE_MOVE:
            # The destination stops, and connects no volume again.
            _end_attempt(context, instance, task_states.MIGRATING, left)
        left = give_back_claims(services, context, instance, migration)
    _end_attempt(context, instance, task_states.MIGRATING, left,
                 task_state=None, progress=0)
    LOG.warning('The abandoned live migration was ended: the server is in '
                'rescue on %(host)s. Look for a directory of it on %(dest)s '
                'before you migrate it there again.',
                {'host': instance.host,
                 'dest': migration and migration.dest_compute},
                instance=instance)


def _end_attempt(context: nova_context.RequestContext,
                 instance: objects.Instance, expected: str | None,
                 left: list[attachments.LeftAttachment],
                 **changes: typing.Any) -> None:
    """Record that a server has no migration, and what one has left."""
    fresh = objects.Instance.get_by_uuid(
        context, instance.uuid,
        expected_attrs=['system_metadata', 'migration_context'])
    instance_metadata.end_attempt(fresh)
    instance_metadata.record_left_attachments(fresh, left)
    fresh.drop_migration_context()
    fresh.update(changes)
    fresh.save(expected_task_state=[expected])


def _last_that_was_left(services: Services,
                        context: nova_context.RequestContext,
                        instance_uuid: str) -> objects.Migration | None:
    """The last migration, if it has ended and holds allocations, or None."""
    last = _last(context, instance_uuid)
    if (last is not None and last.status in ('cancelled', 'error')
            and _has_allocations(services, context, last)):
        return last
    return None


def give_back_reset(services: Services, context: nova_context.RequestContext,
                    instance: objects.Instance,
                    migration: objects.Migration) -> None:
    """As give_back, for a server whose task was reset meanwhile.

    :param services: a Services
    :param context: a RequestContext of the server's cell
    :param instance: the Instance
    :param migration: the abandoned Migration
    """
    if migration.status in BEFORE_THE_MOVE:
        # The destination stops, and connects no volume again.
        _end_attempt(context, instance, None, [])
    left = give_back_claims(services, context, instance, migration)
    _end_attempt(context, instance, None, left)


def give_up(services: Services, context: nova_context.RequestContext,
            instance: objects.Instance, migration: objects.Migration) -> bool:
    """End a migration that has not moved its guest, of an evacuated server.

    :param services: a Services
    :param context: a RequestContext of the server's cell
    :param instance: the Instance, which is no longer on the source
    :param migration: the abandoned Migration
    :returns: whether it is ended; not while the server has a task
    """
    fresh = objects.Instance.get_by_uuid(context, instance.uuid,
                                         expected_attrs=['system_metadata'])
    if (fresh.task_state is not None
            or fresh.host == migration.source_compute):
        return False
    left: list[attachments.LeftAttachment] = []
    if migration.status in BEFORE_THE_MOVE:
        # The destination stops, and connects no volume again.
        instance_metadata.end_attempt(fresh)
        fresh.save(expected_task_state=[None])
        attachments.leave(services, context, fresh, migration.source_compute)
    if migration.dest_compute not in (None, fresh.host):
        services.network_api.setup_networks_on_host(
            context, fresh, host=migration.dest_compute, teardown=True)
        if migration.status in BEFORE_THE_MOVE:
            left = attachments.stay(
                services, context, fresh, migration.dest_compute,
                bool(is_up(context, migration.dest_compute)),
                may_wait=age(migration) < _PATIENCE)
            attachments.record_left(context, fresh.uuid, left)
    close(services, context, migration, 'error')
    return True


def give_back_claims(services: Services, context: nova_context.RequestContext,
                     instance: objects.Instance, migration: objects.Migration
                     ) -> list[attachments.LeftAttachment]:
    """Return to a server what its migration holds, and end the migration.

    A destination that does not disconnect volumes is asked again for some
    minutes, which the owner can wait.

    :param services: a Services
    :param context: a RequestContext of the server's cell
    :param instance: the Instance
    :param migration: the abandoned Migration
    :returns: the attachments that are left on the destination
    """
    left: list[attachments.LeftAttachment] = []
    if _has_allocations(services, context, migration):
        _move_allocations(services, context, migration.uuid, instance.uuid)
    if migration.dest_compute and migration.dest_compute != instance.host:
        services.network_api.setup_networks_on_host(
            context, instance, host=migration.dest_compute, teardown=True)
    if migration.status not in OF_THE_CONDUCTOR:
        left = attachments.stay(
            services, context, instance, migration.dest_compute,
            bool(is_up(context, migration.dest_compute)),
            may_wait=(services.driver is not None
                      and age(migration) < _PATIENCE))
    end(context, migration, 'error')
    return left


def _has_allocations(services: Services, context: nova_context.RequestContext,
                     consumer: objects.Instance | objects.Migration) -> bool:
    """Whether there are any; placement's failures are no answer."""
    return bool(services.reportclient.get_allocs_for_consumer(
        context, consumer.uuid)['allocations'])


def _move_allocations(services: Services,
                      context: nova_context.RequestContext, consumer: str,
                      heir: str) -> None:
    """Move them, and raise if placement does not: Nova only logs that."""
    if not services.reportclient.move_allocations(context, consumer, heir):
        raise exception.AllocationMoveFailed(
            source_consumer=consumer, target_consumer=heir,
            error='placement has refused it')


def finish(services: Services, context: nova_context.RequestContext,
           instance: objects.Instance, migration: objects.Migration) -> None:
    """Finish a migration whose guest has moved, on both hosts.

    The destination takes over the server: host, task and domain.

    :param services: a Services
    :param context: a RequestContext of the server's cell
    :param instance: the Instance
    :param migration: the abandoned Migration
    """
    activate_ports(services, context, instance, migration)
    # As in any migration, before the owner can do something with the server.
    there = instance.obj_clone()  # it was read before the move
    there.host = migration.dest_compute
    attachments.leave(services, context, there, migration.source_compute)
    services.compute_rpcapi.post_live_migration_at_destination(
        _of_its_request(context, instance), instance, False,
        migration.dest_compute)
    if services.driver is not None:
        services.driver.post_live_migration_at_source(
            context, instance, instance.get_network_info())
    close(services, context, migration, 'completed')
    LOG.warning('The abandoned live migration to %(dest)s was finished: the '
                'server is in rescue on %(dest)s, where its guest runs. If '
                '%(source)s still has its directory, compare that with the '
                'one on %(dest)s, then remove it by hand.',
                {'source': migration.source_compute,
                 'dest': migration.dest_compute}, instance=instance)


def _of_its_request(context: nova_context.RequestContext,
                    instance: objects.Instance) -> nova_context.RequestContext:
    """A context for what belongs to the last live migration of a server.

    Without one of its requests Nova takes the last action of the server, when
    an event begins and when it ends. The owner may begin another between.
    """
    asked = max((action for action
                 in objects.InstanceActionList.get_by_instance_uuid(
                     context, instance.uuid)
                 if action.action == instance_actions.LIVE_MIGRATION),
                key=lambda action: action.id, default=None)
    if asked is not None:
        context = context.elevated()  # a copy
        context.request_id = asked.request_id
    return context


def activate_ports(services: Services, context: nova_context.RequestContext,
                   instance: objects.Instance,
                   migration: objects.Migration) -> None:
    """Activate the ports of a server on the destination.

    :param services: a Services
    :param context: a RequestContext of the server's cell
    :param instance: the Instance
    :param migration: the Migration that was abandoned
    """
    services.network_api.migrate_instance_start(
        context, instance, objects.Migration(
            source_compute=migration.source_compute,
            dest_compute=migration.dest_compute))


def finish_books(services: Services, context: nova_context.RequestContext,
                 instance: objects.Instance,
                 migration: objects.Migration) -> bool:
    """Release what a migration holds on the source, and complete it.

    Not while the server has a task: if Nova moves it on, that attaches its
    volumes to a third host. The source looks again in a minute.

    :param services: a Services
    :param context: a RequestContext of the server's cell
    :param instance: the Instance, which is no longer on the source
    :param migration: its Migration
    :returns: whether it is complete
    """
    fresh = objects.Instance.get_by_uuid(context, instance.uuid)
    if (fresh.task_state is not None
            or fresh.host == migration.source_compute):
        return False
    attachments.leave(services, context, fresh, migration.source_compute)
    close(services, context, migration, 'completed')
    return True


def close(services: Services, context: nova_context.RequestContext,
          migration: objects.Migration, status: str) -> None:
    """Give back what a migration claims on the source, and end it.

    :param services: a Services
    :param context: a RequestContext of the server's cell
    :param migration: the Migration, whose server is not on the source
    :param status: the status with which it ends
    """
    _delete_allocations(services, context, migration)
    end(context, migration, status)


def _delete_allocations(services: Services,
                        context: nova_context.RequestContext,
                        migration: objects.Migration) -> None:
    placement.delete_allocation(services.reportclient, context,
                                migration.uuid, consumer_type='migration',
                                force=False)


def drop_claims(services: Services, context: nova_context.RequestContext,
                instance: objects.Instance,
                migration: objects.Migration) -> None:
    """Give back what a migration that has not begun holds.

    But not what another one holds. If the guest is on the source, its
    allocation goes to that one, which found none.

    :param services: a Services
    :param context: a RequestContext of the server's cell
    :param instance: the Instance as the database has it
    :param migration: the Migration, which has ended
    """
    others = [other for other in all_unfinished(context, instance.uuid)
              if other.id != migration.id]
    if _has_allocations(services, context, migration):
        heir = max(others, key=lambda other: other.id, default=None)
        if (heir is not None and instance.host == migration.source_compute
                and not _has_allocations(services, context, heir)):
            _move_allocations(services, context, migration.uuid, heir.uuid)
        elif heir is not None or instance.host != migration.source_compute:
            _delete_allocations(services, context, migration)
        elif instance.task_state is None:
            _move_allocations(services, context, migration.uuid,
                              instance.uuid)
    used = {instance.host, *(other.dest_compute for other in others)}
    if migration.dest_compute not in used:
        services.network_api.setup_networks_on_host(
            context, instance, host=migration.dest_compute, teardown=True)


def release_ended(services: Services, context: nova_context.RequestContext,
                  instance: objects.Instance,
                  migration: objects.Migration) -> None:
    """Give back the allocation that a migration has kept when it ended.

    Nova tries that once. If the server has none, it is its own.

    :param services: a Services
    :param context: a RequestContext of the server's cell
    :param instance: the Instance
    :param migration: the Migration, of which the source may have allocations
    """
    if is_unfinished(migration):
        return
    if instance.host == migration.source_compute and not _has_allocations(
            services, context, instance):
        # What moves it sets its task, or makes a migration, first.
        fresh = objects.Instance.get_by_uuid(context, instance.uuid)
        if (fresh.task_state is not None or fresh.host != instance.host
                or unfinished(context, instance.uuid) is not None):
            return
        _move_allocations(services, context, migration.uuid, instance.uuid)
    else:
        _delete_allocations(services, context, migration)
    LOG.warning('The allocation that the live migration to %(dest)s had kept '
                'on %(source)s is given back. Nothing needs to be done.',
                {'source': migration.source_compute,
                 'dest': migration.dest_compute}, instance=instance)


def set_host(context: nova_context.RequestContext, instance: objects.Instance,
             migration: objects.Migration,
             task_state: str | None = task_states.MIGRATING) -> None:
    """Record that a server is on the destination, in place of the destination.

    :param context: a RequestContext of the server's cell
    :param instance: the Instance
    :param migration: the abandoned Migration
    :param task_state: the task that the server has
    """
    node = objects.ComputeNode.get_by_host_and_nodename(
        context, migration.dest_compute, migration.dest_node)
    fresh = objects.Instance.get_by_uuid(
        context, instance.uuid,
        expected_attrs=['system_metadata', 'migration_context'])
    fresh.apply_migration_context()
    fresh.drop_migration_context()
    fresh.host, fresh.node = node.host, node.hypervisor_hostname
    if 'compute_id' in fresh.fields:  # from Nova 30 on
        fresh.compute_id = node.id
    fresh.task_state = None
    fresh.progress = 0
    fresh.save(expected_task_state=[task_state])

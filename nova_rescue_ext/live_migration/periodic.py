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


"""A periodic task of nova-compute that ends abandoned migrations.

It runs on the source, which knows what it is working on, and whether the guest
runs there.
"""

from __future__ import annotations

import typing
import weakref

from nova.compute import power_state
from nova.compute import task_states
from nova.compute import vm_states
from nova import conf
from nova import context as nova_context
from nova import exception
from nova import objects
from oslo_log import log as logging
from oslo_utils import timeutils

from nova_rescue_ext import instance_metadata
from nova_rescue_ext.live_migration import attachments
from nova_rescue_ext.live_migration import destination
from nova_rescue_ext.live_migration import domain
from nova_rescue_ext.live_migration import recovery
from nova_rescue_ext.live_migration import source

if typing.TYPE_CHECKING:
    from nova.compute import manager as compute_manager

CONF = conf.CONF
LOG = logging.getLogger(__name__)

_SECONDS_KEPT = 600
_SECONDS_LEFT = 600

_watches_kept: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()
_watches_left: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def look(manager: compute_manager.ComputeManager,
         context: nova_context.RequestContext) -> None:
    """End migrations that no service works on any longer.

    If one cannot be ended, that is logged and tried again.

    :param manager: the ComputeManager
    :param context: a RequestContext with an administrator's rights
    """
    _try(None, source.remove_left, context)
    _try(None, destination.remove_left, context)
    try:
        instances = objects.InstanceList.get_by_filters(context, {
            'host': manager.host, 'vm_state': vm_states.RESCUED,
            'task_state': task_states.MIGRATING, 'deleted': False})
        moved = objects.MigrationList.get_by_filters(context, {
            'source_compute': manager.host,
            'status': list(recovery.OF_THE_CONDUCTOR
                           + recovery.BEFORE_THE_MOVE + recovery.OF_QEMU),
            'migration_type': 'live-migration'})
    except Exception as exc:
        LOG.warning('nova-compute cannot look for abandoned live migrations '
                    'of rescued servers: %s', exc)
        return
    for instance in instances:
        _try(instance, _attend, manager, context, instance.uuid)
    _try(None, _attend_all_moved, manager, context, moved)
    _try(None, _attend_all_kept_if_due, manager, context)
    _try(None, _attend_all_left_if_due, manager, context)


def _try(instance: objects.Instance | None, attend: typing.Callable[..., None],
         *args: typing.Any) -> None:
    try:
        attend(*args)
    except Exception:
        LOG.exception('An abandoned live migration could not be cleaned up. '
                      'It is tried again in a minute.', instance=instance)


def services_of(manager: compute_manager.ComputeManager) -> recovery.Services:
    """The services with which a nova-compute ends a migration.

    :param manager: the ComputeManager
    """
    return recovery.Services(manager.network_api, manager.compute_rpcapi,
                             manager.reportclient, manager.volume_api,
                             manager.driver)


def _attend(manager: compute_manager.ComputeManager,
            context: nova_context.RequestContext, instance_uuid: str) -> None:
    # Nova may still be rolling back a migration that has ended in the
    # database.
    if source.is_at_work_on(instance_uuid):
        return
    migration = recovery.unfinished(context, instance_uuid)
    # After the migration: it may have ended since the list was made.
    instance = objects.Instance.get_by_uuid(
        context, instance_uuid, expected_attrs=[
            'flavor', 'info_cache', 'system_metadata'])
    if (instance.task_state != task_states.MIGRATING
            or instance.host != manager.host
            or _is_worked_on(manager, instance, migration)
            or _qemu_is_at_work(manager, instance)):
        return
    services = services_of(manager)
    if _is_on_source(manager, services, context, instance, migration):
        recovery.give_back(services, context, instance, migration)
    elif (migration is not None and migration.dest_compute
            and not _runs_here(manager, instance)
            and _runs_on(services, context, instance,
                         migration.dest_compute)):
        recovery.finish(services, context, instance, migration)
    else:
        LOG.error('The live migration of the server was abandoned, and it is '
                  'not known whether its guest runs on this host or on '
                  '%(dest)s. Check both with virsh list, then run '
                  'nova-rescue-ext-manage settle-migration.',
                  {'dest': migration.dest_compute if migration else
                   'the destination of its last live migration'},
                  instance=instance)


def _is_worked_on(manager: compute_manager.ComputeManager,
                  instance: objects.Instance,
                  migration: objects.Migration) -> bool:
    """Whether a service may be working on a migration, which may be None."""
    if source.is_at_work_on(instance.uuid):
        return True
    if migration is None:
        return recovery.age(instance) < CONF.rpc_response_timeout
    if migration.status in recovery.OF_THE_CONDUCTOR:
        return recovery.age(migration) < CONF.long_rpc_timeout
    return _is_waiting(manager, instance, migration)


def _qemu_is_at_work(manager: compute_manager.ComputeManager,
                     instance: objects.Instance) -> bool:
    """Whether the guest may still move. The job of libvirt is aborted.

    libvirt continues it after nova-compute has died. In the post-copy phase it
    can no longer be aborted, and ends on its own.
    """
    if not domain.is_moving(manager.driver, instance):
        return False
    try:
        manager.driver.live_migration_abort(instance)
    except Exception as exc:
        LOG.info('libvirt still moves the guest, without nova-compute: %s',
                 exc, instance=instance)
    else:
        LOG.warning('The move of the guest, which nova-compute no longer '
                    'watches, is aborted.', instance=instance)
    return True


def _is_waiting(manager: compute_manager.ComputeManager,
                instance: objects.Instance,
                migration: objects.Migration) -> bool:
    """Whether it waits for others. Nova keeps those that have failed."""
    waiting, future = manager._waiting_live_migrations.get(
        instance.uuid, (migration, None))
    if future is None:
        return waiting is None  # about to be queued
    return waiting.uuid == migration.uuid and not future.done()


def _runs_here(manager: compute_manager.ComputeManager,
               instance: objects.Instance) -> bool:
    return manager._get_power_state(instance) == power_state.RUNNING


def _is_on_source(manager: compute_manager.ComputeManager,
                  services: recovery.Services,
                  context: nova_context.RequestContext,
                  instance: objects.Instance,
                  migration: objects.Migration) -> bool:
    """Whether the guest is on this host, and certainly on no other."""
    if migration is None:
        # None has begun, or one has ended without the task of the server.
        return (_runs_here(manager, instance)
                or domain.is_left_behind(manager.driver, instance))
    if migration.status in recovery.OF_THE_CONDUCTOR:
        return True  # no host has begun
    if _runs_here(manager, instance):
        # QEMU starts after this.
        return (migration.status in recovery.BEFORE_THE_MOVE
                or _runs_on(services, context, instance,
                            migration.dest_compute) is not True)
    return (domain.is_left_behind(manager.driver, instance)
            and _runs_on(services, context, instance,
                         migration.dest_compute) is False)


def _runs_on(services: recovery.Services, context: nova_context.RequestContext,
             instance: objects.Instance, host: str) -> bool | None:
    """As recovery.runs_on, but without waiting for a host that is down.

    All other periodic tasks would wait, too.
    """
    if not recovery.is_up(context, host):
        return None
    return recovery.runs_on(services, context, instance, host)


def _attend_all_moved(manager: compute_manager.ComputeManager,
                      context: nova_context.RequestContext,
                      migrations: objects.MigrationList) -> None:
    """Find the migrations of rescued servers, in one query.

    Those of servers that were deleted or soft-deleted since are included.
    """
    migrations = [migration for migration in migrations
                  if not source.is_at_work(migration.uuid)]
    if not migrations:
        return
    instances = {
        instance.uuid: instance
        for instance in objects.InstanceList.get_by_filters(
            context, {'uuid': sorted({migration.instance_uuid
                                      for migration in migrations})},
            expected_attrs=['flavor', 'info_cache', 'system_metadata'])}
    for migration in migrations:
        instance = instances.get(migration.instance_uuid)
        if instance is not None:
            _try(instance, _attend_moved, manager, context, instance,
                 migration)


def _attend_all_left_if_due(manager: compute_manager.ComputeManager,
                            context: nova_context.RequestContext) -> None:
    watch = _watches_left.get(manager)
    if watch is not None and not watch.expired():
        return
    _watches_left[manager] = timeutils.StopWatch(_SECONDS_LEFT).start()
    _attend_all_left(manager, context)


def _attend_all_left(manager: compute_manager.ComputeManager,
                     context: nova_context.RequestContext) -> None:
    """Tell of attachments that migrations have left on other hosts."""
    for instance in objects.InstanceList.get_by_host(
            context, manager.host, expected_attrs=['system_metadata']):
        if instance_metadata.left_attachments(instance):
            _try(instance, attachments.attend_left, services_of(manager),
                 context, instance)


def _attend_all_kept_if_due(manager: compute_manager.ComputeManager,
                            context: nova_context.RequestContext) -> None:
    watch = _watches_kept.get(manager)
    if (watch is not None and not watch.expired()
            or not manager.rt.compute_nodes):  # not until the first audit
        return
    _attend_all_kept(manager, context)
    # If that fails, it is tried again in a minute.
    watch = timeutils.StopWatch(_SECONDS_KEPT)
    _watches_kept[manager] = watch.start()


def _attend_all_kept(manager: compute_manager.ComputeManager,
                     context: nova_context.RequestContext) -> None:
    """Find migrations that have kept their allocations on this host.

    They have ended, or were deleted with their servers. Searches the
    allocations: the rows of the table that are deleted or have ended grow with
    the history, and have no index by host.
    """
    here = set(objects.InstanceList.get_uuids_by_host(context, manager.host))
    for node in list(manager.rt.compute_nodes.values()):
        allocated = manager.reportclient.get_allocations_for_resource_provider(
            context, node.uuid).allocations
        for uuid in sorted(set(allocated) - here):
            _try(None, _attend_kept, manager, context, uuid)


def _attend_kept(manager: compute_manager.ComputeManager,
                 context: nova_context.RequestContext,
                 consumer: str) -> None:
    """Release what a migration in rescue holds, if that is over.

    :param consumer: the UUID of a consumer with an allocation on this host
    """
    try:
        migration = objects.Migration.get_by_uuid(context, consumer)
        if (migration.migration_type != 'live-migration'
                or migration.source_compute != manager.host
                or source.is_at_work_on(migration.instance_uuid)):
            return
        instance = objects.Instance.get_by_uuid(
            context.elevated(read_deleted='yes'), migration.instance_uuid,
            expected_attrs=['system_metadata'])
    except (exception.MigrationNotFound, exception.InstanceNotFound):
        return  # of a server that is coming, or that was archived
    attempt = instance_metadata.attempt_of(instance)
    is_old = recovery.age(migration) >= CONF.long_rpc_timeout
    if not instance.deleted:
        if is_old and migration.uuid in (
                attempt, instance_metadata.requested_attempt(instance)):
            recovery.release_ended(services_of(manager), context, instance,
                                   migration)
    # Nova may still be working on a stock migration of the server.
    elif attempt == migration.uuid or attempt is not None and is_old:
        recovery.close(services_of(manager), context, migration, 'error')


def _attend_moved(manager: compute_manager.ComputeManager,
                  context: nova_context.RequestContext,
                  instance: objects.Instance,
                  migration: objects.Migration) -> None:
    """Clean up after a migration whose server is no longer migrating."""
    if source.is_at_work_on(instance.uuid):
        return
    if migration.status not in recovery.OF_QEMU and migration.uuid in (
            instance_metadata.requested_attempt(instance),
            instance_metadata.attempt_of(instance)):
        _attend_not_moved(manager, context, instance, migration)
    elif instance_metadata.attempt_of(instance) != migration.uuid:
        _attend_moved_again(manager, context, instance, migration)
    elif instance.deleted:
        recovery.close(services_of(manager), context, migration, 'error')
    elif instance.task_state is not None:
        return  # Nova, or the look for abandoned ones, is at work
    elif instance.host != manager.host:
        if recovery.finish_books(services_of(manager), context, instance,
                                 migration):
            LOG.warning('The live migration to %(dest)s has been finished, '
                        'and what the server held on this host is released.',
                        {'dest': migration.dest_compute}, instance=instance)
    else:
        _attend_reset(manager, context, instance, migration)


def _attend_not_moved(manager: compute_manager.ComputeManager,
                      context: nova_context.RequestContext,
                      instance: objects.Instance,
                      migration: objects.Migration) -> None:
    """End a migration whose server has lost its task before QEMU began.

    Its state was reset, and perhaps it was evacuated after that, or deleted.
    """
    if (not instance.deleted and instance.task_state is not None
            or _is_worked_on(manager, instance, migration)):
        return
    # It may have gone on, or ended, since the list was made.
    migration = objects.Migration.get_by_id(context, migration.id)
    if migration.status not in (recovery.OF_THE_CONDUCTOR
                                + recovery.BEFORE_THE_MOVE):
        return
    services = services_of(manager)
    if instance.deleted:
        recovery.close(services, context, migration, 'error')
    elif instance.host == manager.host:
        recovery.give_back_reset(services, context, instance, migration)
    elif (_runs_here(manager, instance)
          or not recovery.give_up(services, context, instance, migration)):
        return  # Nova destroys the guest of one that was evacuated
    _log_not_moved(instance, migration)


def _log_not_moved(instance: objects.Instance,
                   migration: objects.Migration) -> None:
    LOG.warning('The live migration to %(dest)s was ended: the server has '
                'lost its task, and its guest was not moved. Look for a '
                'directory of it on %(dest)s before you migrate it there '
                'again.', {'dest': migration.dest_compute}, instance=instance)


def _attend_moved_again(manager: compute_manager.ComputeManager,
                        context: nova_context.RequestContext,
                        instance: objects.Instance,
                        migration: objects.Migration) -> None:
    """End a migration that was followed by another one.

    That may be a stock one, on which Nova may still be working.
    """
    if (instance_metadata.attempt_of(instance) is not None
            and (instance.deleted or instance.host != manager.host)
            and recovery.age(migration) >= CONF.long_rpc_timeout):
        recovery.close(services_of(manager), context, migration, 'completed')


def _attend_reset(manager: compute_manager.ComputeManager,
                  context: nova_context.RequestContext,
                  instance: objects.Instance,
                  migration: objects.Migration) -> None:
    """End a migration during which the task of the server was reset.

    The owner would start a second guest, or find no disks.
    """
    if domain.is_moving(manager.driver, instance):
        return
    services = services_of(manager)
    runs_there = _runs_on(services, context, instance, migration.dest_compute)
    # That may have taken a minute.
    instance = objects.Instance.get_by_uuid(
        context, instance.uuid, expected_attrs=[
            'flavor', 'info_cache', 'system_metadata'])
    if instance.task_state is not None or instance.host != manager.host:
        return
    runs_here = _runs_here(manager, instance)
    is_left_behind = not runs_here and domain.is_left_behind(manager.driver,
                                                             instance)
    if runs_there is False and (runs_here or is_left_behind):
        recovery.give_back_reset(services, context, instance, migration)
        _log_not_moved(instance, migration)
    elif runs_here:
        LOG.error('The state of the server was reset while it was '
                  'live-migrated to %(dest)s. Its guest runs on this '
                  'host, and perhaps on %(dest)s as well, on the same '
                  'disks: check with virsh list there, and destroy the '
                  'one that is not in use. Nothing is cleaned up until '
                  '%(dest)s says that it does not run it.',
                  {'dest': migration.dest_compute}, instance=instance)
    elif runs_there and not is_left_behind:
        _finish_reset(services, context, instance, migration)


def _finish_reset(services: recovery.Services,
                  context: nova_context.RequestContext,
                  instance: objects.Instance,
                  migration: objects.Migration) -> None:
    try:
        recovery.activate_ports(services, context, instance, migration)
    except Exception as exc:
        # The owner would start a second guest here.
        LOG.warning('The ports of the server cannot be bound on %(dest)s: '
                    '%(error)s. Bind them there when that is repaired.',
                    {'dest': migration.dest_compute, 'error': exc},
                    instance=instance)
    recovery.set_host(context, instance, migration, task_state=None)
    recovery.finish_books(services, context, instance, migration)
    LOG.error('The state of the server was reset while it was live-migrated '
              'to %(dest)s, where its guest runs. The server is on %(dest)s '
              'now: hard reboot it there.',
              {'dest': migration.dest_compute}, instance=instance)

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


"""Live migration of rescued servers in nova-compute's manager."""

from __future__ import annotations

import typing

from nova.compute import power_state
from nova.compute import task_states
from nova.compute import vm_states
from nova import context as nova_context
from nova import exception
from nova import objects
from oslo_concurrency import lockutils
from oslo_log import log as logging
import oslo_messaging as messaging
from oslo_utils import excutils

from nova_rescue_ext import capabilities
from nova_rescue_ext import exception as ext_exception
from nova_rescue_ext.i18n import _
from nova_rescue_ext import instance_metadata
from nova_rescue_ext import nova_types
from nova_rescue_ext.task import host_task

if typing.TYPE_CHECKING:
    from nova.compute import manager as compute_manager
    from nova.compute import rpcapi as compute_rpcapi
    from nova.compute import utils as compute_utils
    from nova.network import model as network_model
    from nova.network import neutron
    from nova.virt import driver as virt_driver
    from nova.virt import imagecache

    from nova_rescue_ext.live_migration import source as live_migration_source

LOG = logging.getLogger(__name__)


def check_source(
        original: nova_types.Original, self: compute_rpcapi.ComputeAPI,
        ctxt: nova_context.RequestContext, instance: objects.Instance,
        dest_check_data: objects.LibvirtLiveMigrateData
) -> objects.LibvirtLiveMigrateData:
    """Check on the destination what is to be copied from the source.

    Done as soon as the source has answered: what Nova claims on this host
    after that would stay claimed until the next audit.

    :raises: MigrationPreCheckError
    """
    migrate_data = original(ctxt, instance, dest_check_data)
    if instance.vm_state == vm_states.RESCUED:
        from nova_rescue_ext.live_migration import checks
        from nova_rescue_ext.live_migration import destination
        from nova_rescue_ext.live_migration import manifest

        with checks.harmless():
            received = manifest.received(migrate_data)
            if received is not None:
                destination.check(instance, migrate_data, received)
    return migrate_data


def live_migration(original: nova_types.Original,
                   self: compute_manager.ComputeManager,
                   context: nova_context.RequestContext, dest: str,
                   instance: objects.Instance, block_migration: bool,
                   migration: objects.Migration,
                   migrate_data: objects.LibvirtLiveMigrateData) -> None:
    """Queue the migration of a rescued server once.

    Nova would set a migration that runs, or has ended, back to queued.
    """
    if (not instance.obj_attr_is_set('vm_state')  # in tests of Nova's
            or instance.vm_state != vm_states.RESCUED):
        return original(context, dest, instance, block_migration, migration,
                        migrate_data)
    from nova_rescue_ext.live_migration import recovery
    from nova_rescue_ext.live_migration import source

    with lockutils.lock('rescue_ext-queue-%d' % migration.id):
        fresh = objects.Migration.get_by_id(context, migration.id)
        if fresh.status in recovery.OF_THE_CONDUCTOR:
            return original(context, dest, instance, block_migration,
                            migration, migrate_data)
    LOG.warning('A doubled or late message of the live migration to %(dest)s '
                'is dropped: the migration is %(status)s. Nothing needs to be '
                'done.', {'dest': dest, 'status': fresh.status},
                instance=instance)
    if not (recovery.is_unfinished(fresh) or source.is_run(fresh.uuid)):
        # Nova takes one that is accepted for that of an evacuation.
        _forget(self, context, fresh)
    return None


def do_live_migration(original: nova_types.Original,
                      self: compute_manager.ComputeManager,
                      context: nova_context.RequestContext, dest: str,
                      instance: objects.Instance, block_migration: bool,
                      migration: objects.Migration,
                      migrate_data: objects.LibvirtLiveMigrateData) -> None:
    """Run the migration of a rescued server as an operation of ours."""
    if instance.vm_state != vm_states.RESCUED:
        return original(context, dest, instance, block_migration, migration,
                        migrate_data)
    from nova_rescue_ext.live_migration import source

    if not _may_begin(self, context, instance, migration):
        LOG.warning('The live migration to %(dest)s is not started: another '
                    'one of the server was requested since, or has moved it. '
                    'Nothing is rolled back, as %(dest)s may run the guest.',
                    {'dest': dest}, instance=instance)
        _end_unless_it_is_run(self, context, migration)
        return None
    with source.Migration(context, instance, dest, migration,
                          migrate_data) as ours:
        try:
            ours.wait_for_devices()
            result = original(context, dest, instance, block_migration,
                              migration, migrate_data)
            if not (ours.is_given_up and ours.is_aborted()):
                return result
        except Exception:
            if not ours.is_aborted():
                raise
        # Nova has rolled it back as a failed one.
        migration.status = 'cancelled'
        migration.save()
        self._notify_live_migrate_abort_end(context, instance)
        return None


def _may_begin(manager: compute_manager.ComputeManager,
               context: nova_context.RequestContext,
               instance: objects.Instance,
               migration: objects.Migration) -> bool:
    """Whether the task of the server belongs to this migration.

    Its message may have been late, and the task cleared meanwhile.
    """
    from nova_rescue_ext.live_migration import recovery
    from nova_rescue_ext.live_migration import source

    try:
        fresh = objects.Instance.get_by_uuid(context, instance.uuid)
    except exception.InstanceNotFound:
        return True  # Nova rolls it back
    if (fresh.host != manager.host or fresh.vm_state != vm_states.RESCUED
            or source.is_run(migration.uuid)):
        return False
    # An older one may still run if nova-conductor was late with this one.
    return not any(
        other.id > migration.id or source.is_at_work(other.uuid)
        for other in recovery.all_unfinished(context, instance.uuid)
        if other.id != migration.id)


def _end_unless_it_is_run(manager: compute_manager.ComputeManager,
                          context: nova_context.RequestContext,
                          migration: objects.Migration) -> None:
    """Its message may have been delivered twice."""
    from nova_rescue_ext.live_migration import recovery
    from nova_rescue_ext.live_migration import source

    if not source.is_run(migration.uuid) and recovery.end(context, migration,
                                                          'error'):
        _forget(manager, context, migration)


def _forget(manager: compute_manager.ComputeManager,
            context: nova_context.RequestContext,
            migration: objects.Migration) -> None:
    """Give back what a migration that will not begin holds."""
    from nova_rescue_ext.live_migration import periodic
    from nova_rescue_ext.live_migration import recovery

    uuid = migration.instance_uuid
    waiting, _future = manager._waiting_live_migrations.get(uuid,
                                                            (None, None))
    if waiting is not None and waiting.uuid == migration.uuid:
        del manager._waiting_live_migrations[uuid]
    try:
        instance = objects.Instance.get_by_uuid(
            context, uuid, expected_attrs=['flavor', 'info_cache'])
        recovery.drop_claims(periodic.services_of(manager), context, instance,
                             migration)
    except Exception:
        LOG.exception('What the live migration to %(dest)s, which is not '
                      'started, holds in placement and Neutron cannot be '
                      'released. Look for allocations of consumer %(uuid)s, '
                      'and for bindings of the ports of the server to '
                      '%(dest)s.',
                      {'dest': migration.dest_compute,
                       'uuid': migration.uuid}, instance_uuid=uuid)


def call_pre_live_migration(
        original: nova_types.Original, self: compute_rpcapi.ComputeAPI,
        ctxt: nova_context.RequestContext, instance: objects.Instance,
        block_migration: bool, disk: str | None, host: str,
        migrate_data: objects.LibvirtLiveMigrateData
) -> objects.LibvirtLiveMigrateData:
    """Prepare the files on the source before the destination is called.

    A failure here makes Nova roll the migration back.
    """
    ours = _source_of_this_thread(instance)
    if ours is None:
        return original(ctxt, instance, block_migration, disk, host,
                        migrate_data)
    try:
        ours.prepare(migrate_data)
        return original(ctxt, instance, block_migration, disk, host,
                        migrate_data)
    except Exception:
        with excutils.save_and_reraise_exception():
            ours.remove_copies()


def pre_live_migration(
        original: nova_types.Original, self: compute_manager.ComputeManager,
        context: nova_context.RequestContext, instance: objects.Instance,
        disk: str | None,
        migrate_data: objects.LibvirtLiveMigrateData
) -> objects.LibvirtLiveMigrateData:
    """Prepare this host for a rescued server, unless it is too late.

    :raises: MigrationError if the migration was given up or aborted
    """
    if instance.vm_state != vm_states.RESCUED:
        return original(context, instance, disk, migrate_data)
    from nova_rescue_ext.live_migration import destination

    with destination.Arrival(context, instance, migrate_data) as arrival:
        try:
            # Nova's first steps give each volume an attachment to this host.
            arrival.check_current()
            return original(context, instance, disk, migrate_data)
        except ext_exception.MigrationSuperseded:
            destination.log_superseded(instance)
            _end_pending_task(self, instance)
            _give_up_attachments(self, instance)
            raise _superseded()


def _give_up_attachments(manager: compute_manager.ComputeManager,
                         instance: objects.Instance) -> None:
    """Remove attachments that were made when the source had given up.

    It has rolled back those from before. Block devices may name later ones.
    """
    from nova_rescue_ext.live_migration import attachments
    from nova_rescue_ext.live_migration import periodic

    context = nova_context.get_admin_context()
    try:
        fresh = objects.Instance.get_by_uuid(
            context, instance.uuid, expected_attrs=['system_metadata'])
        # With a task, a roll-back or another migration is at work on them.
        if fresh.task_state is None and fresh.host != manager.host:
            attachments.record_left(context, fresh.uuid, attachments.stay(
                periodic.services_of(manager), context, fresh, manager.host,
                dest_is_up=True, may_wait=False))
    except exception.InstanceNotFound:
        return
    except Exception:
        LOG.exception('The volumes of the server may have attachments to this '
                      'host, and its block devices may name them. Compare '
                      'them with Cinder before the server is rebooted or '
                      'migrated.', instance=instance)


def end_event(original: nova_types.Original, self: compute_utils.EventReporter,
              exc_type: type[BaseException] | None,
              exc_val: BaseException | None, exc_tb: typing.Any) -> bool:
    """End the event of a preparation that another migration has superseded.

    Nova sends the exception to nova-conductor, which takes an Exception only.
    A task of the server is told that its event is to be ended.
    """
    if exc_type is None:
        for uuid in self.instance_uuids:
            task = host_task.HostTask.of_this_thread(uuid)
            if task is not None:
                task.see_return()
    if isinstance(exc_val, ext_exception.MigrationSuperseded):
        exc_val = _superseded()
        exc_type = type(exc_val)
    return original(exc_type, exc_val, exc_tb)


def _superseded() -> exception.MigrationError:
    return exception.MigrationError(reason=_(
        'the migration was given up or aborted meanwhile'))


def rollback_live_migration_at_destination(
        original: nova_types.Original, self: compute_manager.ComputeManager,
        context: nova_context.RequestContext, instance: objects.Instance,
        destroy_disks: bool,
        migrate_data: objects.LibvirtLiveMigrateData) -> None:
    """Do not destroy a guest that another migration has moved here."""
    if instance.vm_state != vm_states.RESCUED:
        return original(context, instance, destroy_disks, migrate_data)
    from nova_rescue_ext.live_migration import destination

    def is_too_late() -> bool:
        return _is_too_late(self, context, instance, 'roll-back')

    if is_too_late():
        _end_pending_task(self, instance)
        return None
    with destination.RollBack(instance.uuid, is_too_late):
        return original(context, instance, destroy_disks, migrate_data)


def rollback_live_migration(original: nova_types.Original,
                            self: compute_manager.ComputeManager,
                            context: nova_context.RequestContext,
                            instance: objects.Instance, dest: str,
                            *args: typing.Any, **kwargs: typing.Any) -> None:
    """Do not roll back on the source what is another migration's by now.

    Nova would delete the attachments of the server where it runs, and clear a
    task that is not that of this migration (hazard: late-message).
    """
    ours = _source_of_this_thread(instance)
    if ours is None:
        return original(context, instance, dest, *args, **kwargs)
    reason = ours.why_superseded()
    if reason is None:
        ours.begin_roll_back(kwargs.get('source_bdms') or ())
        return original(context, instance, dest, *args, **kwargs)
    LOG.error('The live migration to %(dest)s has failed, and nothing is '
              'rolled back: %(reason)s. Look for a guest and a directory of '
              'the server on %(dest)s.', {'dest': dest, 'reason': reason},
              instance=instance)
    _end(self, context, ours.migration)
    return None


def _end(manager: compute_manager.ComputeManager,
         context: nova_context.RequestContext,
         migration: objects.Migration) -> None:
    """End a migration that no longer has its server."""
    from nova_rescue_ext.live_migration import recovery

    recovery.end(context, migration, 'error')
    _forget(manager, context, migration)


def remove_volume_connection(original: nova_types.Original,
                             self: compute_manager.ComputeManager,
                             context: nova_context.RequestContext,
                             volume_id: str, instance: objects.Instance,
                             *args: typing.Any, **kwargs: typing.Any) -> None:
    """Keep a volume connected if the guest on this host uses it.

    :raises: MigrationError, so that nobody takes it for disconnected
    """
    if _is_too_late(self, context, instance, 'disconnection of a volume'):
        _refuse_to_disconnect(volume_id)
    return original(context, volume_id, instance, *args, **kwargs)


@messaging.expected_exceptions(exception.MigrationError)
def _refuse_to_disconnect(volume_id: str) -> typing.NoReturn:
    raise exception.MigrationError(reason=_(
        'volume %s is not disconnected, as the message came too late')
        % volume_id)


def call_remove_volume_connection(
        original: nova_types.Original, self: compute_rpcapi.ComputeAPI,
        ctxt: nova_context.RequestContext, instance: objects.Instance,
        volume_id: str, host: str, *args: typing.Any,
        **kwargs: typing.Any) -> typing.Any:
    """Note on the source what the destination has disconnected."""
    ours = _source_of_this_thread(instance)
    if ours is None:
        return original(ctxt, instance, volume_id, host, *args, **kwargs)
    with ours.disconnecting(volume_id):
        return original(ctxt, instance, volume_id, host, *args, **kwargs)


def remove_remote_volume_connections(
        original: nova_types.Original, self: compute_manager.ComputeManager,
        context: nova_context.RequestContext, dest: str,
        bdms: list[typing.Any], instance: objects.Instance) -> typing.Any:
    """Have the destination disconnect only what is attached to it.

    If it could not be prepared, Nova 29.0.0 to 29.2.1, 30.0.0 and 31.0.0 would
    have it disconnect by what the storage has told the source.
    """
    ours = _source_of_this_thread(instance)
    if ours is not None:
        bdms = ours.attached_to_destination(bdms)
    return original(context, dest, bdms, instance)


def rollback_volume_bdms(
        original: nova_types.Original, self: compute_manager.ComputeManager,
        context: nova_context.RequestContext, bdms: list[typing.Any],
        original_bdms: list[typing.Any],
        instance: objects.Instance) -> typing.Any:
    """Delete no attachment of what the destination has not disconnected.

    Nova does not ask it for that if it has not answered whether it is
    prepared, but it may be.
    """
    ours = _source_of_this_thread(instance)
    if ours is not None:
        remote = ours.not_yet_asked(bdms)
        if remote:
            self._remove_remote_volume_connections(
                context, ours.dest, remote, instance)
        ours.keep_attachments(bdms)
    return original(context, bdms, original_bdms, instance)


def drop_move_claim_at_destination(original: nova_types.Original,
                                   self: compute_manager.ComputeManager,
                                   context: nova_context.RequestContext,
                                   instance: objects.Instance) -> None:
    """Keep what another migration has claimed on this host."""
    if _is_too_late(self, context, instance, 'end of a claim'):
        return None
    return original(context, instance)


def _is_too_late(manager: compute_manager.ComputeManager,
                 context: nova_context.RequestContext,
                 instance: objects.Instance, what: str) -> bool:
    """Whether the message of a roll-back is too late (hazard: late-message).

    The source waits for an answer no longer than a message may wait here.
    """
    if (not instance.obj_attr_is_set('vm_state')  # in tests of Nova's
            or instance.vm_state != vm_states.RESCUED):
        return False
    reason = _why_too_late(manager, context, instance)
    if reason is None:
        return False
    LOG.error('The %(what)s that the source of a live migration requested is '
              'ignored: %(reason)s. Check the volume attachments and port '
              'bindings of the server.',
              {'what': what, 'reason': reason}, instance=instance)
    return True


def _why_too_late(manager: compute_manager.ComputeManager,
                  context: nova_context.RequestContext,
                  instance: objects.Instance) -> str | None:
    try:
        fresh = objects.Instance.get_by_uuid(
            context, instance.uuid, expected_attrs=['system_metadata'])
    except exception.InstanceNotFound:
        return None
    if fresh.host == manager.host:
        return 'the server is on this host'
    current = instance_metadata.attempt_of(fresh)
    if current not in (None, instance_metadata.attempt_of(instance)):
        return 'another migration of the server has begun since'
    if (manager._get_power_state(instance) == power_state.RUNNING
            and not _runs_on_source(manager, context, fresh)):
        return 'the guest runs on this host, and not on the source'
    return None


def _runs_on_source(manager: compute_manager.ComputeManager,
                    context: nova_context.RequestContext,
                    instance: objects.Instance) -> bool | None:
    from nova_rescue_ext.live_migration import periodic
    from nova_rescue_ext.live_migration import recovery

    return recovery.runs_on(periodic.services_of(manager), context, instance,
                            instance.host)


def _end_pending_task(manager: compute_manager.ComputeManager,
                      instance: objects.Instance) -> None:
    """Do not let a stop of nova-compute wait for it (Nova 34)."""
    end = getattr(manager, '_end_pending_dest_live_migration_task', None)
    if end is not None:
        end(instance.uuid)


def get_diagnostics(original: nova_types.Original,
                    self: compute_manager.ComputeManager,
                    context: nova_context.RequestContext,
                    instance: objects.Instance) -> typing.Any:
    """Do not record a fault if the guest does not run here.

    Recovery asks for the diagnostics each minute. Nova would record a fault
    each time, and the owner sees the last one.
    """
    if (instance.vm_state == vm_states.RESCUED
            and instance.task_state == task_states.MIGRATING):
        state = self._get_power_state(instance)
        if state != power_state.RUNNING:
            _refuse_diagnostics(instance, state)
    return original(context, instance)


@messaging.expected_exceptions(exception.InstanceInvalidState)
def _refuse_diagnostics(instance: objects.Instance,
                        state: int) -> typing.NoReturn:
    raise exception.InstanceInvalidState(
        attr='power state', instance_uuid=instance.uuid,
        state=power_state.STATE_MAP[state], method='get_diagnostics')


def live_migration_abort(original: nova_types.Original,
                         self: compute_manager.ComputeManager,
                         context: nova_context.RequestContext,
                         instance: objects.Instance,
                         migration_id: int) -> None:
    """Abort on the destination, too, which may be copying files."""
    if (not instance.obj_attr_is_set('vm_state')  # in tests of Nova's
            or instance.vm_state != vm_states.RESCUED):
        return original(context, instance, migration_id)
    from nova_rescue_ext.live_migration import recovery
    from nova_rescue_ext.live_migration import source

    migration = objects.Migration.get_by_id(context, migration_id)
    waiting, _future = self._waiting_live_migrations.get(instance.uuid,
                                                         (None, None))
    if (not recovery.is_unfinished(migration)
            or waiting is not None and waiting.id != migration_id):
        # Nova would abort the next one of the server, if that waits.
        LOG.warning('A late message to abort a live migration is dropped: '
                    'the migration is %s.', migration.status,
                    instance=instance)
        return None
    # Nova forgets the migration before it clears the task of the server.
    with source.at_work(migration.uuid, instance.uuid):
        fresh = objects.Instance.get_by_uuid(
            context, instance.uuid, expected_attrs=['system_metadata'])
        if (migration.status in recovery.BEFORE_THE_MOVE and
                instance_metadata.attempt_of(fresh) == migration.uuid):
            instance_metadata.end_attempt(fresh)
            fresh.save(expected_task_state=[task_states.MIGRATING])
        return original(context, instance, migration_id)


def post_live_migration(original: nova_types.Original,
                        self: compute_manager.ComputeManager,
                        ctxt: nova_context.RequestContext,
                        instance: objects.Instance, dest: str,
                        *args: typing.Any, **kwargs: typing.Any) -> None:
    """Never set a server to ERROR that runs on its destination.

    The periodic task does what is left to do.
    """
    ours = _source_of_this_thread(instance)
    if ours is None:
        return original(ctxt, instance, dest, *args, **kwargs)
    reason = _why_not_to_finish(ours, dest)
    if reason is not None:
        LOG.error('The guest of the server has moved to %(dest)s, but '
                  '%(reason)s. Find out which guest is in use, and destroy '
                  'the other with virsh: both may write to the same disks.',
                  {'dest': dest, 'reason': reason}, instance=instance)
        _end(self, ctxt, ours.migration)
        ours.is_finished = True
        return None
    try:
        original(ctxt, instance, dest, *args, **kwargs)
        ours.is_finished = True
    except Exception:
        if _is_nowhere_known(self, ctxt, instance):
            raise  # Nova says, at least, where the server is
        ours.is_left = True
        LOG.exception('The guest of the server has moved to %(dest)s, but a '
                      'step after that has failed. It is tried again every '
                      'minute. Find the cause if it keeps failing.',
                      {'dest': dest}, instance=instance)


def _why_not_to_finish(ours: live_migration_source.Migration,
                       dest: str) -> str | None:
    try:
        return ours.why_superseded(dest)
    except Exception:
        return None  # what is to be done after a move needs no database


def _is_nowhere_known(manager: compute_manager.ComputeManager,
                      context: nova_context.RequestContext,
                      instance: objects.Instance) -> bool:
    """Whether a server that has moved is recorded on this host for good.

    Its state was reset. The periodic task finds it otherwise, or the
    destination has taken it over, where its owner may have begun something.
    Or it was evacuated from there to this host, and launched here.
    """
    try:
        fresh = objects.Instance.get_by_uuid(context, instance.uuid)
    except Exception:
        return False  # it is deleted, or the periodic task will know
    return (fresh.host == manager.host
            and fresh.launched_at == instance.launched_at
            and (fresh.vm_state != vm_states.RESCUED
                 or fresh.task_state != task_states.MIGRATING))


def migrate_instance_start(original: nova_types.Original, self: neutron.API,
                           context: nova_context.RequestContext,
                           instance: objects.Instance,
                           migration: objects.Migration) -> None:
    """Go on with the source if Neutron fails after the guest has moved.

    The destination binds the ports again when it takes the server over.
    """
    try:
        return original(context, instance, migration)
    except Exception:
        if _source_of_this_thread(instance) is None:
            raise
        LOG.exception('The guest of the server has moved to %(dest)s, but its '
                      'ports could not be activated there. The destination '
                      'tries again.',
                      {'dest': migration.dest_compute}, instance=instance)


def _source_of_this_thread(
        instance: objects.Instance) -> live_migration_source.Migration | None:
    if instance.vm_state != vm_states.RESCUED:
        return None
    from nova_rescue_ext.live_migration import source

    return source.Migration.of_this_thread(instance.uuid)


def reset_live_migration(original: nova_types.Original,
                         self: compute_manager.ComputeManager,
                         context: nova_context.RequestContext,
                         instance: objects.Instance) -> None:
    """After a restart, keep the task of a server that a host began to move.

    libvirt may still be moving the guest. If it has moved, neither Nova nor
    the owner must be able to start a second one on the same disks. The
    periodic task finds out.
    """
    if (instance.vm_state != vm_states.RESCUED
            or not capabilities.is_libvirt(self.driver)):
        return original(context, instance)
    from nova_rescue_ext.live_migration import recovery

    migration = recovery.unfinished(context, instance.uuid)
    has_begun = (migration.status in recovery.OF_THE_SOURCE if migration
                 else recovery.was_cancelled(context, instance.uuid))
    if (not has_begun and
            self._get_power_state(instance) == power_state.RUNNING):
        return original(context, instance)
    LOG.warning('nova-compute was restarted during the live migration of the '
                'server, whose guest may be moving or have moved. The server '
                'keeps its task until it is known where the guest runs.',
                instance=instance)
    return None


def resume_guests_state(original: nova_types.Original,
                        self: compute_manager.ComputeManager,
                        context: nova_context.RequestContext,
                        instance: objects.Instance,
                        net_info: network_model.NetworkInfo) -> None:
    """Do not start a guest that may be running on the other host."""
    if (instance.vm_state == vm_states.RESCUED
            and instance.task_state == task_states.MIGRATING):
        return None
    return original(context, instance, net_info)


def is_live_migrating(original: nova_types.Original,
                      instance: objects.Instance) -> bool:
    """Count the migration of a rescued server on its destination.

    Otherwise an audit in the middle of it releases what was claimed there, and
    pinned CPUs are assigned twice (hazard: uncounted-migration).
    """
    return original(instance) or (
        instance.vm_state == vm_states.RESCUED and
        instance.task_state == task_states.MIGRATING)


def capabilities_as_traits(original: nova_types.Original,
                           self: virt_driver.ComputeDriver) -> dict[str, bool]:
    """Report the capability to placement, or remove it.

    Spec: live-migrate-rescued.
    """
    traits = original()
    traits[capabilities.TRAIT_LIVE_MIGRATE_RESCUED] = bool(
        self.capabilities.get(capabilities.LIVE_MIGRATE_RESCUED))
    return traits


def list_running_instances(
        original: nova_types.Original, self: imagecache.ImageCacheManager,
        context: nova_context.RequestContext,
        all_instances: objects.InstanceList) -> dict[str, typing.Any]:
    """Count rescue images as used (hazard: image-cache)."""
    running = original(context, all_instances)
    for instance in all_instances:
        record = instance_metadata.rescue_of(instance)
        if record is None:
            continue
        for image_id in (record.image_id, record.kernel_id,
                         record.ramdisk_id):
            if image_id:
                running['used_images'].setdefault(
                    image_id, (1, 0, [instance.name]))
    return running

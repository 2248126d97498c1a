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


"""The migration of a rescued server, on its source.

One object decides what Nova does not: whether the guest may be moved, whether
the files on the source may be deleted, and what to do otherwise. nova-compute
makes it when it starts a migration. It belongs to the thread that runs the
migration, which passes it on, with the data of the migration, to the thread
that waits for libvirt.
"""

from __future__ import annotations

import contextlib
import threading
import typing

from nova.compute import task_states
from nova.compute import vm_states
from nova import context as nova_context
from nova import exception
from nova import objects
from oslo_log import log as logging

from nova_rescue_ext import exception as ext_exception
from nova_rescue_ext.i18n import _
from nova_rescue_ext import instance_metadata
from nova_rescue_ext.live_migration import attachments
from nova_rescue_ext.live_migration import checks
from nova_rescue_ext.live_migration import domain
from nova_rescue_ext.live_migration import manifest as manifests
from nova_rescue_ext.live_migration import recovery
from nova_rescue_ext.live_migration import staging
from nova_rescue_ext.task import host_task
from nova_rescue_ext.task import operation

if typing.TYPE_CHECKING:
    from nova.virt.libvirt import driver as libvirt_driver

LOG = logging.getLogger(__name__)

# Seconds to wait, after a migration has ended, for the call to libvirt to end.
_OPERATION_TIMEOUT = 60

# The attribute of a LibvirtLiveMigrateData by which it is passed on.
_ATTRIBUTE = '_rescue_ext_migration'

# UUIDs of the migrations that this process is at work on, each with that of
# its server. An abort is at work beside the migration itself.
_at_work: list[tuple[str, str]] = []

# UUIDs of the migrations that this process runs.
_run: set[str] = set()


def is_at_work(attempt: str) -> bool:
    """Whether this process is at work on a migration.

    :param attempt: the UUID of the migration
    """
    return any(attempt == one for one, _server in tuple(_at_work))


def is_run(attempt: str) -> bool:
    """Whether a thread of this process runs a migration.

    :param attempt: the UUID of the migration
    """
    return attempt in _run


def is_at_work_on(instance_uuid: str) -> bool:
    """Whether this process is at work on a migration of a server.

    :param instance_uuid: the UUID of the server
    """
    return any(instance_uuid == one for _attempt, one in tuple(_at_work))


@contextlib.contextmanager
def at_work(attempt: str, instance_uuid: str) -> typing.Iterator[None]:
    """In here, this process is at work on a migration.

    :param attempt: the UUID of the migration
    :param instance_uuid: the UUID of its server
    """
    _at_work.append((attempt, instance_uuid))
    try:
        yield
    finally:
        _at_work.remove((attempt, instance_uuid))


def remove_left(context: nova_context.RequestContext) -> None:
    """Remove copies that wait for a migration that nobody runs any longer.

    nova-compute was killed before it could, and whole disks may be among them.

    :param context: a RequestContext
    """
    for directory, attempt in staging.find_all():
        if not (is_at_work(attempt) or recovery.may_copy(context, attempt)):
            staging.remove(directory, attempt)


class Migration(operation.Operation):
    """The migration of a rescued server, on its source.

    :param context: a RequestContext
    :param instance: the Instance
    :param dest: the destination
    :param migration: nova's Migration
    :param migrate_data: the LibvirtLiveMigrateData
    :ivar dest: the destination
    :ivar migration: nova's Migration
    :ivar is_given_up: whether it was not started, and rolled back
    :ivar is_superseded: whether it was found that the server is no longer here
        or has another migration
    :ivar is_finished: whether nothing is left to do after the move
    :ivar is_left: whether a step after the move is left to the periodic task
    """

    def __init__(self, context: nova_context.RequestContext,
                 instance: objects.Instance, dest: str,
                 migration: objects.Migration,
                 migrate_data: objects.LibvirtLiveMigrateData) -> None:
        super().__init__(instance.uuid)
        self._context = context
        self._instance = instance
        self._source = instance.host
        self.dest = dest
        self.migration = migration
        self._attempt = migration.uuid
        self._manifest = manifests.received(migrate_data)
        # Not told by the manifest: another version may have answered the
        # check, and sent none.
        self._needs_proof = not (
            'is_shared_instance_path' in migrate_data
            and migrate_data.is_shared_instance_path)
        self._at_work = at_work(self._attempt, instance.uuid)
        self._has_begun = False
        self.is_given_up = self.is_superseded = False
        self._is_proven = self._has_moved = self._is_rolled_back = False
        self.is_finished = self.is_left = False
        self._attachments_here: dict[str, str] = {}
        self._asked: set[str] = set()
        self._disconnected: set[str] = set()
        self._libvirt_has_answered = threading.Event()
        self._driver: typing.Any = None
        self._post_method: typing.Any = None
        self._recover_method: typing.Any = None

    def __enter__(self) -> Migration:
        self._at_work.__enter__()
        _run.add(self._attempt)
        return super().__enter__()

    def __exit__(self, *exc_info: object) -> None:
        super().__exit__(*exc_info)
        _run.discard(self._attempt)
        self._at_work.__exit__(None, None, None)

    @classmethod
    def handed_on_with(
            cls,
            migrate_data: objects.LibvirtLiveMigrateData
    ) -> 'Migration | None':
        """The migration that the thread that made this one has handed on.

        :param migrate_data: the LibvirtLiveMigrateData
        """
        return getattr(migrate_data, _ATTRIBUTE, None)

    def wait_for_devices(self) -> None:
        """Let what is being attached to the server, or detached, come first.

        A later one is refused, as the server has a task. Called before Nova
        reads the volumes.
        """
        with host_task.lock_of(self.instance_uuid):
            pass

    def prepare(self, migrate_data: objects.LibvirtLiveMigrateData) -> None:
        """Do what has to be done before the destination copies.

        Nova rolls the migration back if it fails.

        :param migrate_data: the LibvirtLiveMigrateData, about to be sent
        :raises: MigrationError if the migration may not go on; OSError,
            ValueError or ProcessExecutionError
        """
        if self._needs_proof and self._manifest is None:
            raise exception.MigrationError(reason=_(
                'the check of the source has not listed the files of the '
                'rescued server: have one version of nova-rescue-ext on both '
                'hosts, then migrate the server again'))
        fresh = self._begin_attempt()
        self._has_begun = True
        # What is sent, and saved at the end of the migration.
        self._instance.system_metadata = fresh.system_metadata
        self._instance.obj_reset_changes(['system_metadata'])
        if self._manifest is None:
            return
        try:
            self._manifest = staging.flatten(self._manifest, self._is_current)
        except ext_exception.CopyUnwanted:
            self._refuse_to_go_on()
        self._manifest.send_with(migrate_data)

    def _begin_attempt(self) -> objects.Instance:
        """Record that this is the current migration of the server.

        :returns: the Instance as it was saved
        :raises: MigrationError if it no longer has this task, or a volume is
            being attached to it
        """
        fresh = self._read()
        if (fresh is None or fresh.vm_state != vm_states.RESCUED
                or fresh.task_state != task_states.MIGRATING
                or fresh.host != self._source):
            self._refuse_to_go_on()
        checks.check_volumes(fresh)
        instance_metadata.begin_attempt(fresh, self._attempt)
        try:
            fresh.save(expected_task_state=[task_states.MIGRATING])
        except (exception.UnexpectedTaskStateError,
                exception.InstanceNotFound):
            self._refuse_to_go_on()
        return fresh

    def remove_copies(self) -> None:
        """Remove what waits for a destination that has failed.

        Whole disks may be among it.
        """
        if self._manifest is not None:
            staging.remove(self._manifest.directory, self._attempt)

    def _refuse_to_go_on(self) -> typing.NoReturn:
        raise exception.MigrationError(reason=_(
            'the migration was aborted, or its task was ended by a restart of '
            'nova-compute or by a reset of the state of the server'))

    def take_over(self, driver: libvirt_driver.LibvirtDriver,
                  post_method: typing.Callable[..., None],
                  recover_method: typing.Callable[..., None]) -> None:
        """Take over what the driver is told to call at the end.

        :param driver: the LibvirtDriver
        :param post_method: what Nova does after the guest has moved
        :param recover_method: what Nova does to roll a migration back
        """
        self._driver = driver
        self._post_method = post_method
        self._recover_method = recover_method

    def begin_or_give_up(self,
                         migrate_data: objects.LibvirtLiveMigrateData) -> bool:
        """Whether the guest may be moved; if not, all is rolled back.

        :param migrate_data: the LibvirtLiveMigrateData
        """
        self.remove_copies()
        try:
            fresh = self._read()
        except Exception as exc:
            # Nothing has moved. An error here would be one of the server.
            LOG.error('The live migration to %(dest)s is not started, as the '
                      'database cannot be read (%(error)s). It is rolled '
                      'back. Migrate the server again.',
                      {'dest': self.dest, 'error': exc},
                      instance=self._instance)
            self.roll_back(migrate_data)
            return False
        if fresh is None:
            self._give_up_deleted(migrate_data)
            return False
        if (fresh.task_state != task_states.MIGRATING
                or fresh.host != self._source
                or instance_metadata.attempt_of(fresh) != self._attempt):
            self._give_up(migrate_data)
            self.is_given_up = True
            return False
        self._is_proven = instance_metadata.is_transferred(fresh,
                                                           self._attempt)
        if self._needs_proof and not self._is_proven:
            LOG.error('The destination %(dest)s has not recorded that it got '
                      'the files of this rescued server. Its migration is '
                      'rolled back and the server stays in rescue on this '
                      'host. Check that nova-rescue-ext is active on '
                      '%(dest)s.', {'dest': self.dest},
                      instance=self._instance)
            self.roll_back(migrate_data)
            return False
        return True

    def _give_up(self, migrate_data: objects.LibvirtLiveMigrateData) -> None:
        """Roll back a migration whose task a restart of nova-compute ended.

        The copies may be stale by now, and the guest a different one
        (hazard: restart-before-migration).
        """
        LOG.warning('The live migration to %(dest)s is not started: it was '
                    'aborted, or nova-compute was restarted after the '
                    'request, so that the server may be in use. Migrate it '
                    'again.', {'dest': self.dest}, instance=self._instance)
        try:
            self.roll_back(migrate_data)
        except exception.InstanceNotFound:  # of its guest, too
            self._give_up_deleted(migrate_data)
            return
        except exception.UnexpectedTaskStateError:
            pass  # the destination is cleaned before Nova looks at the task
        self._set_failed()

    def _give_up_deleted(self,
                         migrate_data: objects.LibvirtLiveMigrateData) -> None:
        LOG.warning('The live migration to %(dest)s is not started: the '
                    'server was deleted after the request. The copied files '
                    'are removed from %(dest)s. If the server had volumes, '
                    'check that nothing is attached to them, and that '
                    '%(dest)s has disconnected them.',
                    {'dest': self.dest}, instance=self._instance)
        # As if the destination had failed to prepare itself: else Nova looks
        # for the guest on this host first. The destination comes before the
        # database.
        with contextlib.suppress(exception.InstanceNotFound,
                                 exception.UnexpectedTaskStateError):
            self._recover_method(self._context, self._instance, self.dest,
                                 migrate_data, pre_live_migration=True)
        self._set_failed()

    def _set_failed(self) -> None:
        self.migration.status = 'failed'
        self.migration.save()

    @contextlib.contextmanager
    def moving(
            self,
            migrate_data: objects.LibvirtLiveMigrateData
    ) -> typing.Iterator[None]:
        """Let QEMU move the guest in this block.

        For an error Nova's manager sets the server to ERROR. From Nova 32.2
        the driver raises that of QEMU even after a complete roll-back, and if
        libvirt's answer was lost the guest may have moved. As long as the
        server waits for the end, the periodic task finds out.

        :param migrate_data: the LibvirtLiveMigrateData
        """
        setattr(migrate_data, _ATTRIBUTE, self)
        try:
            yield
        except Exception as exc:
            if self.is_superseded:
                return  # the server is not Nova's to set to ERROR
            if not (self._is_rolled_back or self.is_finished or self.is_left
                    or self._may_be_current()):
                raise
            self._log_end(exc)
        finally:
            delattr(migrate_data, _ATTRIBUTE)

    def _log_end(self, exc: Exception) -> None:
        values = {'dest': self.dest, 'error': exc}
        if self.is_finished:
            LOG.warning('The live migration to %(dest)s ended with '
                        '"%(error)s", but the guest has moved: the server is '
                        'in rescue on %(dest)s.', values,
                        instance=self._instance)
        elif self.is_left:
            LOG.warning('The live migration to %(dest)s ended with '
                        '"%(error)s", but the guest has moved. What is left '
                        'to do after that is tried again every minute.',
                        values, instance=self._instance)
        elif self._is_rolled_back:
            LOG.warning('The live migration to %(dest)s ended with '
                        '"%(error)s" and was rolled back: the server is in '
                        'rescue on this host as before. Migrate it again.',
                        values, instance=self._instance)
        else:
            LOG.exception('The live migration to %(dest)s ended with '
                          '"%(error)s", and the guest may run on either host. '
                          'The server keeps its task until that is known, '
                          'which is looked for every minute.', values,
                          instance=self._instance)

    @contextlib.contextmanager
    def libvirt_moves_it(self) -> typing.Iterator[None]:
        """Let libvirt move the guest in this block; no error means moved."""
        try:
            yield
            self._has_moved = True
        finally:
            self._libvirt_has_answered.set()

    def roll_back(self, migrate_data: objects.LibvirtLiveMigrateData,
                  **kwargs: typing.Any) -> None:
        """Nova's roll-back.

        :param migrate_data: the LibvirtLiveMigrateData
        """
        self._recover_method(self._context, self._instance, self.dest,
                             migrate_data, **kwargs)
        self._is_rolled_back = True

    def recover(self, context: nova_context.RequestContext,
                instance: objects.Instance, dest: str,
                migrate_data: objects.LibvirtLiveMigrateData,
                **kwargs: typing.Any) -> None:
        """Roll back, called by the driver.

        It calls this also after a failed post-copy, when the guest may run on
        the destination (hazard: second-guest).
        """
        if domain.is_handed_over(self._driver, instance):
            LOG.error('The guest of the server has been handed over to '
                      '%(dest)s, and the source was told that this failed. '
                      'Nothing is rolled back, as the guest may run there. '
                      'The server keeps its task until it is known.',
                      {'dest': dest}, instance=instance)
            return
        self.roll_back(migrate_data, **kwargs)

    def post(self, context: nova_context.RequestContext,
             instance: objects.Instance, dest: str, block_migration: bool,
             migrate_data: objects.LibvirtLiveMigrateData) -> None:
        """What the driver calls when it considers the guest moved.

        It does so for every guest that is no longer on the source, even if its
        QEMU has died during the migration. Nova would then delete what the
        destination has only a part of (hazard: dead-guest).
        """
        self._libvirt_has_answered.wait(_OPERATION_TIMEOUT)
        if self._has_moved or not domain.is_left_behind(self._driver,
                                                        instance):
            self._post_method(context, instance, dest, block_migration,
                              migrate_data)
            return
        LOG.error('The guest died during its live migration to %(dest)s. The '
                  'migration is rolled back, and the server is in rescue on '
                  'this host, powered off. Unrescue or rescue it.',
                  {'dest': dest}, instance=instance)
        self.roll_back(migrate_data)

    def why_superseded(self, *hosts: str) -> str | None:
        """Why neither to finish this migration nor to roll it back, or None.

        What is on the hosts, or recorded, may be that of another migration, or
        of a server that was evacuated.

        :param hosts: where the server may be besides the source
        """
        fresh = self._read()
        if fresh is None:
            return None
        reason = None
        if fresh.host not in (self._source, *hosts):
            reason = 'the server is on %s by now' % fresh.host
        elif self._has_begun and instance_metadata.attempt_of(fresh) not in (
                None, self._attempt):
            reason = 'another migration of the server has begun since'
        self.is_superseded = reason is not None
        return reason

    def begin_roll_back(self, source_bdms: typing.Iterable[typing.Any]
                        ) -> None:
        """Note which attachments of volumes belong to this host.

        :param source_bdms: the block devices as they were before the
            migration, BlockDeviceMapping objects
        """
        self._attachments_here = {
            bdm.volume_id: bdm.attachment_id for bdm in source_bdms
            if bdm.is_volume and bdm.attachment_id}

    @contextlib.contextmanager
    def disconnecting(self, volume_id: str) -> typing.Iterator[None]:
        """Let the destination disconnect a volume in this block.

        :param volume_id: the ID of the volume
        """
        self._asked.add(volume_id)
        yield
        self._disconnected.add(volume_id)

    def attached_to_destination(
            self, bdms: typing.Iterable[typing.Any]) -> list[typing.Any]:
        """Those block devices that name an attachment to the destination.

        Not if the destination has given them back.

        :param bdms: BlockDeviceMapping objects as the database has them
        """
        return [bdm for bdm in bdms
                if bdm.attachment_id is None or bdm.attachment_id !=
                self._attachments_here.get(bdm.volume_id)]

    def not_yet_asked(self,
                      bdms: typing.Iterable[typing.Any]) -> list[typing.Any]:
        """Those that the destination was not asked to disconnect.

        :param bdms: BlockDeviceMapping objects as the database has them
        """
        return [bdm for bdm in self.attached_to_destination(bdms)
                if bdm.volume_id not in self._asked]

    def keep_attachments(self, bdms: typing.Iterable[typing.Any]) -> None:
        """Keep the attachments of volumes that were not disconnected.

        Nova would delete them, and the storage could give the volume to
        somebody else while the destination is connected. It deletes none that
        a block device of the source names, too.

        :param bdms: BlockDeviceMapping objects as the database has them, which
            then name the attachment to this host
        """
        left = []
        for bdm in self.attached_to_destination(bdms):
            here = self._attachments_here.get(bdm.volume_id)
            if bdm.volume_id in self._disconnected or not (
                    here and bdm.attachment_id):
                continue
            left.append(attachments.LeftAttachment(
                bdm.attachment_id, bdm.volume_id, self.dest))
            attachments.log_left(self._instance, left[-1])
            bdm.attachment_id = here
        fresh = attachments.record_left(self._context, self.instance_uuid,
                                        left)
        if fresh is not None:
            # What is saved at the end of the roll-back.
            self._instance.system_metadata = fresh.system_metadata
            self._instance.obj_reset_changes(['system_metadata'])

    def may_delete_source(self) -> bool:
        """Whether the destination has all files of the source.

        The proof is its own record for the files that it copies, and the
        success of libvirt for the disks that QEMU copies.
        """
        return not self._needs_proof or (self._is_proven
                                         and self._has_moved)

    def is_aborted(self) -> bool:
        """Whether the migration was aborted before the guest was moved."""
        if not self._has_begun:
            return False  # there was no attempt that an abort could end
        try:
            fresh = self._read()
        except Exception:
            return False
        return (fresh is not None and
                instance_metadata.attempt_of(fresh) is None)

    def _is_current(self) -> bool:
        fresh = self._read()
        return (fresh is not None
                and fresh.task_state == task_states.MIGRATING
                and instance_metadata.attempt_of(fresh) == self._attempt)

    def _may_be_current(self) -> bool:
        try:
            return self._is_current()
        except Exception:
            return True

    def _read(self) -> objects.Instance | None:
        """The Instance as the database has it, None if it is deleted."""
        try:
            return objects.Instance.get_by_uuid(
                self._context, self.instance_uuid,
                expected_attrs=['system_metadata'])
        except exception.InstanceNotFound:
            return None

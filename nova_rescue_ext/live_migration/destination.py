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


"""The arrival of a rescued server on the destination.

Files are copied the way Nova copies disks in a cold migration. They wait in a
separate folder beside those of the servers until Nova has made the server's
folder: a copy that outlives its migration is never mistaken for a server, and
only its folder has to be removed.

A source that has waited too long gives up without telling the destination. So
before each step the destination checks in the database that its migration is
still the current one (hazard: late-copy).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import typing

from nova.compute import task_states
from nova import conf
from nova import context as nova_context
from nova import exception
from nova import objects
from nova.virt.libvirt import utils as libvirt_utils
from oslo_concurrency import lockutils
from oslo_concurrency import processutils
from oslo_log import log as logging
from oslo_utils import uuidutils

from nova_rescue_ext import exception as ext_exception
from nova_rescue_ext.i18n import _
from nova_rescue_ext import instance_metadata
from nova_rescue_ext.live_migration import disk_info
from nova_rescue_ext.live_migration import manifest as manifests
from nova_rescue_ext.live_migration import progress
from nova_rescue_ext.live_migration import recovery
from nova_rescue_ext.live_migration import staging
from nova_rescue_ext.live_migration import stoppable
from nova_rescue_ext.task import operation

CONF = conf.CONF
LOG = logging.getLogger(__name__)

_PREFIX = 'rescue_ext_arrival'


def log_superseded(instance: objects.Instance) -> None:
    """Log that a migration has ended before it was complete here.

    :param instance: the Instance
    """
    LOG.warning('A live migration of the server to this host has ended: it '
                'was aborted, or the source gave it up, for example after '
                '[DEFAULT] long_rpc_timeout. The copied files are removed.',
                instance=instance)


def check(instance: objects.Instance,
          migrate_data: objects.LibvirtLiveMigrateData,
          manifest: manifests.Manifest) -> None:
    """Check on the destination that everything can be copied.

    Small files are copied already, so that a host that cannot copy from the
    source refuses before anything has moved.

    :param instance: the Instance
    :param migrate_data: the LibvirtLiveMigrateData
    :param manifest: what is to be copied
    :raises: MigrationPreCheckError
    """
    directory = libvirt_utils.get_instance_path_at_destination(
        instance, migrate_data)
    if os.path.exists(directory):
        _refuse(_(
            '%s exists on the destination, and a failed migration would '
            'delete it. Find out what it is, and move it away') % directory)
    free = manifests.free_bytes(os.path.dirname(directory))
    if manifest.needed > free:
        _refuse(_(
            'the disks of the rescued server need %(needed)d bytes on the '
            'destination, which has only %(free)d')
            % {'needed': manifest.needed, 'free': free})
    if not manifest.entries:
        return
    try:
        _fetch_folder(_folder(directory, manifest), manifest)
    except (processutils.ProcessExecutionError, OSError) as exc:
        LOG.warning('Files cannot be copied from %(host)s the way a cold '
                    'migration does: %(error)s. Make that work from this '
                    'host, then migrate the server again.',
                    {'host': manifest.address, 'error': exc},
                    instance=instance)
        _refuse(_('the destination cannot copy files from the source the way '
                  'a cold migration does'))


def _refuse(reason: str) -> None:
    raise exception.MigrationPreCheckError(reason=reason)


def _folder(directory: str, manifest: manifests.Manifest) -> str:
    """The folder where files wait; hosts may share the file system."""
    return os.path.join(os.path.dirname(directory), '_'.join(
        (_PREFIX, CONF.host, manifest.attempt)))


def _fetch_folder(folder: str, manifest: manifests.Manifest) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    os.mkdir(folder, 0o700)
    try:
        libvirt_utils.copy_image(
            src=os.path.join(manifest.directory,
                             staging.folder(manifest.attempt)),
            dest=folder, host=manifest.address, receive=True)
    except Exception:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def remove_left(context: nova_context.RequestContext) -> None:
    """Remove files that wait for a migration that has ended or never began.

    :param context: a RequestContext
    """
    prefix = '_'.join((_PREFIX, CONF.host, ''))
    try:
        names = os.listdir(CONF.instances_path)
    except FileNotFoundError:  # Nova makes it for the first server
        return
    for name in names:
        attempt = name[len(prefix):]
        # Not what another host has, whose name begins with that of this one.
        if (name.startswith(prefix) and uuidutils.is_uuid_like(attempt)
                and not recovery.may_copy(context, attempt)):
            shutil.rmtree(os.path.join(CONF.instances_path, name),
                          ignore_errors=True)


def _lock(instance_uuid: str) -> typing.ContextManager[typing.Any]:
    return lockutils.lock('rescue_ext-arrival-' + instance_uuid)


class RollBack(operation.Operation):
    """A roll-back on this host, requested by the source of the migration.

    Nova works for a while before it destroys the guest and its directory, and
    another attempt may begin meanwhile.

    :param instance_uuid: the UUID of the server
    :param is_too_late: called to find out whether the roll-back must stop
    """

    def __init__(self, instance_uuid: str,
                 is_too_late: typing.Callable[[], bool]) -> None:
        super().__init__(instance_uuid)
        self._is_too_late = is_too_late

    @contextlib.contextmanager
    def alone(self, context: nova_context.RequestContext,
              instance: objects.Instance) -> typing.Iterator[bool]:
        """Keep other attempts from preparing this host meanwhile.

        :param context: a RequestContext
        :param instance: the Instance, which gets what is saved of it: Nova
            saves its metadata, and those that were sent are old
        :returns: whether the roll-back may go on
        """
        with _lock(self.instance_uuid):
            with contextlib.suppress(exception.InstanceNotFound):
                if self._is_too_late():
                    yield False
                    return
                instance.system_metadata = objects.Instance.get_by_uuid(
                    context, instance.uuid,
                    expected_attrs=['system_metadata']).system_metadata
                instance.obj_reset_changes(['system_metadata'])
            yield True


class Arrival(operation.Operation):
    """The arrival of a rescued server on this host.

    Owned by the thread that prepares the host.

    :param context: a RequestContext
    :param instance: the Instance, as the source has sent it
    :param migrate_data: the LibvirtLiveMigrateData, as the source has sent it
    """

    def __init__(self, context: nova_context.RequestContext,
                 instance: objects.Instance,
                 migrate_data: objects.LibvirtLiveMigrateData) -> None:
        super().__init__(instance.uuid)
        self._context = context
        self._instance = instance
        # Without one, nothing may be done: '' is no attempt of the server.
        self._attempt = instance_metadata.attempt_of(instance) or ''
        self._manifest = manifests.received(migrate_data)
        self._directory = libvirt_utils.get_instance_path_at_destination(
            instance, migrate_data)

    def fetch(self) -> None:
        """Copy the files to this host, where they wait.

        :raises: MigrationSuperseded; MigrationError, OSError or
            ProcessExecutionError, for which Nova rolls the migration back
        """
        manifest = self._manifest
        if manifest is None or not manifest.entries:
            return
        try:
            with self.late_failures_are_superseded():
                self._fetch(manifest)
        except BaseException:
            self.forget()
            raise

    def _fetch(self, manifest: manifests.Manifest) -> None:
        folder = _folder(self._directory, manifest)
        if not os.path.exists(folder):  # check() makes it
            _fetch_folder(folder, manifest)
        alone = [entry for entry in manifest.entries
                 if entry.way != manifests.TOGETHER]
        shown = progress.Progress(self._context, self._attempt,
                                  sum(entry.size for entry in alone))
        for number, entry in enumerate(alone, 1):
            LOG.info('Copying file %(number)d of %(count)d that QEMU does not '
                     'copy, %(name)s (%(size)d bytes), from %(host)s.', dict(
                         entry._asdict(), number=number, count=len(alone),
                         host=manifest.address),
                     instance=self._instance)
            with stoppable.process(self._is_current) as on_execute:
                libvirt_utils.copy_image(
                    src=self._source(manifest, entry),
                    dest=self._waiting(manifest, entry),
                    host=manifest.address, receive=True,
                    on_execute=on_execute,
                    # As in a cold migration.
                    compression=entry.format != 'qcow2')
            shown.add(entry.size)
        for entry in manifest.entries:
            self._check_size(manifest, entry)

    def _source(self, manifest: manifests.Manifest,
                entry: manifests.Entry) -> str:
        folder = (staging.folder(manifest.attempt) if entry.is_flattened
                  else '')
        return os.path.join(manifest.directory, folder, entry.name)

    def _waiting(self, manifest: manifests.Manifest,
                 entry: manifests.Entry) -> str:
        return os.path.join(_folder(self._directory, manifest),
                            staging.folder(manifest.attempt), entry.name)

    def _check_size(self, manifest: manifests.Manifest,
                    entry: manifests.Entry) -> None:
        size = os.path.getsize(self._waiting(manifest, entry))
        if size != entry.size:
            raise exception.MigrationError(reason=_(
                '%(name)s has %(found)d bytes on the destination but %(size)d '
                'on the source') % {
                    'name': entry.name, 'found': size, 'size': entry.size})

    def check_current(self) -> None:
        """Check that this migration is still the current one.

        :raises: MigrationSuperseded
        """
        if not self._is_current():
            raise ext_exception.MigrationSuperseded()

    @contextlib.contextmanager
    def begun(self) -> typing.Iterator[None]:
        """Keep other attempts from preparing this host in this block.

        :raises: MigrationSuperseded
        """
        with _lock(self.instance_uuid):
            self.check_current()
            yield

    @contextlib.contextmanager
    def late_failures_are_superseded(self) -> typing.Iterator[None]:
        """Keep late failures from Nova's error path.

        :raises: MigrationSuperseded
        """
        try:
            yield
        except Exception as exc:
            if self._is_surely_current():
                raise
            raise ext_exception.MigrationSuperseded() from exc

    def _is_surely_current(self) -> bool:
        try:
            return self._is_current()
        except Exception:
            # Nova's error path may only run if this is certain.
            return False

    def place(self) -> None:
        """Move the files into the directory of the server, and record that.

        By then Nova has made the directory, with empty files for CD-ROMs
        (hazard: zero-filled-cdroms).

        :raises: MigrationSuperseded, OSError
        """
        if self._manifest is None:
            return
        self._place(self._manifest)
        self._record()

    def _place(self, manifest: manifests.Manifest) -> None:
        for entry in manifest.entries:
            os.rename(self._waiting(manifest, entry),
                      os.path.join(self._directory, entry.name))
        disk_info.add(self._directory, {
            entry.name: entry.format for entry in manifest.entries
            if entry.name.startswith('disk')})

    def _record(self) -> None:
        fresh = self._read()
        if fresh is None:
            raise ext_exception.MigrationSuperseded()
        instance_metadata.record_transfer(fresh, self._attempt)
        try:
            fresh.save(expected_task_state=[task_states.MIGRATING])
        except (exception.UnexpectedTaskStateError,
                exception.InstanceNotFound):
            raise ext_exception.MigrationSuperseded()

    def forget(self) -> None:
        """Remove the files that wait on this host."""
        if self._manifest is not None:
            shutil.rmtree(_folder(self._directory, self._manifest),
                          ignore_errors=True)

    def _is_current(self) -> bool:
        return self._read() is not None

    def _read(self) -> objects.Instance | None:
        """Read the instance again; None if this migration is superseded."""
        try:
            fresh = objects.Instance.get_by_uuid(
                self._context, self.instance_uuid,
                expected_attrs=['system_metadata'])
        except exception.InstanceNotFound:
            return None
        if (fresh.task_state == task_states.MIGRATING
                and fresh.host == self._instance.host
                and instance_metadata.attempt_of(fresh) == self._attempt):
            return fresh
        return None

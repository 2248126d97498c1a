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


"""Live migration of rescued servers in nova-conductor."""

from __future__ import annotations

import contextlib
import re
import typing

from nova.compute import vm_states
from nova import context as nova_context
from nova import exception
from nova import objects
from oslo_db import exception as db_exc
from oslo_log import log as logging
from oslo_utils import excutils

from nova_rescue_ext import capabilities
from nova_rescue_ext import host_names
from nova_rescue_ext.i18n import _
from nova_rescue_ext import instance_metadata
from nova_rescue_ext.live_migration import recovery
from nova_rescue_ext import microversion
from nova_rescue_ext import nova_types
from nova_rescue_ext.task import final_save
from nova_rescue_ext.task import operation

if typing.TYPE_CHECKING:
    from nova.conductor import manager as conductor_manager
    from nova.conductor.tasks import live_migrate as live_migrate_task

LOG = logging.getLogger(__name__)


# For these, Nova leaves the server as it is and its API has an answer.
_KNOWN = (
    exception.ComputeHostNotFound,
    exception.ComputeServiceUnavailable,
    exception.DestinationHypervisorTooOld,
    exception.HypervisorUnavailable,
    exception.InstanceInvalidState,
    exception.InvalidCPUInfo,
    exception.InvalidHypervisorType,
    exception.InvalidLocalStorage,
    exception.InvalidSharedStorage,
    exception.MigrationPreCheckError,
    exception.MigrationSchedulerRPCError,
    exception.NoValidHost,
    exception.UnableToMigrateToSelf,
)


_OF_THE_SOURCE = re.compile(
    r'.*check_can_live_migrate_source from \S+ to host \S+: \S+ (?P<words>.*)',
    re.DOTALL)


class Search(operation.Operation):
    """The search of nova-conductor for a destination.

    :ivar refusals: why each host that was tried has refused, by host
    """

    def __init__(self, instance_uuid: str) -> None:
        super().__init__(instance_uuid)
        self.refusals: dict[str, str] = {}


def execute(original: nova_types.Original,
            self: live_migrate_task.LiveMigrationTask) -> typing.Any:
    """Collect the refusals of destinations during the search."""
    with Search(self.instance.uuid):
        return _execute(original, self)


def _execute(original: nova_types.Original,
             self: live_migrate_task.LiveMigrationTask) -> typing.Any:
    """Turn every failure before a host has begun into a refusal.

    Otherwise Nova sets the server to ERROR, and only a hard reboot, which ends
    the rescue, gets it out of that (hazard: error-for-a-refusal).

    :raises: what Nova raises for refusals
    """
    try:
        if not _claim(self):
            return None
        return original()
    except Exception as exc:
        if self.instance.vm_state != vm_states.RESCUED:
            raise
        if _is_overtaken(self):
            _give_back(self, exc)
            return None
        if isinstance(exc, _KNOWN):
            raise
        LOG.exception('The live migration failed before any host had started '
                      'it. The server is still in rescue. Migrate it again.',
                      instance=self.instance)
        # Nova tries only once to clear the task of the server.
        final_save.wait_for_database(self.instance)
        raise exception.MigrationPreCheckError(reason=_(
            'the migration could not be started: %(type)s: %(error)s')
            % {'type': type(exc).__name__, 'error': exc})


def _is_overtaken(task: live_migrate_task.LiveMigrationTask) -> bool:
    """Whether the server no longer waits for a migration that has failed.

    Its state was reset, and perhaps it was rebooted or evacuated since. Nova
    would set it to RESCUED all the same, and take whatever task it has.
    """
    try:
        return not recovery.is_awaited(objects.Instance.get_by_uuid(
            task.context, task.instance.uuid,
            expected_attrs=['system_metadata']), task.instance)
    except Exception as exc:
        LOG.debug('Whether the server waits for its live migration is not '
                  'known: %s', exc, instance=task.instance)
        return False


def _give_back(task: live_migrate_task.LiveMigrationTask,
               exc: Exception) -> None:
    """End a migration of a server that no longer waits for it."""
    LOG.warning('The live migration has failed, and the state of the server '
                'was reset meanwhile: it is left as it is. If it is in rescue '
                'still, reset its state to active, unrescue it or reboot it '
                'hard. %(type)s: %(error)s',
                {'type': type(exc).__name__, 'error': exc},
                instance=task.instance)
    services = recovery.Services(task.network_api, task.compute_rpcapi,
                                 task.report_client, None)
    fresh = objects.Instance.get_by_uuid(task.context, task.instance.uuid)
    if fresh.host == task.source:
        recovery.give_back_claims(services, task.context, fresh,
                                  task.migration)
    else:
        recovery.close(services, task.context, task.migration, 'error')


def live_migrate(original: nova_types.Original,
                 self: conductor_manager.ComputeTaskManager,
                 context: nova_context.RequestContext,
                 instance: objects.Instance, *args: typing.Any,
                 **kwargs: typing.Any) -> None:
    """Migrate once for each request, and clear the task if that fails.

    A message may come twice, or when its task has ended (hazard:
    late-message). A second migration for one request would take the first
    one's allocation on the destination for that of the server, and lose it.
    """
    if instance.vm_state != vm_states.RESCUED:
        return original(context, instance, *args, **kwargs)
    try:
        if _is_outdated(context, instance):
            return None
        return original(context, instance, *args, **kwargs)
    except Exception:
        with excutils.save_and_reraise_exception():
            final_save.wait_for_database(instance)
            recovery.take_back_task(context, instance)


def _is_outdated(context: nova_context.RequestContext,
                 instance: objects.Instance) -> bool:
    """Whether a message to migrate a server is a doubled or late one."""
    attempt = instance_metadata.requested_attempt(instance)
    if attempt is None:
        return False  # of a nova-api without the package
    try:
        objects.Migration.get_by_uuid(context, attempt)
    except exception.MigrationNotFound:
        return _is_late(context, instance)
    _log_doubled(instance)
    return True


def _is_late(context: nova_context.RequestContext,
             instance: objects.Instance) -> bool:
    try:
        if recovery.is_awaited(objects.Instance.get_by_uuid(
                context, instance.uuid, expected_attrs=['system_metadata']),
                instance):
            return False
    except exception.InstanceNotFound:
        pass
    LOG.warning('A late message to live-migrate the server is dropped: its '
                'task has ended since, or another migration was requested. If '
                'it is still wanted, migrate the server again.',
                instance=instance)
    return True


def _log_doubled(instance: objects.Instance) -> None:
    LOG.warning('A doubled message to live-migrate the server is dropped. '
                'Nothing needs to be done.', instance=instance)


def _claim(task: live_migrate_task.LiveMigrationTask) -> bool:
    """Give the migration the UUID that its request has chosen.

    No two migrations can have the same, even if two conductors have got the
    message. Whether the server waits for this one is checked again, as from
    now on nobody takes its task for one that has no migration.

    :returns: whether the migration may begin; if not, it has ended
    """
    attempt = instance_metadata.requested_attempt(task.instance)
    if task.instance.vm_state != vm_states.RESCUED or attempt is None:
        return True
    task.migration.uuid = attempt
    try:
        task.migration.save()
    except db_exc.DBDuplicateEntry:
        _log_doubled(task.instance)
    else:
        if not _is_late(task.context, task.instance):
            return True
    ended = objects.Migration.get_by_id(task.context, task.migration.id)
    ended.status = 'error'
    ended.save()
    return False


def get_request_spec(
        original: nova_types.Original,
        self: live_migrate_task.LiveMigrationTask,
        attempted_hosts: list[str] | None = None) -> objects.RequestSpec:
    """Have the scheduler choose among the hosts that support this."""
    request_spec = original(attempted_hosts)
    if self.instance.vm_state == vm_states.RESCUED:
        level = request_spec.request_level_params
        level.root_required = level.root_required | {
            capabilities.TRAIT_LIVE_MIGRATE_RESCUED}
    return request_spec


def call_checks_on_host(original: nova_types.Original,
                        self: live_migrate_task.LiveMigrationTask,
                        destination: str,
                        provider_mapping: dict[str, list[str]]) -> None:
    """Check both hosts, even if the destination is forced.

    The trait is not enough, as it outlives the package (hazard:
    host-without-the-package). The source is told of the check, and refuses a
    server whose destination was not checked (hazard: unchecked-destination).

    :raises: MigrationPreCheckError, nothing else, as Nova would set the
        server to ERROR (hazard: error-for-a-refusal)
    """
    if self.instance.vm_state != vm_states.RESCUED:
        return original(destination, provider_mapping)
    try:
        for role, host in (('source', self.source),
                           ('destination', destination)):
            _check_node(self, role, self._get_compute_info(host))
        with _vouching(self, destination):
            return original(destination, provider_mapping)
    except (exception.Invalid, exception.MigrationPreCheckError) as exc:
        refusal = _for_the_caller(self.context, exc)
        search = Search.of_this_thread(self.instance.uuid)
        if search is not None:
            search.refusals[destination] = refusal.format_message()
        raise refusal


def _for_the_caller(context: nova_context.RequestContext,
                    exc: exception.NovaException) -> exception.NovaException:
    """A refusal, without host names for callers who may not know them.

    The destination puts them before what the source has said.
    """
    said = _OF_THE_SOURCE.match(str(exc))
    if said is None or host_names.may_be_known(context):
        return exc
    return exception.MigrationPreCheckError(said.group('words'))


@contextlib.contextmanager
def _vouching(task: live_migrate_task.LiveMigrationTask,
              destination: str) -> typing.Iterator[None]:
    """Send an instance that says that the destination was checked.

    That of the task is not changed, as it is sent and saved later.
    """
    instance = task.instance
    task.instance = instance_metadata.with_checked_destination(
        instance, destination, task.migration.uuid)
    try:
        yield
    finally:
        task.instance = instance


def _check_node(task: live_migrate_task.LiveMigrationTask, role: str,
                node: objects.ComputeNode) -> None:
    if not _can_migrate_rescued(node):
        raise exception.MigrationPreCheckError(reason=_(
            'the %(role)s compute node%(node)s does not support live '
            'migration of rescued servers (compute-rescue %(version)s)') % {
                'role': role, 'node': host_names.after(
                    task.context, node.hypervisor_hostname),
                'version': microversion.LIVE_MIGRATE_RESCUED})


def _can_migrate_rescued(node: objects.ComputeNode) -> bool:
    return capabilities.host_can(node, microversion.LIVE_MIGRATE_RESCUED)


def find_destination(
        original: nova_types.Original,
        self: live_migrate_task.LiveMigrationTask
) -> tuple[str, str, dict[str, typing.Any] | None]:
    """Say why no host can take a rescued server.

    Nova only logs the refusals of hosts, at debug level.

    :raises: NoValidHost, MaxRetriesExceeded
    """
    try:
        return original()
    except exception.NoValidHost as exc:
        if self.instance.vm_state != vm_states.RESCUED:
            raise
        known = (exception.MaxRetriesExceeded
                 if isinstance(exc, exception.MaxRetriesExceeded)
                 else exception.NoValidHost)
        raise known(reason=_why_no_host(self, exc))


def _why_no_host(task: live_migrate_task.LiveMigrationTask,
                 exc: exception.NoValidHost) -> str:
    nodes = [node for node in objects.ComputeNodeList.get_all(task.context)
             if node.host != task.source and _can_migrate_rescued(node)]
    if not nodes:
        return _('No destination compute node supports live migration of '
                 'rescued servers (compute-rescue %(version)s). Upgrade one, '
                 'or unrescue the server first.') % {
                     'version': microversion.LIVE_MIGRATE_RESCUED}
    search = Search.of_this_thread(task.instance.uuid)
    if search is not None and search.refusals:
        return ' '.join(_refusals_in_words(task, search.refusals))
    return _('Of %(count)d compute nodes that support live migration of '
             'rescued servers, none can take this one: %(reason)s') % {
                 'count': len(nodes), 'reason': exc.format_message()}


def _refusals_in_words(task: live_migrate_task.LiveMigrationTask,
                       refusals: dict[str, str]) -> typing.Iterator[str]:
    """Yield each refusal once, with the hosts that gave it at its end.

    A fault is cut at its end, and the source gives the same for each host.
    """
    for reason in dict.fromkeys(refusals.values()):
        hosts = ', '.join(sorted(host for host, given in refusals.items()
                                 if given == reason))
        if host_names.may_be_known(task.context):
            reason += ' (%s)' % hosts
        yield reason.rstrip('.') + '.'

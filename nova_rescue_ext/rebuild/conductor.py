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


"""Builds in nova-conductor: keep what a rebuild needs."""

from __future__ import annotations

import contextlib
import functools
import typing

from nova import context as nova_context
from nova.db.api import api as api_db_api
from nova import exception
from nova import objects
from nova.objects import fields
from oslo_limit import exception as limit_exceptions
from oslo_log import log as logging
from oslo_utils import excutils

from nova_rescue_ext import exception as our_exception
from nova_rescue_ext import instance_metadata
from nova_rescue_ext import nova_types
from nova_rescue_ext import placement
from nova_rescue_ext import rebuild
from nova_rescue_ext.rebuild import block_devices
from nova_rescue_ext.rebuild import building
from nova_rescue_ext.rebuild import database
from nova_rescue_ext.rebuild import notifications
from nova_rescue_ext.rebuild import spec_extras

if typing.TYPE_CHECKING:
    from nova.conductor import manager as conductor_manager
    from nova.scheduler.client import report

LOG = logging.getLogger(__name__)


def schedule_and_build_instances(
        original: nova_types.Original,
        self: conductor_manager.ComputeTaskManager,
        context: nova_context.RequestContext,
        build_requests: list[objects.BuildRequest],
        request_specs: list[objects.RequestSpec], image: dict[str, typing.Any],
        admin_password: str, injected_files: list[typing.Any],
        requested_networks: objects.NetworkRequestList | None,
        block_device_mapping: objects.BlockDeviceMappingList,
        tags: objects.TagList | None = None) -> None:
    """Build servers, and keep what a rebuild needs if that fails.

    Here, as every build begins here and later failures are handled by
    conductors that have no API database (hazard: networks-not-kept).
    """
    taken = _take(context, build_requests, request_specs, requested_networks,
                  block_device_mapping)
    outdated = {spec.instance_uuid for spec in request_specs} - set(taken)
    if outdated:
        # Nova would find no BuildRequest and take the mapping and the
        # allocation away from a server that runs, or build what a rebuild
        # asked for that was undone.
        LOG.warning('A doubled or late message to build these servers is '
                    'dropped, as they are in a cell already, another rebuild '
                    'has begun since, or the build was begun already: %s. '
                    'Nothing needs to be done.', ', '.join(sorted(outdated)))
        build_requests = [request for request in build_requests
                          if request.instance_uuid in taken]
        request_specs = [spec for spec in request_specs
                         if spec.instance_uuid in taken]
        if not request_specs:
            return
    builds = [building.Build(uuid, of.extras['rebuild'], of.text)
              for uuid, of in taken.items() if 'rebuild' in of.extras]
    with contextlib.ExitStack() as stack:
        for build in builds:
            stack.enter_context(build)
        try:
            original(context, build_requests, request_specs, image,
                     admin_password, injected_files, requested_networks,
                     block_device_mapping, tags)
        except our_exception.Overtaken:
            for build in builds:
                _try_to_free_claim(self.report_client, context, build)
            return
        except Exception:
            with excutils.save_and_reraise_exception():
                _finish_all(self.report_client, context, builds, taken,
                            has_failed=True)
    _finish_all(self.report_client, context, builds, taken)


def _finish_all(report_client: report.SchedulerReportClient,
                context: nova_context.RequestContext,
                builds: list[building.Build],
                taken: dict[str, database.Taken],
                has_failed: bool = False) -> None:
    for build in builds:
        _try_to_finish(report_client, context, build,
                       taken[build.instance_uuid].extras, has_failed)


def build_instances(original: nova_types.Original,
                    self: conductor_manager.ComputeTaskManager,
                    context: nova_context.RequestContext,
                    instances: list[objects.Instance], *args: typing.Any,
                    **kwargs: typing.Any) -> typing.Any:
    """Try servers on another host, except those that were rebuilt since.

    While the message waits, a server has no allocation and no host. If its
    state is reset then, it looks as if its build had failed (hazard:
    late-messages).
    """
    if any(_was_rebuilt(context, instance) for instance in instances):
        # The message is for one server only, as a host has sent it.
        LOG.warning('A late message to try this server on another host is '
                    'dropped, as the server was rebuilt since. Nothing needs '
                    'to be done.', instance=instances[0])
        return None
    return original(context, instances, *args, **kwargs)


def _was_rebuilt(context: nova_context.RequestContext,
                 instance: objects.Instance) -> bool:
    """Whether the row of the instance in a message was replaced."""
    try:
        found = objects.Instance.get_by_uuid(
            context, instance.uuid, expected_attrs=['system_metadata'])
        return (instance_metadata.rebuild_attempt(found)
                != instance_metadata.rebuild_attempt(instance))
    except exception.InstanceNotFound:
        return _has_no_row_here(context, instance)
    except Exception:
        LOG.exception('Whether the server was rebuilt since a host failed to '
                      'build it cannot be told. It is tried on another host.',
                      instance=instance)
        return False


def _has_no_row_here(context: nova_context.RequestContext,
                     instance: objects.Instance) -> bool:
    """Whether a server is there, but not in the cell of this conductor.

    Nova would claim resources for it, and only then find that out.
    """
    try:
        return database.is_mapped(context, instance.uuid)
    except Exception:
        # The conductor of a cell has no API database. Nova can build nothing
        # without a row.
        return True


def _take(context: nova_context.RequestContext,
          build_requests: list[objects.BuildRequest],
          request_specs: list[objects.RequestSpec],
          requested_networks: objects.NetworkRequestList | None,
          block_device_mapping: objects.BlockDeviceMappingList
          ) -> dict[str, database.Taken]:
    """Take the servers of a message, and keep what Nova forgets of them.

    Every build comes by here: if the API database fails, Nova goes on as ever.

    :returns: UUID -> Taken, without those whose message is doubled or late
    """
    try:
        attempts = {
            request.instance_uuid: instance_metadata.rebuild_attempt(
                request.instance) for request in build_requests}
        return database.take(context, attempts, {
            spec.instance_uuid: _to_be_kept(spec, requested_networks,
                                            block_device_mapping)
            for spec in request_specs})
    except Exception:
        uuids = [spec.instance_uuid for spec in request_specs]
        LOG.exception('The API database did not answer whether these servers '
                      'are already in a cell, and their requested networks '
                      'are not kept. They are built. If this build fails, a '
                      'rebuild will have to name the networks: %s',
                      ', '.join(uuids))
        return {uuid: database.Taken({}, '') for uuid in uuids}


def _to_be_kept(
        request_spec: objects.RequestSpec,
        requested_networks: objects.NetworkRequestList | None,
        block_device_mapping: objects.BlockDeviceMappingList
) -> spec_extras.Extras:
    """What Nova forgets of a request."""
    destination = ('requested_destination' in request_spec
                   and request_spec.requested_destination)
    return {
        'requested': spec_extras.networks_to_primitive(requested_networks),
        'block_devices': block_devices.kept_of(block_device_mapping) or None,
        'devices': block_devices.asked_of(block_device_mapping),
        'destination': destination and destination.obj_to_primitive() or None}


def _try_to_free_claim(report_client: report.SchedulerReportClient,
                       context: nova_context.RequestContext,
                       build: building.Build) -> None:
    """Free what the scheduler has claimed for a build that was reclaimed."""
    LOG.warning('The build of this server was reclaimed while this '
                'nova-conductor worked on it. It is given up here. Nothing '
                'needs to be done.', instance_uuid=build.instance_uuid)
    try:
        try:
            _free_claim(report_client, context, build.instance_uuid)
        except (exception.InstanceMappingNotFound, exception.InstanceNotFound,
                exception.RequestSpecNotFound):
            # Deleted in the meantime, maybe before the scheduler has claimed.
            placement.delete_allocation(report_client, context,
                                        build.instance_uuid, force=True)
    except Exception:
        LOG.exception('An allocation may be left in placement for a server '
                      'that is not built. The next rebuild, or its deletion, '
                      'removes it. If the server is deleted already, remove '
                      'the allocation.', instance_uuid=build.instance_uuid)


def _free_claim(report_client: report.SchedulerReportClient,
                context: nova_context.RequestContext, uuid: str) -> None:
    with api_db_api.context_manager.writer.using(context):
        if spec_extras.is_under_way(context, uuid):
            return  # whoever has it frees it, or has claimed for itself
        mapping = objects.InstanceMapping.get_by_instance_uuid(context, uuid)
        if mapping.cell_mapping is None:
            return
        with nova_context.target_cell(context, mapping.cell_mapping) as cctxt:
            instance = objects.Instance.get_by_uuid(cctxt, uuid,
                                                    expected_attrs=[])
        if rebuild.is_on_no_host(instance):
            placement.delete_allocation(report_client, context, uuid)


def _try_to_finish(report_client: report.SchedulerReportClient,
                   context: nova_context.RequestContext,
                   build: building.Build, extras: spec_extras.Extras,
                   has_failed: bool = False) -> None:
    """Finish, but never raise, which would hide why a build failed.

    :param has_failed: whether the conductor did not come to its end
    """
    uuid = build.instance_uuid
    try:
        if has_failed and not _is_over(context, uuid):
            LOG.error('The build of this server was begun, and has not come '
                      'to its end. If the server stays in BUILD, run '
                      '"nova-rescue-ext-manage rebuild-interrupted".',
                      instance_uuid=uuid)
            return
        finish_attempt(report_client, context, uuid, extras)
    except (exception.InstanceMappingNotFound, exception.InstanceNotFound,
            exception.RequestSpecNotFound):
        pass  # deleted in the meantime
    except Exception:
        LOG.exception('The server was built or buried, but its old instance '
                      'actions were not restored, an allocation was not '
                      'removed, or nobody was told that the rebuild has '
                      'failed. Unless it is being rebuilt again, run '
                      '"nova-rescue-ext-manage rebuild-interrupted".',
                      instance_uuid=uuid)


def _is_over(context: nova_context.RequestContext, uuid: str) -> bool:
    """Whether a server was built as far as a conductor does, or has failed.

    What is neither is found by the operator as long as its attempt lasts.

    :raises: InstanceMappingNotFound, InstanceNotFound
    """
    mapping = objects.InstanceMapping.get_by_instance_uuid(context, uuid)
    if mapping.cell_mapping is None or database.is_wanted(context, uuid):
        return False
    with nova_context.target_cell(context, mapping.cell_mapping) as cctxt:
        return not rebuild.is_asked_of_no_host(objects.Instance.get_by_uuid(
            cctxt, uuid, expected_attrs=[]))


def finish_attempt(report_client: report.SchedulerReportClient,
                   context: nova_context.RequestContext, uuid: str,
                   extras: spec_extras.Extras) -> None:
    """After an attempt to rebuild: history, and no leaked allocation.

    If the server was buried, that is told now: an attempt ends once, whoever
    has begun to bury the server, and is not over before all that is done.

    :param report_client: a client for placement
    :param extras: what is kept for the server
    :raises: InstanceMappingNotFound, InstanceNotFound, RequestSpecNotFound
    """
    mapping = objects.InstanceMapping.get_by_instance_uuid(context, uuid)
    if mapping.cell_mapping is None:
        return  # deleted while it was scheduled
    is_buried = mapping.cell_mapping.is_cell0()
    with nova_context.target_cell(context, mapping.cell_mapping) as cctxt:
        database.write_history(cctxt, uuid, extras.get('history', []))
        instance = objects.Instance.get_by_uuid(
            cctxt, uuid, expected_attrs=notifications.ATTRIBUTES
            if is_buried else [])
        tell = functools.partial(
            notifications.failed, cctxt, instance,
            fields.NotificationSource.CONDUCTOR,
            notifications.reason_of(cctxt, instance)) if is_buried else None
    free = functools.partial(placement.delete_allocation, report_client,
                             context, uuid)
    has_failed = rebuild.is_on_no_host(instance) or is_buried
    # The owner may be rebuilding it again since it was buried.
    spec_extras.end_attempt(context, uuid, extras['rebuild'],
                            free if has_failed else None, tell)


def cleanup_when_reschedule_fails(
        original: nova_types.Original,
        self: conductor_manager.ComputeTaskManager,
        context: nova_context.RequestContext, instance: objects.Instance,
        *args: typing.Any, **kwargs: typing.Any) -> None:
    """Set a server to ERROR that no host is left for, and tell it."""
    original(context, instance, *args, **kwargs)
    if not instance_metadata.is_rebuilt(instance):
        return
    try:
        # Nova has changed another object.
        instance = objects.Instance.get_by_uuid(context, instance.uuid)
    except Exception:
        LOG.exception('A notification of the failed rebuild was not sent.',
                      instance=instance)
        return
    if rebuild.is_on_no_host(instance):
        notifications.failed(context, instance,
                             fields.NotificationSource.CONDUCTOR)


def cleanup_build_artifacts(
        original: nova_types.Original,
        self: conductor_manager.ComputeTaskManager,
        context: nova_context.RequestContext, exc: Exception,
        instances: list[objects.Instance],
        build_requests: list[objects.BuildRequest],
        request_specs: list[objects.RequestSpec],
        block_device_mappings: objects.BlockDeviceMappingList,
        tags: objects.TagList | None,
        cell_mapping_cache: dict[str, objects.CellMapping]) -> None:
    """Clean up after a failed build, but leave the RequestSpecs.

    Nova destroys them, even that of a server of the same request which runs
    already. Without it nobody can build the server again. The same with the
    allocations, where no host can be building one.

    :raises: Overtaken if this conductor has lost the build: Nova would set the
        server to ERROR, which somebody may have rebuilt since
    """
    for spec in request_specs:
        build = building.Build.of_this_thread(spec.instance_uuid)
        if build is not None:
            build.go_on(context)
    texts = _read_texts(context, request_specs)
    try:
        original(context, exc, instances, build_requests, request_specs,
                 block_device_mappings, tags, cell_mapping_cache)
    finally:
        _restore_texts(context, texts)
        for spec in request_specs:
            if building.Build.of_this_thread(spec.instance_uuid) is not None:
                _tell_of_failure(context, spec.instance_uuid)
    if _is_none_asked_of_a_host(exc, request_specs):
        _delete_allocations(self, context, request_specs)


def _tell_of_failure(context: nova_context.RequestContext,
                     uuid: str) -> None:
    """Tell that a server was set to ERROR in the cell of a host."""
    try:
        mapping = objects.InstanceMapping.get_by_instance_uuid(context, uuid)
        if (mapping.cell_mapping.is_cell0()
                or database.is_wanted(context, uuid)):
            return  # it is buried, or the operator will bury it
        with nova_context.target_cell(context, mapping.cell_mapping) as cctxt:
            notifications.failed(
                cctxt, objects.Instance.get_by_uuid(cctxt, uuid),
                fields.NotificationSource.CONDUCTOR)
    except (exception.InstanceMappingNotFound, exception.InstanceNotFound):
        pass  # deleted in the meantime
    except Exception:
        LOG.exception('A notification of the failed rebuild was not sent.',
                      instance_uuid=uuid)


def _read_texts(context: nova_context.RequestContext,
                request_specs: list[objects.RequestSpec]) -> dict[str, str]:
    uuids = [spec.instance_uuid for spec in request_specs]
    try:
        return spec_extras.read_texts(context, uuids)
    except Exception:
        # Nova's clean-up sets the servers to ERROR.
        LOG.exception('The RequestSpecs of these servers cannot be read and '
                      'are lost as their build failed. The servers can only '
                      'be deleted, not rebuilt: %s', ', '.join(uuids))
        return {}


def _restore_texts(context: nova_context.RequestContext,
                   texts: dict[str, str]) -> None:
    if not texts:
        return
    try:
        spec_extras.restore_texts(context, texts)
    except Exception:
        LOG.exception('The RequestSpecs of these servers, whose build failed, '
                      'could not be restored. The servers can only be '
                      'deleted, not rebuilt: %s', ', '.join(texts))


def _is_none_asked_of_a_host(exc: Exception,
                             request_specs: list[objects.RequestSpec]) -> bool:
    """Whether no host has heard of a server of the request.

    The quota is checked before all. After that, Nova stops at the first server
    that fails, and sets those to ERROR, too, which hosts are building.
    """
    return len(request_specs) == 1 or isinstance(
        exc, (exception.TooManyInstances, limit_exceptions.ProjectOverLimit))


def _delete_allocations(self: conductor_manager.ComputeTaskManager,
                        context: nova_context.RequestContext,
                        request_specs: list[objects.RequestSpec]) -> None:
    """Nova leaves them."""
    for spec in request_specs:
        try:
            placement.delete_allocation(self.report_client, context,
                                        spec.instance_uuid, force=True)
        except Exception:
            LOG.exception('The build failed, and the allocation of the server '
                          'is left in placement. The server cannot be rebuilt '
                          'until you delete the allocation.',
                          instance_uuid=spec.instance_uuid)

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


"""Rebuilds that were interrupted, and how they are finished or undone.

Before the message to the conductor the old row is the server again, if it is
there. After it, and as long as the BuildRequest is there, no host has heard of
the server: what was begun is removed, and the server is buried with all that
the BuildRequest and the RequestSpec hold. It is not built here: the user's
token, with which ports and volumes are made, the new password and the files
died with nova-api, or are in a message that may still arrive.

Without the BuildRequest the server has been built or buried, and what is left
is finished, or the conductor died before a host was asked.
"""

from __future__ import annotations

import datetime
import sys
import typing

from nova.compute import task_states
from nova.compute import utils as compute_utils
from nova.compute import vm_states
from nova.conductor import manager
from nova import context as nova_context
from nova.db.api import api as api_db_api
from nova.db.api import models
from nova import exception
from nova import objects
from nova.objects import fields
from nova.volume import cinder
from oslo_log import log as logging
from oslo_utils import timeutils
import sqlalchemy as sa

from nova_rescue_ext import exception as our_exception
from nova_rescue_ext import placement
from nova_rescue_ext import rebuild
from nova_rescue_ext.rebuild import building
from nova_rescue_ext.rebuild import conductor
from nova_rescue_ext.rebuild import database
from nova_rescue_ext.rebuild import notifications
from nova_rescue_ext.rebuild import spec_extras
from nova_rescue_ext.rebuild import unsaved_objects

LOG = logging.getLogger(__name__)

UNDO = 'undo: the old row is the server again'
BURY = 'undo: the server is buried in cell0'
FAIL = 'undo: no host builds the server, it is set to ERROR'
DELETE = 'finish: the deletion by its owner'
FINISH = 'finish: its older actions are restored'


class Interrupted(typing.NamedTuple):
    """A server whose rebuild, or burial in cell0, has not gone on."""

    instance_uuid: str
    project_id: str
    since: datetime.datetime  # UTC, without a zone
    remedy: str | None  # None if it cannot be decided
    reason: str = ''  # why it cannot


def find(context: nova_context.RequestContext,
         older_than: float) -> list[Interrupted]:
    """Find rebuilds that have not ended.

    :param context: an admin RequestContext
    :param older_than: seconds since something was last done. Younger ones may
        be at work.
    :returns: a list of Interrupted, oldest first
    """
    before = timeutils.utcnow() - datetime.timedelta(seconds=older_than)
    found = []
    for uuid, project_id, since in _candidates(context, before):
        try:
            remedy, reason = _remedy(
                context, uuid, database.read_state(context, uuid)), ''
        except Exception as exc:
            # A cell that cannot be reached must not keep the others waiting.
            LOG.warning('What has become of the rebuild of this server cannot '
                        'be told. Run the command again when that has '
                        'passed: %s', exc, instance_uuid=uuid)
            remedy, reason = None, str(exc)
        if remedy or reason:
            found.append(Interrupted(uuid, project_id, since, remedy, reason))
    return sorted(found, key=lambda interrupted: interrupted.since)


@api_db_api.context_manager.reader
def _candidates(
        context: nova_context.RequestContext,
        before: datetime.datetime) -> list[tuple[str, str, datetime.datetime]]:
    """Servers that may have been interrupted before a time.

    First those that are in no cell, or have a BuildRequest in one: few. Then
    the others, which only the text of the RequestSpec tells: the database
    looks through the texts, and none of them is read here.

    :returns: a list of (UUID, project id, since)
    """
    mapping, spec = models.InstanceMapping, models.RequestSpec
    since = sa.func.coalesce(spec.updated_at, spec.created_at)
    query = context.session.query(
        spec.instance_uuid, mapping.project_id, since).filter(
            mapping.instance_uuid == spec.instance_uuid, since <= before)
    under_way = query.outerjoin(
        models.BuildRequest,
        models.BuildRequest.instance_uuid == mapping.instance_uuid).filter(
            sa.or_(mapping.cell_id.is_(None),
                   models.BuildRequest.id.isnot(None))).all()
    seen = {row[0] for row in under_way}
    ended = query.filter(mapping.cell_id.isnot(None), spec.spec.contains(
        spec_extras.REBUILD_IN_TEXT, autoescape=True)).all()
    return [tuple(row) for row in under_way] + [
        tuple(row) for row in ended if row[0] not in seen]


def _remedy(context: nova_context.RequestContext, uuid: str,
            state: database.State | None) -> str | None:
    """What to do, or None if there is nothing to be done.

    :param state: None if the server has been deleted meanwhile
    """
    if state is None:
        return None
    if 'rebuild' not in state.extras:
        return _remedy_of_create(state)
    if state.is_deleted:
        return DELETE if state.is_wanted or state.cell_uuid is None else None
    if state.cell_uuid is None:
        if not state.is_wanted:
            return DELETE
        old_cell = _old_cell(context, state.extras)
        return (UNDO if not state.extras.get('sent')
                and _row(context, old_cell, uuid) else BURY)
    if state.is_wanted:
        return BURY
    row = _row(context, objects.CellMapping.get_by_uuid(
        context, state.cell_uuid), uuid)
    if row is None:
        return None
    return FAIL if rebuild.is_asked_of_no_host(row) else FINISH


def _remedy_of_create(state: database.State) -> str | None:
    """What to do about a server that is created, not rebuilt.

    In no cell it waits for a conductor. In one, it has its BuildRequest for a
    moment only: the conductor has died, GET says ERROR or BUILD by the row,
    a list says BUILD, and no host has heard of it.
    """
    if not state.is_wanted:
        return None
    if state.cell_uuid is None:
        # Nobody else but the burial here says so, which was interrupted.
        return BURY if state.extras.get('sent') else None
    return DELETE if state.is_deleted else BURY


def _old_cell(context: nova_context.RequestContext,
              extras: spec_extras.Extras) -> objects.CellMapping:
    return objects.CellMapping.get_by_uuid(
        context, extras['rebuild']['cell'])


def remedy(context: nova_context.RequestContext,
           interrupted: Interrupted) -> None:
    """Finish or undo one.

    Interrupted itself, it is found again.

    :raises: NovaException if it has gone on, or cannot be decided yet
    """
    uuid = interrupted.instance_uuid
    state = database.read_state(context, uuid)
    # Others were dealt with since it was found.
    if state is None or (interrupted.remedy
                         != _remedy(context, uuid, state)):
        raise our_exception.Overtaken()
    _REMEDIES[interrupted.remedy](context, uuid, state.extras)


def _undo(context: nova_context.RequestContext, uuid: str,
          extras: spec_extras.Extras) -> None:
    cell = _old_cell(context, extras)
    with nova_context.target_cell(context, cell) as cctxt:
        # nova-api may only be slow, and about to remove the row.
        if not database.touch_row(cctxt, uuid):
            raise our_exception.Overtaken()
    if not database.undo_begin(context, uuid, cell, extras['rebuild']):
        _delete(context, uuid, extras)  # so has its owner, meanwhile


def _bury(context: nova_context.RequestContext, uuid: str,
          extras: spec_extras.Extras) -> None:
    build_request = objects.BuildRequest.get_by_instance_uuid(context, uuid)
    spec = objects.RequestSpec.get_by_instance_uuid(context, uuid)
    bdms = unsaved_objects.block_device_mappings(
        context, build_request.block_device_mappings)
    text = database.reclaim_from_conductor(context, uuid)
    if text is None:
        raise exception.BuildRequestNotFound(uuid=uuid)
    _destroy_rows(context, uuid)
    task_manager = manager.ComputeTaskManager()
    placement.delete_allocation(task_manager.report_client, context, uuid,
                                force=True)
    try:
        raise our_exception.RebuildInterrupted()
    except our_exception.RebuildInterrupted as reason:
        with building.Burial(uuid, extras.get('rebuild'), text):
            task_manager._bury_in_cell0(
                context, spec, reason, build_requests=[build_request],
                block_device_mapping=bdms, tags=build_request.tags)
    _finish(context, uuid, extras)


def _fail(context: nova_context.RequestContext, uuid: str,
          extras: spec_extras.Extras) -> None:
    task_manager = manager.ComputeTaskManager()
    mapping = objects.InstanceMapping.get_by_instance_uuid(context, uuid)
    with nova_context.target_cell(context, mapping.cell_mapping) as cctxt:
        _check_hosts(cctxt, task_manager, uuid)
        instance = objects.Instance.get_by_uuid(cctxt, uuid)
        instance.vm_state = vm_states.ERROR
        instance.task_state = None
        instance.save(expected_vm_state=[vm_states.BUILDING],
                      expected_task_state=[task_states.SCHEDULING])
        try:
            raise our_exception.RebuildInterrupted()
        except our_exception.RebuildInterrupted as reason:
            try:
                compute_utils.add_instance_fault_from_exc(
                    cctxt, instance, reason, sys.exc_info())
            finally:
                notifications.failed(cctxt, instance,
                                     fields.NotificationSource.CONDUCTOR)
    _finish(context, uuid, extras)


def _check_hosts(context: nova_context.RequestContext,
                 task_manager: manager.ComputeTaskManager, uuid: str) -> None:
    """Refuse while the host that was chosen is down.

    It may have been asked, and would build the server when it comes back.

    :param context: a RequestContext that is targeted at the server's cell
    :raises: ComputeServiceUnavailable; ConsumerAllocationRetrievalFailed and
        ClientException if placement does not say
    """
    for provider in task_manager.report_client.get_allocs_for_consumer(
            context, uuid)['allocations']:
        try:
            node = objects.ComputeNode.get_by_uuid(context, provider)
        except exception.ComputeHostNotFound:
            continue  # a device of the host
        service = objects.Service.get_by_compute_host(context, node.host)
        if not task_manager.servicegroup_api.service_is_up(service):
            raise exception.ComputeServiceUnavailable(host=node.host)


def _finish(context: nova_context.RequestContext, uuid: str,
            extras: spec_extras.Extras) -> None:
    """Finish the attempt that was found, not that of its owner since."""
    if 'rebuild' in extras:
        conductor.finish_attempt(
            manager.ComputeTaskManager().report_client, context, uuid, extras)
    else:
        spec_extras.forget_reclaim(context, uuid)


def _delete(context: nova_context.RequestContext, uuid: str,
            extras: spec_extras.Extras) -> None:
    _free_volumes(context, uuid)
    _destroy_rows(context, uuid)
    placement.delete_allocation(manager.ComputeTaskManager().report_client,
                                context, uuid, force=True)
    database.remove_traces(context, uuid)


_REMEDIES: dict[str | None, typing.Callable[..., None]] = {
    UNDO: _undo, BURY: _bury, FAIL: _fail, DELETE: _delete, FINISH: _finish}


def _free_volumes(context: nova_context.RequestContext, uuid: str) -> None:
    """Free volumes that only rows in cells name, as the BuildRequest is gone.

    nova-api writes a new attachment to the row first.

    :raises: NovaException if Cinder does not free one
    """
    volume_api = cinder.API()
    for cell in objects.CellMappingList.get_all(context):
        row = _row(context, cell, uuid)
        if row is None or row.host is not None or row.launched_at is not None:
            continue
        with nova_context.target_cell(context, cell) as cctxt:
            for bdm in objects.BlockDeviceMappingList.get_by_instance_uuid(
                    cctxt, uuid):
                if bdm.attachment_id:
                    _free_volume(cctxt, volume_api, bdm)


def _free_volume(context: nova_context.RequestContext,
                 volume_api: cinder.API,
                 bdm: objects.BlockDeviceMapping) -> None:
    """Free a volume, and delete it if the owner's DELETE should have.

    The row alone knows of the attachment: it stays until Cinder has answered.
    Only a volume that it reserves is still one of the server.
    """
    try:
        volume_api.attachment_delete(context, bdm.attachment_id)
    except exception.VolumeAttachmentNotFound:
        if bdm.delete_on_termination:
            LOG.warning('Volume %(volume)s, which is to be deleted with the '
                        'server, is no longer reserved for it, and not '
                        'deleted. If it is not used otherwise, delete it.',
                        {'volume': bdm.volume_id},
                        instance_uuid=bdm.instance_uuid)
        return
    if bdm.delete_on_termination:
        try:
            volume_api.delete(context, bdm.volume_id)
        except exception.VolumeNotFound:
            pass
        except Exception as exc:
            LOG.warning('Volume %(volume)s, which is to be deleted with the '
                        'server, was not deleted. Delete it: %(exc)s',
                        {'volume': bdm.volume_id, 'exc': exc},
                        instance_uuid=bdm.instance_uuid)


def _destroy_rows(context: nova_context.RequestContext, uuid: str) -> None:
    """Remove what a conductor may have begun in any cell."""
    for cell in objects.CellMappingList.get_all(context):
        with nova_context.target_cell(context, cell) as cctxt:
            database.destroy_unfinished_row(cctxt, uuid)


def _row(context: nova_context.RequestContext, cell: objects.CellMapping,
         uuid: str) -> objects.Instance | None:
    """The server's row in a cell, or None."""
    with nova_context.target_cell(context, cell) as cctxt:
        try:
            return objects.Instance.get_by_uuid(cctxt, uuid,
                                                expected_attrs=[])
        except exception.InstanceNotFound:
            return None

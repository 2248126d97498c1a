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

import datetime
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
from oslo_serialization import jsonutils
from oslo_utils import timeutils

from nova_rescue_ext.rebuild import conductor
from nova_rescue_ext.rebuild import database
from nova_rescue_ext.rebuild import spec_extras
from nova_rescue_ext.rebuild import unsaved_objects

UNDO = 'undo: the old row is the server again'
BURY = 'undo: the server is buried in cell0'
FAIL = 'undo: no host builds the server, it is set to ERROR'
DELETE = 'finish: the deletion by its owner'
FINISH = 'finish: its older actions are restored'


class Interrupted(typing.NamedTuple):
    """A server whose rebuild has not gone on."""

    instance_uuid: str
    project_id: str
    since: datetime.datetime  # UTC, without a zone
    remedy: str


def find(context, older_than):
    """Find rebuilds that have not ended.

    :param context: an admin RequestContext
    :param older_than: seconds since something was last done. Younger ones may
        be at work.
    :returns: a list of Interrupted, oldest first
    """
    before = timeutils.utcnow() - datetime.timedelta(seconds=older_than)
    found = []
    for uuid, project_id, since, text in _marked(context):
        extras = jsonutils.loads(text).get(spec_extras.KEY, {})
        if 'rebuild' not in extras or since > before:
            continue
        remedy = _remedy(context, uuid, extras)
        if remedy:
            found.append(Interrupted(uuid, project_id, since, remedy))
    return sorted(found, key=lambda interrupted: interrupted.since)


@api_db_api.context_manager.reader
def _marked(context):
    mapping, spec = models.InstanceMapping, models.RequestSpec
    rows = context.session.query(mapping, spec).filter(
        spec.spec.contains(spec_extras.REBUILD_IN_TEXT, autoescape=True),
        mapping.instance_uuid == spec.instance_uuid).all()
    return [(spec.instance_uuid, mapping.project_id,
             spec.updated_at or spec.created_at, spec.spec)
            for mapping, spec in rows]


def _remedy(context, uuid, extras):
    """What to do, or None if the server was deleted from its new cell."""
    mapping = objects.InstanceMapping.get_by_instance_uuid(context, uuid)
    is_wanted = database.is_wanted(context, uuid)
    if mapping.queued_for_delete:
        return (DELETE if is_wanted or mapping.cell_mapping is None
                else None)
    if mapping.cell_mapping is None:
        if not is_wanted:
            return DELETE
        old_cell = _old_cell(context, extras)
        return (UNDO if not extras.get('sent')
                and _row(context, old_cell, uuid) else BURY)
    if is_wanted:
        return BURY
    row = _row(context, mapping.cell_mapping, uuid)
    if row is None:
        return None
    return FAIL if _is_asked_of_no_host(row) else FINISH


def _is_asked_of_no_host(instance):
    return (instance.host is None
            and instance.vm_state == vm_states.BUILDING
            and instance.task_state == task_states.SCHEDULING)


def _old_cell(context, extras):
    return objects.CellMapping.get_by_uuid(
        context, extras['rebuild']['cell'])


def remedy(context, interrupted):
    """Finish or undo one.

    Interrupted itself, it is found again.

    :raises: NovaException if it has gone on, or cannot be decided yet
    """
    _REMEDIES[interrupted.remedy](context, interrupted.instance_uuid)


def _undo(context, uuid):
    if not database.undo_begin(context, uuid, _old_cell(
            context, spec_extras.read(context, uuid))):
        raise exception.BuildRequestNotFound(uuid=uuid)


def _bury(context, uuid):
    build_request = objects.BuildRequest.get_by_instance_uuid(context, uuid)
    spec = objects.RequestSpec.get_by_instance_uuid(context, uuid)
    bdms = unsaved_objects.block_device_mappings(
        context, build_request.block_device_mappings)
    if not database.reclaim_from_conductor(context, uuid):
        raise exception.BuildRequestNotFound(uuid=uuid)
    _destroy_rows(context, uuid)
    task_manager = manager.ComputeTaskManager()
    task_manager.report_client.delete_allocation_for_instance(
        context, uuid, force=True)
    try:
        raise exception.NoValidHost(reason='the rebuild was interrupted')
    except exception.NoValidHost as reason:
        task_manager._bury_in_cell0(
            context, spec, reason, build_requests=[build_request],
            block_device_mapping=bdms, tags=build_request.tags)
    _finish(context, uuid)


def _fail(context, uuid):
    task_manager = manager.ComputeTaskManager()
    mapping = objects.InstanceMapping.get_by_instance_uuid(context, uuid)
    with nova_context.target_cell(context, mapping.cell_mapping) as cctxt:
        _check_hosts(cctxt, task_manager, uuid)
        instance = objects.Instance.get_by_uuid(cctxt, uuid)
        instance.vm_state = vm_states.ERROR
        instance.task_state = None
        instance.save(expected_vm_state=[vm_states.BUILDING],
                      expected_task_state=[task_states.SCHEDULING])
        compute_utils.add_instance_fault_from_exc(
            cctxt, instance,
            exception.NoValidHost(reason='the rebuild was interrupted'))
    _finish(context, uuid)


def _check_hosts(context, task_manager, uuid):
    """Refuse while the host that was chosen is down.

    It may have been asked, and would build the server when it comes back.

    :param context: a RequestContext that is targeted at the server's cell
    :raises: ComputeServiceUnavailable
    """
    for provider in task_manager.report_client.get_allocations_for_consumer(
            context, uuid):
        try:
            node = objects.ComputeNode.get_by_uuid(context, provider)
        except exception.ComputeHostNotFound:
            continue  # a device of the host
        service = objects.Service.get_by_compute_host(context, node.host)
        if not task_manager.servicegroup_api.service_is_up(service):
            raise exception.ComputeServiceUnavailable(host=node.host)


def _finish(context, uuid):
    conductor.finish_attempt(
        manager.ComputeTaskManager().report_client, context, uuid,
        spec_extras.read(context, uuid))


def _delete(context, uuid):
    _destroy_rows(context, uuid)
    manager.ComputeTaskManager().report_client.delete_allocation_for_instance(
        context, uuid, force=True)
    database.remove_traces(context, uuid)


_REMEDIES = {UNDO: _undo, BURY: _bury, FAIL: _fail,
             DELETE: _delete, FINISH: _finish}


def _destroy_rows(context, uuid):
    """Remove what a conductor may have begun in any cell."""
    for cell in objects.CellMappingList.get_all(context):
        with nova_context.target_cell(context, cell) as cctxt:
            database.destroy_unfinished_row(cctxt, uuid)


def _row(context, cell, uuid):
    """The server's row in a cell, or None."""
    with nova_context.target_cell(context, cell) as cctxt:
        try:
            return objects.Instance.get_by_uuid(cctxt, uuid,
                                                expected_attrs=[])
        except exception.InstanceNotFound:
            return None

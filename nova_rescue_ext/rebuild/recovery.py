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


"""Rebuilds that were interrupted, and how they are undone.

As long as the old row is there no message was sent. Without it, the
BuildRequest and the RequestSpec hold everything.
"""

import datetime
import typing

from nova.conductor import manager
from nova import context as nova_context
from nova.db.api import api as api_db_api
from nova.db.api import models
from nova import exception
from nova import objects
from oslo_serialization import jsonutils
from oslo_utils import timeutils

from nova_rescue_ext.rebuild import clone
from nova_rescue_ext.rebuild import database
from nova_rescue_ext.rebuild import kept

GIVE_BACK = 'the old row is the server again'
BURY = 'the server is buried in cell0'
DELETE = 'the deletion by its owner is finished'


class Interrupted(typing.NamedTuple):
    """A server whose rebuild has not gone on."""

    instance_uuid: str
    project_id: str
    since: datetime.datetime  # UTC, without a zone
    cell: typing.Any  # the CellMapping of the old row
    remedy: str


def find(context, older_than):
    """Find rebuilds that are neither built nor buried.

    :param context: an admin RequestContext
    :param older_than: seconds since the rebuild began. Younger ones may be at
        work.
    :returns: a list of Interrupted, oldest first
    """
    before = timeutils.utcnow() - datetime.timedelta(seconds=older_than)
    found = []
    for mapping, spec in _unmapped(context):
        since = spec.updated_at or spec.created_at
        mark = jsonutils.loads(spec.spec).get(kept.KEY, {}).get('rebuild')
        if mark is None or since > before:
            continue
        uuid = mapping.instance_uuid
        cell = objects.CellMapping.get_by_uuid(context, mark['cell'])
        remedy = (DELETE if not database.is_wanted(context, uuid)
                  else GIVE_BACK if _has_row(context, cell, uuid) else BURY)
        found.append(Interrupted(uuid, mapping.project_id, since, cell,
                                 remedy))
    return sorted(found, key=lambda interrupted: interrupted.since)


@api_db_api.context_manager.reader
def _unmapped(context):
    mapping, spec = models.InstanceMapping, models.RequestSpec
    return context.session.query(mapping, spec).filter(
        mapping.cell_id.is_(None),
        mapping.instance_uuid == spec.instance_uuid).all()


def undo(context, interrupted):
    """Make one an ERROR server again, or finish its deletion.

    :raises: RequestSpecNotFound, BuildRequestNotFound if it has gone on
    """
    {GIVE_BACK: _give_back, BURY: _bury, DELETE: _delete}[interrupted.remedy](
        context, interrupted)


def _give_back(context, interrupted):
    if not database.give_back(context, interrupted.instance_uuid,
                              interrupted.cell):
        raise exception.BuildRequestNotFound(uuid=interrupted.instance_uuid)


def _bury(context, interrupted):
    uuid = interrupted.instance_uuid
    build_request = objects.BuildRequest.get_by_instance_uuid(context, uuid)
    spec = objects.RequestSpec.get_by_instance_uuid(context, uuid)
    bdms = clone.block_device_mappings(
        context, build_request.block_device_mappings)
    conductor = manager.ComputeTaskManager()
    conductor.report_client.delete_allocation_for_instance(
        context, uuid, force=True)
    try:
        raise exception.NoValidHost(reason='the rebuild was interrupted')
    except exception.NoValidHost as reason:
        conductor._bury_in_cell0(
            context, spec, reason, build_requests=[build_request],
            block_device_mapping=bdms, tags=build_request.tags)
    kept.update(context, uuid, rebuild=None)


def _delete(context, interrupted):
    uuid = interrupted.instance_uuid
    with nova_context.target_cell(context, interrupted.cell) as cctxt:
        try:
            database.destroy_row(cctxt, uuid)
        except exception.InstanceNotFound:
            pass
    database.forget(context, uuid)


def _has_row(context, cell, uuid):
    with nova_context.target_cell(context, cell) as cctxt:
        try:
            objects.Instance.get_by_uuid(cctxt, uuid, expected_attrs=[])
        except exception.InstanceNotFound:
            return False
    return True

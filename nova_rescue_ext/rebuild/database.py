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


"""What a rebuild writes to the databases by hand.

All is conditional: the writer finds the row as it was read, or changes
nothing. A rebuild calls begin(), destroy_row() and mark_sent(), in this order.
"""

from __future__ import annotations

import datetime
import typing

from nova import context as nova_context
from nova.db.api import api as api_db_api
from nova.db.api import models as api_models
from nova.db.main import api as main_db_api
from nova.db.main import models as main_models
from nova import exception as nova_exception
from nova import objects
from oslo_db import api as db_api
from oslo_utils import timeutils
import sqlalchemy as sa

from nova_rescue_ext import exception
from nova_rescue_ext.rebuild import spec_extras

if typing.TYPE_CHECKING:
    from sqlalchemy import orm

# Actions that stay readable after a rebuild, the newest.
HISTORY_LENGTH = 20

# Instance actions with their events, as plain data.
_History = list[dict[str, typing.Any]]


class _Build(typing.Protocol):
    """The part of a NewBuild that is written to the database."""

    instance: objects.Instance
    bdms: list[objects.BlockDeviceMapping]
    tags: objects.TagList
    spec: objects.RequestSpec


# The databases of a cluster abort one of two transactions that meet. All of
# ours find the rows as they were read, or change nothing: they are repeated.
_retried = db_api.wrap_db_retry(max_retries=5, retry_interval=0.1,
                                inc_retry_interval=True, max_retry_interval=2,
                                retry_on_deadlock=True)


@_retried
def begin(context: nova_context.RequestContext, build: _Build,
          cell: objects.CellMapping, found: objects.Instance,
          extras: spec_extras.Extras, older: spec_extras.Extras | None
          ) -> tuple[objects.BuildRequest, str, bool]:
    """Let a BuildRequest stand for the server from now on. All or nothing.

    Only one caller can create the BuildRequest: it is the lock of a rebuild.

    :param build: a NewBuild, whose RequestSpec is saved
    :param cell: the CellMapping that the server is in
    :param found: the Instance, as it was found there
    :param extras: all that is kept beside the RequestSpec from now on
    :param older: an attempt that was not over when the server was found
    :returns: the BuildRequest, the text of the RequestSpec from now on, and
        whether the older attempt was still not over
    :raises: DBDuplicateEntry if another rebuild has it; AlreadyRebuilding
        if the server is no longer in the cell or is being deleted;
        ServerChanged if it is not as it was found
    """
    uuid = build.instance.uuid
    build_request = objects.BuildRequest(
        context, instance=build.instance, instance_uuid=uuid,
        project_id=build.instance.project_id,
        block_device_mappings=build.bdms, tags=build.tags)
    values = dict(build_request._get_update_primitives(),
                  created_at=timeutils.normalize_time(found.created_at))
    with api_db_api.context_manager.writer.using(context):
        # As create() does, which leaves no choice of created_at.
        row = build_request._create_in_db(context, values)
        build_request._from_db_object(context, build_request, row)
        changed = _mapping(context, uuid).filter_by(cell_id=cell.id).update(
            {'cell_id': None}, synchronize_session=False)
        if changed != 1:
            raise exception.AlreadyRebuilding()
        # A whole rebuild may have come and gone since: it may run.
        with nova_context.target_cell(context, cell) as cctxt:
            if not _is_as_found(cctxt, found):
                raise exception.ServerChanged()
        is_replaced = older is not None and spec_extras.is_attempt(
            context, uuid, older)
        text = spec_extras.save_with_spec(context, build.spec, extras)
    build.spec.obj_reset_changes()
    return build_request, text, is_replaced


def _mapping(context: nova_context.RequestContext,
             instance_uuid: str) -> orm.Query:
    """The mapping of a server that is not deleted."""
    mapping = api_models.InstanceMapping
    return context.session.query(mapping).filter(
        mapping.instance_uuid == instance_uuid,
        sa.or_(mapping.queued_for_delete.is_(None),
               mapping.queued_for_delete.is_(False)))


@api_db_api.context_manager.reader
def is_mapped(context: nova_context.RequestContext,
              instance_uuid: str) -> bool:
    """Whether there is such a server, built or not, that is not deleted."""
    return _mapping(context, instance_uuid).first() is not None


@_retried
def undo_begin(context: nova_context.RequestContext, instance_uuid: str,
               cell: objects.CellMapping,
               attempt: spec_extras.Extras) -> bool:
    """Undo begin(): the row in the cell stands for the server again.

    Of this attempt only (hazard: slow-rebuild).

    :param cell: the CellMapping that has the server's row
    :param attempt: the one that is undone
    :returns: False if the BuildRequest, and with it the server, was deleted;
        then nothing is changed
    :raises: Overtaken if the attempt has been undone, or its message sent;
        then nothing is changed either
    """
    with api_db_api.context_manager.writer.using(context):
        if not spec_extras.is_unsent(context, instance_uuid, attempt):
            return False
        if not context.session.query(api_models.BuildRequest).filter_by(
                instance_uuid=instance_uuid).delete():
            return False
        context.session.query(api_models.InstanceMapping).filter_by(
            instance_uuid=instance_uuid, cell_id=None).update(
                {'cell_id': cell.id}, synchronize_session=False)
        spec_extras.cancel_attempt(context, instance_uuid)
    return True


@_retried
@main_db_api.pick_context_manager_writer
def touch_row(context: nova_context.RequestContext,
              instance_uuid: str) -> bool:
    """Make destroy_row() fail for all who have read the row before.

    :param context: a RequestContext that is targeted at the row's cell
    :returns: False if the row is gone
    """
    row = context.session.query(main_models.Instance).filter_by(
        uuid=instance_uuid, deleted=0).with_for_update().first()
    if row is None:
        return False
    # The time is kept in seconds.
    row.updated_at = max(
        timeutils.utcnow(), (row.updated_at or row.created_at)
        + datetime.timedelta(seconds=1)).replace(microsecond=0)
    return True


@_retried
def destroy_row(context: nova_context.RequestContext,
                instance: objects.Instance) -> None:
    """Remove the failed server's row and all that hangs on it.

    A soft-deleted row would be archived later, and with it the mapping and the
    RequestSpec of the server that is rebuilt (hazard: soft-deleted-row).

    :param context: a RequestContext that is targeted at the row's cell
    :param instance: the Instance, as it was found
    :raises: ConstraintNotMet if it is no longer a failed server at rest, or
        was changed or locked since; InstanceNotFound
    """
    main_db_api.instance_destroy(context, instance.uuid,
                                 constraint=_as_found(instance),
                                 hard_delete=True)


def _as_found(instance: objects.Instance) -> main_db_api.Constraint:
    """What a row meets that is still that of a failed server at rest.

    :param instance: the Instance, as it was found
    """
    updated_at = instance.updated_at
    return main_db_api.constraint(
        id=main_db_api.equal_any(instance.id),
        updated_at=main_db_api.equal_any(
            updated_at and timeutils.normalize_time(updated_at)),
        locked=main_db_api.equal_any(
            *((True,) if instance.locked else (False, None))),
        host=main_db_api.equal_any(None),
        launched_at=main_db_api.equal_any(None),
        task_state=main_db_api.equal_any(None),
        vm_state=main_db_api.equal_any('error'))


@main_db_api.pick_context_manager_reader
def _is_as_found(context: nova_context.RequestContext,
                 instance: objects.Instance) -> bool:
    """Whether the server's row has not changed.

    :param context: a RequestContext that is targeted at the row's cell
    :param instance: the Instance, as it was found
    """
    row = main_models.Instance
    query = context.session.query(row.id).filter_by(uuid=instance.uuid,
                                                    deleted=0)
    return _as_found(instance).apply(row, query).first() is not None


@main_db_api.pick_context_manager_writer
def has_row(context: nova_context.RequestContext, instance_uuid: str) -> bool:
    """Whether the server's row is in a cell.

    The lock waits for a transaction that may still remove it, even if the
    service that began it has lost its connection.

    :param context: a RequestContext that is targeted at the row's cell
    :raises: DBError if it cannot be told
    """
    return context.session.query(main_models.Instance.id).filter_by(
        uuid=instance_uuid, deleted=0).with_for_update().first() is not None


@_retried
def mark_sent(context: nova_context.RequestContext, instance_uuid: str,
              attempt: spec_extras.Extras,
              networks: objects.NetworkRequestList | None,
              named_ports: typing.Iterable[str] | None = None,
              block_devices: typing.Iterable[spec_extras.Extras] = (),
              spec_text: str | None = None) -> bool:
    """Record that the message to nova-conductor is about to be sent.

    From now on a row of the server, in any cell, is not the old one, and its
    networks are those of this rebuild.

    :param attempt: the one whose message it is
    :param networks: a NetworkRequestList, or None
    :param named_ports: ids of ports that were named for earlier attempts
    :param block_devices: what block_devices.kept_of() returned
    :param spec_text: that begin() returned, if its answer was not lost
    :returns: False if the server was deleted since begin()
    :raises: Overtaken if the attempt has been undone
    """
    spec, build_request = api_models.RequestSpec, api_models.BuildRequest
    kept = {'sent': True, 'before': None,
            'requested': spec_extras.networks_to_primitive(networks),
            'named_ports': sorted(named_ports or ()) or None,
            'block_devices': list(block_devices) or None}
    with api_db_api.context_manager.writer.using(context):
        # Nearly always all is as it was written.
        if spec_text is not None and spec_extras.replace_text(
                context, instance_uuid, spec_text,
                spec_extras.text_with(spec_text, **kept),
                sa.exists().where(
                    build_request.instance_uuid == instance_uuid)):
            return True
        row = context.session.query(spec).join(
            build_request,
            build_request.instance_uuid == spec.instance_uuid).filter(
                spec.instance_uuid == instance_uuid).with_for_update().first()
        if row is None:
            # Undone, it has no BuildRequest either.
            spec_extras.is_unsent(context, instance_uuid, attempt)
            return False
        spec_extras.check_unsent(row, attempt)
        spec_extras.keep_in(context, row, **kept)
    return True


class Taken(typing.NamedTuple):
    """A build that a message has brought to a conductor.

    :ivar extras: all that is kept beside the RequestSpec; empty if the server
        was deleted
    :ivar text: of the RequestSpec
    """

    extras: spec_extras.Extras
    text: str


@_retried
def take(context: nova_context.RequestContext,
         attempts: dict[str, str | None],
         keep: dict[str, spec_extras.Extras]) -> dict[str, Taken]:
    """Take the servers of a message to build, and keep what Nova forgets.

    Not those whose message is doubled or late: they are in a cell, another
    rebuild has begun, or another conductor or the operator has the build.

    :param attempts: UUID of a server -> the attempt that the message belongs
        to, None if it belongs to a create
    :param keep: UUID of a server -> what is to be kept as well
    :returns: UUID of a server -> Taken
    """
    mapping, spec = api_models.InstanceMapping, api_models.RequestSpec
    taken = {uuid: Taken({}, '') for uuid in attempts}
    with api_db_api.context_manager.writer.using(context):
        rows = context.session.query(spec, mapping.cell_id).join(
            mapping, mapping.instance_uuid == spec.instance_uuid).filter(
                spec.instance_uuid.in_(list(attempts))).with_for_update()
        for row, cell in rows.all():
            uuid = row.instance_uuid
            attempt = attempts[uuid]
            if _is_doubled_or_late(row, cell, attempt):
                del taken[uuid]
                continue
            mark = {} if attempt is None else {'sent': spec_extras.TAKEN}
            extras = spec_extras.keep_in(context, row, **keep[uuid], **mark)
            taken[uuid] = Taken(extras, row.spec)
    return taken


def _is_doubled_or_late(row: api_models.RequestSpec, cell: int | None,
                        attempt: str | None) -> bool:
    return cell is not None or not spec_extras.is_message_of(row, attempt)


@_retried
def reclaim_from_conductor(context: nova_context.RequestContext,
                           instance_uuid: str) -> str | None:
    """Let the BuildRequest of an unfinished build stand for the server again.

    A host is only asked once the BuildRequest is gone, so none was, and no
    conductor that has the message, or gets it now, asks one. Nor does an
    operator who has reclaimed it before go on.

    :returns: the text of the RequestSpec from now on; None if the server was
        built, buried or deleted in the meantime: then nothing is changed
    :raises: RequestSpecNotFound
    """
    with api_db_api.context_manager.writer.using(context):
        # First: a conductor that is only slow looks there, too.
        row = spec_extras.locked_row(context, instance_uuid)
        if not (is_wanted(context, instance_uuid) and _mapping(
                context, instance_uuid).update(
                    {'cell_id': None}, synchronize_session=False)):
            return None
        spec_extras.keep_in(context, row, sent=spec_extras.reclaimed())
        return row.spec


@_retried
def destroy_unfinished_row(context: nova_context.RequestContext,
                           instance_uuid: str,
                           row_id: int | None = None) -> None:
    """Remove the row of a server that no host was asked to build, if any.

    :param context: a RequestContext that is targeted at the row's cell
    :param row_id: the id of the row, if no other is meant
    :raises: ConstraintNotMet if a host has it, or the id is another
    """
    conditions = {'host': main_db_api.equal_any(None),
                  'launched_at': main_db_api.equal_any(None)}
    if row_id is not None:
        conditions['id'] = main_db_api.equal_any(row_id)
    constraint = main_db_api.constraint(**conditions)
    try:
        main_db_api.instance_destroy(context, instance_uuid,
                                     constraint=constraint, hard_delete=True)
    except nova_exception.InstanceNotFound:
        pass


class State(typing.NamedTuple):
    """How far the build of a server is.

    :ivar extras: all that is kept beside the RequestSpec
    :ivar cell_uuid: the UUID of the cell that the server is in, or None
    :ivar is_deleted: whether its owner has deleted it there
    :ivar is_wanted: whether it has a BuildRequest
    """

    extras: spec_extras.Extras
    cell_uuid: str | None
    is_deleted: bool
    is_wanted: bool


@api_db_api.context_manager.reader
def read_state(context: nova_context.RequestContext,
               instance_uuid: str) -> State | None:
    """How far the build of a server is, in one statement.

    Between two, a conductor may map the server and remove its BuildRequest:
    it would look as if it had been deleted.

    :returns: None if there is no such server
    """
    mapping, spec = api_models.InstanceMapping, api_models.RequestSpec
    cell, build_request = api_models.CellMapping, api_models.BuildRequest
    row = context.session.query(
        spec.spec, cell.uuid, mapping.queued_for_delete,
        build_request.id).join(
            mapping, mapping.instance_uuid == spec.instance_uuid).outerjoin(
                cell, cell.id == mapping.cell_id).outerjoin(
                    build_request, build_request.instance_uuid
                    == spec.instance_uuid).filter(
                        spec.instance_uuid == instance_uuid).first()
    if row is None:
        return None
    text, cell_uuid, is_deleted, build_request_id = row
    return State(spec_extras.of_text(text), cell_uuid, bool(is_deleted),
                 build_request_id is not None)


def is_wanted(context: nova_context.RequestContext,
              instance_uuid: str) -> bool:
    """Whether the server was not deleted since begin()."""
    with api_db_api.context_manager.reader.using(context):
        return context.session.query(api_models.BuildRequest.id).filter_by(
            instance_uuid=instance_uuid).first() is not None


@_retried
def remove_traces(context: nova_context.RequestContext,
                  instance_uuid: str) -> None:
    """Remove what is left of a server that was deleted in between.

    Its row, if it has one in a cell, is not touched, and keeps its mapping.
    """
    with api_db_api.context_manager.writer.using(context):
        context.session.query(api_models.BuildRequest).filter_by(
            instance_uuid=instance_uuid).delete()
        if context.session.query(api_models.InstanceMapping).filter_by(
                instance_uuid=instance_uuid, cell_id=None).delete():
            context.session.query(api_models.RequestSpec).filter_by(
                instance_uuid=instance_uuid).delete()


@main_db_api.pick_context_manager_reader
def read_history(context: nova_context.RequestContext,
                 instance_uuid: str) -> _History:
    """A server's instance actions, which a hard delete takes away.

    :param context: a RequestContext that is targeted at the server's cell
    :returns: a list of plain data, oldest first
    """
    action, event = main_models.InstanceAction, main_models.InstanceActionEvent
    newest = context.session.query(action.id).filter_by(
        instance_uuid=instance_uuid).order_by(
            # Not by id: those that were written again have higher ones.
            action.created_at.desc(), action.id.desc()).limit(
                HISTORY_LENGTH).subquery()
    rows = context.session.query(action, event).join(
        newest, newest.c.id == action.id).outerjoin(
            event, event.action_id == action.id).order_by(
                action.created_at, action.id, event.id).all()
    history: dict[int, dict[str, typing.Any]] = {}
    for an_action, an_event in rows:
        past = history.setdefault(an_action.id, dict(
            _plain(an_action), events=[]))
        if an_event is not None:
            past['events'].append(_plain(an_event))
    return list(history.values())


@main_db_api.pick_context_manager_writer
def write_history(context: nova_context.RequestContext, instance_uuid: str,
                  history: _History) -> None:
    """Write instance actions that the server does not have.

    :param context: a RequestContext that is targeted at the server's cell
    :param history: what read_history() returned
    """
    there = {row.request_id for row in context.session.query(
        main_models.InstanceAction.request_id).filter_by(
            instance_uuid=instance_uuid)}
    for past in history:
        if past['request_id'] in there:
            continue
        action = main_models.InstanceAction(**_columns(
            main_models.InstanceAction, past))
        context.session.add(action)
        context.session.flush()
        for event in past['events']:
            context.session.add(main_models.InstanceActionEvent(
                action_id=action.id,
                **_columns(main_models.InstanceActionEvent, event)))


_NOT_COPIED = ('id', 'action_id', 'deleted', 'deleted_at')


def _plain(row: typing.Any) -> dict[str, typing.Any]:
    values = {column.key: getattr(row, column.key)
              for column in row.__table__.columns
              if column.key not in _NOT_COPIED}
    return {key: value.isoformat() if hasattr(value, 'isoformat') else value
            for key, value in values.items()}


def _columns(model: typing.Any,
             values: dict[str, typing.Any]) -> dict[str, typing.Any]:
    columns = {}
    for column in model.__table__.columns:
        value = values.get(column.key)
        if column.key in _NOT_COPIED or value is None:
            continue
        if isinstance(column.type, sa.DateTime):
            value = timeutils.parse_isotime(value).replace(tzinfo=None)
        columns[column.key] = value
    return columns

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


"""What Nova forgets of a request, kept for a rebuild.

Nova stores a server's RequestSpec without the requested networks and without
the requested host. They are kept beside the serialized object, in the same row
under a key of our own, which stock Nova does not read. Nova writes the whole
text anew with every ``save()``, so each carries the key over.
"""

from __future__ import annotations

import copy
import typing

from nova import context as nova_context
from nova.db.api import api as api_db_api
from nova.db.api import models
from nova import exception
from nova import objects
from oslo_serialization import jsonutils
from oslo_utils import uuidutils

from nova_rescue_ext import exception as our_exception
from nova_rescue_ext import nova_types

KEY = 'nova_rescue_ext'

# What is kept of one server: plain data.
Extras = dict[str, typing.Any]

# Who has the build whose message was sent: True at first, then a conductor,
# or an operator who has found that it does not go on: see reclaimed().
TAKEN = 'taken'

# What is kept only while a server is rebuilt, in order not to be kept.
_ENDED = {'rebuild': None, 'sent': None, 'history': None, 'before': None}
# How the text of a RequestSpec shows, to SQL, that its server is rebuilt.
REBUILD_IN_TEXT = '"rebuild": {"cell": '


def reclaimed() -> str:
    """What marks a build that an operator has, unlike any other operator."""
    return 'reclaimed: %s' % uuidutils.generate_uuid()


def read(context: nova_context.RequestContext, instance_uuid: str) -> Extras:
    """What is kept for a server.

    :returns: a dict; empty if nothing is kept
    :raises: RequestSpecNotFound
    """
    with api_db_api.context_manager.reader.using(context):
        return of_text(_row(context, instance_uuid).spec)


def read_with_spec(context: nova_context.RequestContext,
                   instance_uuid: str) -> tuple[objects.RequestSpec, Extras]:
    """Read both at once.

    :returns: the RequestSpec, and what is kept
    :raises: RequestSpecNotFound
    """
    spec = objects.RequestSpec
    row = spec._get_by_instance_uuid_from_db(context, instance_uuid)
    return spec._from_db_object(context, spec(), row), of_text(row.spec)


def new_attempt(cell: objects.CellMapping,
                older: list[typing.Any]) -> dict[str, typing.Any]:
    """What marks a server that is rebuilt, unlike any other attempt.

    :param cell: the CellMapping that the server is in
    :param older: actions that earlier attempts have left in what is kept
    """
    # In this order: REBUILD_IN_TEXT.
    return {'cell': cell.uuid, 'older': len(older),
            'attempt': uuidutils.generate_uuid()}


def is_message_of(row: models.RequestSpec, attempt: str | None) -> bool:
    """Whether a message to build a server is that which was sent for it.

    And no conductor has taken it.

    :param row: of the RequestSpec
    :param attempt: the UUID of the rebuild, None for a create
    """
    extras = of_text(row.spec)
    return (extras.get('rebuild', {}).get('attempt') == attempt
            and (attempt is None or extras.get('sent') is True))


def is_attempt(context: nova_context.RequestContext, instance_uuid: str,
               attempt: dict[str, typing.Any]) -> bool:
    """Whether a server is still being rebuilt by this attempt.

    The lock waits for a transaction that is still about to begin one.

    :param attempt: what new_attempt() returned
    :raises: RequestSpecNotFound
    """
    with api_db_api.context_manager.writer.using(context):
        row = _row(context, instance_uuid, lock=True)
        return of_text(row.spec).get('rebuild') == attempt


def is_unsent(context: nova_context.RequestContext, instance_uuid: str,
              attempt: Extras) -> bool:
    """Whether the server of an attempt is there, locked for a transaction.

    :param attempt: what new_attempt() returned
    :raises: Overtaken if another is under way, or its message was sent
    """
    with api_db_api.context_manager.writer.using(context):
        try:
            row = _row(context, instance_uuid, lock=True)
        except exception.RequestSpecNotFound:
            return False
        check_unsent(row, attempt)
        return True


def check_unsent(row: models.RequestSpec, attempt: Extras) -> None:
    """See that no message of an attempt was sent, and that it is not undone.

    :param row: of the RequestSpec
    :param attempt: what new_attempt() returned
    :raises: Overtaken
    """
    extras = of_text(row.spec)
    if extras.get('rebuild') != attempt or extras.get('sent'):
        raise our_exception.Overtaken()


def end_attempt(context: nova_context.RequestContext, instance_uuid: str,
                attempt: dict[str, typing.Any],
                free: typing.Callable[[], object] | None = None,
                tell: typing.Callable[[], object] | None = None) -> None:
    """An attempt has come to its end, unless there is another already.

    :param free: frees what the attempt may have left. No other can begin
        meanwhile, whose resources they would be.
    :param tell: tells of the end, unless whoever has ended or replaced the
        attempt has told
    :raises: RequestSpecNotFound
    """
    with api_db_api.context_manager.writer.using(context):
        row = _row(context, instance_uuid, lock=True)
        extras = of_text(row.spec)
        if extras.get('rebuild') != attempt:
            return
        for act in (free, tell):
            if act is not None:
                act()
        _write(context, row, {**extras, **_ENDED})


def forget_reclaim(context: nova_context.RequestContext,
                   instance_uuid: str) -> None:
    """The operator has buried a server that was created.

    Unless its owner rebuilds it already: then the mark is another's.

    :raises: RequestSpecNotFound
    """
    with api_db_api.context_manager.writer.using(context):
        row = _row(context, instance_uuid, lock=True)
        if 'rebuild' not in of_text(row.spec):
            keep_in(context, row, sent=None)


def is_under_way(context: nova_context.RequestContext,
                 instance_uuid: str) -> bool:
    """Whether a server is rebuilt; none begins until a transaction ends.

    :raises: RequestSpecNotFound
    """
    with api_db_api.context_manager.writer.using(context):
        row = _row(context, instance_uuid, lock=True)
        return 'rebuild' in of_text(row.spec)


def cancel_attempt(context: nova_context.RequestContext,
                   instance_uuid: str) -> None:
    """As if there had been no attempt, for a server that has its row again.

    :raises: RequestSpecNotFound
    """
    with api_db_api.context_manager.writer.using(context):
        row = _row(context, instance_uuid, lock=True)
        extras = of_text(row.spec)
        older = extras.get('rebuild', {}).get('older', 0)
        if 'before' in extras:
            spec = jsonutils.loads(row.spec)
            spec['nova_object.data'].update(extras['before'])
            row.spec = jsonutils.dumps(spec)
        _write(context, row, {
            **extras, **_ENDED,
            'history': extras.get('history', [])[:older] or None})


def security_groups_to_primitive(request_spec: objects.RequestSpec) -> Extras:
    """The security groups of a RequestSpec as plain data, to be put back."""
    groups = request_spec.security_groups
    return {'security_groups':
            None if groups is None else groups.obj_to_primitive()}


def save_with_spec(context: nova_context.RequestContext,
                   request_spec: objects.RequestSpec, extras: Extras) -> str:
    """Save a RequestSpec and what is kept, in one statement.

    Its changes are not reset, as the transaction may be repeated.

    :param request_spec: a RequestSpec that was changed
    :param extras: all that is to be kept; None removes a key
    :returns: the text that has both
    :raises: RequestSpecNotFound
    """
    uuid = request_spec.instance_uuid
    text = _text(request_spec._get_update_primitives()['spec'], extras)
    with api_db_api.context_manager.writer.using(context):
        if not context.session.query(models.RequestSpec).filter_by(
                instance_uuid=uuid).update({'spec': text},
                                           synchronize_session=False):
            raise exception.RequestSpecNotFound(instance_uuid=uuid)
    return text


def text_with(text: str, **values: typing.Any) -> str:
    """A text in which these are kept as well.

    :param text: of a RequestSpec
    :param values: plain data; None removes a key
    """
    return _text(text, {**of_text(text), **values})


def replace_text(context: nova_context.RequestContext, instance_uuid: str,
                 old: str, new: str, *conditions: typing.Any) -> bool:
    """Replace the text of a RequestSpec if it is as it was read or written.

    :param conditions: of SQLAlchemy, that have to be met, too
    :returns: whether it was replaced
    """
    with api_db_api.context_manager.writer.using(context):
        return bool(context.session.query(models.RequestSpec).filter(
            models.RequestSpec.instance_uuid == instance_uuid,
            models.RequestSpec.spec == old, *conditions).update(
                {'spec': new}, synchronize_session=False))


def is_text(context: nova_context.RequestContext, instance_uuid: str,
            text: str) -> bool:
    """Whether a RequestSpec is as it was written, until a transaction ends.

    :param text: what was written
    """
    with api_db_api.context_manager.writer.using(context):
        try:
            return _row(context, instance_uuid, lock=True).spec == text
        except exception.RequestSpecNotFound:
            return False


def keep_in(context: nova_context.RequestContext, row: models.RequestSpec,
            **values: typing.Any) -> Extras:
    """Keep these as well, in a row that is locked.

    :param row: of the RequestSpec
    :param values: plain data; None removes a key
    :returns: all that is kept now
    """
    return _write(context, row, {**of_text(row.spec), **values})


def locked_row(context: nova_context.RequestContext,
               instance_uuid: str) -> models.RequestSpec:
    """The row of a RequestSpec, in a transaction that writes.

    :raises: RequestSpecNotFound
    """
    return _row(context, instance_uuid, lock=True)


def _write(context: nova_context.RequestContext, row: models.RequestSpec,
           extras: Extras) -> Extras:
    """Write what is kept, unless it is there as it is.

    :param extras: None removes a key
    :returns: what is kept
    """
    text = _text(row.spec, extras)
    kept = of_text(text)
    if kept != of_text(row.spec):
        row.spec = text
        context.session.add(row)
    return kept


def _text(text: str, extras: Extras) -> str:
    spec = jsonutils.loads(text)
    spec[KEY] = {key: value for key, value in extras.items()
                 if value is not None}
    return jsonutils.dumps(spec)


def save_in_db(original: nova_types.Original,
               context: nova_context.RequestContext, instance_uuid: str,
               updates: dict[str, typing.Any]) -> typing.Any:
    """RequestSpec._save_in_db, with what is kept carried over."""
    with api_db_api.context_manager.writer.using(context):
        extras = of_text(_row(context, instance_uuid, lock=True).spec)
        if extras and 'spec' in updates:
            spec = jsonutils.loads(updates['spec'])
            spec[KEY] = extras
            updates = dict(updates, spec=jsonutils.dumps(spec))
        return original(context, instance_uuid, updates)


def read_texts(context: nova_context.RequestContext,
               instance_uuids: list[str]) -> dict[str, str]:
    """The texts of RequestSpecs.

    :returns: dict, instance UUID -> text
    """
    with api_db_api.context_manager.reader.using(context):
        rows = context.session.query(models.RequestSpec).filter(
            models.RequestSpec.instance_uuid.in_(instance_uuids))
        return {row.instance_uuid: row.spec for row in rows}


def restore_texts(context: nova_context.RequestContext,
                  specs: dict[str, str]) -> None:
    """Put RequestSpecs back that were destroyed.

    :param specs: what read_texts() returned
    """
    with api_db_api.context_manager.writer.using(context):
        there = context.session.query(models.RequestSpec.instance_uuid).filter(
            models.RequestSpec.instance_uuid.in_(list(specs)))
        for uuid in set(specs) - {row.instance_uuid for row in there}:
            context.session.add(models.RequestSpec(instance_uuid=uuid,
                                                   spec=specs[uuid]))


def networks_to_primitive(
        requested_networks: objects.NetworkRequestList | None
) -> dict[str, typing.Any]:
    """Requested networks as plain data.

    :param requested_networks: a NetworkRequestList, or None
    """
    if requested_networks is None:
        return {'networks': None}
    networks = copy.deepcopy(requested_networks)
    for network in networks:
        # Of one build: they are made again.
        network.arq_uuid = network.pci_request_id = None
    return {'networks': networks.obj_to_primitive()}


def networks_of(extras: Extras) -> objects.NetworkRequestList | None:
    """The requested networks.

    :param extras: what read() returned
    :returns: a NetworkRequestList, or None if none were requested, which Nova
        takes for "allocate what there is"
    :raises: KeyError if nobody kept them
    """
    primitive = extras['requested']['networks']
    return primitive and objects.NetworkRequestList.obj_from_primitive(
        primitive)


def named_ports(extras: Extras) -> set[str] | None:
    """The ids of all ports that were named for the server.

    A rebuild may name others than the create: the earlier ones are still not
    Nova's.

    :param extras: what read() returned
    :returns: a set, or None if that was not kept
    """
    if 'requested' not in extras:
        return None
    return set(extras.get('named_ports', ())) | {
        network.port_id for network in networks_of(extras) or ()
        if network.port_id}


def destination_of(extras: Extras) -> objects.Destination | None:
    """The host that was requested (compute 2.74), a Destination or None."""
    primitive = extras.get('destination')
    return primitive and objects.Destination.obj_from_primitive(primitive)


def _row(context: nova_context.RequestContext, instance_uuid: str,
         lock: bool = False) -> models.RequestSpec:
    query = context.session.query(models.RequestSpec).filter_by(
        instance_uuid=instance_uuid)
    row = (query.with_for_update() if lock else query).first()
    if row is None:
        raise exception.RequestSpecNotFound(instance_uuid=instance_uuid)
    return row


def of_text(text: str) -> Extras:
    """What is kept in a text of a RequestSpec.

    :returns: a dict; empty if nothing is kept
    """
    # Most have nothing: do not parse them.
    return jsonutils.loads(text).get(KEY, {}) if KEY in text else {}

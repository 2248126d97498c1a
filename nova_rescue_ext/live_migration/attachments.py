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

"""The volume attachments of a server whose migration was interrupted.

Each volume has an attachment to each of the two hosts from the preparation of
the destination to the end of the migration. The block device names one of
them, and Nova disconnects, reboots and detaches by what it names: it has to be
that to the host where the guest runs.
"""

from __future__ import annotations

import typing

from cinderclient import exceptions as cinder_exc
from keystoneauth1 import exceptions as keystone_exc
from nova import context as nova_context
from nova import exception
from nova import objects
from nova.virt import block_device as driver_block_device
from nova.volume import cinder
from oslo_log import log as logging

from nova_rescue_ext import exception as ext_exception
from nova_rescue_ext import instance_metadata

LeftAttachment = instance_metadata.LeftAttachment

LOG = logging.getLogger(__name__)

_MAY_NOT_LOOK = (cinder_exc.Unauthorized, cinder_exc.Forbidden,
                 keystone_exc.Unauthorized, keystone_exc.Forbidden)


# In place of the host of an attachment that is not complete: Cinder does not
# say it. And of one that was completed without a host.
_ATTACHING = '(attaching)'


class _Unknown(Exception):
    """Cinder does not say to which host a volume is attached."""


class Services(typing.NamedTuple):
    """The services that are needed to end a migration, in any process.

    ``network_api`` is a nova.network.neutron.API, ``compute_rpcapi`` a
    nova.compute.rpcapi.ComputeAPI, ``reportclient`` placement's
    SchedulerReportClient, ``volume_api`` a nova.volume.cinder.API. ``driver``
    is the LibvirtDriver of the migration's source, or None elsewhere.
    """

    network_api: typing.Any
    compute_rpcapi: typing.Any
    reportclient: typing.Any
    volume_api: typing.Any
    driver: typing.Any = None


def stay(services: Services, context: nova_context.RequestContext,
         instance: objects.Instance, dest: str, dest_is_up: bool,
         may_wait: bool) -> list[LeftAttachment]:
    """Leave a server only the attachments to its host, where its guest is.

    :param services: a Services
    :param context: a RequestContext with an administrator's rights
    :param instance: the Instance, with its system metadata
    :param dest: the destination of the migration, which is known not to run
        the guest
    :param dest_is_up: whether its nova-compute can disconnect volumes
    :param may_wait: whether this is called again if it does not
    :returns: what is left, as the destination has not disconnected it
    :raises: VolumesNotDisconnected if it may wait; what Cinder raises if it
        cannot be asked now
    """
    left, waiting = [], []
    known = _known(instance)
    for bdm, hosts, others in _volumes(context, instance):
        ours = _attached_to(hosts, instance.host)
        if not ours:
            _log_unknown(instance, bdm, instance.host)
            continue
        # Of this server, only the destination attaches volumes meanwhile.
        theirs = [one for one in (*_attached_to(hosts, dest),
                                  *_attached_to(hosts, _ATTACHING))
                  if one not in known]
        named = bdm.attachment_id
        if named not in ours:
            is_free = True
            # A volume that others use is not disconnected.
            if named in theirs and (_ATTACHING in others
                                    or dest not in others):
                theirs.remove(named)
                is_free = (_ATTACHING not in others and dest_is_up
                           and _disconnect_there(services, context, instance,
                                                 bdm, dest))
            if not is_free and may_wait and dest_is_up:
                # It is disconnected by what the block device names.
                waiting.append(bdm.volume_id)
                continue
            if not is_free:
                left.append(LeftAttachment(named, bdm.volume_id, dest))
                log_left(instance, left[-1])
            _name(services, context, instance, bdm, ours[0])
        for one in theirs:
            # No connection depends on it alone.
            services.volume_api.attachment_delete(context, one)
    if waiting:
        raise ext_exception.VolumesNotDisconnected(
            host=dest, volumes=', '.join(waiting))
    return left


def leave(services: Services, context: nova_context.RequestContext,
          instance: objects.Instance, source: str) -> None:
    """Remove the attachments that a migration left on the source.

    :param services: a Services
    :param context: a RequestContext with an administrator's rights
    :param instance: the Instance, with the host where its guest is now
    :param source: the source, which is known not to run the guest
    :raises: what Cinder raises if it cannot be asked now
    """
    kept = []
    known = _known(instance)
    for bdm, hosts, others in _volumes(context, instance):
        theirs = _attached_to(hosts, instance.host)
        if not theirs:
            _log_unknown(instance, bdm, instance.host)
            continue
        if bdm.attachment_id not in theirs:
            _name(services, context, instance, bdm, theirs[0])
        for left in _attached_to(hosts, source):
            if left in known:
                continue
            # A volume that others use there is not disconnected.
            is_free = source in others or (
                services.driver is not None and _ATTACHING not in others
                and _disconnect_here(services, context, instance, bdm, left,
                                     source))
            if not is_free:
                kept.append(LeftAttachment(left, bdm.volume_id, source))
                log_left(instance, kept[-1])
                continue
            services.volume_api.attachment_delete(context, left)
    record_left(context, instance.uuid, kept)


def record_left(context: nova_context.RequestContext, instance_uuid: str,
                left: list[LeftAttachment]) -> objects.Instance | None:
    """Save which attachments are left, so that the operator is told again.

    :param context: a RequestContext
    :param instance_uuid: the UUID of the server
    :param left: each LeftAttachment
    :returns: the Instance as it was saved, None if nothing is left
    """
    if not left:
        return None
    fresh = objects.Instance.get_by_uuid(
        context, instance_uuid, expected_attrs=['system_metadata'])
    instance_metadata.record_left_attachments(fresh, left)
    fresh.save(expected_task_state=[fresh.task_state])
    return fresh


def _known(instance: objects.Instance) -> set[str]:
    """Those that a migration has left before, which may be connected."""
    return {one.attachment_id
            for one in instance_metadata.left_attachments(instance)}


def _volumes(
        context: nova_context.RequestContext,
        instance: objects.Instance) -> typing.Iterator[
        tuple[typing.Any, dict[str, str | None], set[str | None]]]:
    """The block devices that are volumes, with their attachments in Cinder.

    Each comes with the hosts of the server's attachments and with those where
    other servers use the volume: Nova counts these by the host that a server
    has in the database, which is not the one that disconnects.
    """
    bdms = objects.BlockDeviceMappingList.get_by_instance_uuid(
        context, instance.uuid)
    for bdm in bdms:
        if not bdm.is_volume or bdm.attachment_id is None:
            continue
        try:
            yield bdm, *_hosts(context, instance, bdm.volume_id)
        except _Unknown as exc:
            LOG.warning('Cinder does not say to which hosts volume '
                        '%(volume)s is attached: %(reason)s. What Nova has '
                        'recorded of its attachment may be that of another '
                        'host than %(host)s: compare it with Cinder before '
                        'the server is rebooted or migrated. With an '
                        'administrator of Cinder in [cinder] of nova.conf '
                        'this is done for you.',
                        {'volume': bdm.volume_id, 'host': instance.host,
                         'reason': exc}, instance=instance)


def _hosts(context: nova_context.RequestContext, instance: objects.Instance,
           volume_id: str) -> tuple[dict[str, str | None], set[str | None]]:
    """The hosts to which a server has a volume attached, by attachment.

    And those to which others have. Nova's own API of volumes drops the hosts.
    Cinder tells them of complete attachments only.
    """
    client = cinder.cinderclient(context, '3.44', skip_version_check=True)
    try:
        volume = client.volumes.get(volume_id)
        listed = client.attachments.list(search_opts={
            'all_tenants': True, 'volume_id': volume_id})
    except _MAY_NOT_LOOK as exc:
        raise _Unknown(exc)
    except cinder_exc.NotFound:
        raise _Unknown('it is deleted')
    found = {attachment['attachment_id']: attachment.get('host_name')
             for attachment in volume.attachments
             if attachment['server_id'] == instance.uuid}
    if found and not any(found.values()):
        raise _Unknown('only administrators are told')
    # Nova completes what an evacuation has only reserved, if that comes
    # while a live migration is prepared.
    found = {each: host or _ATTACHING for each, host in found.items()}
    others = {attachment.get('host_name') for attachment in volume.attachments
              if attachment['server_id'] != instance.uuid}
    for attachment in listed:
        if (attachment.instance == instance.uuid
                and attachment.status in ('attaching', 'reserved')):
            # It may be complete since.
            found.setdefault(attachment.id, _ATTACHING)
        elif attachment.status == 'attaching':
            others.add(_ATTACHING)
    return found, others


def _attached_to(hosts: dict[str, str | None], host: str) -> list[str]:
    return sorted(attachment for attachment, at in hosts.items()
                  if at == host)


def _disconnect_there(services: Services,
                      context: nova_context.RequestContext,
                      instance: objects.Instance,
                      bdm: objects.BlockDeviceMapping, host: str) -> bool:
    """Have a host disconnect the volume that the block device describes."""
    try:
        services.compute_rpcapi.remove_volume_connection(
            context, instance, bdm.volume_id, host, delete_attachment=True)
    except Exception as exc:
        _log_connected(instance, bdm, host, exc)
        return False
    return True


def _disconnect_here(services: Services,
                     context: nova_context.RequestContext,
                     instance: objects.Instance,
                     bdm: objects.BlockDeviceMapping,
                     attachment_id: str, host: str) -> bool:
    """As Nova does on the source when a guest has moved.

    But there Nova swallows a failure.
    """
    info = services.volume_api.attachment_get(context, attachment_id)[
        'connection_info']
    info.setdefault('serial', bdm.volume_id)
    try:
        services.driver._disconnect_volume(context, info, instance)
    except Exception as exc:
        _log_connected(instance, bdm, host, exc)
        return False
    return True


def _log_connected(instance: objects.Instance,
                   bdm: objects.BlockDeviceMapping, host: str,
                   error: Exception) -> None:
    LOG.warning('%(host)s has not disconnected volume %(volume)s: %(error)s',
                {'host': host, 'volume': bdm.volume_id, 'error': error},
                instance=instance)


def _name(services: Services, context: nova_context.RequestContext,
          instance: objects.Instance, bdm: objects.BlockDeviceMapping,
          attachment_id: str) -> None:
    """Point a block device to an attachment, as Cinder describes it."""
    bdm.attachment_id = attachment_id
    bdm.save()
    driver_block_device.convert_volume(bdm).refresh_connection_info(
        context, instance, services.volume_api, None)
    LOG.info('The block device of volume %(volume)s names its attachment '
             '%(attachment)s to %(host)s again.',
             {'volume': bdm.volume_id, 'attachment': attachment_id,
              'host': instance.host}, instance=instance)


def _log_unknown(instance: objects.Instance, bdm: objects.BlockDeviceMapping,
                 host: str) -> None:
    LOG.warning('Cinder has no attachment of volume %(volume)s to %(host)s, '
                'where the guest of the server is. Nova keeps attachment '
                '%(attachment)s: compare it with Cinder before the server is '
                'rebooted or migrated.',
                {'volume': bdm.volume_id, 'host': host,
                 'attachment': bdm.attachment_id}, instance=instance)


def log_left(instance: objects.Instance, left: LeftAttachment) -> None:
    """Tell the operator of an attachment whose volume may be connected.

    :param instance: the Instance
    :param left: the LeftAttachment
    """
    LOG.warning('Attachment %(attachment_id)s of volume %(volume_id)s is '
                'left: %(host)s has not disconnected the volume. When it has '
                'been disconnected there, or the host was reinstalled, delete '
                'the attachment with "cinder attachment-delete".',
                left._asdict(), instance=instance)


def attend_left(services: Services, context: nova_context.RequestContext,
                instance: objects.Instance) -> None:
    """Tell of the attachments that are left, and forget those that are not.

    :param services: a Services
    :param context: a RequestContext with an administrator's rights
    :param instance: the Instance, with its system metadata
    :raises: what Cinder raises if it cannot be asked now
    """
    deleted = []
    for left in instance_metadata.left_attachments(instance):
        try:
            services.volume_api.attachment_get(context, left.attachment_id)
        except exception.VolumeAttachmentNotFound:
            deleted.append(left.attachment_id)
        else:
            log_left(instance, left)
    if not deleted:
        return
    fresh = objects.Instance.get_by_uuid(
        context, instance.uuid, expected_attrs=['system_metadata'])
    for attachment_id in deleted:
        instance_metadata.forget_left_attachment(fresh, attachment_id)
    fresh.save(expected_task_state=[fresh.task_state])

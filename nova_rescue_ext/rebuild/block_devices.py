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


"""The block devices of a server that never booted, as requested."""

from __future__ import annotations

import collections
import typing

from nova import context as nova_context
from nova import exception as nova_exception
from nova import objects
from nova import utils
from nova.volume import cinder
from oslo_db import exception as db_exc
from oslo_log import log as logging
from oslo_utils import excutils

from nova_rescue_ext import capabilities
from nova_rescue_ext import claims
from nova_rescue_ext.claims import images as claimed_images
from nova_rescue_ext.claims import ownership
from nova_rescue_ext.claims import volumes as claimed_volumes
from nova_rescue_ext import exception

if typing.TYPE_CHECKING:
    from nova.image import glance
    from nova import servicegroup

LOG = logging.getLogger(__name__)

# Nova makes these volumes when it builds the server.
_MADE_BY_NOVA = ('image', 'snapshot', 'blank')

# What a build fills in to suit its image, unless the request sets it.
_FILLED_IN = ('device_name', 'disk_bus', 'device_type')

# Quoted: the class is there when Nova has registered its objects.
_BlockDevices: typing.TypeAlias = 'list[objects.BlockDeviceMapping]'


def read(context: nova_context.RequestContext,
         instance_uuid: str) -> _BlockDevices:
    """Read the block devices, regardless of what the failed build did to them.

    :param context: a RequestContext that is targeted at the server's cell
    :returns: a list of BlockDeviceMapping, oldest first, also deleted ones
    """
    with utils.temporary_mutation(context, read_deleted='yes'):
        bdms = sorted(objects.BlockDeviceMappingList.get_by_instance_uuid(
            context, instance_uuid), key=lambda bdm: bdm.id)
    if sum(bdm.boot_index == 0 for bdm in bdms) == 2:
        # A failure to bind accelerators has written all of them twice.
        bdms = bdms[:len(bdms) // 2]
    return bdms


def leave_out(bdms: typing.Iterable[objects.BlockDeviceMapping],
              without: typing.Collection[str]) -> tuple[_BlockDevices,
                                                        _BlockDevices]:
    """Tell those to build with from those that the owner gives up.

    The server boots from one, and cannot be without it.

    :param bdms: BlockDeviceMappings
    :param without: ids of what the owner says is gone
    :returns: two lists of BlockDeviceMapping
    """
    wanted: _BlockDevices = []
    left_out: _BlockDevices = []
    for bdm in bdms:
        gone = bdm.boot_index != 0 and _source_id(bdm) in without
        (left_out if gone else wanted).append(bdm)
    return wanted, left_out


def _source_id(bdm: objects.BlockDeviceMapping) -> str | None:
    """The id of what a block device is, or is made from."""
    return {'volume': bdm.volume_id, 'snapshot': bdm.snapshot_id,
            'image': bdm.image_id}.get(bdm.source_type)


def check_left_out(context: nova_context.RequestContext,
                   image_api: glance.API, volume_api: cinder.API,
                   instance: objects.Instance, bdms: _BlockDevices,
                   without: typing.Collection[str]) -> None:
    """Check that what the owner gives up is gone.

    What is there could stay reserved for the server, and nobody would know.

    :param bdms: the BlockDeviceMappings that are left out
    :param without: ids of what the owner says is gone
    :raises: NoSuchBlockDevice; BlockDeviceNotGone; what says that nobody can
        tell
    """
    unknown = set(without) - {_source_id(bdm) for bdm in bdms}
    if unknown:
        raise exception.NoSuchBlockDevice(ids=', '.join(sorted(unknown)))
    for bdm in bdms:
        try:
            _read_source(context, image_api, volume_api, instance, bdm)
        except (nova_exception.VolumeNotFound, exception.NotVisible,
                nova_exception.SnapshotNotFound, exception.NotOfProject):
            continue
        raise exception.BlockDeviceNotGone(
            id=_volume_to_use(bdm) or _source_id(bdm))


def _volume_to_use(bdm: objects.BlockDeviceMapping) -> str | None:
    """The volume that was given, or made from the source, which may be gone.

    Another is made if the failed build has deleted that.
    """
    if bdm.source_type in _MADE_BY_NOVA and bdm.get('deleted', False):
        return None
    return bdm.get('volume_id', None)


def _read_source(context: nova_context.RequestContext, image_api: glance.API,
                 volume_api: cinder.API, instance: objects.Instance,
                 bdm: objects.BlockDeviceMapping) -> None:
    volume_id = _volume_to_use(bdm)
    if volume_id:
        claimed_volumes.read(context, instance, volume_api, volume_id)
    elif bdm.source_type == 'snapshot':
        claimed_volumes.read_snapshot(context, instance, volume_api,
                                      bdm.snapshot_id)
    else:
        claimed_images.read(context, instance, image_api, bdm.image_id,
                            claims.Origin.SERVER)


def renew(bdms: _BlockDevices) -> None:
    """Ask for new volumes where a failed build has deleted them.

    It may have failed to delete one that Nova did not make: check() looks.

    :param bdms: what read() returned
    """
    for bdm in bdms:
        if bdm.deleted and bdm.source_type in _MADE_BY_NOVA:
            _ask_for_new_volume(bdm)


def check_source(context: nova_context.RequestContext, image_api: glance.API,
                 volume_api: cinder.API, instance: objects.Instance,
                 bdm: objects.BlockDeviceMapping,
                 origin: claims.Origin) -> None:
    """Check that a server may be given what a block device is made from.

    :param image_api: Nova's client of Glance
    :param volume_api: Nova's client of Cinder
    :param instance: the Instance
    :param bdm: the BlockDeviceMapping
    :param origin: the claims.Origin of it
    :raises: ClaimRefused; InvalidBDMVolume; SnapshotLost; VolumeLost
    """
    volume_id = bdm.volume_id
    if bdm.image_id:
        claimed_images.read(context, instance, image_api, bdm.image_id,
                            origin)
    elif bdm.snapshot_id:
        try:
            volume_id = claimed_volumes.read_snapshot(
                context, instance, volume_api, bdm.snapshot_id)['volume_id']
        except nova_exception.SnapshotNotFound:
            lost = (exception.BootSnapshotLost if bdm.boot_index == 0
                    else exception.SnapshotLost)
            raise lost(snapshot=bdm.snapshot_id)
    if volume_id and not bdm.image_id:
        try:
            claimed_volumes.read(context, instance, volume_api, volume_id)
        except nova_exception.VolumeNotFound:
            if bdm.snapshot_id:
                raise nova_exception.InvalidBDMVolume(id=volume_id)
            raise _volume_lost(bdm)


def check_sources(context: nova_context.RequestContext, image_api: glance.API,
                  volume_api: cinder.API, instance: objects.Instance,
                  bdms: typing.Iterable[objects.BlockDeviceMapping]) -> None:
    """Check what Nova makes volumes from when it builds the server.

    Except for the root volume, which is checked when the image is chosen.

    :param bdms: the BlockDeviceMappings to build with
    :raises: ClaimRefused; InvalidBDMVolume; SnapshotLost
    """
    for bdm in bdms:
        if bdm.boot_index != 0 and ownership.makes_volume(bdm):
            check_source(context, image_api, volume_api, instance, bdm,
                         claims.Origin.SERVER)


def kept_of(
        block_devices: objects.BlockDeviceMappingList | None
) -> list[dict[str, typing.Any]]:
    """What is kept of block devices whose rows a failed build may delete.

    Deleted rows are archived and purged, and a build without one of them
    would be less than was asked for.

    :param block_devices: a BlockDeviceMappingList, or None
    :returns: plain data
    """
    return [_without_volume_made_by_nova(bdm).obj_to_primitive()
            for bdm in block_devices or ()
            if bdm.is_volume and bdm.delete_on_termination]


def from_kept(kept: typing.Iterable[dict[str, typing.Any]]) -> _BlockDevices:
    """The block devices that were kept.

    :param kept: what kept_of() returned
    :returns: a list of BlockDeviceMapping
    """
    return [objects.BlockDeviceMapping.obj_from_primitive(primitive)
            for primitive in kept]


def _without_volume_made_by_nova(
        bdm: objects.BlockDeviceMapping) -> objects.BlockDeviceMapping:
    copy = bdm.obj_clone()
    copy.attachment_id = None
    if copy.source_type in _MADE_BY_NOVA:
        copy.volume_id = None
    return copy


def asked_of(
        block_devices: typing.Iterable[objects.BlockDeviceMapping] | None
) -> list[dict[str, typing.Any]]:
    """What a request sets of the fields that a build fills in otherwise.

    :param block_devices: BlockDeviceMappings as they were requested, or None
    :returns: plain data
    """
    asked = [{'of': _place(bdm),
              **{field: bdm[field] for field in _FILLED_IN
                 if bdm.get(field, None) is not None}}
             for bdm in block_devices or ()]
    return [device for device in asked if len(device) > 1]


def forget_filled_in(bdms: typing.Iterable[objects.BlockDeviceMapping],
                     asked: list[dict[str, typing.Any]] | None) -> None:
    """Have a build fill in again what the request did not set.

    Another image may need other devices.

    :param bdms: new BlockDeviceMappings
    :param asked: what asked_of() returned; None if it was not kept, and
        nothing is forgotten
    """
    if asked is None:
        return
    left = list(asked)
    for bdm in bdms:
        device = next((device for device in left
                       if device['of'] == _place(bdm)), None)
        if device is not None:
            left.remove(device)
        for field in _FILLED_IN:
            setattr(bdm, field, device.get(field) if device else None)


def _place(bdm: objects.BlockDeviceMapping) -> list[typing.Any]:
    """What neither a build nor another image changes of a block device."""
    place = [bdm.get(field, None) for field in (
        'source_type', 'destination_type', 'boot_index', 'snapshot_id', 'tag',
        'guest_format')]
    return place + [bdm.get('volume_id', None)
                    if bdm.source_type == 'volume' else None]


def missing(rows: _BlockDevices,
            kept: _BlockDevices) -> _BlockDevices:
    """The block devices whose rows are gone.

    :param rows: BlockDeviceMappings that were read
    :param kept: what from_kept() returned
    :returns: a list of BlockDeviceMapping
    """
    there = collections.Counter(_identity(bdm) for bdm in rows)
    lost = []
    for bdm in kept:
        if there[_identity(bdm)]:
            there[_identity(bdm)] -= 1
        else:
            if bdm.source_type in _MADE_BY_NOVA:
                _ask_for_new_volume(bdm)
            lost.append(bdm)
    return lost


def _identity(bdm: objects.BlockDeviceMapping) -> tuple[typing.Any, ...]:
    """What a build does not change."""
    return (bdm.source_type, bdm.destination_type, bdm.boot_index,
            bdm.image_id, bdm.snapshot_id, bdm.tag, bdm.guest_format,
            bdm.volume_id if bdm.source_type == 'volume' else None)


def check(context: nova_context.RequestContext, volume_api: cinder.API,
          instance: objects.Instance,
          bdms: typing.Iterable[objects.BlockDeviceMapping]) -> _BlockDevices:
    """Check that the server may have each volume.

    :param instance: the Instance
    :param bdms: new BlockDeviceMappings: one whose volume is gone is changed
        to have it made again
    :returns: those whose volumes are not reserved for the server
    :raises: VolumeLost; VolumeTaken; ClaimRefused
    """
    not_reserved = []
    for bdm in bdms:
        if not bdm.volume_id:
            continue
        try:
            volume = claimed_volumes.read(context, instance, volume_api,
                                          bdm.volume_id)
        except nova_exception.VolumeNotFound:
            _ask_for_new_volume(bdm)
            continue
        if not _is_reserved(context, volume_api, bdm):
            if (volume['status'] != 'reserved'
                    or not _attachment_of(context, instance, bdm.volume_id)):
                _check_available(volume, bdm)
            not_reserved.append(bdm)
    return not_reserved


def reserve(context: nova_context.RequestContext, volume_api: cinder.API,
            instance: objects.Instance, row: objects.BlockDeviceMapping,
            bdm: objects.BlockDeviceMapping) -> None:
    """Reserve a volume for the server.

    It is written to the existing row at once, so that it is found again
    whatever happens next. Its owner is looked at again, as a volume that is
    reserved can no longer be transferred.

    :param instance: the Instance
    :param row: the BlockDeviceMapping of the server's row
    :param bdm: the new one
    :raises: ClaimRefused; VolumeNotFound
    """
    bdm.attachment_id = row.attachment_id = (
        _attachment_of(context, instance, bdm.volume_id)
        or volume_api.attachment_create(
            context, bdm.volume_id, instance.uuid)['id'])
    if row.obj_attr_is_set('id') and not row.deleted:
        # Else _attachment_of() finds it.
        row.save()
    try:
        claimed_volumes.read(context, instance, volume_api, bdm.volume_id)
    except Exception:
        with excutils.save_and_reraise_exception():
            volume_api.attachment_delete(context, bdm.attachment_id)


def _volume_lost(
        bdm: objects.BlockDeviceMapping) -> exception.RebuildRefused:
    lost = (exception.BootVolumeLost if bdm.boot_index == 0
            else exception.VolumeLost)
    return lost(volume=bdm.volume_id)


def _ask_for_new_volume(bdm: objects.BlockDeviceMapping) -> None:
    """The volume is gone: have it made again, if Nova had made it."""
    if bdm.source_type not in _MADE_BY_NOVA:
        raise _volume_lost(bdm)
    if bdm.destination_type == 'volume':
        bdm.volume_id = bdm.attachment_id = None


def check_hosts(context: nova_context.RequestContext,
                servicegroup_api: servicegroup.API,
                instance: objects.Instance, bdms: _BlockDevices) -> None:
    """See that no host deletes a volume that exists, if its build fails.

    Stock nova-compute does so with delete_on_termination.

    :param servicegroup_api: Nova's, which tells which services are up
    :param instance: the Instance
    :param bdms: the BlockDeviceMappings to build with
    :raises: VolumeInDanger; ServiceFails
    """
    volume_id = next((bdm.volume_id for bdm in bdms
                      if bdm.volume_id and bdm.delete_on_termination), None)
    if volume_id is None:
        return
    for cell in objects.CellMappingList.get_all(context):
        if cell.is_cell0() or cell.disabled:
            continue
        try:
            with nova_context.target_cell(context, cell) as cctxt:
                hosts = _hosts_without_package(cctxt, servicegroup_api)
        except db_exc.DBError:
            LOG.exception('The rebuild is refused, as the database of cell '
                          '%s does not answer whether its hosts have '
                          'nova-rescue-ext. Disable the cell if that lasts.',
                          cell.identity, instance=instance)
            raise exception.ServiceFails(service='Nova')
        if hosts:
            LOG.warning('The rebuild is refused, as hosts without an active '
                        'nova-rescue-ext could delete volume %s if they fail '
                        'to build the server: %s. Upgrade or disable their '
                        'nova-compute.', volume_id, ', '.join(sorted(hosts)),
                        instance=instance)
            raise exception.VolumeInDanger(volume=volume_id)


def _hosts_without_package(context: nova_context.RequestContext,
                           servicegroup_api: servicegroup.API) -> set[str]:
    """Hosts that the scheduler may choose; disabled ones are none of them."""
    up = {service.host for service in objects.ServiceList.get_by_binary(
        context, 'nova-compute') if servicegroup_api.service_is_up(service)}
    return {node.host for node in objects.ComputeNodeList.get_all(context)
            if node.host in up and not capabilities.keeps_volumes(node)}


def _is_reserved(context: nova_context.RequestContext, volume_api: cinder.API,
                 bdm: objects.BlockDeviceMapping) -> bool:
    if not bdm.attachment_id:
        return False
    try:
        volume_api.attachment_get(context, bdm.attachment_id)
    except nova_exception.VolumeAttachmentNotFound:
        return False
    return True


def _attachment_of(context: nova_context.RequestContext,
                   instance: objects.Instance, volume_id: str) -> str | None:
    """The id of an attachment that reserves a volume for a server, or None.

    A rebuild that was interrupted, or got no answer, may not have written it
    down. Nova has no call for it.
    """
    client = cinder.cinderclient(context, '3.44', skip_version_check=True)
    search = {'volume_id': volume_id}
    if claims.is_foreign(context, instance):
        search['all_tenants'] = '1'
    return next((
        attachment.id for attachment in client.attachments.list(
            search_opts=search)
        if attachment.instance == instance.uuid
        and attachment.status == 'reserved'), None)


def _check_available(volume: dict[str, typing.Any],
                     bdm: objects.BlockDeviceMapping) -> None:
    if volume['status'] != 'available' and not (
            volume.get('multiattach') and volume['status'] == 'in-use'):
        raise exception.VolumeTaken(volume=bdm.volume_id,
                                    status=volume['status'])

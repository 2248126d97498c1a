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


"""The block devices of a server that never booted, as they were asked for."""

from nova import exception as nova_exception
from nova import objects
from nova import utils

from nova_rescue_ext import claims
from nova_rescue_ext.claims import images as claimed_images
from nova_rescue_ext.claims import ownership
from nova_rescue_ext.claims import volumes as claimed_volumes
from nova_rescue_ext import exception

# Nova makes these volumes when it builds the server.
_MADE_BY_NOVA = ('image', 'snapshot', 'blank')


def read(context, instance_uuid):
    """Read the block devices, whatever the failed build has done to them.

    :param context: a RequestContext that is targeted at the server's cell
    :returns: a list of BlockDeviceMapping, oldest first
    :raises: VolumeLost if a volume was deleted that Nova did not make
    """
    with utils.temporary_mutation(context, read_deleted='yes'):
        bdms = sorted(objects.BlockDeviceMappingList.get_by_instance_uuid(
            context, instance_uuid), key=lambda bdm: bdm.id)
    if sum(bdm.boot_index == 0 for bdm in bdms) == 2:
        # A failure to bind accelerators has written all of them twice.
        bdms = bdms[:len(bdms) // 2]
    for bdm in bdms:
        if bdm.deleted:
            _ask_for_new_volume(bdm)
    return bdms


def check_source(context, image_api, volume_api, instance, bdm, origin):
    """Check that a server may be given what a block device is made from.

    :param image_api: Nova's client of Glance
    :param volume_api: Nova's client of Cinder
    :param instance: the Instance
    :param bdm: the BlockDeviceMapping
    :param origin: the claims.Origin of it
    :raises: ClaimRefused; InvalidBDMVolume, InvalidBDMSnapshot
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
            raise nova_exception.InvalidBDMSnapshot(id=bdm.snapshot_id)
    if volume_id and not bdm.image_id:
        try:
            claimed_volumes.read(context, instance, volume_api, volume_id)
        except nova_exception.VolumeNotFound:
            raise nova_exception.InvalidBDMVolume(id=volume_id)


def check_sources(context, image_api, volume_api, instance, bdms):
    """Check what Nova makes volumes from when it builds the server.

    But for the root volume, which has been checked as the image was chosen.

    :param bdms: the BlockDeviceMappings to build with
    :raises: ClaimRefused; InvalidBDMVolume, InvalidBDMSnapshot
    """
    for bdm in bdms:
        if bdm.boot_index != 0 and ownership.makes_volume(bdm):
            check_source(context, image_api, volume_api, instance, bdm,
                         claims.Origin.SERVER)


def repair(context, volume_api, instance, rows, bdms):
    """See that each volume is reserved for the server.

    A new reservation is written to the existing row at once, so that it is
    found again whatever happens next.

    :param rows: what read() returned
    :param bdms: the clones of it; changed in place
    :raises: VolumeLost; VolumeTaken
    """
    for row, bdm in zip(rows, bdms):
        if not bdm.volume_id:
            continue
        try:
            volume = claimed_volumes.read(context, instance, volume_api,
                                          bdm.volume_id)
        except nova_exception.VolumeNotFound:
            _ask_for_new_volume(bdm)
            continue
        if not _is_reserved(context, volume_api, bdm):
            _reserve(context, volume_api, instance, volume, bdm)
            row.attachment_id = bdm.attachment_id
            row.save()


def _ask_for_new_volume(bdm):
    """The volume is gone: have it made again, if Nova had made it."""
    if bdm.source_type not in _MADE_BY_NOVA:
        raise exception.VolumeLost(volume=bdm.volume_id)
    if bdm.destination_type == 'volume':
        bdm.volume_id = bdm.attachment_id = None


def _is_reserved(context, volume_api, bdm):
    if not bdm.attachment_id:
        return False
    try:
        volume_api.attachment_get(context, bdm.attachment_id)
    except nova_exception.VolumeAttachmentNotFound:
        return False
    return True


def _reserve(context, volume_api, instance, volume, bdm):
    if volume['status'] != 'available' and not (
            volume.get('multiattach') and volume['status'] == 'in-use'):
        raise exception.VolumeTaken(volume=bdm.volume_id,
                                    status=volume['status'])
    bdm.attachment_id = volume_api.attachment_create(
        context, bdm.volume_id, instance.uuid)['id']

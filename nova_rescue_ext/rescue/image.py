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


"""The rescue image of a boot-from-volume server, and how it is attached."""

from oslo_log import log as logging

from nova import exception
from nova.i18n import _
from nova import objects

LOG = logging.getLogger(__name__)

PROPERTIES = ('hw_rescue_device', 'hw_rescue_bus')

# How to go on after a refusal.
_CHOOSE = _('Choose an image with rescue_image_ref.')


def refuse(instance, reason):
    """Refuse a rescue (answered with 400).

    :param instance: the Instance
    :param reason: a sentence that tells the caller what to do
    :raises: InstanceNotRescuable
    """
    raise exception.InstanceNotRescuable(instance_id=instance.uuid,
                                         reason=reason)


def of_root_volume(context, instance, bdms, volume_api, image_api):
    """Find the image that a server's root volume was made from.

    What the volume says of its image is the user's claim: volume image
    metadata can be set by any owner of a volume. So the image must be one that
    the server's own project may read (architecture, invariant 3).

    :param context: the RequestContext of the caller
    :param instance: the Instance
    :param bdms: its BlockDeviceMappingList
    :param volume_api: Nova's client of Cinder
    :param image_api: Nova's client of Glance
    :returns: the id of the image
    :raises: InstanceNotRescuable (2-bfv-rescue.rst, Proposed change)
    """
    root = bdms.root_bdm()
    image_id = root.image_id or _claimed_by_volume(
        context, instance, root.volume_id, volume_api)
    if not image_id:
        refuse(instance, _('its root volume has no record of an image. %s')
               % _CHOOSE)
    image = get(context, instance, image_api, image_id)
    if not _readable_by_project(context, instance, image):
        LOG.warning('Image %(image)s, which root volume %(volume)s claims to '
                    'be made from, is not one of project %(project)s: '
                    'refused as rescue image. Name an image in the request.',
                    {'image': image_id, 'volume': root.volume_id,
                     'project': instance.project_id}, instance=instance)
        _refuse_unreadable(instance, image_id)
    return image_id


def _claimed_by_volume(context, instance, volume_id, volume_api):
    try:
        volume = volume_api.get(context, volume_id)
    except (exception.VolumeNotFound, exception.Forbidden):
        refuse(instance, _('its root volume %(volume)s cannot be read. '
                           '%(choose)s')
               % {'volume': volume_id, 'choose': _CHOOSE})
    except exception.CinderConnectionFailed:
        refuse(instance, _('the volume service, which knows the image of the '
                           'root volume, does not answer. Try again later, '
                           'or choose an image with rescue_image_ref.'))
    return volume.get('volume_image_metadata', {}).get('image_id')


def get(context, instance, image_api, image_id):
    """Read an image's metadata, or refuse in words.

    The same words whether the image does not exist or is somebody else's.

    :param context: the RequestContext of the caller
    :param instance: the Instance to be rescued
    :param image_api: Nova's client of Glance
    :param image_id: the id of the image
    :returns: the image as Nova's client gives it, a dict
    :raises: InstanceNotRescuable
    """
    try:
        image = image_api.get(context, image_id)
    except (exception.ImageNotFound, exception.ImageNotAuthorized,
            exception.ImageBadRequest):
        _refuse_unreadable(instance, image_id)
    except exception.GlanceConnectionFailed:
        refuse(instance, _('the image service does not answer. Try again '
                           'later.'))
    if image.get('status') != 'active':
        refuse(instance, _('image %(image)s is %(status)s, not active. '
                           '%(choose)s')
               % {'image': image_id, 'status': image.get('status'),
                  'choose': _CHOOSE})
    try:
        objects.ImageMeta.from_dict(image)
    except ValueError as exc:
        refuse(instance, _('a property of image %(image)s is not valid: '
                           '%(error)s. Correct it, or choose another image '
                           'with rescue_image_ref.')
               % {'image': image_id, 'error': exc})
    return image


def _refuse_unreadable(instance, image_id):
    refuse(instance, _('image %(image)s does not exist or you cannot see it. '
                       '%(choose)s') % {'image': image_id, 'choose': _CHOOSE})


def _readable_by_project(context, instance, image):
    """Whether the server's owner may read an image that the caller can read.

    An administrator who rescues a user's server sees every image; the user
    who made the volume claim an image must not get to read it that way.
    """
    if context.project_id == instance.project_id and not context.is_admin:
        return True
    return bool(image.get('is_public')
                or image.get('owner') == instance.project_id)


def complete(properties, disk_bus):
    """Fill in how the rescue disk is attached, where the image does not say.

    Device ``disk``, on the bus of the server's disks (3-stable-device-
    rescue.rst, Proposed change). A CD-ROM's or floppy's bus is left to Nova,
    which knows those of the machine type.

    :param properties: the ImageMetaProps of the rescue image; changed in place
    :param disk_bus: the server's hw_disk_bus, or None
    """
    if not properties.obj_attr_is_set('hw_rescue_device'):
        properties.hw_rescue_device = 'disk'
    if (not properties.obj_attr_is_set('hw_rescue_bus') and disk_bus
            and properties.hw_rescue_device == 'disk'):
        properties.hw_rescue_bus = disk_bus

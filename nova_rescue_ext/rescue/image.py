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


"""The image of a rescue: which, whether it will do, how it is attached."""

from cinderclient import exceptions as cinder_exc
from glanceclient import exc as glance_exc
from keystoneauth1 import exceptions as ks_exc
from keystoneauth1 import loading as ks_loading
from nova import conf
from nova import context as nova_context
from nova import exception
from nova import objects
from oslo_log import log as logging
from oslo_utils import uuidutils

from nova_rescue_ext.i18n import _

CONF = conf.CONF
LOG = logging.getLogger(__name__)

# What QEMU takes (spec: stable-device-rescue): device -> its buses.
BUSES = {
    'disk': ('virtio', 'scsi', 'sata', 'ide', 'usb'),
    'cdrom': ('sata', 'scsi', 'ide', 'usb'),
    'floppy': ('fdc',),
}

_DISK_FORMATS = {'raw', 'qcow2', 'vmdk', 'vhd', 'vhdx', 'vdi', 'iso',
                 'ploop', 'ami', 'gpt'}
# Of the others Nova takes the disk as it is.
_UNBOOTABLE_CONTAINERS = {None, 'aki', 'ari', 'docker', 'compressed'}

# Why it is this image: the server, or its volume, says so; the caller or the
# operator does; the operator does, and the caller cannot see it.
CLAIMED, NAMED, OFFERED = 'claimed', 'named', 'offered'


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
    the server's own project may read (invariant: no-new-rights).

    :param context: the RequestContext of the caller
    :param instance: the Instance
    :param bdms: its BlockDeviceMappingList
    :param volume_api: Nova's client of Cinder
    :param image_api: Nova's client of Glance
    :returns: the id of the image
    :raises: InstanceNotRescuable (spec: bfv-rescue)
    """
    root = bdms.root_bdm()
    image_id = root.image_id or _claimed_by_volume(
        context, instance, root.volume_id, volume_api)
    if not image_id:
        refuse(instance, _('its root volume has no record of an image. '
                           'Choose an image with rescue_image_ref.'))
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
                           'Choose an image with rescue_image_ref.')
               % {'volume': volume_id})
    except (exception.CinderConnectionFailed, cinder_exc.ClientException,
            ks_exc.ClientException) as exc:
        _log_failure(instance, 'Root volume %s' % volume_id, 'Cinder', exc)
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
    image = find(context, instance, image_api, image_id)
    if image is None:
        _refuse_unreadable(instance, image_id)
    return image


def find(context, instance, image_api, image_id):
    """As get(), but None for an image that does not exist or is not visible.

    What is not an id is not asked for: a user may have written it, and to
    Nova's client a URL is the address of a Glance that gets the token.

    :raises: InstanceNotRescuable if Glance, or Keystone, does not answer
    """
    if not uuidutils.is_uuid_like(image_id):
        return None
    try:
        return image_api.get(context, image_id)
    except (exception.ImageNotFound, exception.ImageNotAuthorized,
            exception.ImageBadRequest):
        return None
    except exception.GlanceConnectionFailed:
        pass  # Nova has logged it
    except (glance_exc.HTTPException, ks_exc.ClientException) as exc:
        _log_failure(instance, 'Image %s' % image_id, 'Glance', exc)
    refuse(instance, _('the image service does not answer. Try again later.'))


def _log_failure(instance, what, service, exc):
    """Log why something cannot be read, without what may be secret."""
    # The caller's token is the service's business: these are Nova's own.
    if isinstance(exc, (ks_exc.Unauthorized, ks_exc.AuthPluginException)):
        LOG.error('%(what)s cannot be read, as Keystone gives no token for '
                  'the credentials in [service_user]: %(error)s. Correct them '
                  'in nova.conf of this host and restart the service.',
                  {'what': what, 'error': type(exc).__name__},
                  instance=instance)
    else:
        LOG.warning('%(what)s cannot be read: %(error)s. Look for %(service)s '
                    'and Keystone, then let the user try again.',
                    {'what': what, 'error': type(exc).__name__,
                     'service': service}, instance=instance)


def operator_context(instance):
    """The context to read the image that the operator offers to everybody.

    With the credentials in ``[service_user]``, which Nova has anyway.

    :param instance: the Instance to be rescued
    :returns: a RequestContext
    :raises: InstanceNotRescuable if there are none
    """
    try:
        auth = ks_loading.load_auth_from_conf_options(CONF, 'service_user')
    except ks_exc.AuthPluginException:  # some are missing
        auth = None
    if auth is None:
        LOG.error('The image in [rescue_ext] default_rescue_image is not '
                  'visible to project %s, and [service_user] has no '
                  'credentials to read it with. Share the image or set '
                  '[service_user].', instance.project_id, instance=instance)
        refuse(instance, _('the default rescue image of this cloud cannot be '
                           'read. Choose an image with rescue_image_ref.'))
    return nova_context.RequestContext(is_admin=True, user_auth_plugin=auth,
                                       overwrite=False)


def is_for_stable_devices(image):
    """Whether an image says all that stock Nova wants to know of it."""
    return {'hw_rescue_device', 'hw_rescue_bus'} <= set(image['properties'])


def check(instance, image_id, image, compute_node):
    """Check all that can be known of a rescue image before anything happens.

    :param instance: the Instance to be rescued
    :param image_id: the id of the image
    :param image: the image as Nova's client gives it
    :param compute_node: the ComputeNode of the instance
    :raises: InstanceNotRescuable
    """
    for objection in _objections(instance, image, compute_node):
        refuse(instance, _('image %(image)s %(objection)s. Choose an image '
                           'with rescue_image_ref.')
               % {'image': image_id, 'objection': objection})


def _objections(instance, image, compute_node):
    """What is wrong with an image, in words. Lazily: the first will do."""
    properties = image['properties']
    if image.get('status') != 'active':
        yield _('is %s, not active') % image.get('status')
    if properties.get('img_block_device_mapping') or properties.get(
            'block_device_mapping'):
        yield _('is a snapshot of a volume and has no data of its own')
    if properties.get('cinder_encryption_key_id'):
        yield _('is encrypted')
    if image.get('container_format') in _UNBOOTABLE_CONTAINERS:
        yield (_('has container format %s, which no server boots from')
               % image.get('container_format'))
    if image.get('disk_format') not in _DISK_FORMATS:
        yield (_('has disk format %s, which no server boots from')
               % image.get('disk_format'))
    memory = instance.flavor.memory_mb
    if (image.get('min_ram') or 0) > memory:
        yield (_('needs %(min_ram)s MiB of memory, and the server has '
                 '%(memory)s')
               % {'min_ram': image['min_ram'], 'memory': memory})
    try:
        meta = objects.ImageMeta.from_dict(image)
    except ValueError as exc:
        yield _('has a property that is not valid: %s') % exc
    yield from _hardware_objections(meta.properties, compute_node)
    yield from _device_objections(instance, meta.properties)


def _hardware_objections(properties, compute_node):
    architecture = properties.get('hw_architecture')
    known = {spec.arch for spec in compute_node.supported_hv_specs or []}
    if architecture and known and architecture not in known:
        yield (_('is for %(arch)s, and the host of the server is for '
                 '%(known)s')
               % {'arch': architecture, 'known': ', '.join(sorted(known))})


def _device_objections(instance, properties):
    device = properties.get('hw_rescue_device', 'disk')
    bus = properties.get('hw_rescue_bus')
    if device not in BUSES:
        yield (_('has hw_rescue_device %(device)s, and a rescue disk can be '
                 '%(known)s')
               % {'device': device, 'known': ', '.join(BUSES)})
    elif bus and bus not in BUSES[device]:
        yield (_('has hw_rescue_bus %(bus)s, and a %(device)s can be on '
                 '%(known)s')
               % {'bus': bus, 'device': device,
                  'known': ', '.join(BUSES[device])})
    elif (device == 'floppy' and 'uefi' ==
            instance.image_meta.properties.get('hw_firmware_type')):
        yield _('has hw_rescue_device floppy, which the UEFI firmware of the '
                'server does not boot from: the server would come up from '
                'its own disk. A rescue disk can be disk or cdrom')


def _refuse_unreadable(instance, image_id):
    refuse(instance, _('image %(image)s does not exist or you cannot see it. '
                       'Choose an image with rescue_image_ref.')
           % {'image': image_id})


def _readable_by_project(context, instance, image):
    """Whether the server's owner may read an image that the caller can read.

    An administrator who rescues a user's server sees every image; the user
    who made a volume or an image claim another must not get to read it that
    way.
    """
    if context.project_id == instance.project_id and not context.is_admin:
        return True
    return bool(image.get('is_public')
                or image.get('owner') == instance.project_id)


def kernel_and_ramdisk(image):
    """The ids of the images that an image boots with.

    :param image: the image as Nova's client gives it
    :returns: (that of the kernel, that of the ramdisk), '' for none
    """
    kernel, ramdisk = (
        image['properties'].get(name) or '' for name in (
            'kernel_id', 'ramdisk_id'))
    if kernel == 'nokernel':  # how users say in Nova that there is none
        return '', ''
    return kernel, '' if ramdisk == 'nokernel' else ramdisk


def check_kernel_and_ramdisk(context, instance, image_api, image_id, image,
                             origin):
    """Check that a server may be given what its rescue image boots with.

    That is a claim of the image's owner, and a caller who sees all images must
    not be made to read one for the server's user (invariant: no-new-rights).

    :param context: the RequestContext that they are read with
    :param instance: the Instance to be rescued
    :param image_api: Nova's client of Glance
    :param image_id: the id of the rescue image
    :param image: the image as Nova's client gives it
    :param origin: CLAIMED, NAMED or OFFERED
    :raises: InstanceNotRescuable
    """
    for what, part_id in zip((_('kernel'), _('ramdisk')),
                             kernel_and_ramdisk(image)):
        if not part_id:
            continue
        part = find(context, instance, image_api, part_id)
        if part is None:
            objection = _('does not exist or you cannot see it')
        elif not _comes_with(context, instance, part, image, origin):
            objection = _('is not public, and belongs neither to the project '
                          'of the server nor to the owner of an image that '
                          'was named')
            LOG.warning('The %(what)s %(part)s, with which image %(image)s '
                        'claims to boot, is not one of project %(project)s: '
                        'the rescue was refused. Name another image in the '
                        'request.',
                        {'what': what, 'part': part_id, 'image': image_id,
                         'project': instance.project_id}, instance=instance)
        elif part.get('status') != 'active':
            objection = _('is %s, not active') % part.get('status')
        else:
            continue
        refuse(instance, _('%(what)s %(part)s of image %(image)s '
                           '%(objection)s. Choose an image with '
                           'rescue_image_ref.')
               % {'what': what, 'part': part_id, 'image': image_id,
                  'objection': objection})


def _comes_with(context, instance, part, image, origin):
    """Whether a kernel or ramdisk may be given to a server with its image.

    Who names an image gives it away, with what the same owner made for it. A
    volume that claims an image gives nothing away but what is public or its
    own.
    """
    return (origin == OFFERED
            or _readable_by_project(context, instance, part)
            or (origin == NAMED and part.get('owner') is not None
                and part['owner'] == image.get('owner')))


def use_stable_devices(properties):
    """Let Nova keep the server's disks, also if the image does not ask for it.

    Which bus the rescue disk is on is for the host to say.

    :param properties: the ImageMetaProps of the rescue image; changed in place
    """
    if not properties.obj_attr_is_set('hw_rescue_device'):
        properties.hw_rescue_device = 'disk'

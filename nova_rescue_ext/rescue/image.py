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


"""The image of a rescue: find it, check it, attach it."""

from __future__ import annotations

import typing

from cinderclient import exceptions as cinder_exc
from keystoneauth1 import exceptions as ks_exc
from keystoneauth1 import loading as ks_loading
from nova import conf
from nova import context as nova_context
from nova import exception
from nova import objects
from oslo_log import log as logging
from oslo_serialization import jsonutils

from nova_rescue_ext import claims
from nova_rescue_ext.claims import images
from nova_rescue_ext.claims import volumes
from nova_rescue_ext import exception as ext_exception
from nova_rescue_ext.i18n import _

if typing.TYPE_CHECKING:
    from nova.image import glance
    from nova.volume import cinder

CONF = conf.CONF
LOG = logging.getLogger(__name__)

# Device -> the buses that QEMU supports for it (spec: stable-device-rescue).
BUSES = {
    'disk': ('virtio', 'scsi', 'sata', 'ide', 'usb'),
    'cdrom': ('sata', 'scsi', 'ide', 'usb'),
    'floppy': ('fdc',),
}

_DISK_FORMATS = {'raw', 'qcow2', 'vmdk', 'vhd', 'vhdx', 'vdi', 'iso',
                 'ploop', 'ami', 'gpt'}
# Nova uses an image in any other container as the disk itself.
_UNBOOTABLE_CONTAINERS = {None, 'aki', 'ari', 'docker', 'compressed'}

# What a console shows when a rescue system is ready. ImageMetaProps of Nova
# drops what it does not know, so that this is read from the image itself.
READY_LINE = 'os_rescue_ready_line'
_LONGEST_READY_LINE = 255  # characters, as of a value of system metadata

# Architectures whose servers have a BIOS unless their image says otherwise.
_BIOS_BY_DEFAULT = {'x86_64', 'i686'}


def refuse(instance: objects.Instance, reason: str) -> typing.NoReturn:
    """Refuse a rescue (answered with 400).

    :param instance: the Instance
    :param reason: a sentence that tells the caller what to do
    :raises: InstanceNotRescuable
    """
    raise exception.InstanceNotRescuable(instance_id=instance.uuid,
                                         reason=reason)


def refuse_claim(instance: objects.Instance,
                 refused: ext_exception.ClaimRefused) -> typing.NoReturn:
    """Refuse a rescue, as the server may not have something it needs (400).

    :param instance: the Instance
    :param refused: the ClaimRefused
    :raises: InstanceNotRescuable
    """
    if isinstance(refused, ext_exception.ImageServiceFails):
        refuse(instance, '%s.' % refused)
    refuse(instance, _('%s. Choose an image with rescue_image_ref.') % refused)


def of_root_volume(context: nova_context.RequestContext,
                   instance: objects.Instance,
                   bdms: objects.BlockDeviceMappingList,
                   volume_api: cinder.API,
                   image_api: glance.API) -> tuple[str, images.Image]:
    """Find the image that the root volume of a server was made from.

    The volume image metadata are only a claim: any owner of a volume can set
    them.

    :param context: the RequestContext of the caller
    :param instance: the Instance
    :param bdms: its BlockDeviceMappingList
    :param volume_api: Nova's client of Cinder
    :param image_api: Nova's client of Glance
    :returns: the id of the image, and the image as Nova's client gives it
    :raises: InstanceNotRescuable (spec: bfv-rescue)
    """
    root = bdms.root_bdm()
    image_id = root.image_id or _claimed_by_volume(
        context, instance, root.volume_id, volume_api)
    if not image_id:
        refuse(instance, _('its root volume has no record of an image. '
                           'Choose an image with rescue_image_ref.'))
    return image_id, get(context, instance, image_api, image_id,
                         claims.Origin.SERVER)


def _claimed_by_volume(context: nova_context.RequestContext,
                       instance: objects.Instance, volume_id: str,
                       volume_api: cinder.API) -> str | None:
    try:
        volume = volumes.read(context, instance, volume_api, volume_id)
    except (exception.VolumeNotFound, exception.Forbidden):
        refuse(instance, _('its root volume %(volume)s cannot be read. '
                           'Choose an image with rescue_image_ref.')
               % {'volume': volume_id})
    except ext_exception.ClaimRefused as exc:
        refuse_claim(instance, exc)
    except (exception.CinderConnectionFailed, cinder_exc.ClientException,
            ks_exc.ClientException) as exc:
        claims.log_failure(instance, 'Root volume %s' % volume_id, 'Cinder',
                           exc)
        refuse(instance, _('the volume service, which knows the image of the '
                           'root volume, does not answer. Try again later, '
                           'or choose an image with rescue_image_ref.'))
    return volume.get('volume_image_metadata', {}).get('image_id')


def get(context: nova_context.RequestContext, instance: objects.Instance,
        image_api: glance.API, image_id: str,
        origin: claims.Origin) -> images.Image:
    """Read the metadata of an image, or refuse the rescue.

    :param context: the RequestContext to ask with
    :param instance: the Instance to be rescued
    :param image_api: Nova's client of Glance
    :param image_id: the id of the image
    :param origin: the claims.Origin of it
    :returns: the image as Nova's client gives it, a dict
    :raises: InstanceNotRescuable
    """
    try:
        return images.read(context, instance, image_api, image_id, origin)
    except ext_exception.ClaimRefused as exc:
        refuse_claim(instance, exc)


def get_kernel_and_ramdisk(context: nova_context.RequestContext,
                           instance: objects.Instance, image_api: glance.API,
                           image: images.Image,
                           origin: claims.Origin) -> tuple[str, str]:
    """Find the kernel and ramdisk that a rescue image boots with.

    :param context: the RequestContext that the image was read with
    :param instance: the Instance to be rescued
    :param image_api: Nova's client of Glance
    :param image: the image as Nova's client gives it
    :param origin: the claims.Origin of it
    :returns: (ID of the kernel, ID of the ramdisk), '' for none
    :raises: InstanceNotRescuable
    """
    try:
        return images.check_kernel_and_ramdisk(context, instance, image_api,
                                               image, origin)
    except ext_exception.ImageServiceFails as exc:
        refuse_claim(instance, exc)
    except ext_exception.ClaimRefused as exc:
        refuse(instance, _('image %(image)s cannot boot: %(reason)s. Choose '
                           'an image with rescue_image_ref.')
               % {'image': image['id'], 'reason': exc})


def operator_context(
        instance: objects.Instance) -> nova_context.RequestContext:
    """Make a context to read the operator's default rescue image with.

    It has the credentials in ``[service_user]``, which Nova has anyway.

    :param instance: the Instance to be rescued
    :returns: a RequestContext
    :raises: InstanceNotRescuable if there are none
    """
    try:
        auth = ks_loading.load_auth_from_conf_options(CONF, 'service_user')
    except ks_exc.AuthPluginException:  # some are missing
        auth = None
    if auth is None:
        LOG.error('The default rescue image is not visible to project %s, and '
                  '[service_user] has no credentials to read it with. Check '
                  'that [rescue_ext] default_rescue_image or [libvirt] '
                  'rescue_image_id is the ID of an image; then share the '
                  'image with the project, or set [service_user].',
                  instance.project_id, instance=instance)
        refuse(instance, _('the default rescue image of this cloud cannot be '
                           'read. Choose an image with rescue_image_ref.'))
    return nova_context.RequestContext(is_admin=True, user_auth_plugin=auth,
                                       overwrite=False)


def is_for_stable_devices(image: images.Image) -> bool:
    """Whether an image has both properties that stock Nova asks for."""
    return {'hw_rescue_device', 'hw_rescue_bus'} <= set(image['properties'])


def check(instance: objects.Instance, image_id: str, image: images.Image,
          compute_node: objects.ComputeNode) -> None:
    """Check a rescue image before anything happens.

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


def _objections(instance: objects.Instance, image: images.Image,
                compute_node: objects.ComputeNode) -> typing.Iterator[str]:
    """Yield what is wrong with an image; only the first is needed."""
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
        yield (_('needs %(min_ram)s MiB of memory, but the server has only '
                 '%(memory)s')
               % {'min_ram': image['min_ram'], 'memory': memory})
    try:
        meta = objects.ImageMeta.from_dict(image)
    except (ValueError, exception.Invalid) as exc:
        yield _('has an invalid property: %s') % exc
        return
    yield from _hardware_objections(meta.properties, compute_node)
    yield from _device_objections(instance, meta.properties)


def ready_line(image: images.Image) -> str | None:
    """What a console shows when the system of an image is ready.

    :param image: the image as Nova's client gives it
    :returns: None if the image does not say
    """
    line = image['properties'].get(READY_LINE)
    return None if line is None else str(line).strip()


def check_ready_line(instance: objects.Instance, image_id: str,
                     image: images.Image) -> None:
    """Check what an image says of its console. From compute-rescue 1.4.

    :param instance: the Instance to be rescued
    :param image_id: the id of the image
    :param image: the image as Nova's client gives it
    :raises: InstanceNotRescuable
    """
    line = ready_line(image)
    if line is None or (0 < len(line) <= _LONGEST_READY_LINE
                        and line.isascii() and line.isprintable()):
        return
    refuse(instance, _(
        'image %(image)s has %(name)s, which must be one line of 1 to '
        '%(longest)d printable ASCII characters. Correct it, or choose an '
        'image with rescue_image_ref.') % {
            'image': image_id, 'name': READY_LINE,
            'longest': _LONGEST_READY_LINE})


def check_with_stable_devices(instance: objects.Instance, image_id: str,
                              properties: objects.ImageMetaProps,
                              compute_node: objects.ComputeNode) -> None:
    """Check an image whose system gets the hardware of the server.

    With an image for the other firmware, the server would boot from its own
    disk. An image that boots with both must not name one.

    :param instance: the Instance to be rescued
    :param image_id: the id of the image
    :param properties: its ImageMetaProps
    :param compute_node: the ComputeNode of the instance
    :raises: InstanceNotRescuable
    """
    wanted = properties.get('hw_firmware_type')
    own = instance.image_meta.properties.get('hw_firmware_type')
    if (own is None
            and _architecture(instance, compute_node) in _BIOS_BY_DEFAULT):
        own = 'bios'
    if wanted and own and wanted != own:
        refuse(instance, _(
            'image %(image)s has hw_firmware_type %(wanted)s, but the '
            'firmware of the server is %(own)s. Choose an image that has '
            'the same, or not the property, with rescue_image_ref.')
            % {'image': image_id, 'wanted': wanted, 'own': own})


def _architecture(instance: objects.Instance,
                  compute_node: objects.ComputeNode) -> str | None:
    """The architecture of a server, or None if it is not known."""
    named = instance.image_meta.properties.get('hw_architecture')
    try:
        return named or jsonutils.loads(compute_node.cpu_info)['arch']
    except (ValueError, TypeError, KeyError):
        return None


def check_with_own_hardware(instance: objects.Instance, image_id: str,
                            properties: objects.ImageMetaProps) -> None:
    """Check an image whose system gets the hardware that the image asks for.

    Only the flavor and the secrets are those of the server.

    :param instance: the Instance to be rescued
    :param image_id: the id of the image
    :param properties: its ImageMetaProps
    :raises: InstanceNotRescuable
    """
    if properties.get('hw_tpm_version') and not _has_tpm(instance):
        refuse(instance, _(
            'image %(image)s has hw_tpm_version %(version)s, but the server '
            'has no TPM. Choose an image with rescue_image_ref.')
            % {'image': image_id, 'version': properties.hw_tpm_version})
    video_ram = properties.get('hw_video_ram') or 0
    limit = int(instance.flavor.extra_specs.get('hw_video:ram_max_mb', 0))
    if video_ram > limit:
        refuse(instance, _(
            'image %(image)s has hw_video_ram %(video_ram)s, but the flavor '
            'of the server allows %(limit)s MiB. Choose an image with '
            'rescue_image_ref.')
            % {'image': image_id, 'video_ram': video_ram, 'limit': limit})


def _has_tpm(instance: objects.Instance) -> bool:
    return bool(instance.image_meta.properties.get('hw_tpm_version')
                or instance.flavor.extra_specs.get('hw:tpm_version'))


def _hardware_objections(
        properties: objects.ImageMetaProps,
        compute_node: objects.ComputeNode) -> typing.Iterator[str]:
    architecture = properties.get('hw_architecture')
    known = {spec.arch for spec in compute_node.supported_hv_specs}
    if architecture and known and architecture not in known:
        yield (_('is for %(arch)s, but the host of the server supports '
                 '%(known)s')
               % {'arch': architecture, 'known': ', '.join(sorted(known))})


def _device_objections(
        instance: objects.Instance,
        properties: objects.ImageMetaProps) -> typing.Iterator[str]:
    device = properties.get('hw_rescue_device', 'disk')
    bus = properties.get('hw_rescue_bus')
    if device not in BUSES:
        yield (_('has hw_rescue_device %(device)s, but a rescue disk can be '
                 '%(known)s')
               % {'device': device, 'known': ', '.join(BUSES)})
    elif bus and bus not in BUSES[device]:
        yield (_('has hw_rescue_bus %(bus)s, but a %(device)s can be on '
                 '%(known)s')
               % {'bus': bus, 'device': device,
                  'known': ', '.join(BUSES[device])})
    elif (device == 'floppy' and 'uefi' ==
            instance.image_meta.properties.get('hw_firmware_type')):
        # The server would boot from its own disk.
        yield _('has hw_rescue_device floppy, from which the server, which '
                'has UEFI firmware, cannot boot')


def use_stable_devices(properties: objects.ImageMetaProps) -> None:
    """Have Nova keep the disks of the server, even if the image does not ask.

    The host chooses the bus of the rescue disk.

    :param properties: the ImageMetaProps of the rescue image; changed in place
    """
    if not properties.obj_attr_is_set('hw_rescue_device'):
        properties.hw_rescue_device = 'disk'

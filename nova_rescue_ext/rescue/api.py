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


"""Rescue in nova-api."""

import contextlib
import copy

from nova.compute import api as compute_api
from nova.compute import utils as compute_utils
from nova.compute import vm_states
from nova import conf
from nova import exception
from nova import objects
from nova import utils
from oslo_log import log as logging

from nova_rescue_ext import capabilities
from nova_rescue_ext import claims
from nova_rescue_ext.claims import images as claimed_images
from nova_rescue_ext import exception as ext_exception
from nova_rescue_ext import host_names
from nova_rescue_ext.i18n import _
from nova_rescue_ext import instance_metadata
from nova_rescue_ext import microversion
from nova_rescue_ext import policies
from nova_rescue_ext.rescue import image
from nova_rescue_ext.task import conflict

CONF = conf.CONF
LOG = logging.getLogger(__name__)


def rescue(original, self, context, instance, rescue_password=None,
           rescue_image_ref=None, clean_shutdown=True,
           allow_bfv_rescue=False):
    """Rescue with an image that was chosen and checked.

    From compute-rescue 1.1 (specs: rescue-image, stable-device-rescue),
    and for boot-from-volume servers also from compute 2.87
    (spec: bfv-rescue). Everything else is Nova's own rescue.

    :raises: InstanceNotRescuable, answered with 400; PolicyNotAuthorized,
        403; InstanceInvalidState, 409
    """
    _check_compute_service(self, context, instance)
    _forget_earlier_rescue(context, instance)
    race = contextlib.nullcontext()
    if microversion.is_requested(context, microversion.RESCUE):
        race = conflict.loser_is_refused(instance, 'rescue')
        bdms = objects.BlockDeviceMappingList.get_by_instance_uuid(
            context, instance.uuid)
        volume_backed = compute_utils.is_volume_backed_instance(
            context, instance, bdms)
        if allow_bfv_rescue or not volume_backed:
            images = _Images(self, context, instance)
            rescue_image_ref = _choose(images, context, instance, bdms,
                                       volume_backed, rescue_image_ref)
            instance_metadata.request_rescue(
                instance, context.compute_rescue, images.offered)
            original = images.call_with(original)
    with race:
        return original(context, instance, rescue_password=rescue_password,
                        rescue_image_ref=rescue_image_ref,
                        clean_shutdown=clean_shutdown,
                        allow_bfv_rescue=allow_bfv_rescue)


def _check_compute_service(api, context, instance):
    """Refuse a rescue that would wait in a queue, with its password told.

    Also of callers who did not opt in, if it is sure that the service is down.

    :raises: ComputeServiceDown, answered with 409
    """
    if not instance.host:
        return  # for Nova's own checks to refuse
    try:
        is_up = capabilities.is_up(api, context, instance.host, unknown=True)
    except Exception as exc:
        LOG.debug('Whether the compute service is up is not known: %s', exc,
                  instance=instance)
        return
    if not is_up:
        raise ext_exception.ComputeServiceDown(instance_uuid=instance.uuid)


def _forget_earlier_rescue(context, instance):
    """Forget what an earlier rescue was asked for, and what it was.

    A host with the package writes a record of its own. Until then it tells
    what an unrescue that failed has left.
    """
    instance_metadata.forget_rescue_request(instance)
    if not instance_metadata.has_record(instance):
        return
    try:
        node = objects.ComputeNode.get_by_host_and_nodename(
            context, instance.host, instance.node)
    except exception.ComputeHostNotFound:
        return  # nobody gets to rescue it
    if not capabilities.host_can(node, microversion.RESCUE):
        instance_metadata.forget_rescue(instance)


# Nova makes these checks, too, but after ours: a locked server answers 409
# whatever its image is like.
@compute_api.check_instance_lock
@compute_api.check_instance_state(
    vm_state=[vm_states.ACTIVE, vm_states.STOPPED, vm_states.ERROR])
def _choose(images, context, instance, bdms, volume_backed,
            rescue_image_ref):
    """The image to rescue with, once all is checked that can be.

    In this order: the one that is asked for, the operator's offer, the base
    image of the server, the image of its root volume.

    :returns: the id of an image
    """
    if volume_backed:
        policies.authorize(context, policies.BOOT_FROM_VOLUME, instance)
    if rescue_image_ref:
        image_id, metadata = images.read(rescue_image_ref,
                                         claims.Origin.CALLER)
    elif _default_image():
        image_id, metadata = images.read_offer(_default_image())
    elif volume_backed:
        image_id, metadata = images.read_of_root_volume(bdms)
    else:
        # Any user can write a base image into an image of theirs.
        image_id, metadata = images.read(
            utils.instance_sys_meta(instance).get('image_base_image_ref')
            or instance.image_ref, claims.Origin.SERVER)
    compute_node = _compute_node(context, instance)
    image.check(instance, image_id, metadata, compute_node)
    _check_hardware(instance, image_id, metadata, volume_backed, compute_node)
    if images.offered:
        _check_host(context, instance, compute_node, _(
            'only the package can read the default rescue image %s')
            % image_id)
    if volume_backed and not image.is_for_stable_devices(metadata):
        _check_host(context, instance, compute_node, _(
            'image %s does not have both hw_rescue_bus and '
            'hw_rescue_device') % image_id)
    if (image_id != instance.image_ref
            and capabilities.host_can(compute_node, microversion.RESCUE)):
        # Else the rescue boots with what the server boots with.
        images.check_kernel_and_ramdisk()
    return image_id


def _check_hardware(instance, image_id, metadata, volume_backed,
                    compute_node):
    """Check the hardware that the image asks for, in the domain it gets.

    Which kind of domain that is, is for the host to say if [rescue_ext]
    stable_devices is not the same there.
    """
    properties = objects.ImageMeta.from_dict(metadata).properties
    if volume_backed or {'hw_rescue_device', 'hw_rescue_bus'} & set(
            metadata['properties']):
        if not metadata['properties'].get('kernel_id'):
            # A kernel boots with every firmware.
            image.check_with_stable_devices(instance, image_id, properties,
                                            compute_node)
    elif CONF.rescue_ext.stable_devices != 'always':
        image.check_with_own_hardware(instance, image_id, properties)


def _compute_node(context, instance):
    try:
        return objects.ComputeNode.get_by_host_and_nodename(
            context, instance.host, instance.node)
    except exception.ComputeHostNotFound:
        image.refuse(instance, _(
            'its compute node%s is no longer known. Ask the operator to bring '
            'its nova-compute back.')
            % host_names.after(context, instance.node))


def _default_image():
    return (CONF.rescue_ext.default_rescue_image
            or CONF.libvirt.rescue_image_id)


def _check_host(context, instance, compute_node, why):
    """Check that the host has the package, where stock Nova would fail.

    It would do so after it has powered the server off.

    :param why: what the host needs it for, in words
    """
    if not capabilities.host_can(compute_node, microversion.RESCUE):
        image.refuse(instance, _(
            'its compute node%(node)s does not serve compute-rescue 1.1, and '
            '%(why)s. Choose an image that you can see and that has both '
            'properties, hw_rescue_bus and hw_rescue_device, with '
            'rescue_image_ref, or ask the operator to upgrade the node.')
            % {'node': host_names.after(context, instance.node), 'why': why})


class _Images:
    """Nova's client of Glance in one rescue.

    Nova's own code, too, is given the image through here, as it was read: it
    refuses an image without hw_rescue_bus and hw_rescue_device for a
    boot-from-volume server. Its nova-compute, which fills them in, does not
    learn what they are here.
    """

    def __init__(self, api, context, instance):
        self._api = api
        self._context = context
        self._instance = instance
        self._metadata = None
        self._origin = None
        self.image_api = api.image_api
        self.volume_api = api.volume_api
        self.offered = None  # the id of the operator's image

    def read(self, image_id, origin):
        """Read an image that the server may be given.

        :param origin: the claims.Origin of it
        :returns: (its id, its metadata)
        :raises: InstanceNotRescuable
        """
        self._origin = origin
        self._metadata = image.get(self._context, self._instance,
                                   self.image_api, image_id, origin)
        return image_id, self._metadata

    def read_of_root_volume(self, bdms):
        """Read the image that the root volume was made from."""
        self._origin = claims.Origin.SERVER
        image_id, self._metadata = image.of_root_volume(
            self._context, self._instance, bdms, self.volume_api,
            self.image_api)
        return image_id, self._metadata

    def read_offer(self, image_id):
        """Read the operator's default image, also if only they can see it."""
        try:
            self._metadata = claimed_images.find(
                self._context, self._instance, self.image_api, image_id)
        except ext_exception.ClaimRefused as exc:
            image.refuse_claim(self._instance, exc)
        if self._metadata is None:
            self.offered = image_id
            self._context = image.operator_context(self._instance)
            return self.read(image_id, claims.Origin.OPERATOR)
        self._origin = claims.Origin.CALLER  # as if they had named it
        return image_id, self._metadata

    def check_kernel_and_ramdisk(self):
        """Check what the image that was read boots with."""
        image.get_kernel_and_ramdisk(
            self._context, self._instance, self.image_api, self._metadata,
            self._origin)

    def call_with(self, original):
        """Nova's rescue, bound to an API object that has these images."""
        stand_in = copy.copy(self._api)
        stand_in.image_api = self
        return original.__func__.__get__(stand_in)

    def get(self, context, image_id, **kwargs):
        """As Nova's rescue reads the image; it does not have to fail again."""
        return dict(self._metadata, properties={
            'hw_rescue_device': 'disk', 'hw_rescue_bus': 'virtio',
            **self._metadata['properties']})

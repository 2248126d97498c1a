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

import copy

from nova.compute import api as compute_api
from nova.compute import utils as compute_utils
from nova.compute import vm_states
from nova.i18n import _
from nova import objects

from nova_rescue_ext import capabilities
from nova_rescue_ext import microversion
from nova_rescue_ext import policies
from nova_rescue_ext.rescue import image


def rescue(original, self, context, instance, rescue_password=None,
           rescue_image_ref=None, clean_shutdown=True,
           allow_bfv_rescue=False):
    """Rescue a boot-from-volume server with any image, or with none given.

    From compute 2.87 and compute-rescue 1.1 (2-bfv-rescue.rst). Everything
    else is Nova's own rescue.

    :raises: InstanceNotRescuable, answered with 400; PolicyNotAuthorized, 403
    """
    if allow_bfv_rescue and microversion.is_requested(
            context, microversion.RESCUE):
        bdms = objects.BlockDeviceMappingList.get_by_instance_uuid(
            context, instance.uuid)
        if compute_utils.is_volume_backed_instance(context, instance, bdms):
            rescue_image_ref = _choose_image(self, context, instance, bdms,
                                             rescue_image_ref)
            original = _with_any_image(original, self)
    return original(context, instance, rescue_password=rescue_password,
                    rescue_image_ref=rescue_image_ref,
                    clean_shutdown=clean_shutdown,
                    allow_bfv_rescue=allow_bfv_rescue)


# Nova makes these checks, too, but after ours: a locked server answers 409
# whatever its image is like.
@compute_api.check_instance_lock
@compute_api.check_instance_state(
    vm_state=[vm_states.ACTIVE, vm_states.STOPPED, vm_states.ERROR])
def _choose_image(self, context, instance, bdms, rescue_image_ref):
    """The image to rescue with, once all is checked that can be.

    :returns: the id of an image that the caller can see
    """
    policies.authorize(context, policies.BOOT_FROM_VOLUME, instance)
    image_id = rescue_image_ref or image.of_root_volume(
        context, instance, bdms, self.volume_api, self.image_api)
    metadata = image.get(context, instance, self.image_api, image_id)
    if not set(image.PROPERTIES) <= set(metadata['properties']):
        _check_host(context, instance, image_id)
    return image_id


def _check_host(context, instance, image_id):
    """Check that the host attaches a rescue disk whatever its image says.

    A nova-compute without the package would fail after it has powered the
    server off.
    """
    compute_node = objects.ComputeNode.get_by_host_and_nodename(
        context, instance.host, instance.node)
    if not capabilities.host_can(compute_node, microversion.RESCUE):
        image.refuse(instance, _(
            'compute node %(node)s does not serve compute-rescue 1.1, and '
            'image %(image)s does not have both hw_rescue_bus and '
            'hw_rescue_device. Choose an image that has both with '
            'rescue_image_ref, or ask the operator to upgrade the node.')
            % {'node': instance.node, 'image': image_id})


def _with_any_image(original, self):
    """Nova's rescue, blind to what an image lacks for stable devices.

    Nova refuses an image without hw_rescue_bus and hw_rescue_device; its
    nova-compute, which fills them in, is not told what they are here.
    """
    stand_in = copy.copy(self)
    stand_in.image_api = _CompletedImages(self.image_api)
    return original.__func__.__get__(stand_in)


class _CompletedImages:
    """Nova's client of Glance, with images fit for a rescue."""

    def __init__(self, image_api):
        self._image_api = image_api

    def get(self, context, image_id, **kwargs):
        metadata = self._image_api.get(context, image_id, **kwargs)
        return dict(metadata, properties={
            'hw_rescue_device': 'disk', 'hw_rescue_bus': 'virtio',
            **metadata['properties']})

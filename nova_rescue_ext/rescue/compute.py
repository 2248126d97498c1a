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


"""Rescue in nova-compute's manager."""

from nova.compute import utils as compute_utils
from nova import objects

from nova_rescue_ext.rescue import image


def get_rescue_image(original, self, context, instance,
                     rescue_image_ref=None):
    """The rescue image; for a boot-from-volume server fit for stable devices.

    nova-api has chosen and checked the image. Only a stock nova-api sends
    none: then it is found as nova-api would have found it, and only one that
    the server's project may read is used, as this context is elevated
    (2-bfv-rescue.rst).

    :returns: an ImageMeta
    :raises: InstanceNotRescuable
    """
    bdms = objects.BlockDeviceMappingList.get_by_instance_uuid(
        context, instance.uuid)
    if not compute_utils.is_volume_backed_instance(context, instance, bdms):
        return original(context, instance, rescue_image_ref)
    if not rescue_image_ref:
        rescue_image_ref = image.of_root_volume(
            context.elevated(), instance, bdms, self.volume_api,
            self.image_api)
    image_meta = original(context, instance, rescue_image_ref)
    image.complete(image_meta.properties,
                   instance.image_meta.properties.get('hw_disk_bus'))
    return image_meta

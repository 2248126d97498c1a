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


"""Rescue in the libvirt driver."""

from nova import conf
from nova.virt import hardware

from nova_rescue_ext import capabilities
from nova_rescue_ext import rescue_files
from nova_rescue_ext import rescue_record

CONF = conf.CONF


def get_available_resource(original, self, nodename):
    """Report what this host can do with the rest of its resources."""
    resources = original(nodename)
    capabilities.report(resources)
    return resources


def rescue(original, self, context, instance, network_info, image_meta,
           rescue_password, block_device_info, *args, **kwargs):
    """Rescue, and leave nothing that unrescue or a migration trips over.

    Files of an earlier rescue are removed first: Nova would boot them again
    (hazard 11). The properties of the server's image stay as they were
    (hazard 17), the rescue is recorded, and no domain is left in a file
    (4-live-migrate-rescued.rst).
    """
    rescue_files.remove(self, instance)
    properties = _image_properties(instance)
    try:
        original(context, instance, network_info, image_meta,
                 rescue_password, block_device_info, *args, **kwargs)
    finally:
        for key in _image_properties(instance):
            del instance.system_metadata[key]
        instance.system_metadata.update(properties)
    _record(instance, image_meta)
    rescue_files.remove_stock_domain(instance)


def _image_properties(instance):
    return {key: value for key, value in instance.system_metadata.items()
            if key.startswith('image_')}


def _record(instance, image_meta):
    image_id = (image_meta.id if image_meta.obj_attr_is_set('id')
                else instance.image_ref)
    stable = hardware.check_hw_rescue_props(image_meta)
    rescue_record.write(
        instance, image_id,
        CONF.libvirt.rescue_kernel_id or instance.kernel_id,
        CONF.libvirt.rescue_ramdisk_id or instance.ramdisk_id,
        rescue_record.STABLE if stable else rescue_record.LEGACY)

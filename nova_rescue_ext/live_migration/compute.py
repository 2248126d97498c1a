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


"""Live migration of rescued servers in nova-compute's manager."""

from nova.compute import task_states
from nova.compute import vm_states

from nova_rescue_ext import capabilities
from nova_rescue_ext import instance_metadata


def is_live_migrating(original, instance):
    """Count a rescued server's migration at the destination.

    Hazard: uncounted-migration.

    Else an audit in the middle of it frees what was claimed there, and pinned
    CPUs are given twice.
    """
    return original(instance) or (
        instance.vm_state == vm_states.RESCUED and
        instance.task_state == task_states.MIGRATING)


def capabilities_as_traits(original, self):
    """Report the capability to placement, and take it back.

    Spec: live-migrate-rescued.
    """
    traits = original()
    traits[capabilities.TRAIT_LIVE_MIGRATE_RESCUED] = bool(
        self.capabilities.get(capabilities.LIVE_MIGRATE_RESCUED))
    return traits


def list_running_instances(original, self, context, all_instances):
    """Count the images of rescues as used (hazard: image-cache)."""
    running = original(context, all_instances)
    for instance in all_instances:
        record = instance_metadata.rescue_of(instance)
        if record is None:
            continue
        for image_id in (record.image_id, record.kernel_id,
                         record.ramdisk_id):
            if image_id:
                running['used_images'].setdefault(
                    image_id, (1, 0, [instance.name]))
    return running

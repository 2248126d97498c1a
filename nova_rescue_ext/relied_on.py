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


"""What the package relies on in Nova without overriding it.

A change in one of these could break an override that still fits, so their
digests are verified, too. Used when digests are made, not in services.
"""

CALLABLES = (
    # The version headers: where they are read and written.
    'nova.api.openstack.wsgi:Resource._process_stack',
    'nova.api.openstack.wsgi:Fault.__call__',
    'nova.api.openstack.wsgi:Request.is_legacy_v2',
    'nova.api.openstack:LegacyV2CompatibleWrapper.__call__',
    'nova.api.openstack.compute.views.versions:ViewBuilder.build_versions',
    'nova.api.openstack.compute.views.versions:ViewBuilder.build_version',
    # Policies are registered with the enforcer that this makes.
    'nova.policy:init',
    'nova.policy:authorize',
    # Rescue, from the controller to the domain.
    'nova.api.openstack.compute.rescue:RescueController._rescue',
    'nova.compute.api:check_instance_lock',
    'nova.compute.api:check_instance_state',
    'nova.compute.utils:is_volume_backed_instance',
    'nova.objects.image_meta:ImageMeta.from_image_ref',
    'nova.virt.hardware:check_hw_rescue_props',
    'nova.virt.libvirt.blockinfo:get_rescue_device',
    'nova.virt.libvirt.blockinfo:get_rescue_bus',
    'nova.virt.libvirt.blockinfo:_get_stable_device_rescue_mapping',
    # Unrescue by a hard reboot.
    'nova.compute.manager:ComputeManager.unrescue_instance',
    'nova.compute.manager:ComputeManager._get_instance_block_device_info',
    'nova.compute.manager:ComputeManager._get_accel_info',
    'nova.compute.manager:ComputeManager._get_share_info',
    'nova.compute.manager:ComputeManager._mount_all_shares',
    'nova.compute.manager:ComputeVirtAPI.__init__',
    'nova.compute.share_management:ShareManager.get_share_info',
    'nova.compute.share_management:ShareManager.mount_all',
    'nova.virt.libvirt.driver:LibvirtDriver._hard_reboot',
    'nova.virt.libvirt.driver:LibvirtDriver._cleanup',
    'nova.virt.libvirt.driver:LibvirtDriver._undefine_domain',
    'nova.virt.libvirt.driver:LibvirtDriver._build_device_metadata',
    'nova.virt.libvirt.driver:LibvirtDriver._lvm_disks',
    # The rescue disk is prepared before the guest goes down, and the way back.
    'nova.virt.libvirt.driver:LibvirtDriver.power_off',
    'nova.virt.libvirt.driver:LibvirtDriver._create_guest',
    'nova.virt.libvirt.driver:LibvirtDriver._create_guest_with_network',
    'nova.virt.libvirt.driver:LibvirtDriver._create_configdrive',
    'nova.virt.libvirt.driver:LibvirtDriver._get_guest_storage_config',
    'nova.virt.libvirt.driver:LibvirtDriver._get_existing_domain_xml',
    'nova.virt.libvirt.driver:LibvirtDriver._get_volume_config',
    'nova.virt.libvirt.driver:LibvirtDriver._connect_volume',
    # Live migration of a rescued server.
    'nova.api.openstack.compute.migrate_server:MigrateServerController._migrate_live',
    'nova.api.openstack.compute.server_migrations:ServerMigrationsController._force_complete',
    'nova.compute.manager:ComputeManager._do_live_migration',
    'nova.compute.manager:ComputeManager._do_pre_live_migration_from_source',
    'nova.compute.manager:ComputeManager._live_migration_cleanup_flags',
    'nova.compute.manager:ComputeManager._poll_rescued_instances',
    'nova.compute.manager:ComputeManager._post_live_migration',
    'nova.compute.manager:ComputeManager._rollback_live_migration',
    'nova.compute.manager:ComputeManager.check_can_live_migrate_destination',
    'nova.compute.manager:ComputeManager.check_can_live_migrate_source',
    'nova.compute.manager:ComputeManager.pre_live_migration',
    'nova.compute.resource_tracker:ResourceTracker._get_traits',
    'nova.conductor.manager:ComputeTaskManager._live_migrate',
    'nova.conductor.tasks.live_migrate:LiveMigrationTask._execute',
    'nova.conductor.tasks.live_migrate:LiveMigrationTask._find_destination',
    'nova.virt.libvirt.driver:LibvirtDriver._create_images_and_backing',
    'nova.virt.libvirt.driver:LibvirtDriver._live_migration_operation',
    'nova.virt.libvirt.driver:LibvirtDriver.rollback_live_migration_at_destination',
    'nova.virt.libvirt.imagecache:ImageCacheManager._age_and_verify_cached_images',
    'nova.virt.libvirt.utils:copy_image',
    'nova.virt.libvirt.utils:get_disk_backing_file',
    'nova.virt.libvirt.utils:get_instance_path_at_destination',
    # What the driver reports reaches the compute node's statistics.
    'nova.compute.resource_tracker:ResourceTracker._copy_resources',
    'nova.compute.stats:Stats.digest_stats',
    # Who the caller is, and that it does not travel over RPC.
    'nova.context:RequestContext.elevated',
    'nova.context:RequestContext.to_dict',
)

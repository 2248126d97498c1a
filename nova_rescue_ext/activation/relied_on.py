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
digests are verified, too. What a file of digests has beside these is what the
package overrides.
"""

CALLABLES = (
    # The version headers: where they are read and written.
    'nova.api.openstack.wsgi:Resource._process_stack',
    'nova.api.openstack.wsgi:Fault.__call__',
    'nova.api.openstack.wsgi:Request.is_legacy_v2',
    'nova.api.openstack:LegacyV2CompatibleWrapper.__call__',
    'nova.api.openstack.compute.views.versions:ViewBuilder.build_versions',
    'nova.api.openstack.compute.views.versions:ViewBuilder.build_version',
    'nova.api.openstack.api_version_request:is_supported',
    # Policies are registered with the enforcer that this makes.
    'nova.policy:get_enforcer',
    'nova.policy:init',
    'nova.policy:authorize',
    # The commands that need Nova's database.
    'nova.config:parse_args',
    'nova.context:get_admin_context',
    # Rescue, from the controller to the domain.
    'nova.api.openstack.compute.rescue:RescueController._rescue',
    'nova.compute.api:check_instance_lock',
    'nova.compute.api:check_instance_state',
    'nova.compute.utils:is_volume_backed_instance',
    'nova.objects.image_meta:ImageMeta.from_image_ref',
    'nova.image.glance:API.get',
    'nova.objects.block_device:BlockDeviceMappingList.root_bdm',
    'nova.objects.image_meta:ImageMetaProps.get',
    'nova.utils:instance_sys_meta',
    'nova.volume.cinder:API.get',
    'nova.virt.hardware:check_hw_rescue_props',
    'nova.virt.libvirt.blockinfo:get_disk_bus_for_device_type',
    'nova.virt.libvirt.utils:get_machine_type',
    'nova.virt.libvirt.blockinfo:get_rescue_device',
    'nova.virt.libvirt.blockinfo:get_rescue_bus',
    'nova.virt.libvirt.blockinfo:_get_stable_device_rescue_mapping',
    # The rescue disk is prepared before the guest goes down, and the way back.
    'nova.compute.manager:reverts_task_state',
    'nova.compute.manager:ComputeManager._error_out_instance_on_exception',
    'nova.compute.manager:ComputeManager._resume_guests_state',
    'nova.compute.utils:add_instance_fault_from_exc',
    'nova.objects.instance:Instance.refresh',
    'nova.objects.instance:Instance.save',
    # A message that comes too late is told by its event only.
    'nova.compute.utils:EventReporter.__init__',
    'nova.compute.utils:EventReporter.__exit__',
    'nova.virt.libvirt.driver:LibvirtDriver.power_off',
    'nova.virt.libvirt.driver:LibvirtDriver._create_guest',
    'nova.virt.libvirt.driver:LibvirtDriver._clean_shutdown',
    'nova.virt.libvirt.driver:LibvirtDriver._create_configdrive',
    'nova.virt.libvirt.driver:LibvirtDriver.destroy',
    'nova.virt.libvirt.guest:Guest.get_xml_desc',
    'nova.virt.libvirt.guest:Guest.is_active',
    'nova.virt.libvirt.host:Host.get_guest',
    'nova.objects.block_device:BlockDeviceMapping.save',
    'nova.virt.libvirt.driver:LibvirtDriver._get_guest_storage_config',
    'nova.virt.libvirt.driver:LibvirtDriver._get_existing_domain_xml',
    'nova.virt.libvirt.driver:LibvirtDriver._get_volume_config',
    'nova.virt.libvirt.driver:LibvirtDriver._connect_volume',
    # What is left of a rescue is deleted: these delete what they are given.
    'nova.storage.rbd_utils:RBDDriver.__init__',
    'nova.storage.rbd_utils:RBDDriver.cleanup_volumes',
    'nova.virt.libvirt.storage.lvm:remove_volumes',
    'nova.virt.libvirt.utils:get_instance_path',
    # Unrescue by a hard reboot.
    'nova.objects.instance:Instance.get_network_info',
    'nova.objects.share_mapping:ShareMappingList.activate_all',
    'nova.compute.manager:ComputeManager._poll_rescued_instances',
    'nova.compute.manager:ComputeManager._get_instance_block_device_info',
    'nova.compute.manager:ComputeManager._get_accel_info',
    'nova.compute.manager:ComputeManager._get_share_info',
    'nova.compute.manager:ComputeManager._mount_all_shares',
    'nova.compute.manager:ComputeVirtAPI.__init__',
    'nova.compute.share_management:ShareManager.get_share_info',
    'nova.compute.share_management:ShareManager.mount_all',
    'nova.virt.libvirt.driver:LibvirtDriver._hard_reboot',
    'nova.virt.libvirt.driver:LibvirtDriver.delete_instance_files',
    'nova.virt.libvirt.driver:LibvirtDriver._undefine_domain',
    'nova.virt.libvirt.driver:LibvirtDriver._build_device_metadata',
    'nova.virt.libvirt.driver:LibvirtDriver._lvm_disks',
    # Live migration of a rescued server.
    'nova.api.openstack.compute.migrate_server:MigrateServerController'
    '._migrate_live',
    'nova.api.openstack.compute.server_migrations:ServerMigrationsController'
    '._force_complete',
    'nova.api.openstack.compute.servers:ServersController.delete',
    'nova.api.openstack.compute.servers:ServersController._delete',
    'nova.api.openstack.compute.deferred_delete:DeferredDeleteController'
    '._force_delete',
    'nova.servicegroup.api:API.service_is_up',
    'nova.conductor.tasks.live_migrate:LiveMigrationTask._get_compute_info',
    'nova.objects.block_device:BlockDeviceMapping.is_volume',
    'nova.objects.migration:Migration.save',
    'nova.virt.block_device:get_volume_id',
    'nova.virt.driver:block_device_info_get_mapping',
    'nova.virt.hardware:get_number_of_serial_ports',
    'nova.virt.libvirt.driver:LibvirtDriver._get_instance_disk_info',
    'nova.virt.libvirt.guest:Guest.get_all_disks',
    'nova.virt.libvirt.imagecache:get_cache_fname',
    'nova.virt.libvirt.vif:LibvirtGenericVIFDriver.get_config',
    'nova.compute.manager:ComputeManager._do_pre_live_migration_from_source',
    'nova.compute.manager:ComputeManager._live_migration_cleanup_flags',
    'nova.compute.manager:ComputeManager._rollback_live_migration',
    'nova.compute.manager:ComputeManager._notify_live_migrate_abort_end',
    'nova.console.serial:release_port',
    'nova.network.neutron:API.setup_networks_on_host',
    'nova.objects.instance:Instance.apply_migration_context',
    'nova.objects.instance:Instance.drop_migration_context',
    'nova.compute.manager:ComputeManager._post_live_migration_update_host',
    'nova.compute.manager:ComputeManager.live_migration',
    'nova.compute.manager:ComputeManager.get_diagnostics',
    'nova.compute.manager:ComputeManager.post_live_migration_at_destination',
    'nova.compute.rpcapi:ComputeAPI.get_diagnostics',
    'nova.compute.rpcapi:ComputeAPI.post_live_migration_at_destination',
    'nova.scheduler.client.report:SchedulerReportClient.move_allocations',
    'nova.virt.libvirt.driver:LibvirtDriver.get_host_ip_addr',
    'nova.compute.manager:ComputeManager.check_can_live_migrate_destination',
    'nova.compute.manager:ComputeManager.check_can_live_migrate_source',
    'nova.compute.resource_tracker:ResourceTracker._get_traits',
    'nova.virt.libvirt.driver:LibvirtDriver._create_images_and_backing',
    'nova.virt.libvirt.driver:LibvirtDriver._live_migration',
    'nova.virt.libvirt.driver:LibvirtDriver._live_migration_monitor',
    'nova.virt.libvirt.migration:find_job_type',
    'nova.virt.libvirt.driver:LibvirtDriver'
    '.rollback_live_migration_at_destination',
    'nova.virt.libvirt.imagecache:ImageCacheManager'
    '._age_and_verify_cached_images',
    'nova.virt.libvirt.utils:copy_image',
    'nova.virt.libvirt.utils:get_instance_path_at_destination',
    # What the driver reports reaches the compute node's statistics.
    'nova.compute.resource_tracker:ResourceTracker._copy_resources',
    'nova.compute.stats:Stats.digest_stats',
    # What a server may be given, and whose rights Nova asks with.
    'nova.image.glance:GlanceClientWrapper.__init__',
    'nova.image.glance:GlanceClientWrapper.call',
    'nova.image.glance:_extract_attributes_v2',
    'nova.volume.cinder:cinderclient',
    'nova.volume.cinder:API.get_snapshot',
    'nova.volume.cinder:_untranslate_snapshot_summary_view',
    'nova.network.neutron:API._validate_requested_port_ids',
    'nova.network.neutron:API._process_security_groups',
    # Rebuild of servers that never booted: nova-api.
    # It lets a ValidationError pass, by which we get a request back.
    'nova.api.openstack.wsgi:expected_errors',
    'nova.api.openstack.compute.servers:ServersController'
    '._get_requested_networks',
    'nova.api.validation.validators:_SchemaValidator.__init__',
    'nova.api.validation.validators:_SchemaValidator.validate',
    'nova.accelerator.cyborg:get_device_profile_request_groups',
    'nova.compute.api:API.get',
    'nova.compute.api:API.placementclient',
    'nova.compute.api:API._check_auto_disk_config',
    'nova.compute.api:API._check_image_arch',
    'nova.compute.api:API._check_support_vnic_accelerator',
    'nova.compute.api:API._check_support_vnic_remote_managed',
    'nova.compute.utils:delete_arqs_if_needed',
    'nova.context:set_target_cell',
    'nova.context:target_cell',
    'nova.objects.service:get_minimum_version_all_cells',
    'nova.pci.request:get_pci_requests_from_flavor',
    'nova.scheduler.client.report:SchedulerReportClient'
    '.delete_allocation_for_instance',
    'nova.scheduler.client.report:SchedulerReportClient'
    '.get_allocations_for_consumer',
    'nova.utils:get_system_metadata_from_image',
    'nova.utils:temporary_mutation',
    'nova.virt.hardware:get_pci_numa_policy_constraint',
    'nova.virt.hardware:get_vtpm_constraint',
    'nova.virt.hardware:numa_get_constraints',
    'nova.volume.cinder:API.attachment_create',
    'nova.volume.cinder:API.attachment_get',
    'nova.compute.api:API._provision_instances',
    'nova.compute.api:API._create_instance',
    'nova.compute.api:API._populate_instance_for_create',
    'nova.compute.api:API._validate_and_build_base_options',
    'nova.compute.api:API._checks_for_create_and_rebuild',
    'nova.compute.api:API._inherit_properties_from_image',
    'nova.compute.api:API._retrieve_trusted_certs_object',
    'nova.compute.api:API._check_requested_networks',
    'nova.compute.api:API._get_image',
    'nova.compute.api:API._get_instance',
    'nova.compute.api:API._delete_while_booting',
    'nova.block_device:get_bdm_image_metadata',
    'nova.network.neutron:API.create_resource_requests',
    # Whose rights it asks with, and what its answer means.
    'nova.network.neutron:API.validate_networks',
    'nova.network.neutron:get_client',
    'nova.network.neutron:API._check_external_network_attach',
    'nova.network.neutron:API._validate_requested_network_ids',
    'nova.crypto:ensure_vtpm_secret',
    'nova.limit.utils:use_unified_limits',
    'nova.objects.quotas:Quotas.check_deltas',
    'nova.scheduler.utils:request_spec_for_limits',
    'nova.limit.placement:enforce_num_instances_and_resources',
    'nova.limit.placement:enforce_num_instances_and_flavor',
    'nova.conductor.api:ComputeTaskAPI.schedule_and_build_instances',
    'nova.conductor.rpcapi:ComputeTaskAPI.schedule_and_build_instances',
    # ... nova-conductor, and what both write.
    'nova.conductor.manager:ComputeTaskManager.__init__',
    'nova.conductor.manager:ComputeTaskManager.report_client',
    'nova.conductor.manager:ComputeTaskManager._bury_in_cell0',
    'nova.conductor.manager:ComputeTaskManager._delete_build_request',
    'nova.conductor.manager:ComputeTaskManager._map_instance_to_cell',
    'nova.conductor.manager:ComputeTaskManager._cleanup_when_reschedule_fails',
    'nova.conductor.manager:ComputeTaskManager._create_block_device_mapping',
    'nova.objects.request_spec:RequestSpec._get_update_primitives',
    'nova.objects.request_spec:RequestSpec._from_db_object',
    'nova.objects.request_spec:RequestSpec.save',
    'nova.objects.request_spec:RequestSpec'
    '._get_by_instance_uuid_from_db',
    'nova.objects.request_spec:RequestSpec'
    '.generate_request_groups_from_pci_requests',
    'nova.objects.build_request:BuildRequest.create',
    'nova.objects.build_request:BuildRequest.get_new_instance',
    'nova.objects.build_request:BuildRequest._load_instance',
    'nova.objects.instance:Instance.create',
    'nova.db.main.api:constraint',
    'nova.db.main.api:equal_any',
    'nova.db.main.api:instance_destroy',
    'nova.db.main.api:pick_context_manager_reader',
    'nova.db.main.api:pick_context_manager_writer',
    # rebuild-failed: as the scheduler reads the metadata of an aggregate.
    'nova.scheduler.filters.extra_specs_ops:match',
    # Who the caller is, and that it does not travel over RPC.
    'nova.context:RequestContext.__init__',
    'nova.context:RequestContext.can',
    'nova.context:RequestContext.elevated',
    'nova.context:RequestContext.to_dict',
)

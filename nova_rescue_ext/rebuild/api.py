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


"""Rebuild in nova-api's compute API: the steps and their order.

Until step 2 nothing is changed, and a refusal leaves the server as it was.
From step 2 on the BuildRequest is the server. At every point a GET finds
exactly one of the row in the cell and the BuildRequest, and as long as the row
is there no message was sent (hazard: crash-between-steps).
"""

import inspect

from nova.accelerator import cyborg
from nova import block_device
from nova.compute import api as compute_api
from nova.compute import utils as compute_utils
from nova.compute import vm_states
import nova.conf
from nova import context as nova_context
from nova import exception
from nova import objects
from nova.pci import request as pci_request
from nova.policies import servers as server_policies
from nova import utils
from nova.virt import hardware
from oslo_db import exception as db_exc
from oslo_log import log as logging
from oslo_utils import excutils
from oslo_utils import timeutils

from nova_rescue_ext import claims
from nova_rescue_ext.claims import images as claimed_images
from nova_rescue_ext.claims import networks as claimed_networks
from nova_rescue_ext.claims import ownership
from nova_rescue_ext import exception as ext_exception
from nova_rescue_ext import host_names
from nova_rescue_ext.i18n import _
from nova_rescue_ext import microversion
from nova_rescue_ext import rebuild as feature
from nova_rescue_ext.rebuild import answers
from nova_rescue_ext.rebuild import block_devices
from nova_rescue_ext.rebuild import clone
from nova_rescue_ext.rebuild import database
from nova_rescue_ext.rebuild import kept
from nova_rescue_ext.rebuild import quota
from nova_rescue_ext.rebuild import task_api
from nova_rescue_ext.rebuild import wsgi

CONF = nova.conf.CONF
LOG = logging.getLogger(__name__)


def rebuild(original, self, context, instance, image_href, admin_password,
            files_to_inject=None, reimage_boot_volume=False, **kwargs):
    """Build a server that never booted again.

    Everything else is Nova's own rebuild.

    :raises: what Nova's controller answers, or an HTTP error
    """
    asked = microversion.is_requested(
        context, microversion.REBUILD_NEVER_BOOTED)
    if not asked or not feature.never_booted(instance):
        wsgi.check_for_nova(context)
        return original(context, instance, image_href, admin_password,
                        files_to_inject=files_to_inject,
                        reimage_boot_volume=reimage_boot_volume, **kwargs)
    wishes = wsgi.wishes(context)
    with answers.translated():
        _rebuild_never_booted(
            self, context, instance, _Wanted(
                image_href if wishes.has_image else None, admin_password,
                files_to_inject or [], reimage_boot_volume, wishes.networks,
                kwargs))


class _Wanted:
    """What the caller asked for."""

    def __init__(self, image_id, admin_password, files, reimage_boot_volume,
                 networks, changes):
        self.image_id = image_id
        self.admin_password = admin_password
        self.files = files
        self.reimage_boot_volume = reimage_boot_volume
        self.networks = networks
        self.changes = dict(changes)
        # For Ironic, which has nothing to preserve yet.
        self.changes.pop('preserve_ephemeral', None)


class _Found:
    """The server as it is found, read once (step 0)."""

    def __init__(self, context, uuid):
        mapping = objects.InstanceMapping.get_by_instance_uuid(context, uuid)
        if mapping.cell_mapping is None:
            answers.conflict(_('The server is being built.'))
        self.cell = mapping.cell_mapping
        self._versions = {}
        with nova_context.target_cell(context, self.cell) as cctxt:
            self.instance = objects.Instance.get_by_uuid(
                cctxt, uuid, expected_attrs=clone.ATTRIBUTES)
            self.bdms = block_devices.read(cctxt, uuid)
            self.history = database.read_history(cctxt, uuid)
        try:
            self.spec, self.kept = kept.read_with_spec(context, uuid)
        except exception.RequestSpecNotFound:
            answers.conflict(_(
                'Nova has no record any more of what was asked for when this '
                'server was created. Delete it and create another.'))
        self.root_bdm = next(
            (bdm for bdm in self.bdms if bdm.boot_index == 0), None)
        self.is_bfv = compute_utils.is_volume_backed_instance(
            context, self.instance,
            objects.BlockDeviceMappingList(objects=self.bdms))

    def call(self, method, context, *args):
        """Call a method of Nova that takes min_comp_ver since Nova 31."""
        if 'min_comp_ver' not in inspect.signature(method).parameters:
            return method(context, *args)
        if not self._versions:
            self._versions['min_comp_ver'] = (
                objects.service.get_minimum_version_all_cells(
                    context, ['nova-compute']))
        return method(context, *args, **self._versions)


# Nova's wrapper is outermost there, too: a locked server answers 409 whatever
# else is the matter.
@compute_api.check_instance_lock
@compute_api.check_instance_state(vm_state=[vm_states.ERROR],
                                  must_have_launched=False)
def _rebuild_never_booted(self, context, instance, wanted):
    found = _Found(context, instance.uuid)
    # The request context is targeted at the server's cell since it was looked
    # up, and objects that are made here are not to be.
    nova_context.set_target_cell(context, None)
    _check_at_rest(context, found)
    _check_asked_of_no_host(self, context, found)
    ownership.check_volumes(context, found.instance, found.bdms)
    ownership.check_key_pair(context, found.instance,
                             wanted.changes.get('key_name'))
    networks = _networks(context, found, wanted)
    new = clone.instance(context, found.instance,
                         found.spec.availability_zone)
    bdms = clone.block_device_mappings(context, found.bdms)
    image, origin = _choose_image(self, context, found, wanted, new, bdms)
    _change(self, context, wanted, new, image, origin, found)
    _request_resources(self, context, found, new, image, networks)
    ownership.check_secrets(context, new, found.spec.image, bdms)
    found.spec.requested_destination = kept.kept_destination(found.kept)
    # Step 1.
    block_devices.repair(context, self.volume_api, found.instance, found.bdms,
                         bdms)
    # One may be gone, and have to be made again.
    ownership.check_volumes(context, new, bdms)
    block_devices.check_sources(context, self.image_api, self.volume_api, new,
                                bdms)
    _build(self, context, wanted, found, new, bdms, image, networks)


def _check_at_rest(context, found):
    """Refuse while somebody may still be at work on the server."""
    instance = found.instance
    if instance.task_state is not None:
        raise exception.InstanceInvalidState(
            attr='task_state', instance_uuid=instance.uuid,
            state=instance.task_state, method='rebuild')
    if not feature.is_on_no_host(instance):
        answers.conflict(
            _('The server never booted, but host%s has not given it up and '
              'may have a guest of it. Ask the operator to check the host, or '
              'delete the server and create another.'),
            host_names.after(context, instance.host))
    if found.cell.is_cell0():
        return
    # A conductor or compute sets ERROR before it has cleaned up.
    quiet = CONF.rescue_ext.rebuild_quiet_period
    since = instance.updated_at or instance.created_at
    if (instance.system_metadata.get('network_allocated') == 'True'
            or not timeutils.is_older_than(since, quiet)):
        answers.conflict(
            _('The failed build of the server is still being cleaned up. Try '
              'again in %d seconds.'), quiet)


def _check_asked_of_no_host(self, context, found):
    """Refuse while a host may yet get the message to build the server.

    An operator may have reset the state of one that is being built, and so
    does Nova with all servers of a request of which one fails. Such a server
    has its allocation; a failed build has none.
    """
    if found.cell.is_cell0():
        return
    if self.placementclient.get_allocations_for_consumer(
            context, found.instance.uuid):
        answers.conflict(
            _('A host may yet build the server, as placement has an '
              'allocation of it. If it is still in ERROR in some minutes, ask '
              'the operator to see that no host does, and to delete the '
              'allocation; or delete the server and create another.'))


def _networks(context, found, wanted):
    """The networks to build with, which the server may be connected to.

    Missing is not the same as none: Nova would allocate what there is.
    """
    origin = claims.Origin.CALLER
    networks = wanted.networks
    if networks is None:
        origin = claims.Origin.SERVER
        try:
            networks = kept.kept_networks(found.kept)
        except KeyError:
            answers.conflict(_(
                'The networks that were requested for this server were not '
                'kept, as it was created before Nova could rebuild such '
                'servers. Name them with "networks" in the request, as for a '
                'new server (compute 2.37 or later).'))
    elif len(networks) and not networks.no_allocate:
        # As Nova's create does.
        context.can(server_policies.SERVERS % 'create:attach_network',
                    target={'user_id': found.instance.user_id,
                            'project_id': found.instance.project_id})
    claimed_networks.check(context, found.instance, networks, origin)
    claimed_networks.check_security_groups(context, found.instance,
                                           found.spec.security_groups)
    return networks


def _choose_image(self, context, found, wanted, new, bdms):
    """Find and check the image, and make the server one of that image.

    :returns: the image as Nova's builder takes it, a dict; the claims.Origin
        of it
    """
    instance = found.instance
    root = next((bdm for bdm in bdms if bdm.boot_index == 0), None)
    origin = claims.Origin.SERVER
    if found.is_bfv:
        if root is None:
            answers.conflict(_(
                'The boot volume of the server was deleted when its creation '
                'failed. Delete the server and create another.'))
        _choose_image_of_volume(wanted, root)
        if wanted.image_id and root.image_id:
            origin = claims.Origin.CALLER
        block_devices.check_source(context, self.image_api, self.volume_api,
                                   instance, root, origin)
        return block_device.get_bdm_image_metadata(
            context, self.image_api, self.volume_api, bdms,
            legacy_bdm=False), origin
    image_id = instance.image_ref
    if wanted.image_id:
        image_id, origin = wanted.image_id, claims.Origin.CALLER
    try:
        image = claimed_images.read(context, instance, self.image_api,
                                    image_id, origin)
    except (ext_exception.NotVisible, ext_exception.NotOfProject,
            ext_exception.ImageMalformed) as exc:
        answers.bad_request(_('%s. Choose an image with imageRef.'),
                            answers.as_sentence(exc))
    new.image_ref = image_id
    if root is not None and root.source_type == 'image':
        root.image_id = image_id
    return image, origin


def _choose_image_of_volume(wanted, root):
    if not wanted.image_id or wanted.image_id == root.image_id:
        return
    if (root.source_type == 'image' and not root.volume_id
            and wanted.reimage_boot_volume):
        root.image_id = wanted.image_id
        return
    raise exception.ImageUnacceptable(
        image_id=wanted.image_id, reason=_(
            'Unable to rebuild with a different image for a volume-backed '
            'server.'))


def _change(self, context, wanted, new, image, origin, found):
    """Apply what the request changes, after Nova's checks of it.

    What is absent is kept.
    """
    changes = wanted.changes
    auto_disk_config = changes.pop('auto_disk_config', None)
    self._check_auto_disk_config(image=image,
                                 auto_disk_config=auto_disk_config)
    self._check_image_arch(image=image)
    found.call(self._checks_for_create_and_rebuild, context,
               new.image_ref or None, image, new.flavor,
               changes.get('metadata', {}), wanted.files, found.root_bdm)
    if 'key_name' in changes:
        _change_key(context, new, changes.pop('key_name'))
    if 'trusted_certs' in changes:
        _change_trusted_certs(self, context, found, new,
                              changes.pop('trusted_certs'))
    # Nova takes more than ids, and asks with the rights of whoever calls.
    new.kernel_id, new.ramdisk_id = claimed_images.check_kernel_and_ramdisk(
        context, new, self.image_api, image, origin)
    if auto_disk_config is None and not wanted.image_id:
        auto_disk_config = new.auto_disk_config
    new.update(self._inherit_properties_from_image(image, auto_disk_config))
    kept_metadata = {
        key: value for key, value in new.system_metadata.items()
        if not key.startswith(utils.SM_IMAGE_PROP_PREFIX)}
    new.system_metadata = {
        **kept_metadata, 'image_base_image_ref': new.image_ref or '',
        **utils.get_system_metadata_from_image(image, new.flavor)}
    new.update(changes)


def _change_key(context, new, name):
    key_pairs = [objects.KeyPair.get_by_name(context, context.user_id, name)
                 ] if name else []
    new.key_name = key_pairs[0].name if key_pairs else None
    new.key_data = key_pairs[0].public_key if key_pairs else None
    new.keypairs = objects.KeyPairList(objects=key_pairs)


def _change_trusted_certs(self, context, found, new, certificates):
    if certificates and found.is_bfv:
        raise exception.CertificateValidationFailed(
            message=_('Image certificate validation is not supported for '
                      'volume-backed servers.'))
    new.trusted_certs = self._retrieve_trusted_certs_object(
        context, certificates, rebuild=True)


def _request_resources(self, context, found, new, image, networks):
    """Make anew what depends on image, ports and device profiles.

    Nova stores only a part of it with the RequestSpec, and the ports may have
    been changed in the meantime.
    """
    spec = found.spec
    flavor = new.flavor
    image_meta = objects.ImageMeta.from_dict(image)
    if self._check_requested_networks(
            ownership.in_project(context, new), networks, 1) < 1:
        raise exception.PortLimitExceeded()
    affinity = hardware.get_pci_numa_policy_constraint(flavor, image_meta)
    pci_requests = pci_request.get_pci_requests_from_flavor(
        flavor, affinity_policy=affinity)
    network_metadata, port_groups, level = (
        self.network_api.create_resource_requests(
            context, networks, pci_requests, affinity_policy=affinity))
    found.call(self._check_support_vnic_accelerator, context, networks)
    self._check_support_vnic_remote_managed(context, networks)
    new.pci_requests = spec.pci_requests = pci_requests
    new.numa_topology = spec.numa_topology = hardware.numa_get_constraints(
        flavor, image_meta)
    spec.image = image_meta
    spec.num_instances = 1
    spec.requested_resources = list(port_groups or [])
    spec.generate_request_groups_from_pci_requests()
    profile = flavor.extra_specs.get('accel:device_profile')
    if profile:
        spec.requested_resources.extend(
            cyborg.get_device_profile_request_groups(context, profile))
    spec.request_level_params = level or objects.RequestLevelParams()
    if network_metadata:
        spec.network_metadata = network_metadata
    if networks is not None:
        spec.requested_networks = networks


def _build(self, context, wanted, found, new, bdms, image, networks):
    """Steps 2 to 5."""
    uuid = new.uuid
    spec = found.spec
    tags = clone.tags(context, found.instance)
    build_request = objects.BuildRequest(
        context, instance=new, instance_uuid=uuid, project_id=new.project_id,
        block_device_mappings=bdms, tags=tags)
    _take_over(context, build_request, spec, found)
    try:
        # A leaked allocation would make the scheduler take this for a move,
        # and would count for the quota. Nobody else can have made one: this
        # is the only rebuild.
        self.placementclient.delete_allocation_for_instance(
            context, uuid, force=True)
        compute_utils.delete_arqs_if_needed(context, found.instance)
        quota.check(context, found.instance, spec)
        _destroy_row(context, found)
    except Exception:
        with excutils.save_and_reraise_exception():
            _undo(context, found)
    if not database.hand_over(context, uuid, networks):
        database.forget(context, uuid)
        raise exception.InstanceNotFound(instance_id=uuid)
    LOG.info('The server never booted and is built again; it was in cell '
             '%s.', found.cell.identity, instance_uuid=uuid)
    try:
        task_api.rebuild_instance_in_cell0(
            self.compute_task_api, context, build_request, spec, image,
            wanted.admin_password, wanted.files, networks, bdms, tags)
    except Exception:
        # It may have been delivered: never send it again by itself.
        LOG.exception('The message to build this server was perhaps not '
                      'delivered. If the server stays in BUILD, its owner can '
                      'delete it, and "nova-rescue-ext-manage '
                      'rebuild-interrupted" can finish or undo the rebuild.',
                      instance_uuid=uuid)


def _take_over(context, build_request, spec, found):
    older = found.kept.get('history', [])
    try:
        database.take_over(
            context, build_request, spec, found.cell,
            found.instance.created_at,
            rebuild=kept.new_attempt(found.cell, older), sent=None,
            history=older + found.history)
    except (db_exc.DBDuplicateEntry, ext_exception.MappingChanged):
        answers.conflict(_('The server is being rebuilt or deleted already.'))


def _destroy_row(context, found):
    """Step 3."""
    uuid = found.instance.uuid
    with nova_context.target_cell(context, found.cell) as cctxt:
        try:
            database.destroy_row(cctxt, found.instance)
        except exception.ConstraintNotMet:
            answers.conflict(_('The server was changed or is being deleted.'))
        except exception.InstanceNotFound:
            raise
        except db_exc.DBError:
            with excutils.save_and_reraise_exception() as reraise:
                # Was the answer lost, or the question?
                reraise.reraise = _has_row(cctxt, uuid)


def _has_row(context, uuid):
    try:
        objects.Instance.get_by_uuid(context, uuid, expected_attrs=[])
    except exception.InstanceNotFound:
        return False
    return True


def _undo(context, found):
    """The row in the cell is the server again."""
    uuid = found.instance.uuid
    if database.give_back(context, uuid, found.cell):
        return
    # The owner deleted the server while it was in BUILD: finish that.
    with nova_context.target_cell(context, found.cell) as cctxt:
        try:
            database.destroy_row(cctxt, found.instance)
        except (exception.ConstraintNotMet, exception.InstanceNotFound):
            pass
    database.forget(context, uuid)

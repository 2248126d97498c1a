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


"""What is to be built for a server that never booted: nothing is saved here.

All objects are new, and are what the owner asked for, with the changes of the
rebuild request. Nova's own checks of a create are made on the way.
"""

from __future__ import annotations

import functools
import inspect
import typing

from nova.accelerator import cyborg
from nova import availability_zones
from nova import block_device
from nova.compute import api as compute_api
from nova import context as nova_context
from nova import exception as nova_exception
from nova.network import security_group_api
from nova import objects
from nova.pci import request as pci_request
from nova.policies import servers as server_policies
from nova import utils
from nova.virt import hardware

from nova_rescue_ext import claims
from nova_rescue_ext.claims import images as claimed_images
from nova_rescue_ext.claims import networks as claimed_networks
from nova_rescue_ext.claims import ownership
from nova_rescue_ext.claims import volumes as claimed_volumes
from nova_rescue_ext import exception
from nova_rescue_ext.i18n import _
from nova_rescue_ext.rebuild import block_devices
from nova_rescue_ext.rebuild import failed_server
from nova_rescue_ext.rebuild import ports
from nova_rescue_ext.rebuild import refusals
from nova_rescue_ext.rebuild import request as rebuild_request
from nova_rescue_ext.rebuild import spec_extras
from nova_rescue_ext.rebuild import unsaved_objects


# None are networks, too.
_NOTHING = object()


class NewBuild:
    """The objects that Nova's builder takes.

    :param api: Nova's compute API
    :param context: a RequestContext that is targeted at no cell
    :param server: what is found of the server; its RequestSpec is changed
    :param request: what the caller asks for
    :ivar instance: an Instance
    :ivar bdms: a BlockDeviceMappingList
    :ivar networks: a NetworkRequestList, or None for what there is
    :ivar spec: the RequestSpec
    :ivar spec_before: what has to be put back into the RequestSpec if the
        rebuild is undone, as plain data, or None
    :ivar tags: a TagList
    :ivar image: a dict, as Nova's builder takes it
    """

    def __init__(self, api: compute_api.API,
                 context: nova_context.RequestContext,
                 server: failed_server.FailedServer,
                 request: rebuild_request.RebuildRequest) -> None:
        self._api = api
        self._context = context
        self._server = server
        self._request = request
        self._min_version = _MinVersion(context)
        self.spec = server.spec
        self.instance = unsaved_objects.instance(
            context, server.instance, server.spec.availability_zone)
        self.bdms = unsaved_objects.block_device_mappings(
            context, server.bdms)
        block_devices.forget_filled_in(self.bdms,
                                       server.extras.get('devices'))
        self.tags = unsaved_objects.tags(context, server.instance)
        self.spec_before: dict[str, typing.Any] | None = None
        self.image: dict[str, typing.Any] = {}
        self._origin = claims.Origin.SERVER  # of the image
        self.networks: objects.NetworkRequestList | None = None
        self._over_quota: typing.Any = _NOTHING
        self.left_ports: ports.LeftPorts = None  # type: ignore

    def prepare(self) -> None:
        """Have everything as the owner and the caller ask for it.

        :raises: RebuildRefused, or what Nova's checks raise
        """
        self._check_zone()
        self._choose_networks()
        self._choose_security_groups()
        self._choose_image()
        self._check_image()
        self._change_key_pair()
        self._change_trusted_certs()
        self._take_properties_of_image()
        self.instance.update(self._request.fields)
        self._request_resources()
        self.spec.requested_destination = spec_extras.destination_of(
            self._server.extras)

    def _check_zone(self) -> None:
        """Refuse a zone that was renamed or whose aggregate was deleted.

        Whether the scheduler would take no host of another zone depends on
        its configuration.

        :raises: ZoneUnavailable
        """
        zone = self.spec.availability_zone
        if zone and zone not in availability_zones.get_availability_zones(
                self._context.elevated(), self._api.host_api,
                get_only_available=True):
            raise exception.ZoneUnavailable(zone=zone)

    def _choose_networks(self) -> None:
        """Missing is not the same as none: Nova would allocate what there is.

        :raises: NetworksUnknown; ClaimRefused; PolicyNotAuthorized
        """
        instance = self._server.instance
        self.networks, origin = self._request.networks, claims.Origin.CALLER
        if self.networks is None:
            origin = claims.Origin.SERVER
            try:
                self.networks = spec_extras.networks_of(self._server.extras)
            except KeyError:
                raise exception.NetworksUnknown()
        elif len(self.networks) and not self.networks.no_allocate:
            # As Nova's create does.
            self._context.can(
                server_policies.SERVERS % 'create:attach_network',
                target={'user_id': instance.user_id,
                        'project_id': instance.project_id})
        claimed_networks.check(self._context, instance, self.networks, origin)

    def _choose_security_groups(self) -> None:
        """See that they still exist, as Nova does for a new server.

        :raises: SecurityGroupLost; ClaimRefused
        """
        context = ownership.in_project(self._context, self.instance)
        names = self._request.security_groups
        if names is None:
            claimed_networks.check_security_groups(
                self._context, self._server.instance,
                self.spec.security_groups)
            names = [group.uuid if 'uuid' in group else group.name
                     for group in self.spec.security_groups or ()]
        groups = []
        for name in names:
            try:
                groups += self._api._check_requested_secgroups(
                    context, [name])
            except nova_exception.SecurityGroupNotFound:
                raise exception.SecurityGroupLost(group=name)
        if self._request.security_groups is not None:
            # All else is made anew by each rebuild.
            self.spec_before = spec_extras.security_groups_to_primitive(
                self.spec)
            self.spec.security_groups = security_group_api.\
                populate_security_groups(groups)

    def _choose_image(self) -> None:
        if self._server.is_volume_backed:
            self._choose_image_of_volume()
            root = self._root_bdm()
            # That of the volume may have been named instead.
            if (root is not None and root.image_id
                    and root.image_id == self._request.image_id):
                self._origin = claims.Origin.CALLER
            block_devices.check_source(
                self._context, self._api.image_api, self._api.volume_api,
                self._server.instance, root, self._origin)
            self.image = block_device.get_bdm_image_metadata(
                self._context, self._api.image_api, self._api.volume_api,
                self.bdms, legacy_bdm=False)
            return
        image_id = self._server.instance.image_ref
        if self._request.image_id:
            image_id = self._request.image_id
            self._origin = claims.Origin.CALLER
        try:
            self.image = claimed_images.read(
                self._context, self._server.instance, self._api.image_api,
                image_id, self._origin)
        except (exception.NotVisible, exception.NotOfProject,
                exception.ImageMalformed) as refused:
            raise exception.ImageUnavailable(
                claim=refusals.as_sentence(refused))
        self.instance.image_ref = image_id
        root = self._root_bdm()
        if root is not None and root.source_type == 'image':
            root.image_id = image_id

    def _choose_image_of_volume(self) -> None:
        """Take another image only where Nova still makes the volume.

        :raises: BootVolumeDeleted; ImageUnacceptable
        """
        root = self._root_bdm()
        if root is None:
            raise exception.BootVolumeDeleted()
        wanted = self._request.image_id
        if not wanted or wanted == self._image_of_volume(root):
            return
        if (root.source_type == 'image' and not root.volume_id
                and self._request.reimage_boot_volume):
            root.image_id = wanted
            return
        raise nova_exception.ImageUnacceptable(image_id=wanted, reason=_(
            'Unable to rebuild with a different image for a volume-backed '
            'server.'))

    def _image_of_volume(self, root: objects.BlockDeviceMapping) -> str | None:
        """The image that the boot volume is or was made from."""
        if not root.volume_id:
            return root.image_id
        try:
            volume = claimed_volumes.read(
                self._context, self._server.instance, self._api.volume_api,
                root.volume_id)
        except nova_exception.VolumeNotFound:
            return root.image_id
        return volume.get('volume_image_metadata', {}).get('image_id')

    def _root_bdm(self) -> objects.BlockDeviceMapping | None:
        return next((bdm for bdm in self.bdms if bdm.boot_index == 0), None)

    def _check_image(self) -> None:
        self._api._check_auto_disk_config(
            image=self.image, auto_disk_config=self._request.auto_disk_config)
        self._api._check_image_arch(image=self.image)
        self._with_min_version(
            self._api._checks_for_create_and_rebuild,
            self.instance.image_ref or None, self.image, self.instance.flavor,
            self._request.metadata, self._request.files,
            self._server.root_bdm)

    def _change_key_pair(self) -> None:
        if not self._request.changes_key:
            return
        name = self._request.key_name
        key_pairs = [objects.KeyPair.get_by_name(
            self._context, self._context.user_id, name)] if name else []
        self.instance.key_name = key_pairs[0].name if key_pairs else None
        self.instance.key_data = (
            key_pairs[0].public_key if key_pairs else None)
        self.instance.keypairs = objects.KeyPairList(objects=key_pairs)

    def _change_trusted_certs(self) -> None:
        if not self._request.changes_trusted_certs:
            return
        certificates = self._request.trusted_certs
        if certificates and self._server.is_volume_backed:
            raise nova_exception.CertificateValidationFailed(
                message=_('Image certificate validation is not supported for '
                          'volume-backed servers.'))
        self.instance.trusted_certs = self._api._retrieve_trusted_certs_object(
            self._context, certificates, rebuild=True)

    def _take_properties_of_image(self) -> None:
        """Replace what the image of the failed build has left."""
        instance = self.instance
        # Nova takes more than ids, and asks with the rights of whoever calls.
        instance.kernel_id, instance.ramdisk_id = (
            claimed_images.check_kernel_and_ramdisk(
                self._context, instance, self._api.image_api, self.image,
                self._origin))
        instance.root_device_name = block_device.prepend_dev(
            block_device.properties_root_device_name(
                self.image.get('properties', {})))
        auto_disk_config = self._request.auto_disk_config
        if auto_disk_config is None and not self._request.image_id:
            auto_disk_config = instance.auto_disk_config
        instance.update(self._api._inherit_properties_from_image(
            self.image, auto_disk_config))
        not_of_image = {
            key: value for key, value in instance.system_metadata.items()
            if not key.startswith(utils.SM_IMAGE_PROP_PREFIX)}
        instance.system_metadata = {
            **not_of_image, 'image_base_image_ref': instance.image_ref or '',
            **utils.get_system_metadata_from_image(
                self.image, instance.flavor)}

    def _request_resources(self) -> None:
        """Make anew what depends on image, ports and device profiles.

        Nova stores only a part of it with the RequestSpec, and the ports may
        have been changed in the meantime.
        """
        spec, flavor = self.spec, self.instance.flavor
        image_meta = objects.ImageMeta.from_dict(self.image)
        self.left_ports = ports.LeftPorts(
            self._api.network_api, self._context, self._server.instance,
            self._named_ports())
        self._check_other_networks()
        affinity = hardware.get_pci_numa_policy_constraint(flavor, image_meta)
        pci_requests = pci_request.get_pci_requests_from_flavor(
            flavor, affinity_policy=affinity)
        network_metadata, port_groups, level = (
            self._api.network_api.create_resource_requests(
                self._context, self.networks, pci_requests,
                affinity_policy=affinity))
        self._with_min_version(
            self._api._check_support_vnic_accelerator, self.networks)
        self._api._check_support_vnic_remote_managed(
            self._context, self.networks)
        self.instance.pci_requests = spec.pci_requests = pci_requests
        self.instance.numa_topology = spec.numa_topology = (
            hardware.numa_get_constraints(flavor, image_meta))
        spec.image = image_meta
        spec.num_instances = 1
        spec.requested_resources = list(port_groups or [])
        spec.generate_request_groups_from_pci_requests()
        profile = flavor.extra_specs.get('accel:device_profile')
        if profile:
            spec.requested_resources.extend(
                cyborg.get_device_profile_request_groups(
                    self._context, profile))
        spec.request_level_params = level or objects.RequestLevelParams()
        if network_metadata:
            spec.network_metadata = network_metadata
        if self.networks is not None:
            spec.requested_networks = self.networks

    def _named_ports(self) -> set[str] | None:
        """The ids of all ports that were ever named, also in this request.

        :returns: a set, or None if that was not kept
        """
        named = spec_extras.named_ports(self._server.extras)
        return None if named is None else named | {
            network.port_id for network in self.networks or ()
            if network.port_id}

    def _check_other_networks(self) -> None:
        """Check all but the ports that release_ports() is about to free.

        :raises: PortLimitExceeded, or what Nova's checks raise
        """
        others = self.left_ports.not_of(self.networks)
        # An empty list would say that no network was named.
        if others is self.networks or len(others):
            try:
                self._check_networks(others)
            except nova_exception.PortLimitExceeded:
                if not self.left_ports.made_by_nova:
                    raise
                # They count, and are about to be deleted.
                self._over_quota = others

    def _check_networks(self, networks: typing.Any) -> None:
        """Make Nova's checks of requested networks and of the port quota.

        :raises: PortLimitExceeded, or what Nova's checks raise
        """
        if self._api._check_requested_networks(
                ownership.in_project(self._context, self.instance),
                networks, 1) < 1:
            raise nova_exception.PortLimitExceeded()

    def release_ports(self, check: typing.Callable[[], None]) -> None:
        """Have the ports that the failed build left with the server free.

        :param check: raises if they may be those of another attempt
        :raises: PortsNotReleased, or what Nova's checks raise
        """
        self.left_ports.release(check)
        released = self.left_ports.of(self.networks)
        if released:
            self._check_networks(released)
        if self._over_quota is not _NOTHING:
            self._check_networks(self._over_quota)

    def _with_min_version(self, method: typing.Callable[..., typing.Any],
                          *args: object) -> typing.Any:
        """Call a method of Nova that takes min_comp_ver since Nova 31."""
        if 'min_comp_ver' not in inspect.signature(method).parameters:
            return method(self._context, *args)
        return method(self._context, *args, min_comp_ver=self._min_version)


@functools.total_ordering
class _MinVersion:
    """The lowest version of all nova-computes, read if it is looked at.

    Few requests have anything that depends on it.
    """

    def __init__(self, context: nova_context.RequestContext) -> None:
        self._context = context

    @functools.cached_property
    def _version(self) -> int:
        return objects.service.get_minimum_version_all_cells(
            self._context, ['nova-compute']) or 0

    def __eq__(self, other: object) -> bool:
        return self._version == other

    def __lt__(self, other: int) -> bool:
        return self._version < other

    def __hash__(self) -> int:
        return hash(self._version)

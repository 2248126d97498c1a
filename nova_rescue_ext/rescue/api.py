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

from __future__ import annotations

import contextlib
import copy
import typing

from nova.compute import api as compute_api
from nova.compute import utils as compute_utils
from nova.compute import vm_states
from nova import conf
from nova import context as nova_context
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
from nova_rescue_ext.rescue import wsgi
from nova_rescue_ext import state_check
from nova_rescue_ext.task import conflict
from nova_rescue_ext import tpm

CONF = conf.CONF
LOG = logging.getLogger(__name__)


class _Chosen(typing.NamedTuple):
    """The image to rescue with.

    :ivar metadata: as Nova's client of Glance gives it
    :ivar context: the RequestContext that it was read with
    """

    id: str
    metadata: claimed_images.Image
    context: nova_context.RequestContext
    origin: claims.Origin

    @property
    def is_offered(self) -> bool:
        """Whether only the operator's credentials can read it."""
        return self.origin is claims.Origin.OPERATOR


def rescue(original: typing.Callable[..., None], self: compute_api.API,
           context: nova_context.RequestContext, instance: objects.Instance,
           rescue_password: str | None = None,
           rescue_image_ref: str | None = None, clean_shutdown: bool = True,
           allow_bfv_rescue: bool = False) -> None:
    """Rescue with an image that was chosen and checked.

    From compute-rescue 1.1 (specs: rescue-image, stable-device-rescue),
    and for boot-from-volume servers also from compute 2.87
    (spec: bfv-rescue). Everything else is Nova's own rescue.

    :raises: InstanceNotRescuable, answered with 400; PolicyNotAuthorized,
        403; InstanceInvalidState, 409
    """
    _check_compute_service(self, context, instance)
    _forget_earlier_rescue(context, instance)
    checks: list[contextlib.AbstractContextManager[object]] = []
    if microversion.is_requested(context, microversion.RESCUE):
        bdms = objects.BlockDeviceMappingList.get_by_instance_uuid(
            context, instance.uuid)
        volume_backed = compute_utils.is_volume_backed_instance(
            context, instance, bdms)
        if allow_bfv_rescue or not volume_backed:
            chosen = _choose(self, context, instance, bdms, volume_backed,
                             rescue_image_ref)
            rescue_image_ref = chosen.id
            instance_metadata.request_rescue(
                instance, context.compute_rescue,
                chosen.id if chosen.is_offered else None,
                wsgi.requested(instance.uuid).timeout,
                _access(context, instance),
                image.ready_line(chosen.metadata)
                if microversion.is_requested(context,
                                             microversion.RESCUE_SESSION)
                else None,
                request_id=context.request_id)
            original = _with_image(original, self, chosen)
            if _keeps_tpm(context, instance):
                # Nova would refuse it.
                checks.append(tpm.LeftOut(instance.uuid))
    changes = 'system_metadata' in instance.obj_what_changed()
    if changes or microversion.is_requested(context, microversion.RESCUE):
        checks.append(conflict.loser_is_refused(instance, 'rescue'))
    with contextlib.ExitStack() as stack:
        for check in checks:
            stack.enter_context(check)
        # A whole rescue or unrescue may come before it is saved.
        original(context,
                 state_check.AsRead(instance) if changes else instance,
                 rescue_password=rescue_password,
                 rescue_image_ref=rescue_image_ref,
                 clean_shutdown=clean_shutdown,
                 allow_bfv_rescue=allow_bfv_rescue)


def _check_compute_service(api: compute_api.API,
                           context: nova_context.RequestContext,
                           instance: objects.Instance) -> None:
    """Refuse a rescue that would wait in a queue after its password is shown.

    Also for callers who did not opt in, if the service is known to be down.

    :raises: ComputeServiceDown, answered with 409
    """
    if not instance.host:
        return  # for Nova's own checks to refuse
    try:
        is_up = capabilities.is_up(api, context, instance.host, unknown=True)
    except Exception as exc:
        LOG.debug('Could not check whether the compute service is up: %s',
                  exc, instance=instance)
        return
    if not is_up:
        raise ext_exception.ComputeServiceDown(instance_uuid=instance.uuid)


def _forget_earlier_rescue(context: nova_context.RequestContext,
                           instance: objects.Instance) -> None:
    """Forget the request and the record of an earlier rescue.

    A host with the package overwrites the record itself, and needs the old
    one until then: it says what a failed unrescue left behind.
    """
    instance_metadata.forget_rescue_request(instance)
    if not instance_metadata.has_record(instance):
        return
    try:
        node = objects.ComputeNode.get_by_host_and_nodename(
            context, instance.host, instance.node)
    except exception.ComputeHostNotFound:
        return  # Nova refuses the rescue
    if not capabilities.host_can(node, microversion.RESCUE):
        instance_metadata.forget_rescue(instance)


# Nova checks this, too, but only after us: a locked server answers 409,
# whatever its image is like.
@compute_api.check_instance_lock
@compute_api.check_instance_state(
    vm_state=[vm_states.ACTIVE, vm_states.STOPPED, vm_states.ERROR])
def _choose(api: compute_api.API, context: nova_context.RequestContext,
            instance: objects.Instance, bdms: objects.BlockDeviceMappingList,
            volume_backed: bool, rescue_image_ref: str | None) -> _Chosen:
    """Find the image to rescue with, and check all that can be checked.

    :raises: InstanceNotRescuable
    """
    if volume_backed:
        policies.authorize(context, policies.BOOT_FROM_VOLUME, instance)
    chosen = _find(api, context, instance, bdms, volume_backed,
                   rescue_image_ref)
    compute_node = _compute_node(context, instance)
    image.check(instance, chosen.id, chosen.metadata, compute_node)
    if microversion.is_requested(context, microversion.RESCUE_SESSION):
        image.check_ready_line(instance, chosen.id, chosen.metadata)
    _check_hardware(instance, chosen, volume_backed, compute_node)
    if chosen.is_offered:
        _check_host(context, instance, compute_node, _(
            'only the package can read the default rescue image %s')
            % chosen.id)
    if volume_backed and not image.is_for_stable_devices(chosen.metadata):
        _check_host(context, instance, compute_node, _(
            'image %s does not have both hw_rescue_bus and '
            'hw_rescue_device') % chosen.id)
    _check_host_takes_parameters(context, instance, compute_node)
    if _keeps_tpm(context, instance):
        _check_tpm(context, instance, compute_node)
    if (chosen.id != instance.image_ref
            and capabilities.host_can(compute_node, microversion.RESCUE)):
        # Otherwise the rescue uses the server's own kernel and ramdisk.
        image.get_kernel_and_ramdisk(chosen.context, instance, api.image_api,
                                     chosen.metadata, chosen.origin)
    return chosen


def _find(api: compute_api.API, context: nova_context.RequestContext,
          instance: objects.Instance, bdms: objects.BlockDeviceMappingList,
          volume_backed: bool, rescue_image_ref: str | None) -> _Chosen:
    """Find the image to rescue with.

    In this order: the one in the request, the operator's default, the image
    of the root volume or else the base image of the server.

    :raises: InstanceNotRescuable
    """
    if rescue_image_ref:
        return _read(api, context, instance, rescue_image_ref,
                     claims.Origin.CALLER)
    default_image = _default_image()
    if default_image:
        return _read_default(api, context, instance, default_image)
    if volume_backed:
        image_id, metadata = image.of_root_volume(
            context, instance, bdms, api.volume_api, api.image_api)
        return _Chosen(image_id, metadata, context, claims.Origin.SERVER)
    # A claim, too: users can set the base image of their own images.
    image_id = (utils.instance_sys_meta(instance).get('image_base_image_ref')
                or instance.image_ref)
    return _read(api, context, instance, image_id, claims.Origin.SERVER)


def _read(api: compute_api.API, context: nova_context.RequestContext,
          instance: objects.Instance, image_id: str,
          origin: claims.Origin) -> _Chosen:
    metadata = image.get(context, instance, api.image_api, image_id, origin)
    return _Chosen(image_id, metadata, context, origin)


def _read_default(api: compute_api.API, context: nova_context.RequestContext,
                  instance: objects.Instance, image_id: str) -> _Chosen:
    """Read the operator's default image, even if only they can see it."""
    try:
        metadata = claimed_images.find(context, instance, api.image_api,
                                       image_id)
    except ext_exception.ClaimRefused as exc:
        image.refuse_claim(instance, exc)
    if metadata is None:
        return _read(api, image.operator_context(instance), instance,
                     image_id, claims.Origin.OPERATOR)
    # The same as if the caller had named it.
    return _Chosen(image_id, metadata, context, claims.Origin.CALLER)


def _check_hardware(instance: objects.Instance, chosen: _Chosen,
                    volume_backed: bool,
                    compute_node: objects.ComputeNode) -> None:
    """Check the hardware that the image asks for, in the domain it gets.

    The host decides which kind of domain that is, if [rescue_ext]
    stable_devices differs there.
    """
    properties = objects.ImageMeta.from_dict(chosen.metadata).properties
    if volume_backed or {'hw_rescue_device', 'hw_rescue_bus'} & set(
            chosen.metadata['properties']):
        if not chosen.metadata['properties'].get('kernel_id'):
            # A kernel boots with every firmware.
            image.check_with_stable_devices(instance, chosen.id, properties,
                                            compute_node)
    elif CONF.rescue_ext.stable_devices != 'always':
        image.check_with_own_hardware(instance, chosen.id, properties)


def _compute_node(context: nova_context.RequestContext,
                  instance: objects.Instance) -> objects.ComputeNode:
    try:
        return objects.ComputeNode.get_by_host_and_nodename(
            context, instance.host, instance.node)
    except exception.ComputeHostNotFound:
        image.refuse(instance, _(
            'its compute node%s is no longer known. Ask the operator to bring '
            'its nova-compute back.')
            % host_names.after(context, instance.node))


def _default_image() -> str | None:
    return (CONF.rescue_ext.default_rescue_image
            or CONF.libvirt.rescue_image_id)


def _check_host(context: nova_context.RequestContext,
                instance: objects.Instance, compute_node: objects.ComputeNode,
                why: str) -> None:
    """Check that the host has the package, where stock Nova would fail.

    Stock Nova would have powered the server off by then.

    :param why: what the host needs it for, in words
    """
    if not capabilities.host_can(compute_node, microversion.RESCUE):
        image.refuse(instance, _(
            'its compute node%(node)s does not serve compute-rescue 1.1, and '
            '%(why)s. Choose an image that you can see and that has both '
            'properties, hw_rescue_bus and hw_rescue_device, with '
            'rescue_image_ref, or ask the operator to upgrade the node.')
            % {'node': host_names.after(context, instance.node), 'why': why})


def _check_host_takes_parameters(context: nova_context.RequestContext,
                                 instance: objects.Instance,
                                 compute_node: objects.ComputeNode) -> None:
    names = wsgi.requested(instance.uuid).names()
    if names and not capabilities.host_can(compute_node,
                                           microversion.RESCUE_SESSION):
        image.refuse(instance, _(
            'its compute node%(node)s does not serve compute-rescue 1.4, '
            'which %(names)s needs. Leave that out, or ask the operator to '
            'upgrade the node.') % {
                'node': host_names.after(context, instance.node),
                'names': ', '.join(names)})


def _keeps_tpm(context: nova_context.RequestContext,
               instance: objects.Instance) -> bool:
    return (microversion.is_requested(context, microversion.RESCUE_SESSION)
            and tpm.has_tpm(instance))


def _check_tpm(context: nova_context.RequestContext,
               instance: objects.Instance,
               compute_node: objects.ComputeNode) -> None:
    """Refuse what could cost a server its TPM, or the way back.

    :raises: InstanceNotRescuable
    """
    if not capabilities.keeps_tpms(compute_node):
        image.refuse(instance, _(
            'it has a TPM, and its compute node%s could lose that in a '
            'rescue, which takes compute-rescue 1.4, libvirt 8.9.0 and Nova '
            '31.3.0, 32.2.0 or later. Ask the operator to upgrade the node.')
            % host_names.after(context, instance.node))
    if (wsgi.requested(instance.uuid).timeout is not None
            and tpm.is_of_user(instance)):
        image.refuse(instance, _(
            'the secret of its TPM can be read only with the token of a user '
            'of its project (hw:tpm_secret_security is user), which '
            'nova-compute does not have after a timeout. Leave timeout out.'))


def _access(context: nova_context.RequestContext,
            instance: objects.Instance) -> instance_metadata.RescueAccess:
    """What the rescue system gets. The key pair is one of the caller's.

    :raises: InstanceNotRescuable
    """
    request = wsgi.requested(instance.uuid)
    if request.key_name is None:
        return instance_metadata.RescueAccess(user_data=request.user_data)
    try:
        key = objects.KeyPair.get_by_name(context, context.user_id,
                                          request.key_name)
    except exception.KeypairNotFound:
        image.refuse(instance, _(
            'you have no key pair %s. "openstack keypair list" shows those '
            'that you have.') % request.key_name)
    return instance_metadata.RescueAccess(
        key.name, key.public_key, key.type, request.user_data)


def _with_image(original: typing.Callable[..., None], api: compute_api.API,
                chosen: _Chosen) -> typing.Callable[..., None]:
    """Nova's rescue, bound to an API object that has read the image already.

    :param original: Nova's rescue, bound to api
    """
    stand_in = copy.copy(api)
    stand_in.image_api = _AlreadyRead(chosen.metadata)
    return original.__func__.__get__(stand_in)  # type: ignore[attr-defined]


class _AlreadyRead:
    """Stands in for Nova's client of Glance, with one image, already read.

    Nova refuses an image without hw_rescue_bus and hw_rescue_device for a
    boot-from-volume server, so it is told some. The host, which fills them
    in, reads the image itself.
    """

    def __init__(self, metadata: claimed_images.Image) -> None:
        self._metadata = metadata

    def get(self, context: nova_context.RequestContext, image_id: str,
            **kwargs: object) -> claimed_images.Image:
        """As nova.image.glance.API.get()."""
        return dict(self._metadata, properties={
            'hw_rescue_device': 'disk', 'hw_rescue_bus': 'virtio',
            **self._metadata['properties']})

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


"""``POST /servers/{id}/action {"rebuild": ...}`` before Nova's schema sees it.

For a server that never booted, ``imageRef`` may be absent, and ``networks``,
``security_groups`` and ``without_block_devices`` be present. Nova's schemas
say otherwise, so they are taken out here and handed to the compute API by the
thread that serves the request.
"""

from __future__ import annotations

import typing
import uuid

from nova.api.openstack import api_version_request
from nova import objects

from nova_rescue_ext import exception
from nova_rescue_ext import microversion
from nova_rescue_ext.microversion import parameters
from nova_rescue_ext import nova_types
from nova_rescue_ext.task import operation

if typing.TYPE_CHECKING:
    from nova.api.openstack.compute import servers
    from nova.api.openstack import wsgi

# Nova's schema wants an image; the compute API does not look at this one.
_NO_IMAGE = '00000000-0000-0000-0000-000000000000'

_WITHOUT = 'without_block_devices'
_WITHOUT_SCHEMA = {'type': 'array', 'minItems': 1, 'maxItems': 255,
                   'uniqueItems': True,
                   'items': {'type': 'string', 'format': 'uuid'}}


class BeyondSchema(operation.Operation):
    """What a rebuild request says beyond Nova's schema.

    :param instance_uuid: the UUID of the server
    :param has_image: whether it names an image
    :param networks: the NetworkRequestList to build with, or None for those
        that were kept
    :param security_groups: names or ids of those to build with, or None for
        those that the server has
    :param without: ids of what the block devices that are left out are, or
        are made from
    :ivar rebuilt: the Instance of the BuildRequest, once the message to build
        it was sent
    """

    def __init__(self, instance_uuid: str, has_image: bool = True,
                 networks: objects.NetworkRequestList | None = None,
                 security_groups: list[str] | None = None,
                 without: list[str] | None = None) -> None:
        super().__init__(instance_uuid)
        self.has_image = has_image
        self.networks = networks
        self.security_groups = security_groups
        self.without = without or []
        self.rebuilt: objects.Instance | None = None

    def says_nothing(self) -> bool:
        """Whether Nova can serve the request as it is."""
        return (self.has_image and self.networks is None
                and self.security_groups is None and not self.without)


def beyond_schema(instance_uuid: str) -> BeyondSchema:
    """What the request that this thread serves says beyond Nova's schema.

    :param instance_uuid: the UUID of the server
    """
    return (BeyondSchema.of_this_thread(instance_uuid)
            or BeyondSchema(instance_uuid))


def check_for_nova(instance: objects.Instance) -> None:
    """See that Nova gets a request as its caller has said it.

    :param instance: the Instance, not one that never booted
    :raises: LeftToNova
    """
    if not beyond_schema(instance.uuid).says_nothing():
        raise exception.LeftToNova()


def dispatch(original: nova_types.Original,
             method: typing.Callable[..., typing.Any], request: wsgi.Request,
             action_args: dict[str, typing.Any]) -> typing.Any:
    """Let a rebuild request of a server that never booted pass.

    Only the compute API knows whether the server is one. If it is not, Nova
    gets what the caller said, and answers as always.
    """
    wanted = parameters.of_action('rebuild', microversion.REBUILD_NEVER_BOOTED,
                                  method, request, action_args)
    if wanted is None:
        return original(method, request, action_args)
    has_image = 'imageRef' in wanted
    networks = security_groups = without = None
    if 'security_groups' in wanted:
        security_groups = _security_groups(request,
                                           wanted.pop('security_groups'))
    if _WITHOUT in wanted:
        without = _without(wanted.pop(_WITHOUT))
    if ('networks' in wanted
            and api_version_request.is_supported(request, '2.37')):
        networks = _networks(method.__self__,  # type: ignore[attr-defined]
                             request, wanted.pop('networks'))
    wanted.setdefault('imageRef', _NO_IMAGE)
    adjusted = dict(action_args, body=dict(action_args['body'],
                                           rebuild=wanted))
    try:
        with BeyondSchema(action_args['id'].lower(), has_image, networks,
                          security_groups, without):
            return original(method, request, adjusted)
    except exception.LeftToNova:
        return original(method, request, action_args)


def _networks(controller: servers.ServersController, request: wsgi.Request,
              networks: typing.Any) -> objects.NetworkRequestList | None:
    """Requested networks, by the schema of server create.

    :raises: ValidationError, HTTPBadRequest
    """
    _validate_as_create(request, networks=networks)
    return controller._get_requested_networks(networks)


def _security_groups(request: wsgi.Request,
                     security_groups: typing.Any) -> list[str]:
    """Requested security groups, by the schema of server create.

    :returns: a list of names or ids
    :raises: ValidationError
    """
    _validate_as_create(request, security_groups=security_groups)
    return [group['name'] for group in security_groups]


def _without(ids: typing.Any) -> list[str]:
    """Ids of what is gone.

    :returns: a list of UUIDs as Nova writes them
    :raises: ValidationError
    """
    parameters.validate({_WITHOUT: _WITHOUT_SCHEMA}, {_WITHOUT: ids})
    return [str(uuid.UUID(an_id)) for an_id in ids]


def _validate_as_create(request: wsgi.Request,
                        **wanted: typing.Any) -> None:
    # Nova's API modules import this one's target: late.
    from nova.api.openstack.compute.schemas import servers as schemas

    create = (schemas.create_v242
              if api_version_request.is_supported(request, '2.42')
              else schemas.create_v237)
    properties = create['properties']['server']['properties']
    parameters.validate({name: properties[name] for name in wanted}, wanted)

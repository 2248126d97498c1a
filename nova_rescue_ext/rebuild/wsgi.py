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

For a server that never booted, ``imageRef`` may be absent and ``networks`` be
present. Nova's schemas say otherwise, so both are taken care of here and what
the caller said is left on the request context, for the compute API.
"""

import typing

from nova.api.openstack import api_version_request

from nova_rescue_ext import exception
from nova_rescue_ext import microversion

# Nova's schema wants an image; the compute API does not look at this one.
_NO_IMAGE = '00000000-0000-0000-0000-000000000000'


class Wishes(typing.NamedTuple):
    """What a caller said beyond Nova's schema."""

    # Whether there is an image that the caller wants.
    has_image: bool = True
    # The NetworkRequestList to build with, None: those that were kept.
    networks: typing.Any = None


def wishes(context):
    """The Wishes of a rebuild request."""
    return getattr(context, 'rebuild_never_booted', Wishes())


def check_for_nova(context):
    """See that Nova gets a request as its caller has said it.

    :raises: LeftToNova
    """
    if wishes(context) != Wishes():
        raise exception.LeftToNova()


def dispatch(original, self, method, request, action_args):
    """Let a rebuild request of a server that never booted pass.

    Only the compute API knows whether the server is one. If it is not, Nova
    gets what the caller said, and answers as always.
    """
    adjusted = (_adjust(method.__self__, request, action_args)
                if getattr(method, 'wsgi_action', None) == 'rebuild' else None)
    if adjusted is None:
        return original(method, request, action_args)
    try:
        return original(method, request, adjusted)
    except exception.LeftToNova:
        del request.environ['nova.context'].rebuild_never_booted
        return original(method, request, action_args)


def _adjust(controller, request, action_args):
    """Leave on the context what Nova's schema refuses.

    :returns: what Nova is to see, or None if there is nothing to adjust
    """
    body = action_args.get('body')
    wanted = body.get('rebuild') if isinstance(body, dict) else None
    context = request.environ['nova.context']
    if (not isinstance(wanted, dict)
            or ('imageRef' in wanted and 'networks' not in wanted)
            or not microversion.is_requested(
                context, microversion.REBUILD_NEVER_BOOTED)):
        return None
    wanted = dict(wanted)
    networks = None
    if ('networks' in wanted
            and api_version_request.is_supported(request, '2.37')):
        networks = _networks(controller, request, wanted.pop('networks'))
    context.rebuild_never_booted = Wishes('imageRef' in wanted, networks)
    wanted.setdefault('imageRef', _NO_IMAGE)
    return dict(action_args, body=dict(body, rebuild=wanted))


def _networks(controller, request, networks):
    """Requested networks, by the schema of server create.

    :raises: ValidationError, HTTPBadRequest
    """
    # Nova's API modules import this one's target: late.
    from nova.api.openstack.compute.schemas import servers as schemas
    from nova.api.validation import validators

    create = (schemas.create_v242
              if api_version_request.is_supported(request, '2.42')
              else schemas.create_v237)
    schema = {'type': 'object', 'properties': {
        'networks': create['properties']['server']['properties']['networks']}}
    validators._SchemaValidator(schema).validate({'networks': networks})
    return controller._get_requested_networks(networks)

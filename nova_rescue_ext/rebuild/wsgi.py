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
from nova import exception
from nova.policies import servers as server_policies

from nova_rescue_ext import microversion
from nova_rescue_ext import rebuild

# Nova's schema wants an image; the compute API does not look at this one.
NO_IMAGE = '00000000-0000-0000-0000-000000000000'


class Wishes(typing.NamedTuple):
    """What a caller said beyond Nova's schema."""

    # The NetworkRequestList to build with, None: those that were kept.
    networks: typing.Any = None


def wishes(context):
    """The Wishes of a rebuild request."""
    return getattr(context, 'rebuild_never_booted', Wishes())


def dispatch(original, self, method, request, action_args):
    """Let a rebuild request of a server that never booted pass."""
    if getattr(method, 'wsgi_action', None) == 'rebuild':
        _prepare(method.__self__, request, action_args)
    return original(method, request, action_args)


def _prepare(controller, request, action_args):
    body = action_args.get('body')
    wanted = body.get('rebuild') if isinstance(body, dict) else None
    context = request.environ['nova.context']
    if (not isinstance(wanted, dict)
            or ('imageRef' in wanted and 'networks' not in wanted)
            or not microversion.is_requested(
                context, microversion.REBUILD_NEVER_BOOTED)
            or not _is_ours(controller, context, action_args['id'])):
        return
    wanted = dict(wanted)
    networks = None
    if ('networks' in wanted
            and api_version_request.is_supported(request, '2.37')):
        networks = _networks(controller, request, wanted.pop('networks'))
    wanted.setdefault('imageRef', NO_IMAGE)
    context.rebuild_never_booted = Wishes(networks)
    action_args['body'] = dict(body, rebuild=wanted)


def _is_ours(controller, context, instance_id):
    """Whether the caller may rebuild the server and it never booted.

    If not, Nova answers as always.
    """
    try:
        instance = controller.compute_api.get(context, instance_id)
    except exception.InstanceNotFound:
        return False
    allowed = context.can(
        server_policies.SERVERS % 'rebuild', fatal=False,
        target={'user_id': instance.user_id,
                'project_id': instance.project_id})
    return allowed and rebuild.never_booted(instance)


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

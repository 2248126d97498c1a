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

"""Claims: what the user of a server wrote, and others act on.

A user can write any id into a server, an image, a volume or a request to
create. An administrator who rescues or rebuilds the server, and nova-compute,
have more rights than they. So whatever the package reads, reserves or hands on
to Nova for a server comes from here. It is given out if it

* is public, or belongs to the project of the server, or is shared with it, or
* was named in this very request, by a caller who may read it, or
* is the operator's offer.

What a caller with no more rights than the server's project can read, that
project may read. Only an id is taken: to Nova's clients of other services some
texts mean more, such as the URL of another Glance, which would get the token.

A module for each service: :mod:`images`, :mod:`volumes` and :mod:`networks`;
:mod:`ownership` is about what Nova would make for the caller, or look up among
what is the caller's.
"""

from __future__ import annotations

import enum

from keystoneauth1 import exceptions as ks_exc
from nova import context as nova_context
from nova import objects
from oslo_log import log as logging
from oslo_utils import uuidutils

from nova_rescue_ext import exception

LOG = logging.getLogger(__name__)


class Origin(enum.Enum):
    """Who says that a server is to have something."""

    # The server, its volume or its image: anything that its user can write.
    SERVER = 'server'
    # The caller, in this very request.
    CALLER = 'caller'
    # The operator. It is read with the credentials in [service_user].
    OPERATOR = 'operator'


def has_only_rights_of(context: nova_context.RequestContext,
                       instance: objects.Instance) -> bool:
    """Whether a caller has no more rights than the project of a server.

    Then the service that is asked decides.

    :param context: the RequestContext that the service is asked with
    :param instance: the Instance
    """
    # Not by the auth plugin: nova-api gives every caller one, for their token.
    # The operator's context is an administrator's.
    return context.project_id == instance.project_id and not context.is_admin


def is_foreign(context: nova_context.RequestContext,
               instance: objects.Instance) -> bool:
    """Whether the caller acts in another project than that of a server."""
    return context.project_id != instance.project_id


def is_id(value: object) -> bool:
    """Whether this can be an id, and is nothing else."""
    return isinstance(value, str) and uuidutils.is_uuid_like(value)


def refusal(context: nova_context.RequestContext,
            instance: objects.Instance, what: str,
            claimed_id: object) -> exception.ClaimRefused:
    """What to raise for something that is not given out.

    In the same words whether it does not exist or is somebody else's.

    :param context: the RequestContext that it was asked for with
    :param instance: the Instance
    :param what: what it is, translated, for example _('image')
    :param claimed_id: what stands where an id should
    """
    if has_only_rights_of(context, instance):
        return exception.NotVisible(what=what, id=claimed_id)
    return exception.NotOfProject(what=what, id=claimed_id,
                                  project=instance.project_id)


def log_refusal(instance: objects.Instance, what: str,
                claimed_id: object) -> None:
    """Tell the operator that something was claimed that is not the user's."""
    LOG.warning('The server claims %(what)s %(id)s, which is not one of '
                'project %(project)s, and was not given it. If it is to have '
                'it, name it in the request, or share it with the project.',
                {'what': what, 'id': claimed_id,
                 'project': instance.project_id}, instance=instance)


def log_failure(instance: objects.Instance, what: str, service: str,
                exc: Exception) -> None:
    """Log why something cannot be read, without what may be secret.

    :param what: for example 'Image <id>'
    :param service: the name of the service, for example 'Glance'
    :param exc: what was raised
    """
    # The caller's token is the service's business: these are Nova's own.
    if isinstance(exc, (ks_exc.Unauthorized, ks_exc.AuthPluginException)):
        LOG.error('%(what)s cannot be read, as Keystone gives no token for '
                  'the credentials in [service_user]: %(error)s. Correct them '
                  'in nova.conf of this host and restart the service.',
                  {'what': what, 'error': type(exc).__name__},
                  instance=instance)
    else:
        LOG.warning('%(what)s cannot be read: %(error)s. Look for %(service)s '
                    'and Keystone, then let the user try again.',
                    {'what': what, 'error': type(exc).__name__,
                     'service': service}, instance=instance)

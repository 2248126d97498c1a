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

"""Claims: IDs that a user wrote, and on which others act.

A user can write any ID into a server, an image, a volume or a request. An
administrator who rescues or rebuilds the server, and nova-compute, have more
rights than that user. So whatever the package reads, reserves or passes to
Nova for a server is checked here. A server may have something that

* is public, or belongs to the project of the server, or is shared with it, or
* was named in this very request, by a caller who may read it, or
* is the operator's offer.

Whatever a caller can read with no more rights than those of the server's
project, the project may read. Only IDs are accepted: for Nova's clients other
texts have a meaning, such as the URL of another Glance, which would get the
token.

There is a module for each service: :mod:`images`, :mod:`volumes` and
:mod:`networks`. :mod:`ownership` is about what Nova would create for the
caller, or look up among the caller's own.
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
    # The operator, with the credentials in [service_user].
    OPERATOR = 'operator'


def has_only_rights_of(context: nova_context.RequestContext,
                       instance: objects.Instance) -> bool:
    """Whether a caller has no more rights than the project of a server.

    Then the other service can decide.

    :param context: the RequestContext that the service is asked with
    :param instance: the Instance
    """
    # The auth plugin does not tell: nova-api gives every caller one. The
    # operator's context is an administrator's.
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
    """Make the exception for something that the server may not have.

    It is the same whether that does not exist or belongs to others.

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
    """Log that a server claims something that its project may not use.

    :param instance: the Instance
    :param what: what it is, for example 'image'
    :param claimed_id: what stands where an ID should
    """
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
    # These are about Nova's own credentials, not the caller's token.
    if isinstance(exc, (ks_exc.Unauthorized, ks_exc.AuthPluginException)):
        LOG.error('%(what)s cannot be read, as Keystone issues no token for '
                  'the credentials in [service_user]: %(error)s. Correct them '
                  'in nova.conf of this host and restart the service.',
                  {'what': what, 'error': type(exc).__name__},
                  instance=instance)
    else:
        LOG.warning('%(what)s cannot be read: %(error)s. Check %(service)s '
                    'and Keystone, then have the user try again.',
                    {'what': what, 'error': type(exc).__name__,
                     'service': service}, instance=instance)

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


"""Unrescue in nova-api.

nova-compute calls this, too, for servers that have been in rescue for longer
than ``rescue_timeout``.
"""

from __future__ import annotations

import typing

from nova import context as nova_context
from nova import exception
from nova import objects
from oslo_log import log as logging

from nova_rescue_ext import instance_metadata
from nova_rescue_ext import microversion
from nova_rescue_ext import nova_types
from nova_rescue_ext.task import conflict
from nova_rescue_ext import tpm

if typing.TYPE_CHECKING:
    from nova.compute import api as compute_api

LOG = logging.getLogger(__name__)


def unrescue(original: nova_types.Original, self: compute_api.API,
             context: nova_context.RequestContext,
             instance: objects.Instance) -> None:
    """From compute-rescue 1.1 the server goes back to its previous state.

    But only if the caller named that version: other clients wait for an ACTIVE
    server.
    """
    instance_metadata.request_previous_state(
        instance, microversion.is_named(context, microversion.RESCUE))
    if not _is_timeout(context):
        with conflict.loser_is_refused(instance, 'unrescue'):
            return original(context, instance)
    # nova-compute unrescues all servers in one loop, which an exception ends
    # (hazard: rescue-timeout).
    try:
        if tpm.is_of_user(instance):
            LOG.info('The server is not unrescued after rescue_timeout, as '
                     'the secret of its TPM can be read only with the token '
                     'of a user of its project. They have to unrescue it.',
                     instance=instance)
            return None
        return original(context, instance)
    except exception.NovaException as exc:
        LOG.info('The server could not be unrescued after rescue_timeout. The '
                 'next run tries again: %s', exc.format_message(),
                 instance=instance)
    except Exception:
        LOG.exception('The server could not be unrescued after '
                      'rescue_timeout. The next run tries again.',
                      instance=instance)


def _is_timeout(context: nova_context.RequestContext) -> bool:
    return context.user_id is None

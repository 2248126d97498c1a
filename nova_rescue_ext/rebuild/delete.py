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


"""DELETE in nova-api, while a server that never booted is rebuilt."""

from __future__ import annotations

import typing

from nova.compute import vm_states
from nova import context as nova_context
from nova import exception
from nova import objects
from oslo_log import log as logging

from nova_rescue_ext import nova_types
from nova_rescue_ext import rebuild
from nova_rescue_ext.rebuild import database
from nova_rescue_ext.rebuild import spec_extras

if typing.TYPE_CHECKING:
    from nova.compute import api as compute_api

LOG = logging.getLogger(__name__)


def delete(original: nova_types.Original, self: compute_api.API,
           context: nova_context.RequestContext, instance: objects.Instance,
           delete_type: str, cb: typing.Callable[..., None],
           **instance_attrs: typing.Any) -> None:
    """Delete the server, also if it was rebuilt since it was looked up.

    Nova takes a row that is gone for a server that is deleted, and answers
    204. After a rebuild the server is somewhere else: it is looked up again.
    (Nova has changed the instance by then.)
    """
    never_booted = rebuild.never_booted(instance)
    is_on_its_way = True
    try:
        original(context, instance, delete_type, cb, **instance_attrs)
    except AttributeError:
        # A rebuild has begun, and Nova takes it for granted that the server
        # is in a cell. It has set the task state of the row by then.
        if not never_booted:
            raise
        is_on_its_way = False
    # Nova does not delete it if its termination is disabled.
    if not never_booted or instance.disable_terminate:
        return
    try:
        again = self.get(context, instance.uuid)
    except exception.InstanceNotFound:
        _forget_burial(context, instance.uuid)
        return
    if again.deleted or again.vm_state == vm_states.SOFT_DELETED or (
            is_on_its_way
            and again.task_state == instance_attrs.get('task_state')):
        return
    LOG.info('The server was rebuilt during its deletion. It is deleted '
             'again.', instance=again)
    original(context, again, delete_type, cb, **instance_attrs)


def _forget_burial(context: nova_context.RequestContext, uuid: str) -> None:
    """Remove the BuildRequest of a burial that was interrupted.

    It is listed as long as it is there. That of a new server is Nova's.
    """
    try:
        is_rebuilt = 'rebuild' in spec_extras.read(context, uuid)
    except exception.RequestSpecNotFound:
        return
    if is_rebuilt:
        database.remove_traces(context, uuid)

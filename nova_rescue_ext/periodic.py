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

"""The periodic task of nova-compute, with the libvirt driver."""

from __future__ import annotations

import typing
import weakref

from nova import context as nova_context
from oslo_utils import timeutils

from nova_rescue_ext import capabilities
from nova_rescue_ext import nova_types

if typing.TYPE_CHECKING:
    from nova import manager as nova_manager

_SECONDS = 60

_watches: weakref.WeakKeyDictionary[
    nova_manager.Manager, timeutils.StopWatch] = weakref.WeakKeyDictionary()


def periodic_tasks(original: nova_types.Original, self: nova_manager.Manager,
                   context: nova_context.RequestContext,
                   raise_on_error: bool = False) -> float | None:
    """Run Nova's periodic tasks and, at most once a minute, ours.

    :returns: what Nova returns: the seconds until the next call, or None if
        the service shuts down and nothing periodic may run
    """
    idle_for: float | None = original(context, raise_on_error=raise_on_error)
    if (idle_for is not None
            and capabilities.is_libvirt(getattr(self, 'driver', None))
            and _is_due(self)):
        from nova_rescue_ext.live_migration import periodic
        from nova_rescue_ext.rescue import readiness
        from nova_rescue_ext.rescue import timeouts

        periodic.look(self, context)
        rescued = timeouts.servers_in_rescue(self, context)
        readiness.resume(self, rescued)
        timeouts.unrescue_expired(self, context, rescued)
    return idle_for


def _is_due(manager: nova_manager.Manager) -> bool:
    watch = _watches.get(manager)
    if watch is None:
        watch = _watches[manager] = timeutils.StopWatch(_SECONDS)
    elif not watch.expired():
        return False
    watch.restart()
    return True

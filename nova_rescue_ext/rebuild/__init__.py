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


"""Rebuild of servers that never booted (spec: rebuild-in-cell0).

A server whose creation failed is built again under its own UUID, with
everything that its owner requested. Start reading at
:mod:`nova_rescue_ext.rebuild.api`, which has the steps in order. ``wsgi`` and
``api`` run in nova-api, ``conductor`` in nova-conductor. ``spec_extras`` holds
what both keep for later, and ``database`` all that is written by hand.
"""

from __future__ import annotations

from nova.compute import task_states
from nova.compute import vm_states
from nova import objects


def never_booted(instance: objects.Instance) -> bool:
    """Whether the creation of a server failed.

    :param instance: an Instance
    """
    return (instance.vm_state == vm_states.ERROR
            and instance.launched_at is None)


def is_on_no_host(instance: objects.Instance) -> bool:
    """Whether a server never booted and is assigned to no host.

    :param instance: an Instance
    """
    return never_booted(instance) and instance.host is None


def is_asked_of_no_host(instance: objects.Instance) -> bool:
    """Whether a server is to be built, and no host has begun that.

    :param instance: an Instance
    """
    return (instance.host is None
            and instance.vm_state == vm_states.BUILDING
            and instance.task_state == task_states.SCHEDULING)

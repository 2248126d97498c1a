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


"""What nova.conductor.api.ComputeTaskAPI gets in addition.

The spec, rebuild-in-cell0, gives it a method.
"""

from __future__ import annotations

import typing

from nova import context as nova_context
from nova import objects

if typing.TYPE_CHECKING:
    from nova.conductor import api as conductor_api


def rebuild_instance_in_cell0(
        self: conductor_api.ComputeTaskAPI,
        context: nova_context.RequestContext,
        build_request: objects.BuildRequest, request_spec: objects.RequestSpec,
        image: dict[str, typing.Any], admin_password: str,
        injected_files: list[typing.Any],
        requested_networks: objects.NetworkRequestList | None,
        block_device_mapping: objects.BlockDeviceMappingList,
        tags: objects.TagList | None) -> None:
    """Have a server built that never booted. Never call it twice for one.

    Through the RPC that builds new servers, so that conductors and computes of
    a cloud that is being upgraded understand it (spec: rebuild-in-cell0).

    :param self: the ComputeTaskAPI
    :param context: a RequestContext that is targeted at no cell
    :param build_request: the BuildRequest, which is the server
    :param request_spec: the RequestSpec
    :param image: a dict, as for a new server
    :param admin_password: for the server
    :param injected_files: for the server
    :param requested_networks: a NetworkRequestList, or None
    :param block_device_mapping: new objects: those of a BuildRequest that was
        read again make the conductor fail midway (hazard: reloaded-objects)
    :param tags: a TagList
    """
    self.schedule_and_build_instances(
        context, build_requests=[build_request], request_spec=[request_spec],
        image=image, admin_password=admin_password,
        injected_files=injected_files, requested_networks=requested_networks,
        block_device_mapping=block_device_mapping, tags=tags)

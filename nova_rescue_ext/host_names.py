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

"""The names of hosts, which Nova shows to administrators only."""

from __future__ import annotations

from nova import context as nova_context
from nova.policies import extended_server_attributes


def after(context: nova_context.RequestContext, name: str) -> str:
    """A host's name, to stand after a noun, for who may know it.

    Whether they may is what Nova asks before it shows the host of a server.

    :param context: the RequestContext of the caller
    :param name: the name of the host
    :returns: the name after a space, or nothing
    """
    return ' ' + name if may_be_known(context) else ''


def may_be_known(context: nova_context.RequestContext) -> bool:
    """Whether a caller may know the names of hosts.

    :param context: the RequestContext of the caller
    """
    return context.can(extended_server_attributes.BASE_POLICY_NAME,
                       fatal=False)

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

"""Serve a request, with more than the schemas of Nova know.

Nova validates a request after, and an answer before, it has passed here.
"""

from __future__ import annotations

import typing

from nova_rescue_ext import nova_types
from nova_rescue_ext.rebuild import fault
from nova_rescue_ext.rebuild import wsgi as rebuild_wsgi
from nova_rescue_ext.rescue import view
from nova_rescue_ext.rescue import wsgi as rescue_wsgi

if typing.TYPE_CHECKING:
    from nova.api.openstack import wsgi


def dispatch(original: nova_types.Original, self: wsgi.Resource,
             method: typing.Callable[..., typing.Any], request: wsgi.Request,
             action_args: dict[str, typing.Any]) -> typing.Any:
    """Call a method of one of Nova's controllers.

    :returns: its answer
    """
    with rescue_wsgi.beyond_schema(method, request, action_args) as arguments:
        answer = rebuild_wsgi.dispatch(original, method, request, arguments)
    fault.add_reasons(request, answer)
    view.add_rescues(request, answer)
    return answer

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

"""``POST /servers/{id}/action {"rescue": ...}`` before Nova's schema sees it.

``timeout`` is taken out and handed to the compute API by the thread that
serves the request.
"""

from __future__ import annotations

import contextlib
import typing

from nova import conf

from nova_rescue_ext import microversion
from nova_rescue_ext.microversion import parameters
from nova_rescue_ext.task import operation

if typing.TYPE_CHECKING:
    from nova.api.openstack import wsgi

CONF = conf.CONF

_MIN_TIMEOUT = 60  # nova-compute looks once a minute


class BeyondSchema(operation.Operation):
    """What a rescue request says beyond Nova's schema.

    :param instance_uuid: the UUID of the server
    :param timeout: after how many seconds to unrescue it, or None
    """

    def __init__(self, instance_uuid: str, timeout: int | None) -> None:
        super().__init__(instance_uuid)
        self.timeout = timeout


def requested_timeout(instance_uuid: str) -> int | None:
    """After how many seconds to unrescue a server; None for never.

    :param instance_uuid: the UUID of the server that this thread's request is
        for
    """
    request = BeyondSchema.of_this_thread(instance_uuid)
    return request.timeout if request else None


@contextlib.contextmanager
def beyond_schema(
        method: typing.Callable[..., typing.Any], request: wsgi.Request,
        action_args: dict[str, typing.Any]
) -> typing.Iterator[dict[str, typing.Any]]:
    """Take out what Nova's schema of a rescue does not have.

    :returns: a context manager, with the arguments that Nova gets
    :raises: ValidationError, answered with 400
    """
    wanted = parameters.of_action('rescue', microversion.RESCUE_SESSION,
                                  method, request, action_args)
    if not wanted or 'timeout' not in wanted:
        yield action_args
        return
    timeout = wanted.pop('timeout')
    parameters.validate({'timeout': {
        'type': 'integer', 'minimum': _MIN_TIMEOUT,
        'maximum': CONF.rescue_ext.max_rescue_timeout}}, {'timeout': timeout})
    body = dict(action_args['body'], rescue=wanted or None)
    with BeyondSchema(action_args['id'].lower(), timeout):
        yield dict(action_args, body=body)

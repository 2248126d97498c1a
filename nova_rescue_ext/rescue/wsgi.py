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

``timeout``, ``key_name`` and ``user_data`` are taken out and handed to the
compute API by the thread that serves the request.
"""

from __future__ import annotations

import contextlib
import typing

from nova import conf
from nova import exception

from nova_rescue_ext.i18n import _
from nova_rescue_ext import microversion
from nova_rescue_ext.microversion import parameters
from nova_rescue_ext.task import operation

if typing.TYPE_CHECKING:
    from nova.api.openstack import wsgi

CONF = conf.CONF

_USER_DATA = 'user_data'

_MIN_TIMEOUT = 60  # nova-compute looks once a minute


class BeyondSchema(operation.Operation):
    """What a rescue request says beyond Nova's schema.

    :param instance_uuid: the UUID of the server
    :param timeout: after how many seconds to unrescue it, or None
    :param key_name: the name of a key pair of the caller, or None
    :param user_data: base64 text, or None
    """

    def __init__(self, instance_uuid: str, timeout: int | None = None,
                 key_name: str | None = None,
                 user_data: str | None = None) -> None:
        super().__init__(instance_uuid)
        self.timeout = timeout
        self.key_name = key_name
        self.user_data = user_data

    def names(self) -> list[str]:
        """The parameters that the request has."""
        return [name for name in _schema() if getattr(self, name) is not None]


def requested(instance_uuid: str) -> BeyondSchema:
    """What the request that this thread serves says beyond Nova's schema.

    :param instance_uuid: the UUID of the server
    """
    return (BeyondSchema.of_this_thread(instance_uuid)
            or BeyondSchema(instance_uuid))


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
                                  method, request, action_args) or {}
    schema = _schema()
    ours = {name: wanted.pop(name) for name in schema if name in wanted}
    if not ours:
        yield action_args
        return
    _validate(schema, ours)
    body = dict(action_args['body'], rescue=wanted or None)
    with BeyondSchema(action_args['id'].lower(), **ours):
        yield dict(action_args, body=body)


def _validate(schema: dict[str, typing.Any],
              wanted: dict[str, typing.Any]) -> None:
    """Validate, without the user data in the words, which are logged.

    :raises: ValidationError
    """
    parameters.validate(schema, {name: value for name, value in wanted.items()
                                 if name != _USER_DATA})
    try:
        parameters.validate(schema, wanted)
    # Nova does not expect text that cannot be encoded.
    except (exception.ValidationError, UnicodeError):
        raise exception.ValidationError(detail=_(
            'Invalid input for field/attribute user_data. It must be base64 '
            'text of at most %d characters.')
            % schema[_USER_DATA]['maxLength']) from None


def _schema() -> dict[str, typing.Any]:
    # Nova's API modules import what overrides them: late.
    from nova.api.validation import parameter_types

    return {
        'timeout': {'type': 'integer', 'minimum': _MIN_TIMEOUT,
                    'maximum': CONF.rescue_ext.max_rescue_timeout},
        # As in Nova's schema of a server create.
        'key_name': parameter_types.name,
        'user_data': {'type': 'string', 'format': 'base64',
                      'maxLength': 65535,
                      # The format ignores all others, some databases not.
                      'pattern': r'^[A-Za-z0-9+/=\r\n]*$'},
    }

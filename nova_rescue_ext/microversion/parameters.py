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

"""Parameters of server actions that Nova's schemas do not have.

They are taken out of a request before Nova's schema sees it, by the version
that the caller opted in to.
"""

from __future__ import annotations

import typing

from nova_rescue_ext import microversion

if typing.TYPE_CHECKING:
    import microversion_parse
    from nova.api.openstack import wsgi


def of_action(name: str, version: microversion_parse.Version,
              method: typing.Callable[..., typing.Any], request: wsgi.Request,
              action_args: dict[str, typing.Any]
              ) -> dict[str, typing.Any] | None:
    """The parameters of an action of a caller who opted in.

    :param name: of the action, as in the body
    :param version: the lowest one that counts
    :param method: the method of Nova's controller
    :param request: the wsgi.Request
    :param action_args: the arguments of the method
    :returns: a copy of the caller's dict; None if it is another request, or
        has none
    """
    if getattr(method, 'wsgi_action', None) != name:
        return None
    body = action_args.get('body')
    parameters = body.get(name) if isinstance(body, dict) else None
    if (not isinstance(parameters, dict)
            or not microversion.is_requested(
                request.environ['nova.context'], version)):
        return None
    return dict(parameters)


def validate(properties: dict[str, typing.Any],
             parameters: dict[str, typing.Any]) -> None:
    """Validate parameters as Nova validates its own.

    :param properties: JSON schemas by name
    :raises: ValidationError, answered with 400
    """
    # Nova's API modules import what overrides them: late.
    from nova.api.validation import validators

    validators._SchemaValidator({
        'type': 'object', 'properties': properties}).validate(parameters)

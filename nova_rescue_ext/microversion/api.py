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


"""Parse, check and advertise ``compute-rescue`` in nova-api."""

import typing

import microversion_parse

from nova.api.openstack import wsgi

from nova_rescue_ext import exception
from nova_rescue_ext import microversion

_ENVIRON_VERSION = 'nova_rescue_ext.compute_rescue'
_HEADER = wsgi.API_VERSION_REQUEST_HEADER
_ENVIRON_HEADER = 'HTTP_' + _HEADER.upper().replace('-', '_')

_Original = typing.Callable[..., typing.Any]
_Headers = list[tuple[str, str]]
_Document = dict[str, typing.Any]


def set_api_version_request(original: _Original, self: wsgi.Request) -> None:
    """Take ``compute-rescue`` out of the version header, beside ``compute``.

    The version is kept in the WSGI environment, and on the request context
    for the code behind the controllers. The legacy v2 API has no
    microversions and stays at 1.0.

    :raises: InvalidVersion (answered with 400), UnsupportedVersion (406)
    """
    original()
    if self.is_legacy_v2():
        return
    requested = _requested(self)
    version = (microversion.default_version() if requested is None
               else _parse(requested))
    if requested is None and version == microversion.MIN_VERSION:
        return  # the response is that of stock Nova, byte for byte
    self.environ[_ENVIRON_VERSION] = version
    context = self.environ.get('nova.context')
    if context is not None:
        context.compute_rescue = version
        context.compute_rescue_is_named = requested is not None


def _requested(request: wsgi.Request) -> str | None:
    """The version that the header names, as text, or None."""
    # Every request is parsed here, and webob's headers are ten times slower.
    header = request.environ.get(_ENVIRON_HEADER, '')
    if microversion.SERVICE_TYPE not in header.lower():
        return None
    requested = microversion_parse.get_version(
        request.headers, service_type=microversion.SERVICE_TYPE)
    if requested is None and microversion.SERVICE_TYPE in [
            part.strip().lower() for part in header.split(',')]:
        return ''  # named, without a version
    return requested


def _parse(requested: str) -> microversion_parse.Version:
    try:
        return microversion.parse(requested)
    except microversion.Malformed:
        raise exception.InvalidVersion(version=requested)
    except microversion.OutOfRange:
        raise exception.UnsupportedVersion(
            req_ver=requested, min_ver=microversion.MIN_VERSION,
            max_ver=microversion.MAX_VERSION)


def resource_call(original: _Original, self: wsgi.Resource, *args: typing.Any,
                  **kwargs: typing.Any) -> typing.Any:
    """Add the version that was used to the header of the response.

    Done when the response starts, as Nova sets the header in two places, one
    for results and one for faults.
    """
    if len(args) != 2:  # a request object, not a WSGI call
        return original(*args, **kwargs)
    environ, start_response = args

    def start_response_with_version(status: str, headers: _Headers,
                                    *rest: typing.Any) -> typing.Any:
        version = environ.get(_ENVIRON_VERSION)
        if version is not None:
            headers = _add_version(headers, version)
        return start_response(status, headers, *rest)

    return original(environ, start_response_with_version, **kwargs)


def _add_version(headers: _Headers,
                 version: microversion_parse.Version) -> _Headers:
    used = '%s %s' % (microversion.SERVICE_TYPE, version)
    result = []
    for name, value in headers:
        if name.lower() == _HEADER.lower():
            value = '%s, %s' % (value, used)
        result.append((name, value))
    return result


def list_versions(original: _Original, self: object, req: wsgi.Request,
                  body: typing.Any = None) -> _Document:
    """``GET /``: advertise the range beside that of ``compute``."""
    response = original(req, body)
    for version in response['versions']:
        _advertise(version)
    return response


def show_version(original: _Original, self: object, req: wsgi.Request,
                 body: typing.Any = None) -> _Document:
    """``GET /v2.1/``: advertise the range in the same way."""
    response = original(req, body)
    _advertise(response['version'])
    return response


def _advertise(version: _Document) -> None:
    if version['id'] == 'v2.1':
        version['compute_rescue'] = {
            'version': str(microversion.MAX_VERSION),
            'min_version': str(microversion.MIN_VERSION),
        }

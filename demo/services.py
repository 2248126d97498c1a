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

"""Doubles of Keystone, Glance and Cinder, as far as clients ask them.

What clients need before they get to Nova: a token with a catalog, images by
their names, volumes.
"""

import json
import re

from nova import context as nova_context
from nova import exception
import webob
import webob.dec
import webob.exc

from demo import users

_PROJECT_NAME = 'demo'
_ATTRIBUTES = ('id', 'name', 'status', 'visibility', 'owner', 'disk_format',
               'container_format', 'size', 'min_ram', 'min_disk', 'protected',
               'tags')


class Keystone:
    """Gives tokens to whoever names a user; the password does not matter.

    :param catalog: service type -> URL, which may be filled in later
    """

    def __init__(self, catalog):
        self._catalog = catalog

    @webob.dec.wsgify
    def __call__(self, request):
        if request.method == 'POST':
            return self._issue(request)
        version = {'id': 'v3.14', 'status': 'stable', 'links': [
            {'rel': 'self', 'href': request.application_url + '/v3/'}]}
        if request.path_info.rstrip('/').endswith('/v3'):
            return _json({'version': version})
        return _json({'versions': {'values': [version]}}, 300)

    def _issue(self, request):
        name = request.json['auth']['identity']['password']['user']['name']
        token, user = users.find(name)
        if token is None:
            raise webob.exc.HTTPUnauthorized()
        domain = {'id': 'default', 'name': 'Default'}
        response = _json({'token': {
            'methods': ['password'],
            'issued_at': '2026-01-01T00:00:00.000000Z',
            'expires_at': '2099-01-01T00:00:00.000000Z',
            'user': {'id': user['user_id'], 'name': name, 'domain': domain},
            'project': {'id': user['project_id'], 'name': _PROJECT_NAME,
                        'domain': domain},
            'roles': [{'id': role, 'name': role}
                      for role in user['role_list']],
            'catalog': [_service(type, url)
                        for type, url in self._catalog.items()],
        }}, 201)
        response.headers['X-Subject-Token'] = token
        return response


def _service(type, url):
    return {'id': type, 'type': type, 'name': type, 'endpoints': [
        {'id': '%s-%s' % (type, interface), 'interface': interface,
         'region': 'RegionOne', 'region_id': 'RegionOne', 'url': url}
        for interface in ('public', 'internal', 'admin')]}


class Glance:
    """The images API, read only.

    :param images: Nova's double of Glance
    """

    def __init__(self, images):
        self._images = images

    @webob.dec.wsgify
    def __call__(self, request):
        path = request.path_info.rstrip('/')
        if path in ('', '/v2', '/versions'):
            return _json({'versions': [
                {'id': 'v2.15', 'status': 'CURRENT', 'links': [
                    {'rel': 'self', 'href':
                     request.application_url + '/v2/'}]}]}, 300)
        if path == '/v2/images':
            name = request.GET.get('name')
            return _json({'images': [
                _image(image) for image in self._images.detail(None)
                if name in (None, image['name'])
                and self._is_visible(request, image['id'])]})
        found = re.fullmatch('/v2/images/([^/]+)', path)
        if not found or not self._is_visible(request, found[1]):
            raise webob.exc.HTTPNotFound()
        return _json(_image(self._images.show(_context(request), found[1])))

    def _is_visible(self, request, image_id):
        try:
            self._images.show(_context(request), image_id)
        except exception.ImageNotFound:
            return False
        return True


class Cinder:
    """The volumes API.

    :param volumes: Nova's double of Cinder
    :param create: makes a volume there; takes a name and the id of an image
    """

    def __init__(self, volumes, create):
        self._volumes = volumes
        self._create = create

    @webob.dec.wsgify
    def __call__(self, request):
        found = re.fullmatch('/v3/[^/]+/volumes(?:/([^/]+))?',
                             request.path_info)
        if not found:
            return _json({'versions': [
                {'id': 'v3.0', 'status': 'CURRENT', 'version': '3.70',
                 'min_version': '3.0', 'links': [
                     {'rel': 'self', 'href':
                      request.application_url + '/v3/'}]}]}, 300)
        if request.method == 'POST':
            wanted = request.json['volume']
            volume_id = self._create(wanted.get('name'),
                                     wanted.get('imageRef'))
            return self._show(request, volume_id, 202)
        if found[1] not in self._volumes.volumes:
            raise webob.exc.HTTPNotFound()
        if request.method == 'DELETE':
            del self._volumes.volumes[found[1]]
            return webob.Response(status=202)
        return self._show(request, found[1])

    def _show(self, request, volume_id, status=200):
        volume = self._volumes.fake_get(_context(request), volume_id)
        used = self._volumes.volume_to_attachment[volume_id]
        return _json({'volume': {
            'id': volume_id, 'name': volume['display_name'],
            'status': 'in-use' if used else 'available',
            'size': volume['size'], 'attachments': [],
            'availability_zone': volume['availability_zone'],
            'bootable': str(volume['bootable']).lower(),
            'multiattach': False, 'encrypted': False, 'metadata': {},
            'links': [], 'user_id': volume_id,
            'created_at': '2026-01-01T00:00:00.000000', 'updated_at': None,
            'replication_status': None, 'snapshot_id': None,
            'source_volid': None, 'consistencygroup_id': None,
            'description': None, 'volume_type': None,
        }}, status)


def _context(request):
    user = users.TOKENS.get(request.headers.get('X-Auth-Token'))
    if user is None:
        raise webob.exc.HTTPUnauthorized()
    return nova_context.RequestContext(
        user['user_id'], user['project_id'],
        is_admin='admin' in user['role_list'])


def _image(image):
    """An image of Nova's double, as Glance shows it."""
    return dict({name: str(value) for name, value
                 in image.get('properties', {}).items()},
                **{name: image.get(name) for name in _ATTRIBUTES})


def _json(content, status=200):
    return webob.Response(json.dumps(content), status=status,
                          content_type='application/json', charset='UTF-8')

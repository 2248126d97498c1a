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

"""Input that nobody means gets an answer that says so, and never a 5xx.

Who does not opt in gets the answer of stock Nova, to the byte: everything is
asked for again with the package off.
"""

import itertools
import os
import re

from hypothesis import given
from hypothesis import HealthCheck
from hypothesis import settings
from hypothesis import strategies
from nova import context as nova_context
from nova.image import glance
from nova import objects
from oslo_serialization import jsonutils
from oslo_utils import uuidutils
import webob

from nova_rescue_ext import activation
from tests import corpus
from tests.fixtures import nightly
from tests.functional import base

_EVERY = 1 if os.environ.get('TEST_NIGHTLY') else 3
_OPT_IN = 'compute %s, compute-rescue %s'
_VARIES = re.compile(
    rb'req-[0-9a-f-]{36}|[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z?'
    # What the version document has more with the package.
    rb'|, "compute_rescue": {[^}]*}')


def _some(inputs):
    return itertools.islice(inputs, 0, None, _EVERY)


class MalformedTestCase(base.RescueTestCase):
    """One cloud for many inputs, in which nothing comes of them.

    :ivar active: a server that runs
    :ivar failed: a server that never booted
    """

    START_COMPUTE = False
    OPTIONS = {'rebuild_quiet_period': 0}

    def setUp(self):
        super().setUp()
        self.app = self.api_fixture.app()
        self.failed = self.api.post_server({'server': self._build_server(
            image_uuid=self.IMAGE, networks='none')})
        self._wait_for_state_change(self.failed, 'ERROR')
        self.start_compute()
        self.active = self._create_server(image_uuid=self.IMAGE,
                                          networks='none')
        # Not further than to where something would come of it.
        for name in ('nova.compute.rpcapi.ComputeAPI.rescue_instance',
                     'nova.compute.rpcapi.ComputeAPI.unrescue_instance',
                     'nova.compute.rpcapi.ComputeAPI.terminate_instance',
                     'nova.conductor.api.ComputeTaskAPI.rebuild_instance',
                     'nova.conductor.api.ComputeTaskAPI'
                     '.live_migrate_instance',
                     'nova_rescue_ext.rebuild.api._build'):
            self.stub_out(name, lambda *args, **kwargs: None)

    def ask(self, path, method='POST', body=b'', header=None, user='admin',
            **environ):
        """One request; what is answered, without what always varies."""
        request = webob.Request.blank('/v2.1' + path, method=method)
        request.environ.update(
            HTTP_X_AUTH_USER=user, HTTP_X_USER_ID=user,
            HTTP_X_AUTH_PROJECT_ID=self.api.project_id,
            HTTP_X_ROLES='admin' if user == 'admin' else 'member,reader',
            CONTENT_TYPE='application/json')
        request.environ.update(environ)
        if header is not None:
            request.environ['HTTP_OPENSTACK_API_VERSION'] = header
        request.body = body
        response = request.get_response(self.app)
        if response.status_int < 300 and method != 'GET':
            self._restore()
        headers = sorted(
            (name, value) for name, value in response.headerlist
            if name not in ('x-openstack-request-id', 'Content-Length',
                            'x-compute-request-id'))
        return response.status_int, headers, _VARIES.sub(b'', response.body)

    def _restore(self):
        """What would have come of it is taken back."""
        with nova_context.target_cell(
                self.context, self.cell_mappings['cell1']) as context:
            instance = objects.Instance.get_by_uuid(context,
                                                    self.active['id'])
            instance.vm_state, instance.task_state = 'active', None
            instance.system_metadata.pop('rescue_ext_version', None)
            instance.save()

    def ask_all(self, requests):
        """Ask with the package on, and then with the package off.

        :param requests: dicts of what ask() is called with
        """
        on = [self.ask(**request) for request in requests]
        activation.deactivate()
        self.addCleanup(activation.activate, base.CONF)
        off = [self.ask(**request) for request in requests]
        for request, ours, stock in zip(requests, on, off):
            self.judge(request, ours, stock)

    def judge(self, request, ours, stock):
        opted_in = 'compute-rescue' in (request.get('header') or '').lower()
        if not opted_in:
            self.assertEqual(stock, ours, self._show(request))
        elif stock[0] < 500:
            self.assertLess(ours[0], 500, '%s: %s' % (self._show(request),
                                                      ours))

    def assert_no_failure(self, answer, request):
        self.assertLess(answer[0], 500,
                        '%s: %s' % (self._show(request), answer))

    @staticmethod
    def _show(request):
        return str(request)[:500]


class MalformedTest(MalformedTestCase):

    def test_headers(self):
        requests = []
        for number, header in enumerate(_some(corpus.headers())):
            requests.append([
                {'path': '/', 'method': 'GET', 'header': header},
                {'path': '/servers/' + self.active['id'], 'method': 'GET',
                 'header': header},
                {'path': '/servers/%s/action' % self.active['id'],
                 'body': b'{"unrescue": null}', 'header': header},
            ][number % 3])
        # The version document needs no token.
        requests += [
            {'path': '/', 'method': 'GET', 'header': header,
             'HTTP_X_AUTH_USER': '', 'HTTP_X_AUTH_PROJECT_ID': ''}
            for header in itertools.islice(_some(corpus.headers()), 0, None,
                                           7)]
        self.ask_all(requests)

    def test_bodies(self):
        """Of actions, with each way to opt in and without one."""
        self.admin_api.post_server_action(self.active['id'], {'lock': None})
        headers = itertools.cycle([
            _OPT_IN % ('2.95', '1.1'), 'compute 2.87',
            _OPT_IN % ('2.1', '1.2'), _OPT_IN % ('2.94', '1.3'), None])
        servers = itertools.cycle([self.active, self.failed])
        requests = []
        for body, header, server in zip(_some(corpus.bodies()), headers,
                                        servers):
            user = ('admin' if b'migrateLive' in body or b'rebuild' in body
                    else 'user')
            requests.append({
                'path': '/servers/%s/action' % server['id'], 'body': body,
                'header': header, 'user': user})
        self.ask_all(requests)

    def test_deletes_and_migrations(self):
        self.admin_api.post_server_action(self.active['id'], {'lock': None})
        paths = ['/servers/%s' % self.active['id'],
                 '/servers/%s' % corpus.SOMEWHERE, '/servers/x',
                 '/servers/%C3%A9', '/servers/' + corpus.MANY]
        migrations = ['/servers/%s/migrations/%s' % (server, migration)
                      for server in (self.active['id'], corpus.SOMEWHERE)
                      for migration in ('1', 'x', '-1', corpus.MANY, '0.5')]
        requests = []
        for body, header in itertools.product(
                list(corpus.raw_bodies())[:12],
                (_OPT_IN % ('2.95', '1.3'), 'compute 2.95')):
            requests += [{'path': path, 'method': 'DELETE', 'body': body,
                          'header': header, 'user': 'user'}
                         for path in paths]
        for path, header, value in itertools.product(
                migrations, (_OPT_IN % ('2.95', '1.3'), 'compute 2.95'),
                (None, {}, 7)):
            requests.append({
                'path': path + '/action', 'header': header,
                'body': jsonutils.dump_as_bytes({'force_complete': value})})
            requests.append({'path': path, 'header': header,
                             'method': 'DELETE'})
        self.ask_all(requests)

    def image(self, properties):
        """An image as Glance would hand it to Nova, with text only."""
        return self.create_image(properties)

    def _parse_as_novas_client(self):
        show = self.glance.show

        def show_parsed(context, image_id, **kwargs):
            image = show(context, image_id, **kwargs)
            return glance._convert_from_string(image)

        self.glance.show = show_parsed

    def test_images(self):
        """As images of a rescue, and of a rebuild."""
        self._parse_as_novas_client()
        for number, properties in enumerate(_some(
                corpus.image_properties())):
            image = self.image(properties)
            request = [
                {'path': '/servers/%s/action' % self.active['id'],
                 'header': _OPT_IN % ('2.95', '1.1'),
                 'body': jsonutils.dump_as_bytes(
                     {'rescue': {'rescue_image_ref': image}})},
                {'path': '/servers/%s/action' % self.failed['id'],
                 'header': _OPT_IN % ('2.95', '1.2'),
                 'body': jsonutils.dump_as_bytes(
                     {'rebuild': {'imageRef': image}})}][number % 2]
            self.assert_no_failure(self.ask(**request),
                                   dict(request, properties=properties))


_JSON = strategies.recursive(
    strategies.none() | strategies.booleans() | strategies.integers()
    | strategies.floats(allow_nan=False) | strategies.text()
    | strategies.sampled_from([corpus.SOMEWHERE, 'none', 'auto', 'latest']),
    lambda inner: strategies.lists(inner, max_size=3)
    | strategies.dictionaries(
        strategies.sampled_from(['imageRef', 'networks', 'uuid', 'port',
                                 'host', 'rescue_image_ref', 'force'])
        | strategies.text(), inner, max_size=4), max_leaves=12)
_MANY = settings(max_examples=1500, deadline=None, database=None,
                 suppress_health_check=list(HealthCheck))


@nightly
class RandomTest(MalformedTestCase):

    def test_headers(self):
        alphabet = strategies.sampled_from('compute-rscu 0123456789.,\t\xe9')
        part = strategies.sampled_from(
            ['compute-rescue', 'compute 2.87', ', ', ' ', '1.1', 'latest',
             corpus.MANY])
        header = strategies.lists(
            part | strategies.text(alphabet, max_size=20),
            max_size=6).map(''.join)

        @_MANY
        @given(header)
        def check(header):
            request = {'path': '/servers/' + self.active['id'],
                       'method': 'GET', 'header': header}
            answer = self.ask(**request)
            if 'compute-rescue' in header.lower():
                self.assert_no_failure(answer, request)

        check()

    def test_bodies(self):
        self.admin_api.post_server_action(self.active['id'], {'lock': None})

        @_MANY
        @given(strategies.sampled_from(
            ['rescue', 'unrescue', 'rebuild', 'os-migrateLive']), _JSON,
            strategies.sampled_from([self.active['id'], self.failed['id']]))
        def check(action, value, server):
            request = {'path': '/servers/%s/action' % server,
                       'header': _OPT_IN % ('2.95', 'latest'),
                       'body': jsonutils.dump_as_bytes({action: value})}
            self.assert_no_failure(self.ask(**request), request)

        check()

    def test_images(self):
        names = sorted({name for properties in corpus.image_properties()
                        for name in properties})

        @_MANY
        @given(strategies.dictionaries(
            strategies.sampled_from(names), strategies.text(max_size=30)),
            strategies.booleans())
        def check(properties, is_rescue):
            image = self.create_image(properties, id=uuidutils.
                                      generate_uuid())
            server, body = (
                (self.active, {'rescue': {'rescue_image_ref': image}})
                if is_rescue else
                (self.failed, {'rebuild': {'imageRef': image}}))
            request = {'path': '/servers/%s/action' % server['id'],
                       'header': _OPT_IN % ('2.95', 'latest'),
                       'body': jsonutils.dump_as_bytes(body)}
            self.assert_no_failure(self.ask(**request),
                                   dict(request, properties=properties))

        check()

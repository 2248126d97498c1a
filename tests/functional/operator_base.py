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


"""An operator at the command line, with a cloud in clouds.yaml."""

import contextlib
import io
import os
import socketserver
import threading
from wsgiref import simple_server

import fixtures
from oslo_serialization import jsonutils

from nova_rescue_ext.cmd import manage


class _Server(socketserver.ThreadingMixIn, simple_server.WSGIServer):
    daemon_threads = True


class _RequestHandler(simple_server.WSGIRequestHandler):

    def log_message(self, *args):
        pass


class OperatorMixin:
    """For tests with Nova's API fixture.

    :ivar requests: the WSGI environments of what the command asked
    :ivar failures: the API answers the next requests about servers with these
    :ivar stderr: what the last command wrote there
    """

    def serve_clouds(self, *projects):
        """Serve the API over HTTP to an operator of each of these projects."""
        self.requests, self.failures = [], []
        clouds = {project: self._serve(project) for project in projects}
        path = os.path.join(self.useFixture(fixtures.TempDir()).path,
                            'clouds.yaml')
        with open(path, 'w') as config:
            config.write(jsonutils.dumps({'clouds': clouds}))
        self.useFixture(fixtures.EnvironmentVariable(
            'OS_CLIENT_CONFIG_FILE', path))
        self.useFixture(fixtures.EnvironmentVariable('NO_PROXY', '*'))

    def _serve(self, project):
        """:returns: the cloud in clouds.yaml"""
        nova_api = self.api_fixture.app()

        def as_operator(environ, start_response):
            self.requests.append(environ)
            if self.failures and '/servers' in environ['PATH_INFO']:
                start_response(self.failures.pop(0), [])
                return [b'']
            return nova_api(dict(
                environ, HTTP_X_AUTH_USER='admin', HTTP_X_ROLES='admin',
                HTTP_X_AUTH_PROJECT_ID=project), start_response)

        server = simple_server.make_server('127.0.0.1', 0, as_operator,
                                           _Server, _RequestHandler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        url = 'http://127.0.0.1:%d/v2.1' % server.server_port
        return {'auth_type': 'admin_token', 'compute_default_microversion':
                '2.1', 'auth': {'endpoint': url, 'token': 'a-token'}}

    def run_command(self, *argv):
        """:returns: the exit code, and what the command printed"""
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            with contextlib.redirect_stderr(io.StringIO()) as self.stderr:
                code = manage.main(argv)
        return code, output.getvalue()

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

"""Where a story plays: the cloud's process, its users, the transcript."""

import json
import os
import subprocess
import sys
import tempfile
import threading

from keystoneauth1 import session as ks_session
from keystoneauth1 import token_endpoint
import openstack
import requests

# The client's part of the opt-in; see doc/source/user.
COMPUTE_VERSION = '2.95'
_PATIENCE = 600  # seconds, on a slow and busy machine


class CloudFailed(Exception):
    """The cloud could not do what was asked of it backstage."""


def new_log(name):
    """Make a file for the log of a cloud.

    :returns: its path
    """
    handle, path = tempfile.mkstemp(prefix='nova-rescue-ext-demo-%s-' % name,
                                    suffix='.log')
    os.close(handle)
    return path


def _environment():
    # Nova's services on native threads, as Nova 34 runs them by default.
    return dict(os.environ, PYTHONWARNINGS='ignore',
                OS_NOVA_DISABLE_EVENTLET_PATCHING='1')


class Stage:
    """A cloud in a process of its own, for the length of a ``with``.

    :param transcript: the Transcript of the story
    :param log: path of the file that the cloud logs to

    .. attribute:: url

        the endpoint of its compute API

    .. attribute:: auth_url

        that of its Keystone
    """

    def __init__(self, transcript, log):
        self.transcript = transcript
        self._log = log

    def __enter__(self):
        with open(self._log, 'w') as log:
            self._process = subprocess.Popen(
                [sys.executable, '-m', 'demo.serve'],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
                text=True, env=_environment())
        try:
            started = self._answer()
        except BaseException:
            self.__exit__()
            raise
        self.url = started['url']
        self.auth_url = started['auth_url']
        self.transcript.say(
            'Nova %s: nova-api at %s, conductor, scheduler and %s in one '
            'process. Its log says:' % (
                started['nova'], self.url, ' and '.join(started['hosts'])))
        self.transcript.say(started['summary'])
        return self

    def __exit__(self, *exc_info):
        self._process.stdin.close()
        try:
            self._process.wait(timeout=_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def backstage(self, do, **arguments):
        """Ask the cloud for something that a user cannot do or see.

        :param do: the name of a method of demo.cloud.Backstage
        :returns: what the method returns
        :raises: CloudFailed
        """
        self._process.stdin.write(
            json.dumps({'do': do, 'arguments': arguments}) + '\n')
        self._process.stdin.flush()
        return self._answer()

    def _answer(self):
        # Ends a cloud that hangs: the read below then ends, too.
        hangs = threading.Event()

        def end():
            hangs.set()
            self._process.kill()

        watchdog = threading.Timer(_PATIENCE, end)
        watchdog.start()
        try:
            line = self._process.stdout.readline()
        finally:
            watchdog.cancel()
        if not line:
            raise CloudFailed(
                'the cloud has not answered in %d seconds' % _PATIENCE
                if hangs.is_set() else 'the cloud has ended')
        answer = json.loads(line)
        if 'error' in answer:
            raise CloudFailed(answer['error'])
        return answer['result']

    def connect(self, token):
        """Connect with openstacksdk, as the user of a token.

        :param token: a key of demo.users.TOKENS
        :returns: an openstack.connection.Connection
        """
        http = requests.Session()
        http.trust_env = False  # a proxy would not reach the loopback
        http.hooks['response'].append(self.transcript.exchange)
        session = ks_session.Session(
            auth=token_endpoint.Token(self.url, token), session=http)
        return openstack.connection.Connection(
            session=session, compute_endpoint_override=self.url,
            compute_default_microversion=COMPUTE_VERSION)

    def get(self, path):
        """Ask without a client's help, as ``curl`` would.

        :returns: the body, from JSON
        """
        http = requests.Session()
        http.trust_env = False
        http.hooks['response'].append(self.transcript.exchange)
        return http.get(self.url.partition('/v2.1')[0] + path).json()


def opt_in(connection, version):
    """Let a connection name a version of compute-rescue in its requests."""
    connection.compute.additional_headers['OpenStack-API-Version'] = (
        'compute %s, compute-rescue %s' % (COMPUTE_VERSION, version))

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

"""What operators do with ``nova-rescue-ext-manage``.

The commands run in the process of the cloud, with their own parsers and the
defaults of these. What they say is kept in the cloud.
"""

import contextlib
import copy
import io
import os
import sys
import types
from unittest import mock
from urllib import parse

import fixtures
from keystoneauth1 import exceptions as ks_exc
from nova import conf
from nova.tests.fixtures import libvirt
from nova.tests.functional.api import client as api_client
from oslo_serialization import jsonutils

from nova_rescue_ext.cmd import manage

CONF = conf.CONF

# In place of what a command says that has not ended: it runs, or was killed.
NOT_ENDED = 'not ended'


class Commands(fixtures.Fixture):
    """Lets the commands run here.

    :param cloud: a clouds.Cloud
    """

    def __init__(self, cloud):
        super().__init__()
        self._cloud = cloud

    def _setUp(self):
        for name, replacement in (
                # This process is configured already.
                ('manage._start_as_nova', lambda config_files: None),
                ('compute_api.connect', lambda cloud: _Adapter(
                    self._cloud.admin_api)),
                # A bar would be drawn by a thread, all the time.
                ('compute_api.progress', lambda *args: contextlib.nullcontext(
                    lambda: None))):
            self.useFixture(fixtures.MonkeyPatch(
                'nova_rescue_ext.cmd.' + name, replacement))


def run(cloud, *argv):
    """Run a command of ``nova-rescue-ext-manage``.

    :param cloud: a clouds.Cloud, whose ``said`` gets what it prints
    :returns: the exit code, or the text of a refusal
    """
    output, index = io.StringIO(), len(cloud.said)
    cloud.said.append(NOT_ENDED)
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(
                output):
            return manage.main([str(each) for each in argv])
    except SystemExit as exc:
        output.write('%s\n' % exc)
        return exc.code
    finally:
        cloud.said[index] = output.getvalue()


def remove_leftovers(cloud, host):
    """Run ``rescue-leftovers --remove`` on a compute host.

    :param cloud: a clouds.LibvirtCloud
    :param host: its name
    """
    connection = cloud.hosts[host].driver._host.get_connection()
    module = types.SimpleNamespace(**vars(libvirt))
    module.openReadOnly = lambda uri: _ReadOnly(connection)
    with mock.patch.dict(sys.modules, libvirt=module), mock.patch(
            'nova_rescue_ext.cmd.rescue_leftovers._configure',
            lambda config_files: types.SimpleNamespace(
                instances_path=os.path.dirname(cloud.path('server', host)),
                libvirt=CONF.libvirt)):
        return run(cloud, 'rescue-leftovers', '--remove')


class _ReadOnly:
    """A connection to libvirt that is closed without closing the host's."""

    def __init__(self, connection):
        self.lookupByUUIDString = connection.lookupByUUIDString

    def close(self):
        pass


class _Adapter:
    """What the commands use of keystoneauth's adapter, without HTTP.

    :param client: of an administrator
    """

    def __init__(self, client):
        self._client = copy.copy(client)

    def get(self, url, params=None, headers=None, raise_exc=True, **kwargs):
        if params:
            url = '%s?%s' % (url, parse.urlencode(params))
        return self._send('GET', url, headers, None, raise_exc)

    def post(self, url, json=None, headers=None, raise_exc=True):
        return self._send('POST', url, headers, json, raise_exc)

    def _send(self, method, url, headers, json, raise_exc):
        self._client.microversion = (headers or {}).get(
            'OpenStack-API-Version', '').partition('compute ')[2]
        try:
            response = self._client.api_request(
                url, method=method,
                headers={'Content-Type': 'application/json'},
                body=jsonutils.dumps(json) if json else None)
        except api_client.OpenStackApiException as exc:
            response = exc.response
        if raise_exc and response.status_code >= 400:
            raise ks_exc.from_response(response, method, url)
        return response

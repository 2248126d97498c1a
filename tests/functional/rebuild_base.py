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


"""A cloud without capacity, to which capacity is added."""

import contextlib
import copy
import datetime
import os
import sys
import time
from unittest import mock

from nova import context as nova_context
from nova.db.api import api as api_db_api
from nova.db.main import api as main_db_api
from nova.db.main import models
from nova import exception
from nova import objects
from nova.tests import fixtures as nova_fixtures
from nova.tests.functional import integrated_helpers
from oslo_serialization import base64
from oslo_serialization import jsonutils
from oslo_utils import timeutils

from nova_rescue_ext.rebuild import api as rebuild_api
from nova_rescue_ext.rebuild import spec_extras
from tests import audit
from tests.functional import base
from tests import owners


PUBLIC_KEY = 'ssh-ed25519 ' + base64.encode_as_text(
    b'\0\0\0\x0bssh-ed25519\0\0\0 ' + b'k' * 32)


class Killed(BaseException):
    """What kill -9 does: nothing of ours runs any more."""


def keep(context, instance_uuid, **values):
    """Change what is kept for a server.

    :param values: plain data; None removes a key
    """
    with api_db_api.context_manager.writer.using(context):
        spec_extras.keep_in(
            context, spec_extras.locked_row(context, instance_uuid), **values)


class RebuildTestCase(integrated_helpers._IntegratedTestBase):
    """Nova without a compute service, until a test adds one."""

    api_major_version = 'v2.1'
    microversion = '2.94'
    RESCUE_VERSION = '1.2'
    # As in life: a rebuild is answered before the conductor has it.
    CAST_AS_CALL = False
    OPTIONS = {'rebuild_quiet_period': 0}

    IMAGE = nova_fixtures.GlanceFixture.image1['id']
    OTHER_IMAGE = nova_fixtures.GlanceFixture.image2['id']
    NETWORK = nova_fixtures.NeutronFixture.network_1['id']
    PORT = nova_fixtures.NeutronFixture.port_1['id']
    VOLUME = nova_fixtures.CinderFixture.IMAGE_BACKED_VOL

    def setUp(self):
        self.flags(api_paste_config=os.path.join(
            sys.prefix, 'etc/nova/api-paste.ini'), group='wsgi')
        self.useFixture(base.Activation(**self.OPTIONS))
        super().setUp()
        self.owners = self.useFixture(owners.Owners(self.glance))
        self.owners.cinder = self.cinder
        self.audit = self.useFixture(audit.Audit(self, self.owners))
        self.context = nova_context.get_admin_context()
        self.opt_in()
        # Nova's fixtures stop the scheduler first, and a conductor that
        # waits for it would wait for ever.
        self.addCleanup(self._await_conductor)

    def _await_conductor(self):
        for _retry in range(100):
            if not objects.BuildRequestList.get_all(self.context):
                return
            time.sleep(0.02)

    def _setup_compute_service(self):
        self.computes = {}

    def _stop_computes(self):
        for compute in self.computes.values():
            compute.stop()

    def opt_in(self, compute=None):
        version = '%s, compute-rescue %s' % (
            compute or self.microversion, self.RESCUE_VERSION)
        self.api.microversion = self.admin_api.microversion = version

    def opt_out(self):
        self.api.microversion = self.admin_api.microversion = (
            self.microversion)

    def add_capacity(self, host='host1', **kwargs):
        self.computes[host] = self.start_service('compute', host=host,
                                                 **kwargs)

    def create(self, networks='none', bdms=None, group=None, hints=None,
               **request):
        """Ask for a server; the server is returned in its final state."""
        body = dict({
            'name': 'web', 'flavorRef': '1', 'networks': networks,
        }, **request)
        if bdms:
            body['block_device_mapping_v2'] = bdms
        else:
            body.setdefault('imageRef', self.IMAGE)
        request = {'server': body}
        if group:
            hints = dict(hints or {}, group=group)
        if hints:
            request['os:scheduler_hints'] = hints
        server = self.api.post_server(request)
        return self.await_end(server)

    def create_failed(self, **request):
        """A server in cell0, as there is no host."""
        server = self.create(**request)
        self.assertEqual('ERROR', server['status'])
        self.assertEqual('cell0', self.cell_of(server))
        return server

    def await_end(self, server):
        """The server, once it has been built or buried, whatever came."""
        for _retry in range(1500):
            found = self.api.get_server(server['id'])
            if found['status'] != 'BUILD' and not self._is_at_work(server):
                return self.api.get_server(server['id'])
            time.sleep(0.02)
        self.fail('Still building: %s' % found)

    def _is_at_work(self, server):
        """Whether the conductor has not finished yet."""
        try:
            return (objects.BuildRequestList.get_all(self.context)
                    or 'rebuild' in spec_extras.read(self.context,
                                                     server['id']))
        except exception.RequestSpecNotFound:
            return False

    def rebuild(self, server, api=None, **parameters):
        """Ask for a rebuild; the response is returned, whatever it is."""
        return (api or self.api).api_request(
            '/servers/%s/action' % server['id'], method='POST',
            headers={'Content-Type': 'application/json'},
            body=jsonutils.dumps({'rebuild': parameters}))

    def rebuilt(self, server, api=None, **parameters):
        """Rebuild a server and have it run."""
        response = self.rebuild(server, api=api, **parameters)
        self.assertEqual(202, response.status_code, response.text)
        server = self.await_end(server)
        self.assertEqual('ACTIVE', server['status'], server.get('fault'))
        self.assertEqual(1, self.count_rows(server))
        return server

    def failed_again(self, server, api=None, **parameters):
        """Rebuild a server in vain."""
        response = self.rebuild(server, api=api, **parameters)
        self.assertEqual(202, response.status_code, response.text)
        server = self.await_end(server)
        self.assertEqual('ERROR', server['status'])
        return server

    def ports_of(self, server):
        """The ids of the ports that a server has."""
        return [port['id'] for port in self.neutron.list_ports(
            is_admin=True, device_id=server['id'])['ports']]

    def create_to_be_rescheduled(self):
        """A server of cell1 whose first host fails to build it.

        :returns: the server, and what delivers the message to try another
        """
        messages = []
        down = self.patch('nova.conductor.rpcapi.ComputeTaskAPI.'
                          'build_instances',
                          lambda itself, *args, **kwargs: messages.append(
                              (args, kwargs)))
        server = self.api.post_server({'server': {
            'name': 'web', 'flavorRef': '1', 'networks': 'none',
            'imageRef': self.IMAGE}})
        self.await_true(lambda: messages)
        down.stop()

        def deliver():
            (context,), kwargs = messages[0]
            with nova_context.target_cell(
                    context, self.cell_mappings['cell1']) as cctxt:
                self.conductor.manager.compute_task_mgr.build_instances(
                    cctxt, **kwargs)

        return server, deliver

    def assert_refused(self, status, response, *words):
        self.assertEqual(status, response.status_code, response.text)
        for word in words:
            self.assertIn(word, response.text)

    def assert_untouched(self, server):
        """The server is as it was: one ERROR, in the cell where it was."""
        self.assertEqual(server, self.api.get_server(server['id']))
        self.assertEqual(1, self.count_rows(server))
        self.assertEqual(1, len(self.api.get_servers()))
        self.assertEqual([], objects.BuildRequestList.get_all(
            self.context).objects)

    def cell_of(self, server):
        """The name of the cell that a server is in, or None."""
        mapping = objects.InstanceMapping.get_by_instance_uuid(
            self.context, server['id'])
        return mapping.cell_mapping and mapping.cell_mapping.name

    def count_rows(self, server, model=models.Instance, key='uuid',
                   **values):
        """How many rows with these values a server has in all cells."""
        values[key] = server['id']
        return sum(self._count_in(cell, model, values)
                   for cell in self.cell_mappings.values())

    def _count_in(self, cell, model, values):
        with nova_context.target_cell(self.context, cell) as context:
            with main_db_api.get_context_manager(context).reader.using(
                    context):
                return context.session.query(model).filter_by(
                    **values).count()

    def change_row(self, server, **values):
        """Change a server's row, wherever it is, behind Nova's back."""
        for cell in self.cell_mappings.values():
            with nova_context.target_cell(self.context, cell) as context:
                with main_db_api.get_context_manager(context).writer.using(
                        context):
                    context.session.query(models.Instance).filter_by(
                        uuid=server['id']).update(values)

    def make_older(self, server, **delta):
        self.change_row(server, created_at=timeutils.utcnow()
                        - datetime.timedelta(**delta))

    def make_untouched_for(self, server, **delta):
        self.change_row(server, updated_at=timeutils.utcnow()
                        - datetime.timedelta(**delta))

    def set_system_metadata(self, server, key, value):
        for cell in self.cell_mappings.values():
            with nova_context.target_cell(self.context, cell) as context:
                with main_db_api.get_context_manager(context).writer.using(
                        context):
                    context.session.query(
                        models.InstanceSystemMetadata).filter_by(
                            instance_uuid=server['id'], key=key).update(
                                {'value': value})

    def admin_of(self, project):
        """A client of an administrator of another project."""
        api = copy.copy(self.admin_api)
        api.project_id = project
        api.auth_result = None
        return api

    def service_id(self, host):
        service, = self.admin_api.get_services(host=host,
                                               binary='nova-compute')
        return service['id']

    def set_down(self, host, down):
        self.admin_api.put_service_force_down(self.service_id(host), down)

    def allocations(self, server):
        return self.placement.get('/allocations/%s' % server['id']).body[
            'allocations']

    @contextlib.contextmanager
    def killed(self, name):
        """Whoever calls this is killed; it is called before this ends."""
        kills = []

        def kill(*args, **kwargs):
            kills.append(name)
            raise Killed()

        patch = self.patch(name, kill)
        yield
        self.await_true(lambda: kills)
        patch.stop()

    def await_true(self, condition):
        for _retry in range(1500):
            if condition():
                return
            time.sleep(0.02)
        self.fail('It does not happen')

    def api_of(self, project):
        """A client of an ordinary user of another project."""
        api = copy.copy(self.api)
        api.auth_user = api.project_id = project
        api.auth_result = None
        return api

    def before_hard_delete(self, function):
        """Call a function between step 2 and step 3, once."""
        destroy_row = rebuild_api.Rebuild.destroy_row

        def call_first(operation):
            patched.stop()
            function()
            destroy_row(operation)

        patched = self.patch_step('destroy_row', call_first)

    def patch_step(self, name, value):
        """Replace a step of a rebuild.

        :param name: of a method of Rebuild
        """
        return self.patch('nova_rescue_ext.rebuild.api.Rebuild.' + name,
                          value)

    def patch(self, name, value):
        patch = mock.patch(name, value)
        patch.start()
        self.addCleanup(patch.stop)
        return patch

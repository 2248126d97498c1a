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

"""The audit catches what claims prevents, with claims taken out."""

import contextlib
from unittest import mock

from nova import context as nova_context
from nova import objects
from nova.scheduler.client import report
from nova.volume import cinder
from oslo_utils.fixture import uuidsentinel as uuids

from tests import audit
from tests.functional import test_claims


class AuditMixin:
    """What should not have been done for a server is seen."""

    def assert_seen(self, what, *services):
        seen = {call.service for call in self.audit.violations
                if call.what == what}
        self.assertLessEqual(set(services), seen, self.audit.violations)
        self.audit.violations.clear()

    def take_out(self, name, value=None):
        self.stub_out('nova_rescue_ext.claims.' + name,
                      lambda *args, **kwargs: value)


class RescueTest(AuditMixin, test_claims.RescueTestCase):

    def test_base_image(self):
        self.take_out('images._may_read', True)
        server = self.create_with_base_image()
        with self.opted_in(api=self.support):
            self.rescue(server, api=self.support)
        self.assert_seen(self.victims, 'claims')

    def test_kernel(self):
        self.take_out('images._may_read', True)
        image = self.create_image({'kernel_id': self.victims},
                                  owner=self.api.project_id)
        server = self._create_server(image_uuid=self.IMAGE, networks='none')
        with self.opted_in(api=self.support):
            self.rescue(server, image, self.support)
        self.assert_seen(self.victims, 'claims')


class RebuildTest(AuditMixin, test_claims.RebuildTestCase):

    def test_url_as_kernel(self):
        server = self.create_bfv()
        self.write({'kernel_id': test_claims.ELSEWHERE})
        self.take_out('is_id', True)
        self.rebuild(server, api=self.operator)
        self.assert_seen(test_claims.ELSEWHERE, 'glance')

    def test_kernel_of_another_project(self):
        victims = self.create_image('victim')
        image = self.create_image(self.api.project_id)
        server = self.create_failed(imageRef=image)
        self.glance.images[image]['properties']['kernel_id'] = victims
        self.take_out('images._may_read', True)
        self.rebuild(server, api=self.operator)
        self.assert_seen(victims, 'claims')

    def test_transferred_volume(self):
        server = self.create_bfv()
        self.cinder.volume_to_attachment.clear()
        self.owners.volumes[self.VOLUME] = 'victim'
        self.take_out('volumes._check_owner')
        self.rebuild(server, api=self.operator)
        self.assert_seen(self.VOLUME, 'claims', 'cinder')

    def test_network_of_another_project(self):
        """Only when it is built does Nova make a port."""
        server = self.create_failed(networks=[{'uuid': self.NETWORK}])
        network = dict(self.neutron._networks[self.NETWORK],
                       tenant_id='victim', project_id='victim')
        self.neutron._networks = dict(self.neutron._networks,
                                      **{self.NETWORK: network})
        self.take_out('networks.check')
        self.add_capacity()
        self.rebuilt(server, api=self.operator)
        self.assert_seen(self.NETWORK, 'neutron')

    def test_port_of_another_project(self):
        """A project can name any server as the device of its ports."""
        server = self.create_failed()
        port = dict(self.neutron._ports[self.PORT], id=uuids.victims,
                    tenant_id='victim', project_id='victim',
                    device_id=server['id'])
        self.neutron._ports = dict(self.neutron._ports,
                                   **{uuids.victims: port})
        self.stub_out(
            'nova_rescue_ext.rebuild.ports.LeftPorts.__init__', take_all_ports)
        self.rebuild(server, api=self.operator)
        self.assert_seen(uuids.victims, 'neutron')

    def test_not_through_claims(self):
        """New code that asks Glance by itself is seen, too."""
        image = self.create_image('victim')
        server = self.create_failed(imageRef=image)
        self.stub_out(
            'nova_rescue_ext.claims.images.read',
            lambda context, instance, image_api, image_id, origin:
            read_past_claims(context, instance, image_api, image_id))
        self.rebuild(server, api=self.operator)
        self.assert_seen(image, 'glance')


class DestroyedTest(AuditMixin, test_claims.RebuildTestCase):
    """An operator destroys what is somebody else's, for a server."""

    def setUp(self):
        super().setUp()
        self.instance = objects.Instance(
            uuid=uuids.server, project_id=self.api.project_id)
        self.admin = nova_context.RequestContext(
            'operator', 'operator', is_admin=True)

    def do(self, function, *args):
        """Call a function in the service of the server."""
        instance = self.instance
        self.assertIsNotNone(instance)
        # What is asked for is recorded; not all doubles know how to do it.
        with contextlib.suppress(Exception):
            function(*args)

    def assert_destroys(self, service, what, function, *args):
        self.do(function, *args)
        self.assert_seen(what, service)

    def test_volume(self):
        api = cinder.API()
        for volume in (self.VOLUME, uuids.volume):
            self.owners.volumes[volume] = 'victim'
            self.assert_destroys('cinder', volume, api.delete, self.admin,
                                 volume)
        attachment = api.attachment_create(self.admin, self.VOLUME,
                                           uuids.server)['id']
        self.assert_destroys('cinder', self.VOLUME, api.attachment_delete,
                             self.admin, attachment)
        self.owners.volumes.clear()
        self.do(api.delete, self.admin, self.VOLUME)
        self.assertEqual([], self.audit.violations)

    def test_snapshot(self):
        api = cinder.API()
        self.audit._snapshots[uuids.snapshot] = 'victim'
        self.assert_destroys('cinder', uuids.snapshot, api.delete_snapshot,
                             self.admin, uuids.snapshot)

    def test_image(self):
        image = self.create_image('victim')
        self.assert_destroys('glance', image, self.glance.delete, self.admin,
                             image)
        self.do(self.glance.delete, self.admin,
                self.create_image(self.api.project_id))
        self.assertEqual([], self.audit.violations)

    def test_secret(self):
        manager = self.audit_key_manager()
        secret = manager.store(nova_context.RequestContext(
            'victim', 'victim'), None)
        self.assert_destroys('key manager', secret, manager.delete,
                             self.admin, secret)

    def audit_key_manager(self):
        return audit._KeyManager(self.audit, mock.Mock(
            store=lambda *args: uuids.secret))

    def test_allocation(self):
        """Of a server of another project; nobody asks for rights there."""
        theirs, own = self.create_failed(), self.create_failed()
        mapping = objects.InstanceMapping.get_by_instance_uuid(
            self.context, theirs['id'])
        mapping.project_id = 'victim'
        mapping.save()
        client = report.report_client_singleton()
        user = nova_context.RequestContext('user', self.api.project_id)
        self.assert_destroys(
            'placement', theirs['id'], client.delete_allocation_for_instance,
            user, theirs['id'])
        for consumer in (own['id'], uuids.migration):
            self.do(client.delete_allocation_for_instance, user, consumer)
        self.assertEqual([], self.audit.violations)


def take_all_ports(ports, api, context, instance, named):
    ports._network_api, ports._context = api, context
    ports._instance = instance
    ports.named = []
    ports.made_by_nova = [port['id'] for port in api.list_ports(
        context, device_id=instance.uuid)['ports']]


def read_past_claims(context, instance, image_api, image_id):
    return image_api.get(context, image_id)

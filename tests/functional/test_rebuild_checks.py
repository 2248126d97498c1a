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


"""What a create checks, and what a failed build has left outside of Nova."""

from unittest import mock

from neutronclient.common import exceptions as neutron_exc
from nova import context as nova_context
from nova import exception
from nova import objects
from nova.tests import fixtures as nova_fixtures
from oslo_utils.fixture import uuidsentinel as uuids

from nova_rescue_ext.rebuild import database
from nova_rescue_ext.rebuild import spec_extras
from tests.functional import rebuild_base


class LeftPortsTest(rebuild_base.RebuildTestCase):
    """Neutron was down when nova-compute cleaned up."""

    def create_with_left_ports(self, networks):
        def fail(*args, **kwargs):
            raise exception.BuildAbortException(instance_uuid='x',
                                                reason='broken')

        def be_down(*args, **kwargs):
            raise neutron_exc.ServiceUnavailable()

        self.add_capacity()
        broken = [
            self.patch('nova.virt.fake.FakeDriver.spawn', fail),
            self.patch('nova.network.neutron.API.deallocate_for_instance',
                       be_down)]
        server = self.create(networks=networks)
        for patch in broken:
            patch.stop()
        self.assertEqual('ERROR', server['status'])
        self.assertEqual(1, len(self.ports_of(server)))
        self.set_system_metadata(server, 'network_allocated', 'False')
        return server

    def test_port_that_nova_made(self):
        server = self.create_with_left_ports([{'uuid': self.NETWORK}])
        left = self.ports_of(server)
        deleted = []
        delete = self.neutron.delete_port
        self.patch('nova.tests.fixtures.NeutronFixture.delete_port',
                   lambda fixture, port, **kwargs: deleted.append(port)
                   or delete(port, **kwargs))
        after = self.rebuilt(server)
        # The fixture gives the new one the same id.
        self.assertEqual(left, deleted)
        self.assertEqual(1, len(self.ports_of(server)))
        self.assertEqual(1, sum(map(len, after['addresses'].values())))

    def test_named_port(self):
        server = self.create_with_left_ports([{'port': self.PORT}])
        self.rebuilt(server)
        self.assertEqual([self.PORT], self.ports_of(server))

    def test_left_port_that_the_request_names(self):
        """Whoever made it: it is what the caller wants."""
        server = self.create_with_left_ports([{'uuid': self.NETWORK}])
        left, = self.ports_of(server)
        deleted = []
        self.patch('nova.tests.fixtures.NeutronFixture.delete_port',
                   lambda fixture, port, **kwargs: deleted.append(port))
        self.rebuilt(server, networks=[{'port': left}])
        self.assertEqual(([], [left]), (deleted, self.ports_of(server)))
        # From now on it is never Nova's.
        self.assertIn(left, spec_extras.named_ports(
            spec_extras.read(self.context, server['id'])))

    def test_other_networks(self):
        """A port that was named once is never Nova's."""
        server = self.create_with_left_ports([{'port': self.PORT}])
        self.rebuilt(server, networks='none')
        self.assertEqual([], self.ports_of(server))
        self.assertIn(self.PORT, self.neutron._ports)

    def test_nobody_knows_who_made_them(self):
        server = self.create_with_left_ports([{'port': self.PORT}])
        rebuild_base.keep(self.context, server['id'], requested=None)
        self.rebuilt(server, networks='none')
        self.assertIn(self.PORT, self.neutron._ports)

    def test_port_that_another_project_claims_to_be_of_the_server(self):
        server = self.create_failed()
        port = self.neutron._ports[self.PORT]
        port.update(device_id=server['id'], tenant_id='other',
                    project_id='other')
        self.add_capacity()
        self.rebuilt(server, api=self.admin_of(server['tenant_id']))
        self.assertEqual(server['id'], port['device_id'])

    def test_port_that_was_given_to_another_server_meanwhile(self):
        server = self.create_with_left_ports([{'port': self.PORT}])
        port = self.neutron._ports[self.PORT]
        begin = database.begin

        def give_and_begin(*args):
            port['device_id'] = uuids.other
            return begin(*args)

        self.patch('nova_rescue_ext.rebuild.database.begin', give_and_begin)
        self.rebuilt(server, networks='none')
        self.assertEqual(uuids.other, port['device_id'])

    def test_ports_at_the_quota(self):
        """Those that are deleted do not count."""
        server = self.create_with_left_ports([{'uuid': self.NETWORK}])
        number = len(self.neutron.list_ports(
            is_admin=True, tenant_id=server['tenant_id'])['ports'])
        self.patch('nova.tests.fixtures.NeutronFixture.show_quota',
                   staticmethod(lambda project: {'quota': {'port': number}}))
        self.rebuilt(server)

    def test_neutron_is_still_down(self):
        def be_down(*args, **kwargs):
            raise neutron_exc.ServiceUnavailable()

        server = self.create_with_left_ports([{'uuid': self.NETWORK}])
        patch = self.patch('nova.network.neutron.API._delete_ports', be_down)
        self.assert_refused(409, self.rebuild(server), 'again later')
        self.assert_untouched(server)
        patch.stop()
        self.rebuilt(server)

    def test_port_that_is_not_unbound(self):
        server = self.create_with_left_ports([{'port': self.PORT}])
        patch = self.patch('nova.network.neutron.API._unbind_ports',
                           lambda *args: None)
        self.assert_refused(409, self.rebuild(server), self.PORT)
        self.assert_untouched(server)
        patch.stop()
        self.rebuilt(server)


class ZoneTest(rebuild_base.RebuildTestCase):

    def test_zone_that_is_gone(self):
        self.add_capacity()
        rack = self.admin_api.post_aggregate({'aggregate': {
            'name': 'rack', 'availability_zone': 'zone'}})
        self.admin_api.add_host_to_aggregate(rack['id'], 'host1')
        spawn = self.patch('nova.virt.fake.FakeDriver.spawn', mock.Mock(
            side_effect=exception.BuildAbortException(
                instance_uuid='x', reason='broken')))
        server = self.create(availability_zone='zone')
        spawn.stop()
        self.admin_api.api_put('/os-aggregates/%s' % rack['id'], {
            'aggregate': {'availability_zone': 'renamed'}})
        self.assert_refused(400, self.rebuild(server), 'Availability zone',
                            'zone')
        self.admin_api.api_put('/os-aggregates/%s' % rack['id'], {
            'aggregate': {'availability_zone': 'zone'}})
        self.rebuilt(server)


class SecurityGroupsTest(rebuild_base.RebuildTestCase):

    def setUp(self):
        super().setUp()
        self.groups = {'default': 'default', 'web': uuids.web,
                       uuids.web: uuids.web, 'db': uuids.db,
                       uuids.db: uuids.db}
        self.patch('nova.network.security_group_api.validate_name',
                   self.validate)

    def validate(self, context, name):
        if name not in self.groups:
            raise exception.SecurityGroupNotFound(security_group_id=name)
        return self.groups[name]

    def groups_of(self, server):
        spec = objects.RequestSpec.get_by_instance_uuid(self.context,
                                                        server['id'])
        return [group.uuid if 'uuid' in group else group.name
                for group in spec.security_groups]

    def test_group_that_is_gone(self):
        server = self.create_failed(security_groups=[{'name': 'web'}])
        del self.groups[uuids.web], self.groups['web']
        self.assert_refused(400, self.rebuild(server), uuids.web,
                            'security_groups')
        self.assert_untouched(server)
        self.failed_again(server, security_groups=[{'name': 'db'}])
        self.assertEqual([uuids.db], self.groups_of(server))
        self.add_capacity()
        self.rebuilt(server)

    def test_groups_of_a_refused_rebuild(self):
        """They are not those of the next one."""
        server = self.create_failed(security_groups=[{'name': 'web'}])
        patch = self.patch_step('check_quota', mock.Mock(
            side_effect=exception.PortLimitExceeded()))
        self.assert_refused(403, self.rebuild(
            server, security_groups=[{'name': 'db'}]))
        patch.stop()
        self.assertEqual([uuids.web], self.groups_of(server))
        self.failed_again(server)
        self.assertEqual([uuids.web], self.groups_of(server))

    def test_same_groups(self):
        server = self.create_failed(security_groups=[{'name': 'web'}])
        self.add_capacity()
        self.rebuilt(server)
        self.assertEqual([uuids.web], self.groups_of(server))

    def test_bad_groups(self):
        server = self.create_failed()
        for groups in ('web', [{'id': 'web'}], ['web'], 5):
            self.assert_refused(400, self.rebuild(
                server, security_groups=groups))
        self.assert_untouched(server)

    def test_server_that_has_booted(self):
        """Nova answers for itself."""
        self.add_capacity()
        server = self.create()
        self.assert_refused(400, self.rebuild(
            server, imageRef=self.IMAGE, security_groups=[{'name': 'web'}]),
            'security_groups')


class OldImageTest(rebuild_base.RebuildTestCase):

    def test_properties_of_the_old_image(self):
        """Nothing of it says how the new one is to run."""
        self.glance.create(None, {
            'id': uuids.image, 'name': 'old', 'status': 'active',
            'container_format': 'raw', 'disk_format': 'raw', 'size': 1,
            'min_ram': 0, 'min_disk': 0, 'visibility': 'public',
            'protected': False, 'owner': None, 'is_public': True,
            'deleted': False, 'deleted_at': None, 'created_at': None,
            'updated_at': None, 'tags': [], 'properties': {
                'hw_disk_bus': 'scsi', 'hw_video_ram': '7'}})
        server = self.create_failed(imageRef=uuids.image)
        self.assertEqual('scsi', self.system_metadata(server)[
            'image_hw_disk_bus'])
        self.failed_again(server, imageRef=self.OTHER_IMAGE)
        after = self.system_metadata(server)
        self.assertNotIn('image_hw_disk_bus', after)
        self.assertNotIn('image_hw_video_ram', after)
        self.assertEqual(self.OTHER_IMAGE, after['image_base_image_ref'])

    def system_metadata(self, server):
        cell = objects.InstanceMapping.get_by_instance_uuid(
            self.context, server['id']).cell_mapping
        with nova_context.target_cell(self.context, cell) as context:
            return objects.Instance.get_by_uuid(
                context, server['id'],
                expected_attrs=['system_metadata']).system_metadata


class AcceleratorsTest(rebuild_base.RebuildTestCase):

    def setUp(self):
        super().setUp()
        self.cyborg = self.useFixture(nova_fixtures.CyborgFixture())
        self.admin_api.post_extra_spec('1', {'extra_specs': {
            'accel:device_profile': self.cyborg.dp_name}})

    def test_requests_of_the_failed_build(self):
        server = self.create_failed()
        self.cyborg.mock_del_arqs.reset_mock()
        self.failed_again(server)
        self.cyborg.mock_del_arqs.assert_called_once_with(server['id'])

    def test_cyborg_is_down(self):
        server = self.create_failed()
        self.cyborg.mock_get_dp.side_effect = exception.DeviceProfileError(
            name=self.cyborg.dp_name, msg='no cyborg')
        self.assert_refused(409, self.rebuild(server), 'Cyborg')
        self.assert_untouched(server)

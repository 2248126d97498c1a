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


"""Rebuild of servers that never booted, from HTTP to the hypervisor."""

from unittest import mock

from nova import context as nova_context
from nova import exception
from nova.network import model as network_model
from nova import objects
from nova.tests import fixtures as nova_fixtures
from oslo_serialization import base64
from oslo_utils.fixture import uuidsentinel as uuids

from nova_rescue_ext.rebuild import database
from tests.functional import rebuild_base


class RebuildTest(rebuild_base.RebuildTestCase):
    """Spec: rebuild-in-cell0."""

    def test_capacity_added(self):
        server = self.create_failed()
        self.add_capacity()
        self.rebuilt(server)
        self.assertEqual('cell1', self.cell_of(server))
        self.assertEqual(1, len(self.allocations(server)))

    def test_body_without_anything(self):
        server = self.create_failed()
        self.add_capacity()
        response = self.rebuild(server)
        self.assertEqual(202, response.status_code, response.text)
        answer = response.json()['server']
        self.assertEqual(server['id'], answer['id'])
        self.assertTrue(answer['adminPass'])

    def test_stock_without_opt_in(self):
        server = self.create_failed()
        self.opt_out()
        self.add_capacity()
        self.assert_refused(400, self.rebuild(server), 'imageRef')
        self.assert_refused(400, self.rebuild(
            server, imageRef=self.IMAGE, networks='none'), 'networks')
        self.assert_refused(409, self.rebuild(server, imageRef=self.IMAGE))
        self.opt_in()
        self.assert_untouched(server)

    def test_stock_for_server_that_booted(self):
        self.add_capacity()
        server = self.create()
        self.assertEqual('ACTIVE', server['status'])
        self.assert_refused(400, self.rebuild(server), 'imageRef')
        self.assert_refused(400, self.rebuild(
            server, imageRef=self.IMAGE, networks='none'), 'networks')
        response = self.rebuild(server, imageRef=self.IMAGE)
        self.assertEqual(202, response.status_code, response.text)

    def test_booted_server_that_failed_later(self):
        self.add_capacity()
        server = self.create()
        self.admin_api.post_server_action(
            server['id'], {'os-resetState': {'state': 'error'}})
        self.assert_refused(400, self.rebuild(server), 'imageRef')

    def test_somebody_elses_server(self):
        server = self.create_failed()
        other = self.api_of('other')
        answers = [self.rebuild(server, api=other),
                   self.rebuild(server, api=other, imageRef=self.IMAGE)]
        self.assertEqual([404, 404], [
            answer.status_code for answer in answers])
        self.assert_untouched(server)

    def test_server_that_is_being_built(self):
        server = self.create_failed()
        answers = []

        def rebuild_again():
            answers.append(self.rebuild(server))
            answers.append(self.rebuild(server, imageRef=self.IMAGE))

        self.before_hard_delete(rebuild_again)
        self.add_capacity()
        self.rebuilt(server)
        self.assertEqual([409, 409], [
            answer.status_code for answer in answers])

    def test_locked(self):
        server = self.create_failed()
        self.api.post_server_action(server['id'], {'lock': {}})
        server = self.api.get_server(server['id'])
        self.assert_refused(409, self.rebuild(server), 'locked')
        self.assert_untouched(server)

    def test_locked_server_stays_locked(self):
        server = self.create_failed()
        self.api.post_server_action(
            server['id'], {'lock': {'locked_reason': 'mine'}})
        self.add_capacity()
        after = self.rebuilt(server, api=self.admin_api)
        self.assertEqual((True, 'mine'), (
            after['locked'], after['locked_reason']))

    def test_host_that_has_not_given_the_server_up(self):
        server = self.create_failed()
        self.change_row(server, host='host9')
        self.assert_refused(409, self.rebuild(server, api=self.admin_api),
                            'host9')
        self.assertEqual('ERROR', self.api.get_server(server['id'])['status'])

    def test_request_spec_lost(self):
        server = self.create_failed()
        objects.RequestSpec.get_by_instance_uuid(
            self.context, server['id']).destroy()
        self.assert_refused(409, self.rebuild(server), 'create another')
        self.assert_untouched(server)


class PreservedTest(rebuild_base.RebuildTestCase):
    """All that the owner asked for, is there."""

    def test_everything(self):
        self.api.post_keypair({'keypair': {
            'name': 'key', 'type': 'ssh',
            'public_key': rebuild_base.PUBLIC_KEY}})
        group = self.api.post_server_groups(
            {'name': 'group', 'policy': 'affinity'})
        self.add_capacity('host2')
        zone = self.admin_api.post_aggregate({'aggregate': {
            'name': 'rack', 'availability_zone': 'zone'}})
        self.admin_api.add_host_to_aggregate(zone['id'], 'host2')
        self.set_down('host2', True)
        server = self.create_failed(
            group=group['id'], description='text', key_name='key',
            hostname='web.example.org', metadata={'a': 'b'},
            tags=['one', 'two'], config_drive=True,
            user_data=base64.encode_as_text('script'),
            availability_zone='zone', accessIPv4='192.0.2.1',
            accessIPv6='2001:db8::1',
            **{'OS-DCF:diskConfig': 'MANUAL'})
        self.make_older(server, days=3)
        self.make_untouched_for(server, days=2)
        server = self.api.get_server(server['id'])
        self.assertEqual([server['id']], self.api.get_server_group(
            group['id'])['members'])
        self.add_capacity('host1')
        self.set_down('host2', False)
        after = self.rebuilt(server)
        self.assertEqual('host2', self.admin_api.get_server(server['id'])[
            'OS-EXT-SRV-ATTR:host'])
        different = {key for key in after
                     if after[key] != server.get(key)}
        self.assertEqual(
            {'status', 'updated', 'progress', 'OS-EXT-STS:vm_state',
             'OS-EXT-STS:power_state', 'OS-SRV-USG:launched_at',
             'hostId'}, different)
        self.assertEqual([server['id']], self.api.get_server_group(
            group['id'])['members'])

    def test_what_only_administrators_and_hosts_see(self):
        self.api.post_keypair({'keypair': {
            'name': 'key', 'type': 'ssh',
            'public_key': rebuild_base.PUBLIC_KEY}})
        certificates = ['0b5d2c72-12cc-4ba6-a8d7-3ff5cc1d8cb8',
                        '674736e3-f25c-405c-8362-bbf991e0ce0a']
        script = base64.encode_as_text('script')
        server = self.create_failed(
            key_name='key', user_data=script, hostname='web',
            trusted_image_certificates=certificates)
        # The owner may have deleted the key pair in the meantime.
        self.api.delete_keypair('key')
        before = self.admin_api.get_server(server['id'])
        built = self.record_builds()
        self.add_capacity()
        self.rebuilt(server)
        after = self.admin_api.get_server(server['id'])
        for name in ('OS-EXT-SRV-ATTR:user_data', 'OS-EXT-SRV-ATTR:hostname',
                     'OS-EXT-SRV-ATTR:reservation_id',
                     'trusted_image_certificates', 'key_name'):
            self.assertEqual(before[name], after[name], name)
        self.assertEqual(certificates, after['trusted_image_certificates'])
        instance, = built
        self.assertEqual(
            (script, certificates, rebuild_base.PUBLIC_KEY,
             [('key', rebuild_base.PUBLIC_KEY)]),
            (instance.user_data, instance.trusted_certs.ids,
             instance.key_data,
             [(key.name, key.public_key) for key in instance.keypairs]))

    def test_actions_of_an_attempt_that_did_not_end(self):
        """As with a conductor without the package, and then a refusal."""
        server = self.create_failed()
        settle = self.patch('nova_rescue_ext.rebuild.conductor._try_to_finish',
                            lambda *args: None)
        self.assertEqual(202, self.rebuild(server).status_code)
        self.await_true(lambda: self.cell_of(server) == 'cell0' and
                        not objects.BuildRequestList.get_all(self.context))
        settle.stop()
        refuse = self.patch(
            'nova_rescue_ext.rebuild.quota.check',
            mock.Mock(side_effect=exception.TooManyInstances(
                overs='instances', req=1, used=1, allowed=1)))
        self.assert_refused(403, self.rebuild(server))
        refuse.stop()
        self.add_capacity()
        self.rebuilt(server)
        self.assertEqual(['create'] * 3, [
            action['action'] for action
            in self.api.get_instance_actions(server['id'])])

    def test_clean_up_of_the_failed_attempt_is_forgotten(self):
        """Nova would not try to remove the files of the new one."""
        server = self.create_failed()
        self.change_row(server, cleaned=1)
        with nova_context.target_cell(
                self.context, self.cell_mappings['cell0']) as context:
            instance = objects.Instance.get_by_uuid(context, server['id'])
            instance.system_metadata['clean_attempts'] = '5'
            instance.save()
        self.add_capacity()
        self.rebuilt(server)
        with nova_context.target_cell(
                self.context, self.cell_mappings['cell1']) as context:
            instance = objects.Instance.get_by_uuid(context, server['id'])
        self.assertFalse(instance.cleaned)
        self.assertNotIn('clean_attempts', instance.system_metadata)

    def record_builds(self):
        """The instances that hosts are asked to build."""
        from nova.compute import rpcapi
        build = rpcapi.ComputeAPI.build_and_run_instance
        built = []

        def record(itself, context, instance, *args, **kwargs):
            built.append(instance)
            return build(itself, context, instance, *args, **kwargs)

        self.patch('nova.compute.rpcapi.ComputeAPI.build_and_run_instance',
                   record)
        return built

    def test_scheduler_hints(self):
        server = self.create_failed(hints={'different_cell': 'x',
                                           'query': '[">", "$free_ram", 1]'})
        asked = self.record_scheduling()
        self.add_capacity()
        self.rebuilt(server)
        self.assertEqual(
            [{'different_cell': ['x'], 'query': ['[">", "$free_ram", 1]']}],
            [spec.scheduler_hints for spec in asked])

    def test_one_server_of_several(self):
        """It is built alone, and its hosts are asked to take one server."""
        self.create_failed(min_count=2)
        first, second = self.api.get_servers()
        asked = self.record_scheduling()
        self.add_capacity()
        self.rebuilt(first)
        self.assertEqual([1], [spec.num_instances for spec in asked])
        stored = [objects.RequestSpec.get_by_instance_uuid(
            self.context, server['id']).num_instances
            for server in (first, second)]
        self.assertEqual([1, 2], stored)

    def test_what_a_flavor_requests(self):
        """Devices: as at creation, each once; bound ones are given up."""
        self.flags(pci_in_placement=True, group='filter_scheduler')
        self.flags(alias=['{"name": "card", "vendor_id": "8086", '
                          '"product_id": "1563", "device_type": "type-PCI"}'],
                   group='pci')
        self.useFixture(nova_fixtures.CyborgFixture())
        self.admin_api.post_extra_spec('1', {'extra_specs': {
            'pci_passthrough:alias': 'card:2',
            'accel:device_profile': 'fakedev-dp'}})
        given_up = []
        self.patch('nova.accelerator.cyborg._CyborgClient.'
                   'delete_arqs_for_instance',
                   lambda client, uuid: given_up.append(uuid))
        asked = self.record_scheduling()
        server = self.create_failed()
        for _round in range(2):
            self.failed_again(server)
        for devices in (
                [sorted(str((group.resources, group.required_traits))
                        for group in spec.requested_resources)
                 for spec in asked],
                [[(request.count, request.alias_name, request.spec)
                  for request in spec.pci_requests.requests]
                 for spec in asked]):
            at_creation, *later = devices
            self.assertTrue(at_creation)
            self.assertEqual([at_creation] * 2, later)
        self.assertEqual([server['id']] * 2, given_up)

    def test_what_ports_request(self):
        """All that Neutron says of them reaches the scheduler."""
        server = self.create_failed(networks=[{'port': self.PORT}])
        group = objects.RequestGroup(resources={'CUSTOM_A': 1},
                                     requester_id='port')
        self.patch(
            'nova.network.neutron.API.create_resource_requests',
            lambda *args, **kwargs: (
                objects.NetworkMetadata(physnets={'net'}, tunneled=True),
                [group],
                objects.RequestLevelParams(same_subtree=[{'a', 'b'}])))
        asked = self.record_scheduling()
        self.failed_again(server)
        spec, = asked
        self.assertEqual(
            ({'net'}, [{'CUSTOM_A': 1}], [{'a', 'b'}], [self.PORT]),
            (spec.network_metadata.physnets,
             [group.resources for group in spec.requested_resources],
             [set(group) for group
              in spec.request_level_params.same_subtree],
             [network.port_id for network in spec.requested_networks]))

    def record_scheduling(self):
        """The RequestSpecs that the scheduler is asked to find hosts for."""
        from nova.scheduler import rpcapi
        select = rpcapi.SchedulerAPI.select_destinations
        asked = []

        def record(itself, context, spec, *args, **kwargs):
            asked.append(spec)
            return select(itself, context, spec, *args, **kwargs)

        self.patch('nova.scheduler.rpcapi.SchedulerAPI.select_destinations',
                   record)
        return asked

    def test_group_policy(self):
        group = self.api.post_server_groups(
            {'name': 'group', 'policy': 'anti-affinity'})
        server = self.create_failed(group=group['id'])
        self.add_capacity('host1')
        first = self.create(group=group['id'])
        self.assertEqual('ACTIVE', first['status'])
        self.failed_again(server)
        self.add_capacity('host2')
        self.rebuilt(server)
        self.assertEqual('host2', self.admin_api.get_server(server['id'])[
            'OS-EXT-SRV-ATTR:host'])

    def test_security_groups(self):
        self.patch('nova.network.security_group_api.validate_name',
                   lambda context, name: uuids.group)
        server = self.create_failed(security_groups=[{'name': 'web'}],
                                    networks='auto')
        seen = []
        self.patch('nova.network.neutron.API.allocate_for_instance',
                   lambda *args, security_groups=None, **kwargs: (
                       seen.append(security_groups)
                       or network_model.NetworkInfo()))
        self.add_capacity()
        self.rebuilt(server)
        self.assertEqual([[uuids.group]], seen)

    def test_created_at_in_between(self):
        server = self.create_failed()
        self.make_older(server, days=3)
        server = self.api.get_server(server['id'])
        seen = []

        def look():
            seen.append(self.api.get_server(server['id'])['created'])

        self.before_hard_delete(look)
        self.add_capacity()
        seen.append(self.rebuilt(server)['created'])
        self.assertEqual([server['created']] * 2, seen)

    def test_requested_host(self):
        self.add_capacity('host1')
        self.add_capacity('host2')
        self.computes['host2'].stop()
        self.set_down('host2', True)
        body = {'name': 'pinned', 'flavorRef': '1', 'networks': 'none',
                'imageRef': self.IMAGE, 'host': 'host2'}
        server = self.admin_api.post_server({'server': body})
        server = self.await_end(server)
        self.assertEqual('ERROR', server['status'])
        # There is another host, but not the one that was asked for.
        self.failed_again(server, api=self.admin_api)
        self.set_down('host2', False)
        self.computes['host2'].start()
        self.rebuilt(server, api=self.admin_api)
        self.assertEqual('host2', self.admin_api.get_server(server['id'])[
            'OS-EXT-SRV-ATTR:host'])

    def test_old_actions_stay(self):
        server = self.create_failed()
        for _round in range(2):
            self.failed_again(server)
        old = self.actions(server)
        self.assertEqual(3, len(old))
        self.add_capacity()
        self.rebuilt(server)
        self.assertEqual(old, self.actions(server)[1:])
        newest, *rest = self.actions(server)
        self.assertEqual('create', newest['action'])
        events = self.admin_api.get_instance_action_details(
            server['id'], old[0]['request_id'])['events']
        self.assertEqual(['Error'], [event['result'] for event in events])

    def test_newest_actions_stay(self):
        self.patch('nova_rescue_ext.rebuild.database.HISTORY_LENGTH', 2)
        server = self.create_failed()
        for _round in range(2):
            self.failed_again(server)
        cell0 = self.cell_mappings['cell0']
        with nova_context.target_cell(self.context, cell0) as context:
            history = database.read_history(context, server['id'])
        newest = self.actions(server)[:2]
        self.assertEqual([action['request_id'] for action in newest],
                         [past['request_id'] for past in reversed(history)])
        self.failed_again(server)
        self.assertEqual(newest, self.actions(server)[1:])

    def actions(self, server):
        return self.api.get_instance_actions(server['id'])


class NetworksTest(rebuild_base.RebuildTestCase):
    """The requested networks are kept (issue, point 1)."""

    def test_port(self):
        server = self.create_failed(networks=[{'port': self.PORT}])
        self.add_capacity()
        self.rebuilt(server)
        self.assertEqual([self.PORT], self.ports_of(server))

    def test_fixed_address_and_tag(self):
        server = self.create_failed(networks=[{
            'uuid': self.NETWORK, 'fixed_ip': '192.168.1.9', 'tag': 'front'}])
        seen = self.record_allocation()
        self.add_capacity()
        self.rebuilt(server)
        self.assertEqual([('192.168.1.9', 'front')], [
            (str(network.address), network.tag) for network in seen])

    def test_none(self):
        server = self.create_failed(networks='none')
        self.add_capacity()
        self.rebuilt(server)
        self.assertEqual([], self.ports_of(server))

    def test_auto(self):
        server = self.create_failed(networks='auto')
        seen = self.record_allocation()
        self.add_capacity()
        self.rebuilt(server)
        self.assertEqual(['auto'], [network.network_id for network in seen])

    def test_absent(self):
        """Before 2.37 a request may have none: what there is, is allocated."""
        self.opt_in('2.36')
        body = {'name': 'old', 'flavorRef': '1', 'imageRef': self.IMAGE}
        server = self.await_end(self.api.post_server({'server': body}))
        self.opt_in()
        server = self.api.get_server(server['id'])
        self.add_capacity()
        self.rebuilt(server)
        self.assertEqual(1, len(self.ports_of(server)))

    def test_every_save_of_the_request_spec_keeps_them(self):
        server = self.create_failed(networks=[{'port': self.PORT}])
        spec = objects.RequestSpec.get_by_instance_uuid(
            self.context, server['id'])
        spec.num_instances = 7
        spec.save()
        self.add_capacity()
        self.rebuilt(server)
        self.assertEqual([self.PORT], self.ports_of(server))

    def test_every_server_of_a_multi_create(self):
        self.create_failed(networks=[{'uuid': self.NETWORK}], min_count=2)
        servers = self.api.get_servers()
        self.assertEqual(2, len(servers))
        self.add_capacity()
        for server in servers:
            self.rebuilt(server)
        self.assertEqual(1, len(self.ports_of(server)))

    def test_not_kept(self):
        server = self.create_failed(networks=[{'port': self.PORT}])
        rebuild_base.keep(self.context, server['id'], requested=None)
        self.add_capacity()
        self.assert_refused(409, self.rebuild(server), 'networks')
        self.assert_untouched(server)
        self.rebuilt(server, networks=[{'port': self.PORT}])
        self.assertEqual([self.PORT], self.ports_of(server))

    def test_networks_in_the_body(self):
        server = self.create_failed(networks='none')
        self.failed_again(server, networks=[{'port': self.PORT}])
        self.add_capacity()
        # Those that were named last are kept.
        self.rebuilt(server)
        self.assertEqual([self.PORT], self.ports_of(server))

    def test_bad_networks_in_the_body(self):
        server = self.create_failed()
        for networks in ('some', [{'uuid': 'x'}], [{}], [{'host': 'y'}], 5):
            self.assert_refused(
                400, self.rebuild(server, networks=networks))
        self.assert_refused(400, self.rebuild(
            server, networks=[{'port': self.PORT}, {'port': self.PORT}]),
            'twice')
        self.assert_untouched(server)

    def test_networks_in_the_body_by_version(self):
        """As for a new server: there since 2.37, tags again since 2.42."""
        server = self.create_failed()
        tagged = [{'port': self.PORT, 'tag': 'front'}]
        for version, networks in (('2.36', 'none'), ('2.41', tagged)):
            self.opt_in(version)
            self.assert_refused(
                400, self.rebuild(server, networks=networks))
        self.opt_in()
        self.failed_again(server, networks=tagged)

    def test_external_network_that_is_forbidden(self):
        server = self.create_failed()

        def forbid(*args, **kwargs):
            raise exception.ExternalNetworkAttachForbidden(
                network_uuid=self.NETWORK)

        self.patch('nova.network.neutron.API.validate_networks', forbid)
        self.assert_refused(403, self.rebuild(server, networks='auto'),
                            self.NETWORK)

    def test_ports_that_old_hosts_cannot_attach(self):
        server = self.create_failed(networks=[{'port': self.PORT}])

        def request(itself, context, networks, *args, **kwargs):
            for network in networks:
                network.device_profile = profile
            return None, [], None

        self.patch('nova.objects.service.get_minimum_version_all_cells',
                   lambda *args: 1)
        self.patch('nova.network.neutron.API.create_resource_requests',
                   request)
        self.patch('nova.network.neutron.API.is_remote_managed_port',
                   lambda *args: profile is None)
        for profile in ('profile', None):
            self.assert_refused(400, self.rebuild(server), 'upgrade')

    def test_port_that_is_gone(self):
        server = self.create_failed(networks=[{'port': self.PORT}])
        del self.neutron._ports[self.PORT]
        self.add_capacity()
        self.assert_refused(400, self.rebuild(server), self.PORT)
        self.assert_untouched(server)

    def test_port_that_is_used_by_another_server(self):
        server = self.create_failed(networks=[{'port': self.PORT}])
        self.add_capacity()
        self.create(networks=[{'port': self.PORT}])
        self.assert_refused(400, self.rebuild(server), self.PORT)
        self.assertEqual('ERROR', self.api.get_server(server['id'])[
            'status'])

    def test_unkept_is_no_reason_not_to_build(self):
        def fail(*args, **kwargs):
            raise exception.NovaException('no database')

        self.patch('nova_rescue_ext.rebuild.database.take', fail)
        self.add_capacity()
        self.assertEqual('ACTIVE', self.create()['status'])

    def record_allocation(self):
        """The NetworkRequests that a build allocates."""
        from nova.network import neutron
        seen = []
        allocate = neutron.API.allocate_for_instance

        def record(itself, context, instance, requested_networks, *args,
                   **kwargs):
            seen.extend(requested_networks)
            return allocate(itself, context, instance, None, *args, **kwargs)

        self.patch('nova.network.neutron.API.allocate_for_instance', record)
        return seen


class FailingAgainTest(rebuild_base.RebuildTestCase):
    """Buried again, and rebuilt again (issue, point 5)."""

    def test_again_and_again(self):
        server = self.create_failed(networks=[{'port': self.PORT}],
                                    tags=['one'])
        for _round in range(3):
            after = self.failed_again(server)
            self.assertIn('No valid host', after['fault']['message'])
            self.assertEqual(('cell0', 1, {}), (
                self.cell_of(server), self.count_rows(server),
                self.allocations(server)))
            self.assertEqual(server['created'], after['created'])
        self.add_capacity()
        after = self.rebuilt(server)
        self.assertEqual(['one'], after['tags'])
        self.assertEqual(1, len(self.allocations(server)))

    def test_new_reason(self):
        server = self.create_failed()
        self.fail_mapping()
        self.add_capacity()
        after = self.failed_again(server)
        self.assertIn("Host 'host1' is not mapped",
                      after['fault']['message'])

    def test_no_host_mapping_leaks_no_allocation(self):
        mapped = self.fail_mapping()
        self.add_capacity()
        server = self.create()
        self.assertEqual('ERROR', server['status'])
        # Nova leaks one when a server is created.
        self.assertEqual(1, len(self.allocations(server)))
        self.failed_again(server)
        self.assertEqual({}, self.allocations(server))
        mapped.stop()
        self.rebuilt(server)
        self.assertEqual(1, len(self.allocations(server)))

    def test_leaked_allocation_on_another_host(self):
        mapped = self.fail_mapping()
        self.add_capacity('host1')
        server = self.create()
        leaked, = self.allocations(server)
        mapped.stop()
        self.add_capacity('host2')
        self.set_down('host1', True)
        self.rebuilt(server)
        allocated, = self.allocations(server)
        self.assertNotEqual(leaked, allocated)

    def test_placement_does_not_say_that_a_leaked_one_is_gone(self):
        """Nova's method only logs that, and the scheduler would go by it."""
        mapped = self.fail_mapping()
        self.add_capacity()
        server = self.create()
        mapped.stop()
        placement = self.patch(
            'nova.scheduler.client.report.SchedulerReportClient'
            '.delete_allocation_for_instance', lambda *args, **kwargs: None)
        self.assert_refused(409, self.rebuild(server), 'Placement')
        self.assert_untouched(self.api.get_server(server['id']))
        self.assertEqual(1, len(self.allocations(server)))
        placement.stop()
        self.rebuilt(server)

    def fail_mapping(self):
        @classmethod
        def fail(cls, context, host):
            raise exception.HostMappingNotFound(name=host)

        return self.patch('nova.objects.HostMapping.get_by_host', fail)

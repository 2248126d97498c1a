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


"""Servers that failed in a real cell (hazard: what-failures-leave)."""

import itertools
from unittest import mock

from keystoneauth1 import exceptions as ks_exc
from nova.compute import utils as compute_utils
from nova import context as nova_context
from nova.db.main import api as main_db_api
from nova import exception
from oslo_db import exception as db_exc

from nova_rescue_ext import capabilities
from nova_rescue_ext import microversion
from nova_rescue_ext.rebuild import spec_extras
from tests.functional import rebuild_base
from tests.functional import test_rebuild_parameters


class _TestCase(rebuild_base.RebuildTestCase):

    failure = exception.ComputeResourcesUnavailable(reason='broken')

    def fail_spawn(self):
        def fail(*args, **kwargs):
            raise self.failure

        self.spawn = self.patch('nova.virt.fake.FakeDriver.spawn', fail)

    def create_failed_on_host(self, **request):
        self.add_capacity()
        self.fail_spawn()
        server = self.create(**request)
        self.assertEqual(('ERROR', 'cell1'), (
            server['status'], self.cell_of(server)))
        return server


class FailedBuildsTest(_TestCase):
    """Tried on every host, in vain."""

    def test_retries_exhausted(self):
        server = self.create_failed_on_host(
            networks=[{'port': self.PORT}], tags=['one'])
        self.assertEqual({}, self.allocations(server))
        self.spawn.stop()
        after = self.rebuilt(server)
        self.assertEqual(['one'], after['tags'])
        self.assertEqual([self.PORT], self.ports_of(server))
        self.assertEqual(1, len(self.allocations(server)))

    def test_again_and_again(self):
        server = self.create_failed_on_host()
        for _round in range(2):
            self.failed_again(server)
            self.assertEqual(({}, 1), (self.allocations(server),
                                       self.count_rows(server)))
        self.spawn.stop()
        self.rebuilt(server)

    def test_existing_volume(self):
        server = self.create_failed_on_host(
            bdms=[test_rebuild_parameters.ROOT])
        self.spawn.stop()
        self.rebuilt(server)
        self.assertEqual(1, len(set(
            self.cinder.attachment_ids_for_instance(server['id']))))

    def test_then_no_capacity(self):
        """From the cell to cell0 and back."""
        server = self.create_failed_on_host()
        self.spawn.stop()
        self.set_down('host1', True)
        self.failed_again(server)
        self.assertEqual('cell0', self.cell_of(server))
        self.set_down('host1', False)
        self.rebuilt(server)


class DefaultsTest(_TestCase):
    """What the failed build has filled in, as libvirt does, by the image."""

    def setUp(self):
        super().setUp()
        self.devices = []
        self.patch(
            'nova.virt.fake.FakeDriver.default_device_names_for_instance',
            self.fill_in)

    def fill_in(self, instance, root_device_name, *lists):
        for bdm in itertools.chain(*lists):
            self.devices.append((bdm.device_name, bdm.disk_bus,
                                 bdm.device_type))
            bdm.device_name = bdm.device_name or '/dev/vdb'
            bdm.disk_bus = bdm.disk_bus or 'virtio'
            bdm.device_type = bdm.device_type or 'cdrom'
            bdm.save()

    def root(self, **values):
        return {'boot_index': 0, 'uuid': self.IMAGE, 'source_type': 'image',
                'destination_type': 'local', **values}

    def test_filled_in_anew(self):
        server = self.create_failed_on_host(bdms=[
            self.root(), {'source_type': 'blank', 'destination_type': 'volume',
                          'boot_index': -1, 'volume_size': 1}],
            imageRef=self.IMAGE)
        first, self.devices = self.devices, []
        self.failed_again(server)
        self.assertEqual(first, self.devices)
        self.devices = []
        self.spawn.stop()
        self.rebuilt(server, imageRef=self.OTHER_IMAGE)
        self.assertEqual(first, self.devices)

    def test_what_was_asked_for_stays(self):
        server = self.create_failed_on_host(imageRef=self.IMAGE, bdms=[
            self.root(disk_bus='scsi', device_type='lun')])
        first, self.devices = self.devices, []
        self.assertEqual(('scsi', 'lun'), first[0][1:])
        self.spawn.stop()
        self.rebuilt(server, imageRef=self.OTHER_IMAGE)
        self.assertEqual(first, self.devices)

    def test_name_of_the_root_device(self):
        """By the image, if that has one."""
        server = self.create_failed_on_host()
        self.devices = []
        self.glance.images[self.OTHER_IMAGE]['properties'][
            'root_device_name'] = '/dev/hda'
        self.spawn.stop()
        self.rebuilt(server, imageRef=self.OTHER_IMAGE)
        self.assertEqual('/dev/hda', self.devices[0][0])


class EventTest(_TestCase):
    """The database fails when all is done, but for the instance action."""

    def setUp(self):
        super().setUp()
        self.add_capacity()

    def fail_event(self):
        def fail(itself, *args, **kwargs):
            if itself.event_name == 'compute__do_build_and_run_instance':
                raise db_exc.DBConnectionError()
            return leave(itself, *args, **kwargs)

        leave = compute_utils.EventReporter.__exit__
        return self.patch('nova.compute.utils.EventReporter.__exit__', fail)

    def test_server_that_runs_has_its_allocation(self):
        self.set_down('host1', True)
        server = self.create_failed()
        self.set_down('host1', False)
        self.fail_event()
        ends = []
        for name in ('_build_succeeded', '_build_failed'):
            self.patch('nova.compute.manager.ComputeManager.' + name,
                       lambda manager, node, name=name: ends.append(name))
        self.rebuilt(server)
        self.await_true(lambda: ends)
        self.assertEqual(['_build_succeeded'], ends)
        self.assertEqual(1, len(self.allocations(server)))

    def test_server_that_failed_has_none(self):
        self.set_down('host1', True)
        server = self.create_failed()
        self.set_down('host1', False)
        self.failure = exception.BuildAbortException(
            instance_uuid='x', reason='broken')
        self.fail_spawn()
        self.fail_event()
        self.failed_again(server)
        self.await_true(lambda: self.allocations(server) == {})


class LateRescheduleTest(_TestCase):
    """The message of a host that has failed waits for a conductor."""

    def test_rebuilt_meanwhile(self):
        for host in ('host1', 'host2'):
            self.add_capacity(host)
        self.fail_spawn()
        server, deliver = self.create_to_be_rescheduled()
        self.spawn.stop()
        self.admin_api.post_server_action(
            server['id'], {'os-resetState': {'state': 'error'}})
        self.rebuilt(server)
        spawned = []
        self.patch('nova.virt.fake.FakeDriver.spawn',
                   lambda *args, **kwargs: spawned.append(args))
        deliver()
        self.assertEqual(1, len(self.allocations(server)))
        self.assertEqual([], spawned)
        self.assertEqual('ACTIVE', self.api.get_server(server['id'])[
            'status'])


class ConductorTest(_TestCase):
    """Failed, or waiting, before a host had begun."""

    def be_over_quota(self):
        """By the second look, which Nova takes after it has scheduled."""
        def over(*args, **kwargs):
            raise exception.TooManyInstances(
                overs='instances', req=1, used=1, allowed=1)

        return self.patch('nova.conductor.manager.ComputeTaskManager.'
                          '_recheck_quota', over)

    def fail_second(self):
        """Have the accelerators of the second server fail to be bound."""
        calls = []

        def fail(*args, **kwargs):
            calls.append(args)
            if len(calls) == 2:
                raise exception.AcceleratorRequestBindingFailed(
                    arqs=[], msg='no card')

        self.patch('nova.conductor.manager.ComputeTaskManager.'
                   '_create_and_bind_arq_for_instance', fail)
        return calls

    def test_zone_of_the_failed_host_is_forgotten(self):
        """Nobody asked for it, so a server that is buried is not in it."""
        self.add_capacity()
        zone = self.admin_api.post_aggregate({'aggregate': {
            'name': 'rack', 'availability_zone': 'zone'}})
        self.admin_api.add_host_to_aggregate(zone['id'], 'host1')
        recheck = self.be_over_quota()
        server = self.create()
        self.assertEqual('zone', server['OS-EXT-AZ:availability_zone'])
        recheck.stop()
        self.set_down('host1', True)
        self.assertEqual('', self.failed_again(server)[
            'OS-EXT-AZ:availability_zone'])

    def test_quota_recheck(self):
        self.add_capacity()
        recheck = self.be_over_quota()
        server = self.create(networks=[{'port': self.PORT}])
        self.assertEqual('cell1', self.cell_of(server))
        self.assertEqual({}, self.allocations(server))
        self.failed_again(server)
        self.assertEqual({}, self.allocations(server))
        recheck.stop()
        self.rebuilt(server)
        self.assertEqual([self.PORT], self.ports_of(server))

    def test_accelerators(self):
        """Nova writes the block devices twice there."""
        def fail(*args, **kwargs):
            raise exception.AcceleratorRequestBindingFailed(
                arqs=[], msg='no card')

        self.add_capacity()
        bind = self.patch('nova.conductor.manager.ComputeTaskManager.'
                          '_create_and_bind_arq_for_instance', fail)
        server = self.create()
        self.assertEqual('ERROR', server['status'])
        bind.stop()
        self.rebuilt(server)
        self.assertEqual(1, self.count_rows(
            server, rebuild_base.models.BlockDeviceMapping, 'instance_uuid'))

    def create_building(self, **request):
        """A server whose message waits on the way to its host."""
        asked = []
        self.add_capacity()
        waiting = self.patch(
            'nova.compute.rpcapi.ComputeAPI.build_and_run_instance',
            lambda *args, **kwargs: asked.append(args))
        server = self.api.post_server({'server': dict({
            'name': 'web', 'flavorRef': '1', 'networks': 'none',
            'imageRef': self.IMAGE}, **request)})
        self.await_true(lambda: asked and not self._is_at_work(server))
        waiting.stop()
        return server

    def test_reset_while_a_host_may_build_it(self):
        """It would have two guests, or one on a host that nobody knows."""
        server = self.create_building()
        self.admin_api.post_server_action(
            server['id'], {'os-resetState': {'state': 'error'}})
        before = self.api.get_server(server['id'])
        self.assertEqual('ERROR', before['status'])
        self.assert_refused(409, self.rebuild(server),
                            'A host may still build the server')
        self.assert_untouched(before)
        self.placement.delete('/allocations/%s' % server['id'])
        self.rebuilt(server)

    def test_reset_while_placement_does_not_answer(self):
        """That is no no."""
        server = self.create_building()
        self.admin_api.post_server_action(
            server['id'], {'os-resetState': {'state': 'error'}})
        before = self.api.get_server(server['id'])
        for error in (
                exception.ConsumerAllocationRetrievalFailed(
                    consumer_uuid=server['id'], error='busy'),
                ks_exc.ConnectFailure('http://placement.internal')):
            away = self.patch(
                'nova.scheduler.client.report.SchedulerReportClient.'
                'get_allocs_for_consumer', mock.Mock(side_effect=error))
            response = self.rebuild(server)
            away.stop()
            self.assert_refused(409, response, 'Placement')
            self.assertNotIn('internal', response.text)
            self.assert_untouched(before)

    def test_sibling_that_a_host_may_build(self):
        """Nova sets all servers of the request to ERROR when one fails."""
        self.fail_second()
        self.create_building(min_count=2)
        self.await_true(lambda: {'ERROR'} == {
            server['status'] for server in self.api.get_servers()})
        for server in self.api.get_servers():
            self.assertEqual(1, len(self.allocations(server)))
            self.assert_refused(409, self.rebuild(server),
                                'A host may still build the server')

    def test_quota_recheck_of_siblings(self):
        self.add_capacity()
        recheck = self.be_over_quota()
        self.create(min_count=2)
        recheck.stop()
        servers = self.api.get_servers()
        self.assertEqual(2, len(servers))
        for server in servers:
            self.assertEqual({}, self.allocations(server))
            self.rebuilt(server)

    def test_allocation_that_cannot_be_deleted(self):
        """No reason to hide why the build failed."""
        def fail(*args, **kwargs):
            raise exception.AllocationDeleteFailed(
                consumer_uuid='x', error='no placement')

        self.add_capacity()
        self.be_over_quota()
        placement = self.patch(
            'nova.scheduler.client.report.SchedulerReportClient.'
            'delete_allocation_for_instance', fail)
        server = self.create()
        placement.stop()
        self.assertIn('Quota exceeded', server['fault']['message'])
        self.assert_refused(409, self.rebuild(server), 'placement')

    def test_request_spec_of_a_sibling_stays(self):
        self.add_capacity()
        calls = self.fail_second()
        self.create(min_count=2)
        servers = [server['id'] for server in self.api.get_servers()]
        # They are put back after the servers have been set to ERROR.
        self.await_true(lambda: set(spec_extras.read_texts(
            self.context, servers)) == set(servers))
        self.assertEqual(2, len(calls))


class AbortedBuildsTest(FailedBuildsTest):
    """Not tried on another host."""

    failure = exception.BuildAbortException(instance_uuid='x',
                                            reason='broken')

    def test_volume_that_was_made_is_made_again(self):
        made = test_rebuild_parameters.VolumesTest.record_volumes(self)
        self.patch('nova.volume.cinder.API.delete',
                   lambda *args, **kwargs: None)
        server = self.create_failed_on_host(
            bdms=[test_rebuild_parameters.NEW_ROOT])
        self.spawn.stop()
        self.rebuilt(server)
        self.assertEqual([self.IMAGE] * 2, made)

    def test_existing_volume_survives(self):
        """It survived the create, and nobody asks to terminate the server."""
        deleted = []
        self.patch('nova.volume.cinder.API.delete',
                   lambda itself, context, volume: deleted.append(volume))
        root = dict(test_rebuild_parameters.ROOT, delete_on_termination=True)
        server = self.create_failed(bdms=[root])
        self.add_capacity()
        self.fail_spawn()
        for _round in range(2):
            self.failed_again(server)
            self.assertEqual('cell1', self.cell_of(server))
            self.assertEqual([], deleted)
        self.spawn.stop()
        self.rebuilt(server)
        self.api.delete_server(server['id'])
        self._wait_until_deleted(server)
        self.assertEqual([root['uuid']], deleted)

    def have_hosts_report_nothing(self):
        return self.patch('nova_rescue_ext.capabilities.report_builds',
                          lambda resources: resources)

    def test_statistics_of_other_drivers(self):
        """Some report their own, as a text or as a dict."""
        for stats in ('{"a": "b"}', {'a': 'b'}, None):
            reported = capabilities.report_builds({'stats': stats})['stats']
            self.assertEqual(stats and 'b', reported.get('a'))
            self.assertTrue(capabilities.keeps_volumes(
                mock.Mock(stats=reported)))
            self.assertFalse(capabilities.host_can(
                mock.Mock(stats=reported), microversion.RESCUE))

    def test_host_that_would_delete_the_volume(self):
        """As stock nova-compute, which reports nothing."""
        root = dict(test_rebuild_parameters.ROOT, delete_on_termination=True)
        server = self.create_failed(bdms=[root])
        stock = self.have_hosts_report_nothing()
        self.add_capacity()
        self.assert_refused(409, self.rebuild(server), root['uuid'],
                            'nova-compute')
        self.assert_untouched(server)
        stock.stop()
        self.computes['host1'].manager.update_available_resource(self.context)
        self.rebuilt(server)

    def test_host_that_is_not_chosen_would_delete_the_volume(self):
        root = dict(test_rebuild_parameters.ROOT, delete_on_termination=True)
        server = self.create_failed(bdms=[root])
        stock = self.have_hosts_report_nothing()
        self.add_capacity('stock')
        stock.stop()
        self.add_capacity()
        self.admin_api.put_service(self.service_id('stock'),
                                   {'status': 'disabled'})
        self.rebuilt(server)

    def test_host_that_would_delete_no_volume(self):
        server = self.create_failed(bdms=[test_rebuild_parameters.ROOT])
        self.have_hosts_report_nothing()
        self.add_capacity()
        self.rebuilt(server)

    def test_volumes_of_archived_rows(self):
        """Nova deletes the rows of volumes that it made and deletes."""
        made = test_rebuild_parameters.VolumesTest.record_volumes(self)
        self.patch('nova.volume.cinder.API.delete',
                   lambda *args, **kwargs: None)
        server = self.create_failed_on_host(
            bdms=[test_rebuild_parameters.ROOT, self.BLANK, self.BLANK])
        self.assertEqual(2, len(made))
        self.archive()
        self.spawn.stop()
        after = self.rebuilt(server)
        self.assertEqual(3, len(
            after['os-extended-volumes:volumes_attached']))
        self.assertEqual(4, len(made))

    def let_volumes_be_deleted(self):
        """Cinder knows them until then."""
        def get(api, context, volume_id, *args, **kwargs):
            raise exception.VolumeNotFound(volume_id=volume_id)

        self.patch('nova.volume.cinder.API.delete', lambda *args, **kwargs:
                   self.patch('nova.volume.cinder.API.get', get))

    def test_existing_volume_of_an_archived_row(self):
        self.let_volumes_be_deleted()
        server = self.create_failed_on_host(
            bdms=[dict(test_rebuild_parameters.ROOT,
                       delete_on_termination=True)])
        self.archive()
        self.assert_refused(409, self.rebuild(server),
                            test_rebuild_parameters.ROOT['uuid'])

    BLANK = {'boot_index': -1, 'source_type': 'blank', 'volume_size': 1,
             'destination_type': 'volume', 'delete_on_termination': True}

    def archive(self):
        """nova-manage db archive_deleted_rows"""
        cell = self.cell_mappings['cell1']
        with nova_context.target_cell(self.context, cell) as context:
            rows, _uuids, _total = main_db_api.archive_deleted_rows(
                context=context, max_rows=100)
        self.assertIn('block_device_mapping', rows)

    def test_existing_volume_that_was_deleted(self):
        self.let_volumes_be_deleted()
        server = self.create_failed_on_host(
            bdms=[dict(test_rebuild_parameters.ROOT,
                       delete_on_termination=True)])
        self.assert_refused(409, self.rebuild(server),
                            test_rebuild_parameters.ROOT['uuid'])


class QuietPeriodTest(_TestCase):
    """Somebody may still be cleaning up."""

    OPTIONS = {'rebuild_quiet_period': 60}

    def test_too_early(self):
        server = self.create_failed_on_host()
        self.assert_refused(409, self.rebuild(server), '60 seconds')
        self.spawn.stop()
        self.make_untouched_for(server, seconds=61)
        self.rebuilt(server)

    def test_networks_not_released(self):
        """Neutron fails when they are: nobody tries again."""
        server = self.create_failed_on_host()
        self.set_system_metadata(server, 'network_allocated', 'True')
        self.make_untouched_for(server, seconds=61)
        self.assert_refused(409, self.rebuild(server), '300 seconds')
        self.spawn.stop()
        self.make_untouched_for(server, seconds=301)
        self.rebuilt(server)

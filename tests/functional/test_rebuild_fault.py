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


"""Why a build failed, for programs."""

import sys

from nova.compute import utils as compute_utils
import nova.conf
from nova import context as nova_context
from nova import exception
from nova import objects

from tests.functional import rebuild_base

CONF = nova.conf.CONF


class _TestCase(rebuild_base.RebuildTestCase):

    def setUp(self):
        super().setUp()
        if 'response_validation' in CONF.api:  # Nova 31
            self.flags(response_validation='error', group='api')

    def reason(self, server):
        """The reason in every answer that has the fault."""
        shown = self.api.get_server(server['id'])
        listed, = self.api.get_servers()
        self.assertEqual(shown['fault'], listed['fault'])
        return shown['fault'].get('reason')

    def raise_in(self, name, error):
        def fail(*args, **kwargs):
            raise error

        return self.patch(name, fail)


class CellZeroTest(_TestCase):
    """Nobody was asked to build the server."""

    def test_no_host(self):
        self.assertEqual('no_host', self.reason(self.create_failed()))

    def test_nothing_for_those_who_did_not_opt_in(self):
        server = self.create_failed()
        self.opt_out()
        self.assertIsNone(self.reason(server))
        self.api.microversion = '2.94, compute-rescue 1.1'
        self.assertIsNone(self.reason(server))

    def test_new_reason_of_a_rebuild(self):
        server = self.create_failed()
        self.raise_in('nova.conductor.manager.ComputeTaskManager.'
                      '_schedule_instances', RuntimeError('x'))
        self.assertIsNone(self.reason(self.failed_again(server)))

    def test_server_that_booted(self):
        """A fault of something else than a build."""
        self.add_capacity()
        server = self.create()
        with nova_context.target_cell(
                self.context, self.cell_mappings['cell1']) as context:
            try:
                raise exception.NoValidHost(reason='x')
            except exception.NoValidHost as error:
                compute_utils.add_instance_fault_from_exc(
                    context, objects.Instance(uuid=server['id']), error,
                    sys.exc_info())
        self.change_row(server, vm_state='error')
        self.assertIsNone(self.reason(server))


class DefaultVersionTest(_TestCase):

    OPTIONS = {'default_api_version': 'latest',
               **rebuild_base.RebuildTestCase.OPTIONS}

    def test_nothing_for_those_who_name_no_version(self):
        """They may be rebuilt, but their client may refuse the field."""
        server = self.create_failed()
        self.assertEqual('no_host', self.reason(server))
        self.opt_out()
        self.assertIsNone(self.reason(server))
        self.add_capacity()
        self.rebuilt(server, imageRef=self.IMAGE)


class HostTest(_TestCase):
    """A host has tried to build the server."""

    def setUp(self):
        super().setUp()
        self.add_capacity()

    def build_with(self, name, error):
        # Or Nova tries the next host, and says that none is left.
        self.flags(max_attempts=1, group='scheduler')
        patch = self.raise_in(name, error)
        server = self.create(networks='auto')
        patch.stop()
        self.assertEqual('cell1', self.cell_of(server))
        return self.reason(server)

    def test_retries_exhausted(self):
        self.raise_in('nova.virt.fake.FakeDriver.spawn',
                      exception.PortInUse(port_id='x'))
        self.assertEqual('retries_exhausted', self.reason(self.create()))

    def test_no_more_hosts_with_room(self):
        """The other host that was chosen has no room any more."""
        self.add_capacity('host2')

        def fail(*args, **kwargs):
            self.patch('nova.scheduler.utils.claim_resources',
                       lambda *args, **kwargs: False)
            raise RuntimeError('x')

        self.patch('nova.virt.fake.FakeDriver.spawn', fail)
        server = self.create()
        self.assertEqual('retries_exhausted', self.reason(server))

    def test_port(self):
        self.assertEqual('port', self.build_with(
            'nova.network.neutron.API.allocate_for_instance',
            exception.PortInUse(port_id='x')))

    def test_quota_of_ports(self):
        self.assertEqual('quota', self.build_with(
            'nova.network.neutron.API.allocate_for_instance',
            exception.PortLimitExceeded()))

    def test_volume(self):
        self.assertEqual('volume', self.build_with(
            'nova.virt.block_device.attach_block_devices',
            exception.VolumeNotFound(volume_id='x')))

    def test_image(self):
        self.assertEqual('image', self.build_with(
            'nova.virt.fake.FakeDriver.spawn',
            exception.ImageUnacceptable(image_id='x', reason='y')))

    def test_quota(self):
        patch = self.raise_in(
            'nova.conductor.manager.ComputeTaskManager._recheck_quota',
            exception.TooManyInstances(overs='instances', req=1, used=1,
                                       allowed=1))
        server = self.create()
        patch.stop()
        self.assertEqual('quota', self.reason(server))

    def test_unknown(self):
        self.assertIsNone(self.build_with(
            'nova.virt.fake.FakeDriver.spawn',
            exception.BuildAbortException(instance_uuid='x', reason='y')))

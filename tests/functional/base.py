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


"""A cloud of Nova's own fixtures with the package active.

Real WSGI, conductor, scheduler, placement and nova-compute with the libvirt
driver; libvirt, Glance, Cinder and Neutron are Nova's doubles.
"""

import contextlib
import os

import fixtures
from lxml import etree
from nova import conf
from nova import context as nova_context
from nova import objects
from nova.tests import fixtures as nova_fixtures
from nova.tests.functional.libvirt import base
from nova.virt.libvirt import host
from nova.virt.libvirt import utils as libvirt_utils
from oslo_serialization import jsonutils
from oslo_utils import uuidutils

from nova_rescue_ext import activation
from nova_rescue_ext import conf as ext_conf
from tests import audit
from tests import fixtures as tests_fixtures
from tests import owners

CONF = conf.CONF


class Activation(fixtures.Fixture):
    """The package, active for the length of a test."""

    def __init__(self, **options):
        super().__init__()
        self._options = options

    def _setUp(self):
        ext_conf.register_opts(CONF)
        for name, value in self._options.items():
            CONF.set_override(name, value, group='rescue_ext')
            self.addCleanup(CONF.clear_override, name, group='rescue_ext')
        self.addCleanup(activation.deactivate)
        if not activation.activate(CONF):
            raise RuntimeError(activation.summary())


class Domains(fixtures.Fixture):
    """The domains that the libvirt driver defines, by server."""

    def _setUp(self):
        self._xml = {}
        write = host.Host.write_instance_config

        def record(itself, xml):
            uuid = etree.fromstring(xml).findtext('uuid')
            self._xml[uuid] = xml
            return write(itself, xml)

        self.useFixture(fixtures.MonkeyPatch(
            'nova.virt.libvirt.host.Host.write_instance_config', record))

    def disks(self, server):
        """The disks of a server's domain, in the order of the domain.

        :returns: a list of (target, bus, device, boot order, file or serial)
        """
        domain = etree.fromstring(self._xml[server['id']])
        return [self._disk(disk) for disk in domain.findall('devices/disk')]

    def interfaces(self, uuid):
        """The elements of a server's network interfaces.

        :param uuid: the UUID of the server
        """
        return etree.fromstring(
            self._xml.get(uuid, '<domain/>')).findall('devices/interface')

    def serials(self, uuid):
        """The serials of a server's disks, by target.

        :param uuid: the UUID of the server
        """
        return {disk.find('target').get('dev'): disk.findtext('serial')
                for disk in etree.fromstring(
                    self._xml.get(uuid, '<domain/>')).findall('devices/disk')}

    def find(self, server, path):
        """The elements of a server's domain with this path."""
        return etree.fromstring(self._xml[server['id']]).findall(path)

    def machine_type(self, server):
        """The machine type of a server's domain."""
        domain = etree.fromstring(self._xml[server['id']])
        return domain.find('os/type').get('machine')

    @staticmethod
    def _disk(disk):
        target, boot = disk.find('target'), disk.find('boot')
        source = disk.find('source')
        file = source.get('file') if source is not None else None
        return (target.get('dev'), target.get('bus'), disk.get('device'),
                boot.get('order') if boot is not None else None,
                os.path.basename(file) if file and 'disk' in file
                else disk.findtext('serial'))


class RescueTestCase(base.ServersTestBase):
    """A cloud with one compute host, ``compute1``."""

    api_major_version = 'v2.1'
    microversion = '2.87'
    OPTIONS = {}  # of group [rescue_ext]
    START_COMPUTE = True

    IMAGE = '155d900f-4e14-4e4c-a73d-069cbf4541e6'
    VOLUME = nova_fixtures.CinderFixture.IMAGE_BACKED_VOL

    def setUp(self):
        self.useFixture(tests_fixtures.InstalledApiPaste())
        self.useFixture(Activation(**self.OPTIONS))
        super().setUp()
        self.useFixture(fixtures.MonkeyPatch(
            'nova.virt.libvirt.utils.get_instance_path',
            self._make_instance_path))
        self.domains = self.useFixture(Domains())
        self.owners = self.useFixture(owners.Owners(self.glance))
        self.audit = self.useFixture(audit.Audit(self, self.owners))
        self.context = nova_context.get_admin_context()
        if self.START_COMPUTE:
            self.start_compute()

    def _wait_for_server_parameter(self, server, expected_params,
                                   max_retries=10, *args, **kwargs):
        """Wait longer than Nova's tests do, for a busy machine."""
        return super()._wait_for_server_parameter(
            server, expected_params, max(max_retries, 60), *args, **kwargs)

    # nova.virt.libvirt's own: kept, as the patch above replaces it.
    _instance_path = staticmethod(libvirt_utils.get_instance_path)

    def _make_instance_path(self, *args, **kwargs):
        path = self._instance_path(*args, **kwargs)
        os.makedirs(path, exist_ok=True)
        return path

    def patch(self, name, replacement):
        """Replace something of Nova or of ours for the rest of the test."""
        self.useFixture(fixtures.MonkeyPatch(name, replacement))

    @contextlib.contextmanager
    def opted_in(self, version='1.1', compute='2.87', api=None):
        """Requests name this version of compute-rescue."""
        api = api or self.api
        before = api.microversion
        api.microversion = '%s, compute-rescue %s' % (compute, version)
        try:
            yield
        finally:
            api.microversion = before

    def create_image(self, properties=None, **attributes):
        """Upload an image; its id is returned."""
        image = dict({
            'id': uuidutils.generate_uuid(), 'name': 'rescue',
            'status': 'active', 'is_public': True, 'owner': None,
            'container_format': 'bare', 'disk_format': 'qcow2',
            'size': 25165824, 'min_ram': 0, 'min_disk': 0,
            'protected': False, 'visibility': 'public', 'tags': [],
            'deleted': False, 'deleted_at': None,
            'created_at': None, 'updated_at': None,
        }, properties=dict(properties or {}), **attributes)
        self.glance.create(None, image)
        return image['id']

    def claim_image(self, image_id=None, **metadata):
        """Set the image metadata of the root volume, as its owner could."""
        if image_id:
            metadata['image_id'] = image_id
        get = self.cinder.fake_get

        def claim(itself, context, volume_id, microversion=None):
            volume = get(context, volume_id, microversion)
            if volume_id == self.VOLUME:
                volume['volume_image_metadata'] = metadata
            return volume

        self.useFixture(fixtures.MonkeyPatch(
            'nova.volume.cinder.API.get', claim))

    def create_bfv_server(self, **request):
        """Boot a server from an image-backed volume, with a data volume."""
        body = self._build_server(networks='none', **request)
        body.pop('imageRef')
        body['block_device_mapping_v2'] = [
            {'boot_index': 0, 'uuid': self.VOLUME, 'source_type': 'volume',
             'destination_type': 'volume'}]
        server = self.api.post_server({'server': body})
        return self._wait_for_state_change(server, 'ACTIVE')

    def rescue(self, server, image_id=None, api=None):
        """Ask for a rescue; the response is returned, whatever it is."""
        parameters = {'rescue_image_ref': image_id} if image_id else None
        return (api or self.api).api_request(
            '/servers/%s/action' % server['id'], method='POST',
            headers={'Content-Type': 'application/json'},
            body=jsonutils.dumps({'rescue': parameters}))

    def assert_rescued(self, server, response):
        self.assertEqual(200, response.status_code, response.text)
        self._wait_for_state_change(server, 'RESCUE')

    def assert_refused(self, server, response, *words, status=400):
        """Refused in these words, and nothing has become of the server."""
        self.assertEqual(status, response.status_code, response.text)
        for word in words:
            self.assertIn(word, response.text)
        after = self.api.get_server(server['id'])
        self.assertEqual((server['status'], None), (
            after['status'], after['OS-EXT-STS:task_state']))
        events = [action['action'] for action
                  in self.api.get_instance_actions(server['id'])]
        self.assertNotIn('rescue', events)

    def change_compute_node(self, **stats):
        """Change what the compute service reported of itself."""
        node = objects.ComputeNode.get_first_node_by_host_for_old_compat(
            self.context, 'compute1')
        node.stats = stats
        node.save()

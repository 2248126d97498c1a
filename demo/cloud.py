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

"""The embedded cloud: Nova's services, and doubles of all that they talk to.

Built on the base class of the functional tests, which brings real conductor,
scheduler, placement and nova-compute with the libvirt driver, and Nova's own
doubles of libvirt, Glance, Cinder and Neutron. Here the API is behind a real
HTTP server and the real middleware of Keystone, and calls are as asynchronous
as in a deployment.
"""

import datetime
import hashlib
import importlib.metadata
import json
import logging
import os
import socketserver
import sys
import threading
from unittest import mock
from wsgiref import simple_server

import fixtures
from keystonemiddleware import fixture as keystone_fixture
from lxml import etree
from nova.api.metadata import base as metadata_base
from nova import context as nova_context
from nova import exception
from nova import objects
from nova.tests.fixtures import libvirt as fakelibvirt
from nova.virt.libvirt import driver as libvirt_driver
from nova.virt.libvirt import guest
from nova.virt.libvirt import utils as libvirt_utils
from oslo_utils import uuidutils
import testtools

from demo import services
from demo import users
from nova_rescue_ext.activation import overrides
from nova_rescue_ext import instance_metadata
from nova_rescue_ext.rescue import timeouts
from tests.functional import consoles
from tests.functional import migration_base


class Cloud(migration_base.MigrationTestCase):
    """Two compute hosts, ``compute1`` and ``compute2``.

    Each has its own directory of instances, with files that are copied when a
    server migrates.

    A test case that runs no test: its setUp() is the start of the cloud.

    .. attribute:: play

        what is called, with the cloud, when it runs
    """

    STUB_KEYSTONE = False

    def setUp(self):
        super().setUp()
        self.useFixture(DiskSerials())
        self.useFixture(consoles.Consoles())
        libvirt_driver.LibvirtDriver._create_image.side_effect = _create_disks
        self.backstage = Backstage(self)
        self.url = self._listen(self.api_fixture.app()) + '/v2.1'
        catalog = {'compute': self.url,
                   'image': self._listen(services.Glance(self.glance)),
                   'volumev3': '%s/v3/%s' % (self._listen(services.Cinder(
                       self.cinder, self.backstage.create_volume)),
                       users.PROJECT)}
        self.auth_url = self._listen(services.Keystone(catalog)) + '/v3'
        catalog['identity'] = self.auth_url

    def _setup_services(self):
        log = logging.StreamHandler()  # on stderr
        log.setLevel(logging.INFO)
        log.setFormatter(logging.Formatter(
            '%(asctime)s %(levelname)s %(name)s %(message)s'))
        self.useFixture(fixtures.LogHandler(log, nuke_handlers=False))
        keystone = self.useFixture(keystone_fixture.AuthTokenFixture())
        for token, user in users.TOKENS.items():
            keystone.add_token_data(token, **user)
        self.glance.show = _hide_private_images(self.glance.show)
        super()._setup_services()

    def _listen(self, app):
        """Serve a WSGI application on a free port.

        :returns: its URL
        """
        server = simple_server.make_server(
            '127.0.0.1', 0, app, _Server, _RequestHandler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        return 'http://127.0.0.1:%d' % server.server_port

    def describe(self):
        """What a visitor wants to know first."""
        return {'url': self.url, 'auth_url': self.auth_url,
                'hosts': sorted(self.computes),
                'nova': importlib.metadata.version('nova')}

    def runTest(self):
        self.play(self)


class DiskSerials(fixtures.Fixture):
    """The serials of disks, which Nova's double of libvirt forgets.

    The serial is the id of the volume, which unrescue takes from the domain's
    XML as libvirt has it.
    """

    def _setUp(self):
        parse = fakelibvirt._parse_disk_info
        describe = fakelibvirt.Domain.XMLDesc

        def parse_with_serial(element):
            return dict(parse(element), serial=element.findtext('serial'))

        def describe_with_serials(domain, flags):
            tree = etree.fromstring(describe(domain, flags))
            for disk, parsed in zip(tree.findall('devices/disk'),
                                    domain._def['devices']['disks']):
                if parsed['serial']:
                    etree.SubElement(disk, 'serial').text = parsed['serial']
            return etree.tostring(tree, encoding='unicode')

        self.useFixture(fixtures.MonkeyPatch(
            'nova.tests.fixtures.libvirt._parse_disk_info',
            parse_with_serial))
        self.useFixture(fixtures.MonkeyPatch(
            'nova.tests.fixtures.libvirt.Domain.XMLDesc',
            describe_with_serials))


def _create_disks(context, instance, mapping, **kwargs):
    """Make empty files of what would be the local disks of a server.

    With the token of a real user, a hard reboot looks for them.
    """
    path = libvirt_utils.get_instance_path(instance)
    for name in mapping:
        if name.startswith('disk'):
            with open(os.path.join(path, name), 'a'):
                pass
    return mock.DEFAULT


class _Server(socketserver.ThreadingMixIn, simple_server.WSGIServer):
    daemon_threads = True


class _RequestHandler(simple_server.WSGIRequestHandler):

    def log_message(self, *args):
        """Nova logs requests itself."""


def _hide_private_images(show):
    """Glance answers 404 for an image that the caller may not see."""

    def show_if_visible(context, image_id, **kwargs):
        image = show(context, image_id, **kwargs)
        if not (image['is_public'] or context.is_admin
                or image.get('owner') == context.project_id):
            raise exception.ImageNotFound(image_id=image_id)
        return image

    return show_if_visible


class Backstage:
    """What happens in a cloud without going through Nova's API."""

    def __init__(self, running):
        self._cloud = running

    def upload_image(self, name, properties=None, private_to=None,
                     **attributes):
        """Upload an image to Glance.

        :param private_to: the project that owns it and alone can see it
        :returns: its id
        """
        return self._cloud.create_image(
            properties, name=name, owner=private_to, **attributes,
            is_public=private_to is None,
            visibility='public' if private_to is None else 'private')

    def create_volume(self, name, image_id=None):
        """Create a volume in Cinder, from an image if one is given.

        :returns: its id
        """
        volume_id = uuidutils.generate_uuid()
        self._cloud.cinder.volumes[volume_id] = {
            'id': volume_id, 'display_name': name, 'size': 1,
            'multiattach': False, 'availability_zone': 'nova',
            'bootable': image_id is not None, 'volume_image_metadata': {}}
        if image_id:
            self.claim_image(volume_id, image_id)
        return volume_id

    def port(self):
        """The id of a port that nobody uses, with address 192.168.1.3."""
        return self._cloud.neutron.port_1['id']

    def claim_image(self, volume_id, image_id):
        """Set the image metadata of a volume, as its owner can."""
        self._cloud.cinder.volumes[volume_id]['volume_image_metadata'][
            'image_id'] = image_id

    def disks(self, server_id):
        """The disks of a server's libvirt domain.

        :returns: a list of (target, bus, device, boot order, file or serial)
        """
        return self._cloud.domains.disks({'id': server_id})

    def write_disks(self, server_id, host):
        """Let a server's disks have bytes of their own.

        As a guest, or Nova, would have written them.
        """
        directory = self._cloud.path(server_id, host)
        names = [name for name in os.listdir(directory)
                 if name.startswith('disk') and name != 'disk.info']
        for name in names:
            with open(os.path.join(directory, name), 'wb') as file:
                file.write(os.urandom(65536))
        with open(os.path.join(directory, 'disk.info'), 'w') as file:
            json.dump({os.path.join(directory, name): 'raw'
                       for name in names}, file)

    def files(self, server_id, host):
        """The disks of a server in the directory of a host.

        :returns: dict, name -> the beginning of its SHA-256; None if there is
            no directory
        """
        directory = self._cloud.path(server_id, host)
        if not os.path.exists(directory):
            return None
        digests = {}
        for name in sorted(os.listdir(directory)):
            if name.startswith('disk') and name != 'disk.info':
                with open(os.path.join(directory, name), 'rb') as file:
                    digests[name] = hashlib.sha256(
                        file.read()).hexdigest()[:12]
        return digests

    def copied_by_qemu(self):
        """Targets of the disks that QEMU was told to copy."""
        return sorted(self._cloud.migrations[-1].get('migrate_disks', ()))

    def image_of_rescue_disk(self):
        """The image that the last rescue disk was made from."""
        create = libvirt_driver.LibvirtDriver._create_image
        return create.call_args.kwargs['disk_images']['image_id']

    def serials(self, server_id):
        """The serial numbers of the disks of a server's domain, by target."""
        return self._cloud.domains.serials(server_id)

    def addresses(self, server_id):
        """The MAC addresses of a server's guest, which runs on any host."""
        connections = [compute.driver._host.get_connection()
                       for compute in self._cloud.computes.values()]
        return [mac.get('address') for connection in connections
                for domain in connection._vms.values()
                if domain.UUIDString() == server_id
                for mac in etree.fromstring(domain.XMLDesc(0)).findall(
                    'devices/interface/mac')]

    def metadata(self, server_id):
        """What the metadata service gives to a server now.

        :returns: the names of its key pairs, and its user data
        """
        found = metadata_base.get_metadata_by_instance_id(
            server_id, '192.0.2.1', nova_context.get_admin_context())
        document = json.loads(found.get_openstack_item(
            ('latest', 'meta_data.json')))
        return (list(document.get('public_keys', {})),
                (found.userdata_raw or b'').decode())

    def print_on_console(self, server_id, text):
        """Let the guest of a server print something."""
        (log,) = self._cloud.domains.find({'id': server_id},
                                          'devices/serial/log')
        with open(log.get('file'), 'a') as console:
            console.write(text)

    def pass_time_in_rescue(self, server_id, seconds):
        """Let a server be in rescue for longer than it is."""
        context = nova_context.get_admin_context()
        instance = objects.Instance.get_by_uuid(context, server_id)
        instance.launched_at -= datetime.timedelta(seconds=seconds)
        instance_metadata.complete_record(instance)
        instance.save()
        manager = self._cloud.computes[instance.host].manager
        # What its periodic task does each minute.
        timeouts.unrescue_expired(
            manager, context, timeouts.servers_in_rescue(manager, context))

    def set_option(self, name, value):
        """Set an option of group [rescue_ext], in all services."""
        self._cloud.flags(**{name: value}, group='rescue_ext')

    def fail_next_start(self):
        """Let libvirt fail the next time that it starts a guest."""
        launch = guest.Guest.launch

        def fail(itself, pause=False):
            guest.Guest.launch = launch
            raise fakelibvirt.make_libvirtError(
                fakelibvirt.libvirtError, 'no room for another guest')

        guest.Guest.launch = fail

    def is_running(self, server_id):
        """Whether the guest of a server runs."""
        return any(
            running.uuid == server_id
            for service in self._cloud.computes.values()
            for running in service.driver._host.list_guests())

    def remove_package(self, host):
        """Make a compute service one without the package.

        What the package overrides in its classes is put back for it.
        """
        service = self._cloud.computes[host]
        for target in (service.manager, service.driver):
            _make_stock(target)
        service.manager.update_available_resource(
            nova_context.get_admin_context())


def _make_stock(target):
    for override in overrides.declared():
        owner, _, name = override.qualname.rpartition('.')
        for cls in type(target).__mro__:
            if (cls.__module__, cls.__name__) == (override.module, owner):
                # A double of the functional tests wraps nothing.
                original = getattr(vars(cls)[name], '__wrapped__', None)
                if original:
                    setattr(target, name, original.__get__(target))


def run(play):
    """Run a cloud.

    :param play: called with the Cloud
    :returns: the exit status
    """
    running = Cloud()
    running.play = play
    result = testtools.TestResult()
    running.run(result)
    for _, details in result.errors + result.failures:
        print(details, file=sys.stderr)
    return 0 if result.wasSuccessful() else 1

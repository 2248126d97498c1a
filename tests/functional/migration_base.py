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


"""Two compute hosts, each with its own directory of instances.

Files are real, and copied as QEMU and Nova would copy them, so that tests see
the bytes on the destination. libvirt is Nova's double.
"""

import contextlib
import functools
import os
import re
import shutil
import threading
import time

import fixtures
from lxml import etree
from nova import objects
from nova.tests.fixtures import libvirt
from oslo_serialization import jsonutils

from nova_rescue_ext.live_migration import staging
from tests.functional import base

_here = threading.local()

# In place of the folder of small files in what is copied.
FOLDER = '(folder)'


def name_of(path):
    """The name of a file, or FOLDER."""
    name = os.path.basename(path)
    return FOLDER if staging.attempt_of(name) else name


class MigrationTestCase(base.RescueTestCase):
    """A cloud with hosts ``compute1`` and ``compute2``."""

    ADMIN_API = True
    CAST_AS_CALL = False
    SHARED = False
    ADDRESS = 'address-of-%s'  # where a host accepts copies

    def setUp(self):
        super().setUp()
        self.start_compute('compute2')
        for host, compute in self.computes.items():
            self._tell_driver_its_host(compute.driver, host)
            os.makedirs(self.path('', host), exist_ok=True)
        self.migrations = []
        self.connections = []  # what is copied from another host
        self.patch('nova.tests.fixtures.libvirt.Domain.migrateToURI3',
                   self._migrate)
        self.patch('nova.virt.libvirt.utils.copy_image', self._copy_image)
        self.patch('nova.virt.libvirt.volume.remotefs.RemoteFilesystem.'
                   'copy_file', self._copy_remote_file)
        self.patch('nova.virt.libvirt.utils.get_instance_path_at_destination',
                   lambda instance, migrate_data=None: self.path(
                       instance.uuid, _here.host))
        self.patch('nova.virt.libvirt.driver.LibvirtDriver.'
                   '_check_shared_storage_test_file',
                   lambda *args, **kwargs: self.SHARED)
        self._make_cdroms_readonly()
        self._keep_models_and_serials()
        # Nova's double does not have it.
        self.patch('nova.tests.fixtures.libvirt.Domain.state',
                   lambda domain, flags=0: [domain._state, 0])
        self.before_migration = lambda: None

    def patch(self, name, replacement):
        self.useFixture(fixtures.MonkeyPatch(name, replacement))

    def _make_cdroms_readonly(self):
        """As libvirt does."""
        describe = libvirt.Domain.XMLDesc
        self.patch('nova.tests.fixtures.libvirt.Domain.XMLDesc',
                   lambda itself, flags: re.sub(
                       r"(<disk type='\w+' device='cdrom'>)",
                       r'\1<readonly/>', describe(itself, flags)))

    def _keep_models_and_serials(self):
        """Of interfaces and of disks, as libvirt does."""
        describe = libvirt.Domain.XMLDesc

        def describe_with_models(itself, flags):
            domain = etree.fromstring(describe(itself, flags))
            serials = self.domains.serials(itself.UUIDString())
            for disk in domain.findall('devices/disk'):
                serial = serials.get(disk.find('target').get('dev'))
                if serial and disk.find('serial') is None:
                    etree.SubElement(disk, 'serial').text = serial
            defined = {interface.find('mac').get('address'): interface
                       for interface in self.domains.interfaces(
                           itself.UUIDString())}
            for interface in domain.findall('devices/interface'):
                source = defined.get(interface.find('mac').get('address'))
                for name in ('model', 'driver'):
                    if (source is not None and interface.find(name) is None
                            and source.find(name) is not None):
                        interface.append(source.find(name))
            return etree.tostring(domain, encoding='unicode')

        self.patch('nova.tests.fixtures.libvirt.Domain.XMLDesc',
                   describe_with_models)

    def _tell_driver_its_host(self, driver, host):
        driver.get_host_ip_addr = lambda: self.ADDRESS % host
        manager = self.computes[host].manager
        for name in ('check_can_live_migrate_destination', 'live_migration',
                     'pre_live_migration', '_do_live_migration'):
            setattr(manager, name, self._on_host(host, getattr(manager,
                                                               name)))
        for name in ('check_can_live_migrate_source', 'spawn', 'rescue',
                     'unrescue', 'pre_live_migration', 'live_migration',
                     'cleanup',
                     'destroy', 'get_instance_disk_info', 'reboot',
                     'rollback_live_migration_at_destination'):
            setattr(driver, name, self._on_host(host, getattr(driver, name)))

    @classmethod
    def _on_host(cls, host, method):
        @functools.wraps(method)
        def call(*args, **kwargs):
            with cls.on_host(host):
                return method(*args, **kwargs)

        return call

    @staticmethod
    @contextlib.contextmanager
    def on_host(host):
        """What this thread does happens on this host."""
        before = getattr(_here, 'host', None)
        _here.host = host
        try:
            yield
        finally:
            _here.host = before

    def _make_instance_path(self, instance, relative=False):
        if relative:
            return instance.uuid
        path = self.path(instance.uuid, getattr(_here, 'host', None)
                         or instance.host)
        # Nova's pre_live_migration makes it.
        if getattr(_here, 'host', None) == instance.host:
            os.makedirs(path, exist_ok=True)
        return path

    def path(self, uuid, host, *names):
        host = 'shared' if self.SHARED else host
        return os.path.join(base.CONF.instances_path, host, uuid, *names)

    def _copy_image(self, src, dest, host=None, receive=False, **kwargs):
        """As cp, scp and rsync do with -r, into a folder that is there."""
        if host:
            self.assertIn(host, [
                self.ADDRESS % name for name in self.computes
                if '/%s/' % name in src], 'the host does not have it')
            self.connections.append(name_of(src))
        if os.path.isdir(src):
            shutil.copytree(src, os.path.join(dest, os.path.basename(src)))
        else:
            shutil.copy(src, dest)

    def _copy_remote_file(self, remotefs, src, dst, *args, **kwargs):
        """So do Nova 29 and 30 with an ISO 9660 config drive."""
        host, _, src = src.partition(':')
        self._copy_image(src, dst, host)

    def _migrate(self, domain, destination, params, flags):
        try:
            self._copy_and_start(domain, params)
        except Exception:
            # Nova's double, before Nova 34, goes on with the job for ever.
            if domain._job_type == libvirt.VIR_DOMAIN_JOB_UNBOUNDED:
                domain._job_type = libvirt.VIR_DOMAIN_JOB_NONE
            raise

    def _copy_and_start(self, domain, params):
        """As libvirt and QEMU: copy the disks named, start the guest."""
        self.before_migration()
        uuid = domain.UUIDString()
        instance = self.instance({'id': uuid})
        # One whose source is not done yet may be running, too.
        migration = max(objects.MigrationList.get_by_filters(
            self.context, {'instance_uuid': uuid, 'status': 'running'}),
            key=lambda each: each.id)
        source, target = migration.source_compute, migration.dest_compute
        self.migrations.append(params)
        disks = {disk.find('target').get('dev'):
                 os.path.basename(disk.find('source').get('file'))
                 for disk in etree.fromstring(domain.XMLDesc(0)).findall(
                     'devices/disk') if disk.get('type') == 'file'}
        for device in params.get('migrate_disks', ()):
            self.copy_disk(self.path(instance.uuid, source, disks[device]),
                           self.path(instance.uuid, target, disks[device]))
        connection = self.computes[target].driver._host.get_connection()
        # A path of the tests has the host's name in it.
        connection.createXML(params['destination_xml'].replace(
            '/%s/' % source, '/%s/' % target), 0)
        domain.complete_job()

    def copy_disk(self, source, target):
        """As QEMU does with a disk that is raw."""
        shutil.copy(source, target)

    def instance(self, server):
        return objects.Instance.get_by_uuid(
            self.context, server['id'],
            expected_attrs=['system_metadata', 'info_cache'])

    def put_files(self, server, *names, host='compute1'):
        """Write files with bytes of their own in a server's directory."""
        os.makedirs(self.path(server['id'], host), exist_ok=True)
        for name in names:
            with open(self.path(server['id'], host, name), 'wb') as file:
                file.write(b'%s of the server' % name.encode() * 9)

    def assert_files(self, server, *names, host='compute2'):
        """Those files have the bytes that were put into them."""
        for name in names:
            with open(self.path(server['id'], host, name), 'rb') as file:
                self.assertEqual(b'%s of the server' % name.encode() * 9,
                                 file.read(), name)

    def ask_migration(self, server, version='1.3', compute='2.87', api=None,
                      **parameters):
        """Ask for a live migration; the response is returned."""
        api = api or self.api
        parameters = dict({'host': None, 'block_migration': 'auto'},
                          **parameters)
        with self.opted_in(version, compute, api=api):
            return api.api_request(
                '/servers/%s/action' % server['id'], method='POST',
                headers={'Content-Type': 'application/json'},
                body=jsonutils.dumps({'os-migrateLive': parameters}))

    def wait_until(self, condition):
        """Wait, longer than Nova's tests do on a busy machine."""
        for _ in range(600):
            result = condition()
            if result:
                return result
            time.sleep(0.1)
        self.fail('it does not become true')

    def last_status(self, server):
        """Of the server's last migration; nova-conductor may yet make it."""
        migrations = objects.MigrationList.get_by_filters(
            self.context, {'instance_uuid': server['id']})
        return max(((migration.id, migration.status)
                    for migration in migrations), default=(0, None))[1]

    def wait_for_migration(self, server, *statuses):
        self.wait_until(lambda: self.last_status(server) in (
            'completed', 'error', 'failed', 'cancelled', *statuses))
        self.assertIn(self.last_status(server), statuses)

    def assert_migrated(self, server, host='compute2'):
        self.assert_in_rescue_on(server, host)
        self.wait_for_migration(server, 'completed')

    def assert_in_rescue_on(self, server, host):
        self.wait_until(lambda: self.api.get_server(
            server['id'])['OS-EXT-STS:task_state'] is None)
        after = self.api.get_server(server['id'])
        self.assertEqual(('RESCUE', host), (
            after['status'], after['OS-EXT-SRV-ATTR:host']))

    def unrescue(self, server):
        self.api.post_server_action(server['id'], {'unrescue': None})
        return self._wait_for_state_change(server, 'ACTIVE')

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

"""The clouds in which operations are explored."""

import argparse
import contextlib
import datetime
import io
import math
import os
import re
import shutil
import tempfile
import weakref

import eventlet
import fixtures
import greenlet
from lxml import etree
from nova.compute import vm_states
from nova import context as nova_context
from nova import crypto
from nova import exception
from nova import objects
from nova.tests import fixtures as nova_fixtures
from nova.tests.functional.api import client as api_client
from nova.tests.unit import fake_crypto
from nova.virt import node
from oslo_log import log as logging
from oslo_serialization import jsonutils
from oslo_utils.fixture import uuidsentinel as uuids

from nova_rescue_ext.cmd import manage
from nova_rescue_ext.cmd import rebuild_release
from nova_rescue_ext import instance_metadata
from nova_rescue_ext.live_migration import periodic
from nova_rescue_ext.rescue import readiness
from nova_rescue_ext.rescue import timeouts
from tests.explorer import actors
from tests.explorer import clock
from tests.explorer import doubles
from tests.explorer import operators
from tests.functional import base
from tests.functional import devices
from tests.functional import migration_base
from tests.functional import rebuild_base
from tests.functional import tpms

LOG = logging.getLogger(__name__)

# The fixtures nest others in it.
_TEMPDIR = tempfile.gettempdir()
# Seconds of the virtual clock.
_LONG = 3700
_UNTIL_READY = 30
_PATIENCE = 300
_POLL = 0.05
# As systemd does, in any deployment.
_STARTS = 3
_BETWEEN_STARTS = 1

# What Nova's tests replace while they start a service.
_REPLACED = (
    (node, 'get_local_node_uuid', node.get_local_node_uuid),
    (nova_context, 'get_admin_context', nova_context.get_admin_context))

# The directory of a server on a host where it is not.
_HAS_LEFT = re.compile(
    r'Look for a directory of it on (?P<host>\S+) |'
    r'If (?P<other>\S+) still has its directory|'
    'so its directory on this host is kept')


class Cloud:
    """What operations, intruders and invariants need of a cloud.

    :ivar server: the server that all is about
    :ivar answers: (status, method, URI, text, lineage) of each request
    :ivar looks: what the intruder ``look`` has seen
    :ivar to_be_deleted: the ids of servers that somebody has asked to delete
    :ivar said: what the commands of operators have printed
    :ivar off: hosts that have no power
    :ivar have_been_off: hosts that had none for a while
    """

    CAST_AS_CALL = False
    STOCK = False
    # Those in which the package is not active.
    STOCK_SERVICES = ()
    # In most deployments it is 60 s; DELETE of a server whose compute
    # service is down would be a local one.
    SERVICE_DOWN_TIME = 10 ** 7

    def setUp(self):
        # Nova's services read it when they start.
        self.flags(service_down_time=self.SERVICE_DOWN_TIME)
        # Each one reports each 10 s, for hours of the virtual clock.
        self.useFixture(fixtures.MonkeyPatch(
            'nova.servicegroup.drivers.db.DbDriver._report_state',
            lambda *args: None))
        self.useFixture(doubles.Reattaching())
        super().setUp()
        # As in life: of a legacy notification that it does not know, such as
        # that of a forced deletion in cell0, Nova only warns.
        self.useFixture(fixtures.MonkeyPatch(
            'nova.rpc.LegacyValidatingNotifier.fatal', False))

    def explore(self):
        raise NotImplementedError  # the runner puts itself here

    def follow_answers(self):
        self.answers, self.looks, self.said = [], [], []
        self.to_be_deleted = set()
        self.off, self.have_been_off = [], set()
        self.provider_names = {}
        self.useFixture(operators.Commands(self))
        self.useFixture(fixtures.MonkeyPatch(
            'nova.tests.functional.api.client.TestOpenStackClient.'
            'microversion', _Microversion()))
        request = api_client.TestOpenStackClient.api_request

        def follow(itself, uri, *args, **kwargs):
            actor = self.acts()
            lineage = actor.lineage if actor else None
            try:
                response = request(itself, uri, *args, **kwargs)
            except api_client.OpenStackApiException as exc:
                self.answers.append((
                    exc.response.status_code, kwargs.get('method'), uri,
                    exc.response.text[:300], lineage))
                raise
            self.answers.append((
                response.status_code, kwargs.get('method'), uri,
                response.text[:300] if response.status_code >= 400 else '',
                lineage))
            return response

        self.patch('nova.tests.functional.api.client.TestOpenStackClient.'
                   'api_request', follow)

    @property
    def directories(self):
        """Where the files of the hosts are, and what they make in /tmp."""
        below = os.path.relpath(tempfile.gettempdir(), _TEMPDIR)
        first = below.split(os.sep)[0]
        if first in (os.curdir, os.pardir):
            raise RuntimeError('The tests have no temporary directory')
        return {base.CONF.instances_path, os.path.join(_TEMPDIR, first)}

    def is_stock(self):
        """Whether who calls this is in a service without the package."""
        return self.service() in self.STOCK_SERVICES

    def acts(self):
        """The Actor that is at work, or None."""
        return getattr(self, 'actors', None) and self.actors.current()

    def service(self):
        """The name of the service that is at work, or None."""
        actor = self.acts()
        return actor and actor.service

    def at_host(self, host, function, *args):
        """Have nova-compute of a host do something, with its locks.

        :returns: what it returns; None if nova-compute dies meanwhile
        """
        current = self.actors.current()
        actor = self.actors.actor(host,
                                  current.lineage if current else 'check')
        thread = self.actors.spawn(actor, function, *args)
        for _ in clock.looks(math.inf):
            if thread.dead:
                return thread.wait()
            if self.actors.is_dead(actor):
                return None

    def kill_and_restart(self, service):
        """End what runs in a service, and start it again."""
        self.actors.crash(service)
        self.start_again(service)
        if service == actors.API:
            # Who was to boot a host waits for an answer for ever.
            for host in self.off:
                self.actors.spawn(self.actors.actor(actors.API, 'evacuate'),
                                  self.end_outage, host)

    def start_again(self, service):
        """Start a service that was killed."""
        self.actors.spawn(self.actors.actor(service, actors.RESTART),
                          self._try_to_restart, service)

    def _try_to_restart(self, service):
        for _ in range(_STARTS):
            try:
                return self.restart(service)
            except Exception:
                LOG.exception('%s does not come up.', service)
                eventlet.sleep(_BETWEEN_STARTS)

    def log(self):
        return self.stdlog.logger.output

    def request(self, method, path, body=None, api=None):
        """Send a request about the server; the response is returned."""
        return (api or self.api).api_request(
            '/servers/%s%s' % (self.server['id'], '/' + path if path else ''),
            method=method, headers={'Content-Type': 'application/json'},
            body=jsonutils.dumps(body) if body else None)

    def act(self, body, api=None):
        if 'forceDelete' in body:
            self.to_be_deleted.add(self.server['id'])
        return self.request('POST', 'action', body, api)

    def delete(self):
        self.to_be_deleted.add(self.server['id'])
        return self.request('DELETE', '')

    def show(self):
        """The server as the API shows it, or None."""
        try:
            return self.admin_api.get_server(self.server['id'])
        except api_client.OpenStackApiNotFoundException:
            return None

    def host(self):
        """The host that the server is on, or None."""
        server = self.show()
        return server and server['OS-EXT-SRV-ATTR:host']

    def mark_down(self, host, is_down):
        """Have Nova take the nova-compute of a host for down, or for up."""
        service, = self.admin_api.get_services(host=host,
                                               binary='nova-compute')
        self.admin_api.put_service_force_down(service['id'], is_down)

    def wait_for_task(self):
        """Wait until the server has no task, but not for ever."""
        for _ in range(_PATIENCE):
            server = self.show()
            if server is None or server['OS-EXT-STS:task_state'] is None:
                return
            eventlet.sleep(1)

    def wait_for_restart(self):
        """Wait until what was started again is up, but not for ever."""
        for _ in range(_PATIENCE):
            if self.actors.is_quiet(actors.RESTART):
                return
            eventlet.sleep(1)

    def ask_rebuild(self):
        return self.act({'rebuild': {'imageRef': self.image_to_rebuild}})

    def ask_live_migration(self):
        raise NotImplementedError

    def allocations_by_host(self):
        """{host: resources} of the server in placement."""
        found = self.placement.get('/allocations/%s' % self.server['id']
                                   ).body['allocations']
        names = self._provider_names()
        return {names.get(uuid, uuid): found[uuid]['resources']
                for uuid in found}

    def _provider_names(self):
        # They do not change; asked for once.
        if not self.provider_names:
            self.provider_names.update({
                provider['uuid']: provider['name'] for provider in
                self.placement.get('/resource_providers').body[
                    'resource_providers']})
        return self.provider_names

    def times_listed(self):
        """How many times the server is in the list of servers."""
        return len([server for server in self.api.get_servers(detail=False)
                    if server['id'] == self.server['id']])

    def migration_allocations(self):
        """The number of migrations that still have allocations."""
        from nova import objects

        return sum(bool(self.placement.get(
            '/allocations/%s' % migration.uuid).body['allocations'])
            for migration in objects.MigrationList.get_by_filters(
                self.context, {'instance_uuid': self.server['id']}))


class _Microversion:
    """That of a client: what a green thread has set is its own.

    Or a request that is sent while another one is stopped has the version of
    that.
    """

    def __init__(self):
        self._of = weakref.WeakKeyDictionary()  # green thread -> {client: it}

    def __get__(self, client, owner=None):
        if client is None:
            return self
        own = self._of.get(greenlet.getcurrent(), {})
        return own.get(id(client), vars(client).get('microversion'))

    def __set__(self, client, version):
        current = greenlet.getcurrent()
        if current.parent is None or 'microversion' not in vars(client):
            vars(client)['microversion'] = version
        else:
            self._of.setdefault(current, {})[id(client)] = version


class LibvirtCloud(Cloud, migration_base.MigrationTestCase):
    """Two hosts with the libvirt driver, and a server on the first."""

    BFV = False
    STOPPED = False
    CONFIG_DRIVE = False
    CEPH = False
    ENCRYPTED = False
    # Whether the operation fails although nothing happens.
    IS_REFUSED = False
    # Whether a server in rescue may have been powered off.
    MAY_BE_OFF = False
    # Whether the server has a TPM, and who reads its secret.
    TPM = False
    TPM_SECURITY = 'user'
    # Whether somebody attaches or detaches volume DATA, or port SECOND_PORT.
    changes_volumes = False
    changes_ports = False
    DATA = uuids.volume
    # What a rescue is asked with beyond its image (compute-rescue 1.4).
    SESSION = {}
    # What the rescue image says that its console shows, and what it shows.
    READY_LINE = None
    SHOWN_LINE = None
    # Seconds; longer than any schedule takes, and shorter ago than age().
    RESCUE_TIMEOUT = 10 ** 6

    PORT = nova_fixtures.NeutronFixture.port_1['id']
    SECOND_PORT = nova_fixtures.NeutronFixture.port_2['id']

    def setUp(self):
        self.useFixture(doubles.StockServices(self.is_stock))
        self.tpms = self.useFixture(tpms.TPMs()) if self.TPM else None
        self.ceph = self.use_ceph() if self.CEPH else None
        self.secrets = self.use_secrets() if self.ENCRYPTED else None
        super().setUp()
        images = self.ceph.images if self.ceph else None
        if self.ceph:
            self.ceph.use_backend()
        self.useFixture(doubles.HonestLibvirt(
            () if images is None else images))
        self.useFixture(doubles.Disks(self.glance, self.is_stock, images))
        self.useFixture(devices.Taps(self.neutron))
        self.neutron.create_port({'port': self.neutron.port_2})
        if self.READY_LINE:
            self.useFixture(doubles.RescueSystems(self.SHOWN_LINE))
            self.flags(ready_timeout=_UNTIL_READY, group='rescue_ext')
        self.boots = self.useFixture(doubles.Boots(self.service))
        self.volumes = self.useFixture(doubles.Volumes())
        self.useFixture(doubles.HostOfService(self.service))
        self.owners.cinder = self.cinder
        self.owners.is_complete = (
            lambda attachment: attachment['id'] in self.volumes.complete)
        # A path of the tests exists for all hosts.
        self.patch('nova.virt.libvirt.driver.LibvirtDriver.'
                   'check_instance_shared_storage_remote',
                   lambda *args: self.SHARED)
        self.patch('nova.virt.libvirt.driver.LibvirtDriver.get_host_uptime',
                   lambda *args: 'up')
        # A file that is there is opened, a double of Nova's opens none.
        self.flags(rescue_timeout=self.RESCUE_TIMEOUT,
                   running_deleted_instance_action='reap',
                   running_deleted_instance_timeout=0)
        self.flags(live_migration_wait_for_vif_plug=False, group='compute')
        properties = self.rescue_properties()
        if self.READY_LINE:
            properties['os_rescue_ready_line'] = self.READY_LINE
        self.image = self.create_image(properties)
        if self.SESSION:
            self.api.post_keypair({'keypair': {
                'name': self.SESSION['key_name'],
                'public_key': fake_crypto.get_ssh_public_key()}})
        self.image_to_rebuild = self.IMAGE
        self.follow_answers()
        # Those that are down, too: {host: its service}
        self.hosts = dict(self.computes)
        self._starter = None
        self.server = self.boot()
        self.age()
        if self.STOPPED:
            self.act({'os-stop': None})
            self._wait_for_state_change(self.server, 'SHUTOFF')

    def start_compute(self, *args, **kwargs):
        if self.TPM:
            tpms.configure(self.flags, self.TPM_SECURITY)
        return super().start_compute(*args, **kwargs)

    def use_ceph(self):
        self.flags(images_type='rbd', rbd_secret_uuid='secret',
                   group='libvirt')
        return self.useFixture(doubles.Ceph(self.is_open))

    def is_open(self, name):
        """Whether a guest has an image in Ceph open."""
        return any(name in doubles.images_of(domain)
                   for _, domain in self.domains_of_server()
                   if domain.isActive())

    def use_secrets(self):
        """The volume is encrypted, and QEMU decrypts it."""
        self.patch('os_brick.encryptors.get_encryption_metadata',
                   lambda *args: {'provider': 'luks', 'cipher': 'aes',
                                  'encryption_key_id': 'key',
                                  'control_location': 'front-end',
                                  'key_size': 256})
        self.patch('castellan.key_manager.API', doubles.KeyManager)
        return self.useFixture(doubles.Secrets())

    def rescue_properties(self):
        return {}

    def boot(self):
        body = self._build_server(
            networks=[{'port': self.PORT}], host='compute1',
            flavor_id=self.flavor())
        if self.BFV:
            body.pop('imageRef')
            body['block_device_mapping_v2'] = [
                {'boot_index': 0, 'uuid': self.VOLUME,
                 'source_type': 'volume', 'destination_type': 'volume'}]
        body['config_drive'] = self.CONFIG_DRIVE
        server = self.api.post_server({'server': body})
        return self._wait_for_state_change(server, 'ACTIVE')

    def flavor(self):
        """The ID of the flavor of the server; None for Nova's own."""
        if not self.TPM:
            return None
        return self._create_flavor(
            ephemeral=0, extra_spec=tpms.extra_specs(self.TPM_SECURITY))

    def age(self):
        """The server was launched long ago."""
        instance = self.instance(self.server)
        instance.launched_at = instance.launched_at.replace(year=2020)
        if instance.vm_state == vm_states.RESCUED:
            instance_metadata.complete_record(instance)
        instance.save()

    def ask_rescue(self):
        if self.STOCK:
            return self.rescue(self.server, self.image)
        with self.opted_in(
                '1.4' if self.SESSION or self.TPM or self.READY_LINE
                else '1.1'):
            return self.act({'rescue': dict(
                self.SESSION, rescue_image_ref=self.image)})

    def ask(self, method, path, body=None):
        """Send a request of 1.4 for a server in rescue, or Nova's own."""
        with contextlib.nullcontext() if self.STOCK else self.opted_in('1.4'):
            return self.request(method, path, body)

    def ask_attach_volume(self):
        return self.ask('POST', 'os-volume_attachments', {
            'volumeAttachment': {'volumeId': self.DATA}})

    def ask_detach_volume(self):
        return self.ask('DELETE', 'os-volume_attachments/' + self.DATA)

    def ask_attach_port(self):
        return self.ask('POST', 'os-interface', {
            'interfaceAttachment': {'port_id': self.SECOND_PORT}})

    def ask_detach_port(self, port_id=SECOND_PORT):
        return self.ask('DELETE', 'os-interface/' + port_id)

    def let_rescue_expire(self):
        """Its rescue has lasted as long as was asked, and is looked at."""
        instance = self.instance(self.server)
        if instance.vm_state == vm_states.RESCUED:
            instance.launched_at -= datetime.timedelta(
                seconds=self.SESSION['timeout'])
            instance_metadata.complete_record(instance)
            instance.save()
        for host, compute in list(self.computes.items()):
            if host not in self.STOCK_SERVICES:
                self.at_host(host, self._unrescue_expired, compute.manager)

    def look_for_ready_lines(self):
        """Look for those that nobody looks for, as each host does."""
        for host, compute in list(self.computes.items()):
            if host not in self.STOCK_SERVICES:
                self.at_host(host, self._resume_readiness, compute.manager)

    @staticmethod
    def _resume_readiness(manager):
        readiness.resume(manager, timeouts.servers_in_rescue(
            manager, nova_context.get_admin_context()))

    @staticmethod
    def _unrescue_expired(manager):
        context = nova_context.get_admin_context()
        timeouts.unrescue_expired(
            manager, context, timeouts.servers_in_rescue(manager, context))

    def ask_live_migration(self):
        if self.STOCK:
            return self.act({'os-migrateLive': {
                'host': None, 'block_migration': 'auto'}}, self.admin_api)
        return self.ask_migration(self.server, api=self.admin_api)

    def ask_evacuation(self):
        return self.act({'evacuate': {}}, self.admin_api)

    def _copy_and_start(self, domain, params):
        super()._copy_and_start(domain, params)
        for _, there in self.domains_of_server():
            there._transient = False  # as VIR_MIGRATE_PERSIST_DEST says
        doubles.leave_source(domain)

    def _make_instance_path(self, instance, relative=False):
        """The path on the host that asks, which makes it when it needs it."""
        service = self.service()
        if relative or service not in getattr(self, 'hosts', ()):
            return super()._make_instance_path(instance, relative)
        return self.path(instance.uuid, service)

    def switch_off(self, host):
        """Cut the power of a host; end_outage() boots it."""
        self.off.append(host)
        self.have_been_off.add(host)
        self.actors.crash(host)
        self._stop_listening(self.hosts[host])
        for domain in list(self._connection(host)._vms.values()):
            doubles.switch_off(domain)
        self.volumes.connected.difference_update(
            [each for each in self.volumes.connected if each[1] == host])
        self.boots.boot(host)

    def end_outage(self, host):
        """Boot a host that was switched off.

        Nova marks no host as up before it has come back.
        """
        self.start_again(host)
        self.wait_for_restart()
        for _ in range(_STARTS):
            with contextlib.suppress(Exception):  # one that is injected
                self.mark_down(host, False)
                break
        self.off.remove(host)

    def _connection(self, host):
        return self.hosts[host].driver._host.get_connection()

    @staticmethod
    def _stop_listening(compute):
        for server in (compute.rpcserver,
                       getattr(compute, 'rpcserver_alt', None)):
            if server is not None:
                server.stop()

    def another_server(self):
        return self._wait_for_state_change(self.api.post_server({
            'server': self._build_server(networks='none', host='compute1')}),
            'ACTIVE')

    def ways_of_all(self):
        """What may be asked of any server, one after the other."""
        return (self.ask_rescue, lambda: self.act({'unrescue': None}),
                lambda: self.act({'reboot': {'type': 'HARD'}}), self.delete)

    def restart(self, service):
        """Start a service again after it was killed."""
        if service not in self.hosts:
            return  # it keeps nothing
        with self._alone():
            # Nova's tests forget it meanwhile; this may be killed, too.
            compute = self.computes.setdefault(service, self.hosts[service])
            self.hosts[service] = compute
            self.compute_rp_uuids.setdefault(service, None)
            self._stop_listening(compute)
            compute.stop = lambda *args, **kwargs: None
            self.restart_compute_service(service)
            self._tell_driver_its_host(self.computes[service].driver, service)

    @contextlib.contextmanager
    def _alone(self):
        """Start one service at a time.

        Nova's tests replace the same functions for each meanwhile. One that
        is killed while it starts leaves them replaced.
        """
        while self._starter and not self.actors.is_dead(self._starter):
            eventlet.sleep(_POLL)
        if self._starter:
            for module, name, function in _REPLACED:
                setattr(module, name, function)
        self._starter = self.acts()
        try:
            yield
        finally:
            self._starter = None

    def let_an_hour_pass(self):
        """What nova-compute ends when nobody has worked on it for long."""
        eventlet.sleep(_LONG)
        self.attend()

    def remove_left_directories(self):
        """What an operator does where the log says to look for one."""
        if self.SHARED or not _HAS_LEFT.search(self.log()):
            return
        here = {self.host(), *(host for host, _ in self.domains_of_server())}
        for host in set(self.hosts) - here:
            if any(each in (host, None)
                   for each in self._said_to_have_left()):
                shutil.rmtree(self.path(self.server['id'], host),
                              ignore_errors=True)

    def _said_to_have_left(self):
        """Hosts that the log names; None for that which has written it."""
        return {match['host'] or match['other']
                for match in _HAS_LEFT.finditer(self.log())}

    def attend(self):
        """Look for abandoned migrations, as each host does each minute."""
        for host, compute in list(self.computes.items()):
            if host not in self.STOCK_SERVICES:
                self.at_host(host, periodic.look, compute.manager,
                             self.context)

    # --- what there is ---------------------------------------------------

    def domains_of_server(self):
        """[(host, domain)] over all hosts."""
        self.hosts.update(self.computes)
        return [(host, domain) for host in self.hosts
                for domain in self._connection(host)._vms.values()
                if domain.UUIDString() == self.server['id']]

    def guests(self):
        """[(host, whether it boots the rescue disk)] of those that run."""
        return [(host, has_rescue_disk(domain))
                for host, domain in self.domains_of_server()
                if domain.isActive()]

    def attached_volumes(self):
        """{volume: its attachment, or None} as Nova has recorded them."""
        return {bdm.volume_id: bdm.attachment_id
                for bdm in objects.BlockDeviceMappingList.get_by_instance_uuid(
                    self.context, self.server['id']) if bdm.is_volume}

    def ports(self):
        """{ID: port} of the server's ports, as Neutron has them."""
        return {port['id']: port for port in self.neutron.list_ports(
            is_admin=True, device_id=self.server['id'])['ports']}

    def cached_ports(self):
        """The IDs of the server's ports, as Nova has recorded them."""
        return {vif['id'] for vif in self.instance(
            self.server).info_cache.network_info}

    def tpm_states(self):
        """{host: bytes} of the TPM of the server."""
        return {host: state for (host, uuid), state
                in self.tpms.by_host().items() if uuid == self.server['id']}

    def tpm_secrets(self):
        """{ID: passphrase} of the TPM, as the key manager has them."""
        return crypto._get_key_manager().secrets

    def files(self):
        """{host: {name: bytes}} of the server's files."""
        found = {}
        for host in self.hosts:
            directory = self.path(self.server['id'], host)
            for parent, _, names in os.walk(directory):
                for name in names:
                    path = os.path.join(parent, name)
                    with open(path, 'rb') as file:
                        found.setdefault(host, {})[os.path.relpath(
                            path, directory)] = file.read()
        if self.ceph:
            # Each host reaches them: they are wherever the server is.
            images = {name.partition('_')[2]: content for name, content
                      in self.ceph.images.items()
                      if name.startswith(self.server['id'])}
            if images:
                found.setdefault(self.host() or 'Ceph', {}).update(images)
        return found

    def state(self):
        """What the API says and what runs."""
        server = self.show()
        return dict(
            status=server['status'] if server else 404,
            task=server and server['OS-EXT-STS:task_state'],
            host=server and server['OS-EXT-SRV-ATTR:host'],
            guests=self.guests())


def addresses(domain):
    """The MAC addresses of a domain."""
    return {mac.get('address') for mac in etree.fromstring(
        domain.XMLDesc(0)).findall('devices/interface/mac')}


def has_rescue_disk(domain):
    """Whether a guest runs on a rescue disk."""
    return any(disk.endswith('.rescue') for disk in (
        *doubles.files_of(domain), *doubles.images_of(domain)))


class RebuildCloud(Cloud, rebuild_base.RebuildTestCase):
    """Hosts that come after the server has failed."""

    BFV = False

    def setUp(self):
        self.useFixture(doubles.StockServices(self.is_stock))
        super().setUp()
        self.follow_answers_with_mock()
        self.image_to_rebuild = self.IMAGE
        self.deleted_volumes = []
        self.patch('nova.volume.cinder.API.delete',
                   lambda itself, context, volume:
                   self.deleted_volumes.append(volume))
        self.server = self.fail_to_boot()

    follow_answers_with_mock = Cloud.follow_answers

    def fail_to_boot(self):
        return self.create_failed(networks=[{'port': self.PORT}],
                                  **self.from_volume('bdms'))

    def from_volume(self, name='block_device_mapping_v2'):
        """What a request for a server says of its volume.

        :param name: of the parameter
        """
        if not self.BFV:
            return {}
        return {name: [
            {'boot_index': 0, 'uuid': self.VOLUME, 'source_type': 'volume',
             'destination_type': 'volume', 'delete_on_termination': True}]}

    def instance(self):
        """The Instance in whatever cell; InstanceNotFound is raised."""
        mapping = objects.InstanceMapping.get_by_instance_uuid(
            self.context, self.server['id'])
        if mapping.cell_mapping is None:
            raise exception.InstanceNotFound(instance_id=self.server['id'])
        with nova_context.target_cell(self.context,
                                      mapping.cell_mapping) as context:
            return objects.Instance.get_by_uuid(
                context, self.server['id'],
                expected_attrs=['system_metadata'])

    def another_server(self):
        # create() would wait for the end of all rebuilds.
        return self._wait_for_state_change(self.api.post_server({
            'server': self._build_server(networks='none')}), 'ACTIVE')

    def ways_of_all(self):
        """What may be asked of any server, one after the other."""
        return (self.delete,)

    def ask_rebuild(self):
        return self.rebuild(self.server)

    def ask_live_migration(self):
        return self.act({'os-migrateLive': {
            'host': None, 'block_migration': 'auto'}}, self.admin_api)

    def ask_rescue(self):
        return self.act({'rescue': None})

    def restart(self, service):
        if service in self.computes:
            self.computes[service] = self.restart_compute_service(
                self.computes[service])

    def release(self, host_is_gone=False):
        """What an operator does with one that a crash has left on a host."""
        with contextlib.redirect_stdout(io.StringIO()):
            rebuild_release.run(argparse.Namespace(
                server=self.server['id'], host_is_gone=host_is_gone,
                no_guest=False))

    def is_told_to_finish(self):
        """Whether the log, or a command, says to finish what has failed.

        Whose command is killed runs it again.
        """
        return ('run "nova-rescue-ext-manage rebuild-interrupted"'
                in self.log().replace('\n', ' ')
                or any('Run the command again.' in each
                       or operators.NOT_ENDED in each for each in self.said))

    @staticmethod
    def finish_interrupted():
        """What an operator does after a crash."""
        with contextlib.redirect_stdout(io.StringIO()):
            manage.rebuild_interrupted(argparse.Namespace(
                older_than=-1, dry_run=False, config_file=None))

    def remove_guests(self):
        """What an operator does, who then restarts nova-compute."""
        for host, _ in self.guests():
            del self.computes[host].driver.instances[self.server['id']]
            self.kill_and_restart(host)

    def guests(self):
        """[(host, False)] of those that run."""
        return [(host, False) for host, compute in self.computes.items()
                if self.server['id'] in compute.driver.instances]

    def state(self):
        server = self.show()
        return dict(
            status=server['status'] if server else 404,
            task=server and server['OS-EXT-STS:task_state'],
            host=server and server['OS-EXT-SRV-ATTR:host'],
            guests=self.guests())

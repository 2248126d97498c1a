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

"""The operations that are explored.

Each is a class with the cloud that it runs in; ``ALL`` has them by name.
"""

import base64
import os
from unittest import mock

from eventlet import patcher
from nova.compute import power_state
from nova.tests import fixtures as nova_fixtures
from nova.virt.libvirt import imagecache
from oslo_serialization import jsonutils

from tests.explorer import clock
from tests.explorer import clouds
from tests.explorer import intruders
from tests.explorer import invariants
from tests.explorer import operators
from tests.functional import qcow2
from tests.functional import rebuild_base

ALL = {}
# Their names, but for those that are only there to be compared.
EXPLORED = []

_QCOW2 = b'QFI\xfb'

# Seconds of the virtual clock: more than commands wait by default.
_HOUR = 3700

_ON_A_HOST = ('delete', 'force_delete', 'rescue', 'unrescue', 'reboot',
              'stop', 'rebuild', 'migrate', 'reset_active', 'reset_error',
              'disable', 'archive', 'purge', 'evacuate', 'leftovers',
              'drain') + intruders.PERIODIC
_CHANGES_DEVICES = ('attach_volume', 'attach_port', 'detach_port')


def _operation(name, words, beside=None, explored=True):
    """Add an operation.

    :param beside: the name of the operation that stock Nova has in its place,
        to be compared
    :param explored: whether it is not only there to be compared
    """
    def add(cls):
        cls.NAME, cls.WORDS, cls.BESIDE = name, words, beside
        ALL[name] = cls
        if explored:
            EXPLORED.append(name)
        return cls

    return add


class _OnLibvirt(clouds.LibvirtCloud):

    INTRUDERS = _ON_A_HOST

    def setUp(self):
        super().setUp()
        self.prepare()
        self.before = invariants.Before(self)

    def prepare(self):
        pass

    def check(self, explorer):
        return invariants.check_libvirt(self, explorer)

    def look(self):
        return invariants.violations(self)

    def rescue_it(self):
        self.assert_rescued(self.server, self.ask_rescue())


@_operation('rescue-legacy', 'rescue of a running server, legacy layout',
            beside='rescue-legacy')
class RescueLegacy(_OnLibvirt):

    def operate(self):
        return self.ask_rescue()


@_operation('rescue-stable', 'rescue of a running server, stable devices',
            beside='rescue-stable')
class RescueStable(RescueLegacy):

    INTRUDERS = _ON_A_HOST + _CHANGES_DEVICES

    def rescue_properties(self):
        return {'hw_rescue_device': 'disk', 'hw_rescue_bus': 'virtio'}


@_operation('rescue-stopped', 'rescue of a stopped server, with config drive',
            beside='rescue-stopped')
class RescueStopped(RescueLegacy):

    STOPPED = True
    CONFIG_DRIVE = True


@_operation('rescue-kernel', 'rescue with an image that has its own kernel',
            beside='rescue-kernel')
class RescueKernel(RescueLegacy):

    def rescue_properties(self):
        return {'kernel_id': self.create_image(
            container_format='aki', disk_format='aki')}


@_operation('rescue-bfv', 'rescue of a server that boots from a volume',
            beside='rescue-bfv')
class RescueBfv(RescueStable):

    BFV = True


@_operation('rescue-rbd', 'rescue of a server whose disks are in Ceph',
            beside='rescue-rbd')
class RescueRbd(RescueLegacy):

    CEPH = True


@_operation('rescue-encrypted', 'rescue of a server that boots from an '
            'encrypted volume')
class RescueEncrypted(RescueBfv):

    ENCRYPTED = True


# More than one piece of user data.
_SESSION = {'timeout': 3600, 'key_name': 'of-rescue',
            'user_data': base64.b64encode(b'#!/bin/sh\n' * 40).decode()}


@_operation('rescue-session', 'rescue with a timeout, a key pair and user '
            'data')
class RescueSession(RescueLegacy):

    CONFIG_DRIVE = True
    SESSION = _SESSION
    INTRUDERS = _ON_A_HOST + ('timeout',)


@_operation('rescue-ready', 'rescue with an image that says which line its '
            'console shows')
class RescueReady(RescueLegacy):

    READY_LINE = SHOWN_LINE = 'rescue system is ready'


@_operation('rescue-not-ready', 'the same, when the console does not show it')
class RescueNotReady(RescueReady):

    SHOWN_LINE = 'kernel panic'


class _HasTpm:
    """The server has a TPM, whose secret only its user reads."""

    TPM = True
    # A start that takes the secret is its user's.
    MAY_BE_OFF = True


class _HasTpmOfHost(_HasTpm):
    """Its host keeps the secret."""

    TPM_SECURITY = 'host'


@_operation('rescue-tpm', 'rescue of a server that has a TPM')
class RescueTpm(_HasTpm, RescueLegacy):
    pass


@_operation('rescue-tpm-host', 'rescue of a server that has a TPM, whose host '
            'keeps the secret')
class RescueTpmHost(_HasTpmOfHost, RescueLegacy):
    pass


@_operation('unrescue', 'unrescue of a server in a legacy rescue',
            beside='unrescue')
class Unrescue(_OnLibvirt):

    INTRUDERS = _ON_A_HOST + _CHANGES_DEVICES

    def prepare(self):
        self.rescue_it()

    def operate(self):
        return self.act({'unrescue': None})


@_operation('unrescue-bfv', 'unrescue of a server that boots from a volume',
            beside='unrescue-bfv')
class UnrescueBfv(Unrescue):

    BFV = True

    def rescue_properties(self):
        return {'hw_rescue_device': 'disk', 'hw_rescue_bus': 'virtio'}


@_operation('unrescue-stopped', 'unrescue of a server that goes back to '
            'being stopped')
class UnrescueStopped(Unrescue):

    STOPPED = True

    def operate(self):
        with self.opted_in():
            return self.act({'unrescue': None})


@_operation('unrescue-rbd', 'unrescue of a server whose disks are in Ceph',
            beside='unrescue-rbd')
class UnrescueRbd(Unrescue):

    CEPH = True


@_operation('unrescue-encrypted', 'unrescue of a server that boots from an '
            'encrypted volume')
class UnrescueEncrypted(UnrescueBfv):

    ENCRYPTED = True


@_operation('unrescue-tpm', 'unrescue of a server that has a TPM')
class UnrescueTpm(_HasTpm, Unrescue):

    INTRUDERS = _ON_A_HOST


@_operation('unrescue-tpm-host', 'unrescue of a server that has a TPM, whose '
            'host keeps the secret')
class UnrescueTpmHost(_HasTpmOfHost, Unrescue):

    INTRUDERS = _ON_A_HOST


@_operation('unrescue-session', 'unrescue of a server whose rescue has '
            'lasted as long as was asked')
class UnrescueSession(Unrescue):

    CONFIG_DRIVE = True
    SESSION = _SESSION
    INTRUDERS = _ON_A_HOST + ('timeout',)

    def operate(self):
        self.let_rescue_expire()


class _InRescue(_OnLibvirt):
    """What a server in rescue accepts, and stays in rescue (1.4).

    Stock Nova has the same for a server that is not in rescue.
    """

    MAY_BE_OFF = True
    INTRUDERS = _ON_A_HOST + _CHANGES_DEVICES + ('detach_volume', 'start')
    ACTION = {}

    def prepare(self):
        self.rescue_it()

    def rescue_properties(self):
        return {'hw_rescue_device': 'disk', 'hw_rescue_bus': 'virtio'}

    def operate(self):
        return self.ask('POST', 'action', self.ACTION)


class _Running:
    """The same of a server that is not in rescue."""

    def rescue_it(self):
        pass


@_operation('reboot-soft-in-rescue', 'soft reboot of a rescue system',
            beside='reboot-soft-running')
class RebootSoftInRescue(_InRescue):

    ACTION = {'reboot': {'type': 'SOFT'}}


@_operation('reboot-soft-running', 'soft reboot of a running server',
            explored=False)
class RebootSoftRunning(_Running, RebootSoftInRescue):
    pass


@_operation('reboot-hard-in-rescue', 'hard reboot of a rescue system',
            beside='reboot-hard-running')
class RebootHardInRescue(_InRescue):

    ACTION = {'reboot': {'type': 'HARD'}}


@_operation('reboot-hard-running', 'hard reboot of a running server',
            explored=False)
class RebootHardRunning(_Running, RebootHardInRescue):
    pass


@_operation('stop-in-rescue', 'stop of a rescue system',
            beside='stop-running')
class StopInRescue(_InRescue):

    ACTION = {'os-stop': None}


@_operation('stop-running', 'stop of a running server', explored=False)
class StopRunning(_Running, StopInRescue):
    pass


@_operation('start-in-rescue', 'start of a rescue system that is off',
            beside='start-stopped')
class StartInRescue(_InRescue):

    ACTION = {'os-start': None}

    def prepare(self):
        super().prepare()
        self.ask('POST', 'action', {'os-stop': None})
        self.wait_until(lambda: self.admin_api.get_server(self.server['id'])[
            'OS-EXT-STS:power_state'] == power_state.SHUTDOWN)
        self.wait_for_task()


@_operation('start-stopped', 'start of a stopped server', explored=False)
class StartStopped(_Running, StartInRescue):
    pass


@_operation('attach-in-rescue', 'a volume is attached in rescue',
            beside='attach-running')
class AttachInRescue(_InRescue):

    changes_volumes = True

    def operate(self):
        return self.ask_attach_volume()


@_operation('attach-running', 'a volume is attached to a running server',
            explored=False)
class AttachRunning(_Running, AttachInRescue):
    pass


@_operation('detach-in-rescue', 'a volume is detached in rescue',
            beside='detach-running')
class DetachInRescue(_InRescue):

    changes_volumes = True

    def prepare(self):
        self.api.post_server_volume(self.server['id'], {
            'volumeAttachment': {'volumeId': self.DATA}})
        self._wait_for_volume_attach(self.server['id'], self.DATA)
        super().prepare()

    def operate(self):
        return self.ask_detach_volume()


@_operation('detach-running', 'a volume is detached from a running server',
            explored=False)
class DetachRunning(_Running, DetachInRescue):
    pass


@_operation('attach-port-in-rescue', 'a port is attached in rescue',
            beside='attach-port-running')
class AttachPortInRescue(_InRescue):

    changes_ports = True

    def operate(self):
        return self.ask_attach_port()


@_operation('attach-port-running', 'a port is attached to a running server',
            explored=False)
class AttachPortRunning(_Running, AttachPortInRescue):
    pass


@_operation('detach-port-in-rescue', 'a port is detached in rescue',
            beside='detach-port-running')
class DetachPortInRescue(_InRescue):

    changes_ports = True

    def prepare(self):
        self.api.attach_interface(self.server['id'], {
            'interfaceAttachment': {'port_id': self.SECOND_PORT}})
        super().prepare()

    def operate(self):
        return self.ask_detach_port()


@_operation('detach-port-running', 'a port is detached from a running server',
            explored=False)
class DetachPortRunning(_Running, DetachPortInRescue):
    pass


class _Migration(_OnLibvirt):

    INTRUDERS = _ON_A_HOST + _CHANGES_DEVICES + ('abort', 'attend', 'settle')

    def prepare(self):
        self.rescue_it()
        if not self.SHARED:
            self._make_raw()

    def _make_raw(self):
        """What Nova writes for images_type raw."""
        directory = self.path(self.server['id'], 'compute1')
        disks = [name for name in os.listdir(directory)
                 if name.startswith('disk') and name != 'disk.info']
        with open(os.path.join(directory, 'disk.info'), 'w') as file:
            file.write(jsonutils.dumps({
                os.path.join(directory, name): 'raw' for name in disks}))

    def operate(self):
        return self.ask_live_migration()


@_operation('migrate', 'live migration in rescue, disks are copied',
            beside='migrate-running')
class Migrate(_Migration):
    pass


@_operation('migrate-running', 'live migration of a running server',
            explored=False)
class MigrateRunning(_Migration):

    def prepare(self):
        if not self.SHARED:
            self._make_raw()


@_operation('migrate-running-shared', 'the same, on shared storage',
            explored=False)
class MigrateRunningShared(MigrateRunning):

    SHARED = True


@_operation('migrate-running-bfv', 'the same, from a volume', explored=False)
class MigrateRunningBfv(MigrateRunning):

    BFV = True


@_operation('migrate-shared', 'live migration in rescue, on shared storage',
            beside='migrate-running-shared')
class MigrateShared(_Migration):

    SHARED = True


@_operation('migrate-bfv', 'live migration in rescue, from a volume',
            beside='migrate-running-bfv')
class MigrateBfv(_Migration):

    BFV = True

    def rescue_properties(self):
        return {'hw_rescue_device': 'disk', 'hw_rescue_bus': 'virtio'}


@_operation('migrate-qcow2', 'live migration in rescue, disks are on bases')
class MigrateQcow2(qcow2.Qcow2Mixin, _Migration):

    # The clock of green threads would run while they look for its end.
    run_program = staticmethod(patcher.original('subprocess').run)

    def setUp(self):
        self.show_qcow2_to_libvirt()
        # The image cache touches what is used.
        self.useFixture(nova_fixtures.PrivsepFixture())
        super().setUp()
        self.flags(images_type='qcow2', group='libvirt')

    def _make_raw(self):
        """They are qcow2 in place of raw."""
        for name, image in (('disk', self.IMAGE),
                            ('disk.rescue', self.image)):
            self.put_qcow2(name, imagecache.get_cache_fname(image))
            self._write_as_guest(name)
        directory = self.path(self.server['id'], 'compute1')
        with open(os.path.join(directory, 'disk.info'), 'w') as file:
            file.write(jsonutils.dumps({
                os.path.join(directory, name): 'qcow2'
                for name in ('disk', 'disk.rescue')}))

    def _write_as_guest(self, name):
        path = self.path(self.server['id'], 'compute1', name)
        content = self.content('%s, as the guest has changed it' % name)
        with open(path + '.new', 'wb') as file:
            file.write(content)
        self.write(path, path + '.new', 0, len(content))
        os.unlink(path + '.new')

    def files(self):
        """With what a guest sees in place of the bytes of the file."""
        found = super().files()
        for host, names in found.items():
            for name, content in names.items():
                if content.startswith(_QCOW2):
                    names[name] = self._seen_by_guest(self.path(
                        self.server['id'], host, name))
        return found

    def _seen_by_guest(self, path):
        self.qemu_img('convert', '-O', 'raw', path, path + '.seen')
        try:
            with open(path + '.seen', 'rb') as file:
                return file.read()
        finally:
            os.unlink(path + '.seen')


@_operation('migrate-rbd', 'live migration in rescue, disks are in Ceph')
class MigrateRbd(_Migration):

    CEPH = True

    def _make_raw(self):
        pass  # there are no files


@_operation('migrate-encrypted', 'live migration in rescue, from an '
            'encrypted volume')
class MigrateEncrypted(MigrateBfv):

    ENCRYPTED = True


@_operation('migrate-to-stock', 'live migration in rescue to a host that '
            'has the package no longer, and has not said so yet')
class MigrateToStock(Migrate):

    STOCK_SERVICES = ('compute2',)
    IS_REFUSED = True


@_operation('migrate-by-stock', 'live migration in rescue with a '
            'nova-conductor without the package')
class MigrateByStock(Migrate):

    STOCK_SERVICES = ('conductor',)
    IS_REFUSED = True


@_operation('migrate-session', 'live migration in a rescue with a timeout, a '
            'key pair and user data')
class MigrateSession(MigrateShared):

    CONFIG_DRIVE = True
    SESSION = _SESSION
    INTRUDERS = MigrateShared.INTRUDERS + ('timeout',)


@_operation('migrate-ready', 'live migration in a rescue whose ready line is '
            'looked for')
class MigrateReady(MigrateShared):

    READY_LINE = SHOWN_LINE = RescueReady.READY_LINE


@_operation('migrate-config-drive', 'live migration in rescue, with a config '
            'drive', explored=False)
class MigrateConfigDrive(Migrate):

    CONFIG_DRIVE = True


@_operation('drain', 'an operator drains the host of a server in rescue')
class Drain(Migrate):

    def operate(self):
        operators.run(self, 'migrate-rescued', 'compute1')


class _Abandoned(_Migration):
    """A server in rescue whose nova-compute died when its guest had moved.

    On shared storage: the directory on the source is the operator's.
    """

    SHARED = True

    def prepare(self):
        super().prepare()
        kill = mock.patch('nova.compute.manager.ComputeManager.'
                          '_post_live_migration',
                          side_effect=rebuild_base.Killed)
        with kill as killed:
            self.ask_live_migration()
            self.wait_until(lambda: killed.called)
        self.restart('compute1')

    def operate(self):
        clock.pass_time(_HOUR)
        self.settle()

    def settle(self):
        raise NotImplementedError


@_operation('settle', 'settle-migration of a server in rescue')
class Settle(_Abandoned):

    def settle(self):
        operators.run(self, 'settle-migration', self.server['id'])


@_operation('settle-in-doubt', 'the same when the source does not answer')
class SettleInDoubt(_Abandoned):

    def settle(self):
        self.switch_off('compute1')
        try:
            self.mark_down('compute1', True)
            operators.run(self, 'settle-migration', self.server['id'],
                          '--runs-on', 'compute2')
        finally:
            self.end_outage('compute1')


@_operation('attend', 'nova-compute ends a migration that was abandoned')
class Attend(_Abandoned):

    def settle(self):
        self.attend()


@_operation('rebuild-cell0', 'rebuild of a server that found no host',
            beside='create')
class RebuildCell0(clouds.RebuildCloud):

    INTRUDERS = ('delete', 'force_delete', 'rebuild', 'reset_active',
                 'reset_error', 'look', 'sync_power_states',
                 'cleanup_deleted', 'audit', 'archive', 'purge',
                 'interrupted', 'release', 'rebuild_failed')

    def setUp(self):
        super().setUp()
        self.add_capacity()
        self.add_capacity('host2')

    def operate(self):
        return self.ask_rebuild()

    def check(self, explorer):
        return invariants.check_rebuild(self, explorer)

    def look(self):
        return invariants.rebuild_violations(self)


@_operation('rebuild-bfv', 'the same, of one that boots from a volume',
            beside='create-bfv')
class RebuildBfv(RebuildCell0):

    BFV = True


@_operation('rebuild-by-stock', 'the same, with a nova-conductor without the '
            'package', beside='create')
class RebuildByStock(RebuildCell0):

    STOCK_SERVICES = ('conductor',)


@_operation('rebuild-on-stock', 'the same, with hosts without the package',
            beside='create')
class RebuildOnStock(RebuildCell0):

    STOCK_SERVICES = ('host1', 'host2')


@_operation('rebuild-failed', 'an operator rebuilds all servers that failed',
            beside='create')
class RebuildFailed(RebuildCell0):

    def operate(self):
        operators.run(self, 'rebuild-failed')


@_operation('create', 'a new server', explored=False)
class Create(RebuildCell0):

    def fail_to_boot(self):
        return {'id': None}

    def operate(self):
        body = dict({'name': 'web', 'flavorRef': '1', 'imageRef': self.IMAGE,
                     'networks': [{'port': self.PORT}]}, **self.from_volume())
        if self.BFV:
            del body['imageRef']
        self.server = self.api.post_server({'server': body})


@_operation('create-bfv', 'a new server from a volume', explored=False)
class CreateBfv(Create):

    BFV = True


@_operation('rebuild-reserved', 'the same, when its volume is no longer '
            'reserved', beside='create-bfv')
class RebuildReserved(RebuildBfv):

    INTRUDERS = RebuildBfv.INTRUDERS + ('transfer',)

    def setUp(self):
        super().setUp()
        self.cinder.volume_to_attachment[self.VOLUME].clear()


@_operation('rebuild-cell', 'rebuild of a server whose builds failed on all '
            'hosts', beside='create')
class RebuildCell(RebuildCell0):

    def setUp(self):
        clouds.RebuildCloud.setUp(self)

    def fail_to_boot(self):
        from nova import exception

        def fail(*args, **kwargs):
            raise exception.NovaException('Injected while it boots')

        self.add_capacity()
        self.add_capacity('host2')
        patch = self.patch('nova.virt.fake.FakeDriver.spawn', fail)
        server = self.create(networks=[{'port': self.PORT}])
        patch.stop()
        self.assertEqual('ERROR', server['status'])
        return server


@_operation('rebuild-interrupted', 'an operator ends a rebuild that was '
            'interrupted before its message was sent')
class RebuildInterrupted(RebuildCell0):

    KILLED_AT = ('nova.conductor.rpcapi.ComputeTaskAPI.'
                 'schedule_and_build_instances')

    def setUp(self):
        super().setUp()
        with self.killed(self.KILLED_AT):
            self.assertRaises(rebuild_base.Killed, self.ask_rebuild)

    def operate(self):
        clock.pass_time(_HOUR)
        operators.run(self, 'rebuild-interrupted')


@_operation('rebuild-interrupted-early', 'the same, before the row in the '
            'cell was deleted')
class RebuildInterruptedEarly(RebuildInterrupted):

    KILLED_AT = 'nova_rescue_ext.rebuild.api.Rebuild.destroy_row'


@_operation('rebuild-release', 'an operator takes a server off its host, '
            'where its build was killed')
class RebuildRelease(RebuildCell0):

    def setUp(self):
        clouds.RebuildCloud.setUp(self)

    def fail_to_boot(self):
        self.add_capacity()
        with self.killed('nova.virt.fake.FakeDriver.spawn'):
            server = self.api.post_server({'server': {
                'name': 'web', 'flavorRef': '1', 'imageRef': self.IMAGE,
                'networks': [{'port': self.PORT}]}})
        self.admin_api.post_server_action(
            server['id'], {'os-resetState': {'state': 'error'}})
        self.change_row(server, host='host1', node='host1')
        self.add_capacity('host2')
        # As it starts it sees that it has no guest.
        self.restart('host1')
        return self.api.get_server(server['id'])

    def operate(self):
        operators.run(self, 'rebuild-release', self.server['id'])

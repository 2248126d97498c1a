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

import os

from oslo_serialization import jsonutils

from tests.explorer import clouds
from tests.explorer import intruders
from tests.explorer import invariants

ALL = {}
# Their names, but for those that are only there to be compared.
EXPLORED = []

_ON_A_HOST = ('delete', 'force_delete', 'rescue', 'unrescue', 'reboot',
              'stop', 'rebuild', 'migrate', 'reset_active', 'reset_error',
              'disable', 'archive') + intruders.PERIODIC


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


@_operation('unrescue', 'unrescue of a server in a legacy rescue',
            beside='unrescue')
class Unrescue(_OnLibvirt):

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


class _Migration(_OnLibvirt):

    INTRUDERS = _ON_A_HOST + ('abort',)

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


@_operation('rebuild-cell0', 'rebuild of a server that found no host',
            beside='create')
class RebuildCell0(clouds.RebuildCloud):

    INTRUDERS = ('delete', 'force_delete', 'rebuild', 'reset_active',
                 'reset_error', 'look', 'sync_power_states',
                 'cleanup_deleted', 'audit', 'archive')

    def setUp(self):
        super().setUp()
        self.add_capacity()
        self.add_capacity('host2')

    def operate(self):
        return self.ask_rebuild()

    def check(self, explorer):
        return invariants.check_rebuild(self, explorer)


@_operation('rebuild-bfv', 'the same, of one that boots from a volume',
            beside='create-bfv')
class RebuildBfv(RebuildCell0):

    BFV = True


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

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

"""What a rescue is like for its user: how long, on which disks (1.4)."""

import base64
import datetime
import functools
import pathlib
from unittest import mock

import ddt
import fixtures
from nova.api.metadata import base as metadata_base
from nova.api.metadata import handler
from nova import exception
from nova import objects
from nova.tests import fixtures as nova_fixtures
from nova.tests.unit import fake_crypto
from oslo_serialization import jsonutils
from oslo_utils import timeutils

from nova_rescue_ext import instance_metadata
from nova_rescue_ext import microversion
from nova_rescue_ext.rescue import view
from tests.functional import base
from tests.functional import test_rescue_failure

GUEST = test_rescue_failure.GUEST
STABLE = {'hw_rescue_bus': 'virtio', 'hw_rescue_device': 'disk'}


class SessionTestCase(base.RescueTestCase):

    def rescue_with(self, server, version='1.4', **parameters):
        """Ask for a rescue; the response is returned, whatever it is."""
        with self.opted_in(version):
            return self.api.api_request(
                '/servers/%s/action' % server['id'], method='POST',
                headers={'Content-Type': 'application/json'},
                body=jsonutils.dumps({'rescue': parameters or None}))

    def shown(self, server, version='1.4'):
        """A server as nova-api shows it, alone and among others."""
        with self.opted_in(version):
            alone = self.api.get_server(server['id'])
            (listed,) = [each for each in self.api.get_servers()
                         if each['id'] == server['id']]
        self.assertEqual(alone.get('rescue_session'),
                         listed.get('rescue_session'))
        self.assertEqual('rescue_session' in alone,
                         'rescue_session' in listed)
        return alone

    def instance(self, server):
        return objects.Instance.get_by_uuid(
            self.context, server['id'], expected_attrs=['system_metadata'])


@ddt.ddt
class TimeoutTest(SessionTestCase):

    def setUp(self):
        super().setUp()
        self.patch('nova.compute.manager.ComputeManager.run_periodic_tasks',
                   lambda *args, **kwargs: 7.5)
        self.patch('nova_rescue_ext.periodic._SECONDS', 0)
        self.server = self._create_server(networks='none')

    def be_rescued(self, **parameters):
        self.assert_rescued(self.server,
                            self.rescue_with(self.server, **parameters))

    def pass_time(self, seconds):
        """Time passes for a server, as nothing else goes by this."""
        instance = self.instance(self.server)
        instance.launched_at -= datetime.timedelta(seconds=seconds)
        instance_metadata.complete_record(instance)
        instance.save()

    def look(self):
        return self.computes['compute1'].manager.periodic_tasks(self.context)

    def actions(self):
        return [action['action'] for action
                in self.api.get_instance_actions(self.server['id'])]

    def test_unrescued(self):
        self.be_rescued(timeout=600)
        self.pass_time(590)
        self.look()
        self.assertNotIn('unrescue', self.actions())
        self.pass_time(11)
        self.look()
        self._wait_for_state_change(self.server, 'ACTIVE')
        self.assertEqual(1, self.actions().count('unrescue'))
        self.assertIsNone(self.shown(self.server)['rescue_session'])

    def test_back_to_the_state_before(self):
        self._stop_server(self.server)
        self.be_rescued(timeout=60)
        self.pass_time(61)
        self.look()
        self._wait_for_state_change(self.server, 'SHUTOFF')

    def test_without(self):
        self.be_rescued()
        self.pass_time(10 ** 8)
        self.look()
        self.assertEqual('RESCUE', self.shown(self.server)['status'])
        self.assertNotIn('unrescue', self.actions())

    def test_of_this_rescue_only(self):
        self.be_rescued(timeout=60)
        for version in ('1.4', '1.0'):
            self.api.post_server_action(self.server['id'], {'unrescue': None})
            self._wait_for_state_change(self.server, 'ACTIVE')
            self.be_rescued(version=version)
            self.pass_time(61)
            self.look()
            self.assertEqual(
                'RESCUE', self.api.get_server(self.server['id'])['status'])

    def test_of_a_rescue_before_stock_nova_came(self):
        """It leaves the record when it unrescues, and rescues again."""
        self.be_rescued(timeout=60)
        instance = self.instance(self.server)
        instance.launched_at -= datetime.timedelta(seconds=61)
        instance.save()
        self.look()
        self.assertNotIn('unrescue', self.actions())
        shown = self.shown(self.server)['rescue_session']
        self.assertEqual((None, None), (shown['until'], shown['layout']))

    def test_interrupted(self):
        """The time counts from when the rescue is complete."""
        self.be_rescued(timeout=60)
        instance = self.instance(self.server)
        instance.vm_state, instance.task_state = 'active', 'rescuing'
        instance.system_metadata.pop('rescue_ext_since')
        instance.save()
        self.restart_compute_service('compute1')
        self._wait_for_state_change(self.server, 'RESCUE')
        self.assertIn('rescue_ext_since',
                      self.instance(self.server).system_metadata)
        self.pass_time(61)
        self.look()
        self._wait_for_state_change(self.server, 'ACTIVE')

    def test_of_a_failed_rescue(self):
        """A stock nova-api asks for the next one."""
        self.patch('nova.virt.libvirt.driver.LibvirtDriver._create_image',
                   self.fail_to_create)
        self.rescue_with(self.server, timeout=60)
        self._wait_for_action_fail_completion(self.server, 'rescue',
                                              'compute_rescue_instance')
        self.assertEqual({}, {
            key: value for key, value
            in self.instance(self.server).system_metadata.items()
            if 'timeout' in key})

    @staticmethod
    def fail_to_create(*args, **kwargs):
        raise exception.ImageUnacceptable(image_id='x', reason='test')

    def test_unrescued_since_it_was_listed(self):
        """By its user, and rescued again: for longer."""
        self.be_rescued(timeout=60)
        self.pass_time(61)
        listed = objects.InstanceList.get_by_filters(
            self.context, {'uuid': self.server['id']},
            expected_attrs=['system_metadata'])
        self.api.post_server_action(self.server['id'], {'unrescue': None})
        self._wait_for_state_change(self.server, 'ACTIVE')
        with self.of_the_past(listed):
            self.look()
        self.assertEqual(1, self.actions().count('unrescue'))
        self.be_rescued(timeout=600)
        with self.of_the_past(listed):
            self.look()
        self.assertEqual(1, self.actions().count('unrescue'))

    def of_the_past(self, instances):
        return fixtures.MonkeyPatch(
            'nova.objects.InstanceList.get_by_filters',
            lambda *args, **kwargs: instances)

    def listed(self):
        return objects.InstanceList.get_by_filters(
            self.context, {'host': 'compute1'},
            expected_attrs=['system_metadata'])

    def test_migrated_since_it_was_listed(self):
        """The host that it is on unrescues it."""
        self.be_rescued(timeout=60)
        self.pass_time(61)
        listed = self.listed()
        self.move('compute2')
        with self.of_the_past(listed):
            self.look()
        self.assertNotIn('unrescue', self.actions())
        self.move('compute1')

    def move(self, host):
        instance = self.instance(self.server)
        instance.host = host
        instance.save()

    def test_deleted_since_it_was_listed(self):
        self.be_rescued(timeout=60)
        self.pass_time(61)
        listed = self.listed()
        self._delete_server(self.server)
        with self.of_the_past(listed):
            self.look()
        self.assertNotIn('for as long as requested',
                         self.stdlog.logger.output)

    def expire_two(self):
        """:returns: the server whose turn is first, and the other"""
        for _number in range(2):
            self.server = self._create_server(networks='none')
            self.be_rescued(timeout=60)
            self.pass_time(61)
        return [{'id': instance.uuid} for instance in self.listed()
                if instance.vm_state == 'rescued']

    @ddt.data('nova.objects.Instance.get_by_uuid',
              'nova.compute.api.API.unrescue')
    def test_one_fails(self, name):
        """It does not keep the others in rescue, and has its turn again."""
        first, other = self.expire_two()
        method = test_rescue_failure.resolve(name)

        def fail(*args, **kwargs):
            if first['id'] in (
                    getattr(arg, 'uuid', arg) for arg in args):
                raise exception.CellTimeout()
            return method(*args, **kwargs)

        with fixtures.MonkeyPatch(
                name, staticmethod(fail) if 'get' in name else fail):
            self.look()
            self._wait_for_state_change(other, 'ACTIVE')
        self.assertIn('has been in rescue for as long as requested, and '
                      'cannot be unrescued', self.stdlog.logger.output)
        self.assertEqual('RESCUE', self.api.get_server(first['id'])['status'])
        self.look()
        self._wait_for_state_change(first, 'ACTIVE')

    def test_list_cannot_be_read(self):
        """The other periodic tasks are not kept from running."""
        self.be_rescued(timeout=60)
        self.pass_time(61)

        def fail(*args, **kwargs):
            raise exception.CellTimeout()

        with fixtures.MonkeyPatch(
                'nova.objects.InstanceList.get_by_filters', fail):
            self.assertEqual(7.5, self.look())
        self.assertIn('cannot look for servers in rescue',
                      self.stdlog.logger.output)
        self.assertNotIn('unrescue', self.actions())
        self.look()
        self._wait_for_state_change(self.server, 'ACTIVE')

    def test_locked_by_its_owner(self):
        self.be_rescued(timeout=60)
        self.api.post_server_action(self.server['id'], {'lock': {}})
        self.pass_time(61)
        self.look()
        self._wait_for_state_change(self.server, 'ACTIVE')

    def test_busy(self):
        self.be_rescued(timeout=60)
        self.pass_time(61)
        instance = self.instance(self.server)
        instance.task_state = 'migrating'
        instance.save()
        self.look()
        self.assertNotIn('unrescue', self.actions())
        instance.task_state = None
        instance.save()
        self.look()
        self._wait_for_state_change(self.server, 'ACTIVE')

    @ddt.data(59, 3601, 60.5, '60', True, None, [60])
    def test_refused(self, timeout):
        self.flags(group='rescue_ext', max_rescue_timeout=3600)
        self.assert_refused(
            self.server, self.rescue_with(self.server, timeout=timeout),
            'timeout')

    def test_longest_limit(self):
        """No date is out of range."""
        limit = {'group': 'rescue_ext', 'max_rescue_timeout': 315360000}
        self.flags(**limit)
        self.be_rescued(timeout=315360000)
        self.assertIsNotNone(
            self.shown(self.server)['rescue_session']['until'])
        limit['max_rescue_timeout'] += 1
        self.assertRaises(ValueError, self.flags, **limit)

    @ddt.data('1.0', '1.3')
    def test_below(self, version):
        self.assert_refused(
            self.server,
            self.rescue_with(self.server, version, timeout=60),
            'Additional properties are not allowed')

    def test_other_parameters_stay(self):
        response = self.rescue_with(self.server, timeout=60,
                                    adminPass='of-the-user')
        self.assertEqual({'adminPass': 'of-the-user'}, response.json())
        self.assert_rescued(self.server, response)

    def test_host_that_is_not_upgraded(self):
        self.change_compute_node(compute_rescue='1.3')
        self.assert_refused(
            self.server, self.rescue_with(self.server, timeout=60),
            'which timeout needs. Leave that out')
        self.be_rescued()


class DisksTest(SessionTestCase):

    def boot(self):
        flavor = self._create_flavor(disk=1, ephemeral=1, swap=64)
        return self._create_server(flavor_id=flavor, networks='none')

    def uuids(self, server):
        """The UUIDs of a server's local disks, by role."""
        return {('root' if bdm.boot_index == 0
                 else bdm.guest_format or 'ephemeral'): bdm.uuid
                for bdm in objects.BlockDeviceMappingList.get_by_instance_uuid(
                    self.context, server['id'])}

    def serials(self, server):
        return {serial for serial
                in self.domains.serials(server['id']).values() if serial}

    def test_stable(self):
        server = self.boot()
        self.assert_rescued(server, self.rescue_with(
            server, rescue_image_ref=self.create_image(STABLE)))
        uuids = self.uuids(server)
        self.assertEqual({'root', 'ephemeral', 'swap'}, set(uuids))
        self.assertEqual(set(uuids.values()), self.serials(server))
        self.assertEqual(uuids['root'],
                         self.domains.serials(server['id'])['vda'])
        shown = self.shown(server)['rescue_session']
        self.assertEqual(uuids, {disk['role']: disk['serial']
                                 for disk in shown['disks']})
        self.assertEqual('stable', shown['layout'])

    def test_legacy(self):
        server = self.boot()
        self.assert_rescued(server, self.rescue_with(
            server, rescue_image_ref=self.create_image()))
        root = self.uuids(server)['root']
        # The others are the rescue disk and the config drive.
        self.assertEqual({'vda': None, 'vdb': root, 'hda': None},
                         self.domains.serials(server['id']))
        shown = self.shown(server)['rescue_session']
        self.assertEqual([{'role': 'root', 'serial': root}], shown['disks'])
        self.assertEqual('legacy', shown['layout'])

    def test_below(self):
        server = self.boot()
        image = self.create_image(STABLE)
        self.assert_rescued(server, self.rescue_with(
            server, '1.3', rescue_image_ref=image))
        self.assertEqual(set(), self.serials(server))
        self.assertEqual([], self.shown(server)['rescue_session']['disks'])

    def test_gone_after_unrescue(self):
        server = self.boot()
        self.assert_rescued(server, self.rescue_with(
            server, rescue_image_ref=self.create_image(STABLE)))
        self.api.post_server_action(server['id'], {'unrescue': None})
        self._wait_for_state_change(server, 'ACTIVE')
        self.assertEqual(set(), self.serials(server))

    def test_volumes(self):
        server = self.create_bfv_server()
        self.assert_rescued(server, self.rescue_with(
            server, rescue_image_ref=self.create_image()))
        self.assertEqual([{'role': 'root', 'serial': self.VOLUME}],
                         self.shown(server)['rescue_session']['disks'])
        self.assertEqual({self.VOLUME}, self.serials(server))


@ddt.ddt
class AccessTest(SessionTestCase):
    """Key pair and user data, by config drive and by metadata API."""

    OWN = b'#!/bin/sh\n# of the server'
    USER_DATA = b'#!/bin/sh\n# of the rescue\n' * 900

    def setUp(self):
        # Nova makes no config drive where there is one.
        self.patch('nova.tests.fixtures.LibvirtImageBackendFixture',
                   functools.partial(
                       nova_fixtures.LibvirtImageBackendFixture,
                       exists=lambda name: 'config' not in name))
        super().setUp()
        self.drives = []
        self.patch('nova.virt.configdrive.ConfigDriveBuilder',
                   self.build_drive)
        for name in ('of-server', 'of-rescue'):
            self.api.post_keypair({'keypair': {
                'name': name, 'public_key': self.public_key(name)}})
        server = self.api.post_server({'server': {
            **self._build_server(networks='none'), 'key_name': 'of-server',
            'user_data': base64.b64encode(self.OWN).decode()}})
        self.server = self._wait_for_state_change(server, 'ACTIVE')

    @staticmethod
    def public_key(name):
        key = fake_crypto.get_ssh_public_key()
        return '%s %s' % (key.rpartition(' ')[0], name)

    def build_drive(self, instance_md):
        self.drives.append(self.content(instance_md))
        builder = mock.MagicMock()
        builder.__enter__.return_value = builder
        builder.make_drive = lambda path: pathlib.Path(path).write_bytes(b'')
        return builder

    @staticmethod
    def content(metadata):
        """Keys by name, user data, and password, of an InstanceMetadata."""
        document = jsonutils.loads(
            metadata.get_openstack_item(('latest', 'meta_data.json')))
        return (document.get('public_keys'), metadata.userdata_raw,
                document.get('admin_pass'))

    def from_service(self):
        """What the metadata API gives to the server now."""
        return self.content(metadata_base.get_metadata_by_instance_id(
            self.server['id'], '192.0.2.1', self.context))

    def be_rescued(self, **parameters):
        response = self.rescue_with(self.server, adminPass='secret',
                                    **parameters)
        self.assert_rescued(self.server, response)

    def request(self):
        return {'key_name': 'of-rescue',
                'user_data': base64.b64encode(self.USER_DATA).decode()}

    def has_config_drive(self):
        return any('disk.config' in (source.get('file') or '')
                   for source in self.domains.find(
                       self.server, 'devices/disk/source'))

    @ddt.data({}, STABLE)
    def test_everything(self, properties):
        own = ({'of-server': self.public_key('of-server')}, self.OWN, None)
        self.assertEqual(own, self.from_service())
        self.assertEqual([], self.drives)
        self.be_rescued(rescue_image_ref=self.create_image(properties),
                        **self.request())
        wanted = ({'of-rescue': self.public_key('of-rescue')},
                  self.USER_DATA)
        self.assertEqual([(*wanted, 'secret')], self.drives)
        self.assertEqual((*wanted, None), self.from_service())
        self.assertTrue(self.has_config_drive())
        self.assertEqual('of-rescue',
                         self.shown(
                             self.server)['rescue_session']['key_name'])
        # The server itself is as it was.
        shown = self.api.get_server(self.server['id'])
        self.assertEqual('of-server', shown['key_name'])
        self.assertEqual('', shown['config_drive'])
        self.api.post_server_action(self.server['id'], {'unrescue': None})
        self._wait_for_state_change(self.server, 'ACTIVE')
        self.assertEqual(own, self.from_service())
        self.assertFalse(self.has_config_drive())
        self.assertEqual([], self.recorded('access'))

    def test_nothing_named(self):
        """The key pair of the server, and none of its user data."""
        self.be_rescued()
        wanted = ({'of-server': self.public_key('of-server')}, None)
        self.assertEqual([(*wanted, 'secret')], self.drives)
        self.assertEqual((*wanted, None), self.from_service())

    def test_below(self):
        self.be_rescued(version='1.3')
        self.assertEqual([], self.drives)
        self.assertEqual(self.OWN, self.from_service()[1])

    def test_next_rescue(self):
        self.be_rescued(**self.request())
        self.api.post_server_action(self.server['id'], {'unrescue': None})
        self._wait_for_state_change(self.server, 'ACTIVE')
        self.be_rescued()
        self.assertEqual(['of-server'], list(self.from_service()[0]))
        self.assertIsNone(self.from_service()[1])

    def test_failed_rescue(self):
        self.patch('nova.virt.libvirt.driver.LibvirtDriver._create_image',
                   TimeoutTest.fail_to_create)
        self.rescue_with(self.server, **self.request())
        self._wait_for_state_change(self.server, 'ACTIVE')
        self.assertEqual(self.OWN, self.from_service()[1])
        self.assertEqual([], self.recorded('access'))

    def test_rescue_by_a_stock_api(self):
        """What was requested of ours before is not requested again."""
        self.be_rescued(**self.request())
        self.api.post_server_action(self.server['id'], {'unrescue': None})
        self._wait_for_state_change(self.server, 'ACTIVE')
        self.assertEqual([], self.recorded('rescue_ext_'))
        self.drives.clear()
        instance = self.instance(self.server)
        instance.task_state = 'rescuing'
        instance.save()
        self.computes['compute1'].manager.compute_rpcapi.rescue_instance(
            self.context, instance, 'secret',
            rescue_image_ref=self.create_image({}))
        self._wait_for_state_change(self.server, 'RESCUE')
        self.assertEqual([], self.drives)
        self.assertEqual(self.OWN, self.from_service()[1])

    def note_at(self, name, fails=False):
        """Note what the metadata API gives when something is called.

        :returns: the user data of each call
        """
        noted = []
        method = test_rescue_failure.resolve(name)

        def note(*args, **kwargs):
            noted.append(self.from_service()[1])
            if fails and len(noted) == 1:
                raise test_rescue_failure.Injected('Injected')
            return method(*args, **kwargs)

        self.patch(name, note)
        return noted

    def test_before_it_is_saved(self):
        """The rescue system may ask as soon as it runs, and no other."""
        before = [self.note_at(name) for name in (
            'nova.compute.manager.ComputeManager.rescue_instance',
            'nova_rescue_ext.rescue.operation.Rescue.connecting',
            'nova.compute.manager.ComputeManager._power_off_instance')]
        launched = self.note_at(GUEST + 'launch')
        self.be_rescued(**self.request())
        self.assertEqual([[self.OWN]] * 3, before)
        self.assertEqual([self.USER_DATA], launched)
        self.assertEqual([], self.recorded('switched'))

    def recorded(self, word):
        return [key for key in self.instance(self.server).system_metadata
                if word in key]

    def test_rolled_back(self):
        """The server's own system is started, and may ask at once."""
        launched = self.note_at(GUEST + 'launch', fails=True)
        self.rescue_with(self.server, **self.request())
        self._wait_for_state_change(self.server, 'ACTIVE')
        self.assertEqual([self.USER_DATA, self.OWN], launched)
        self.assertEqual([], self.recorded('switched'))

    def test_interrupted(self):
        """The same after a restart of nova-compute."""
        self.be_rescued(**self.request())
        instance = self.instance(self.server)
        instance.vm_state, instance.task_state = 'active', 'rescuing'
        instance_metadata.record_switch(instance)
        instance.save()
        self.assertEqual(self.USER_DATA, self.from_service()[1])
        self.computes['compute1'].driver._host.get_guest(instance).poweroff()
        launched = self.note_at(GUEST + 'launch')
        self.restart_compute_service('compute1')
        self._wait_for_state_change(self.server, 'ACTIVE')
        self.assertEqual([self.OWN], launched)

    def test_switch_cannot_be_saved(self):
        """No rescue system is started without its user data."""
        launched = self.note_at(GUEST + 'launch')
        self.patch('nova_rescue_ext.instance_metadata.record_switch',
                   TimeoutTest.fail_to_create)
        self.rescue_with(self.server, **self.request())
        self._wait_for_state_change(self.server, 'ACTIVE')
        self.assertEqual([self.OWN], launched)

    def test_nobody_saves_below(self):
        self.patch('nova_rescue_ext.instance_metadata.record_switch',
                   TimeoutTest.fail_to_create)
        self.be_rescued(version='1.3')

    def test_while_it_is_unrescued(self):
        """The server's own system starts before its state is saved."""
        self.be_rescued(**self.request())
        instance = self.instance(self.server)
        instance.task_state = 'unrescuing'
        instance.save()
        self.assertEqual(self.OWN, self.from_service()[1])

    def test_left_by_stock_nova(self):
        """Nobody gets what a rescue before the current one requested."""
        self.be_rescued(**self.request())
        instance = self.instance(self.server)
        instance.launched_at += datetime.timedelta(seconds=600)
        instance.save()
        self.assertEqual(self.OWN, self.from_service()[1])

    @ddt.data(True, False)
    def test_cache_of_the_service(self, is_behind_proxy):
        """The next system gets none of it for a single second."""
        service = handler.MetadataRequestHandler()
        by_id = metadata_base.get_metadata_by_instance_id
        read = mock.Mock(side_effect=lambda *args: by_id(
            self.server['id'], '192.0.2.1', self.context))
        for name in ('instance_id', 'address'):
            self.patch('nova.api.metadata.base.get_metadata_by_' + name, read)

        def user_data():
            if is_behind_proxy:
                found = service.get_metadata_by_instance_id(
                    self.server['id'], '192.0.2.1')
            else:
                found = service.get_metadata_by_remote_address('192.0.2.1')
            return found.userdata_raw

        self.be_rescued(**self.request())
        self.assertEqual(self.USER_DATA, user_data())
        self.api.post_server_action(self.server['id'], {'unrescue': None})
        self._wait_for_state_change(self.server, 'ACTIVE')
        for task_state in ('rescuing', 'unrescuing', None, None):
            instance = self.instance(self.server)
            instance.task_state = task_state
            if task_state:
                instance_metadata.request_rescue(
                    instance, microversion.RESCUE_SESSION, request_id='req')
            else:
                instance_metadata.forget_rescue_request(instance)
            instance.save()
            self.assertEqual(self.OWN, user_data())
        self.assertEqual(4, read.call_count)

    def test_key_of_somebody_else(self):
        objects.KeyPair(
            self.context, user_id='somebody-else', name='of-other',
            type='ssh', public_key=self.public_key('of-other'),
            fingerprint='').create()
        self.assert_refused(
            self.server, self.rescue_with(self.server, key_name='of-other'),
            'you have no key pair of-other')

    @ddt.data('\ud800', 'a\0b', ' a')
    def test_refused_key_names(self, name):
        self.assert_refused(
            self.server, self.rescue_with(self.server, key_name=name),
            'printable characters')

    @ddt.data({'key_name': ''}, {'key_name': 3}, {'key_name': None},
              {'user_data': 'not base64!'}, {'user_data': 'QUJD' * 16384},
              {'user_data': 'QUJD\0'}, {'user_data': 'QUJD\U0001f600'},
              {'user_data': '\ud800'}, {'user_data': None},
              {'user_data': ['QUJD']})
    def test_refused(self, parameters):
        (name,) = parameters
        self.assert_refused(
            self.server, self.rescue_with(self.server, **parameters), name)

    def test_refused_user_data_is_not_logged(self):
        for text in ('QUJD' * 16384, 'QUJDRA'):
            response = self.rescue_with(self.server, user_data=text)
            self.assert_refused(self.server, response, 'user_data')
            self.assertNotIn('QUJD', response.text)
        self.assertNotIn('exception thrown: Invalid input for field/attribute '
                         'user_data. Value: QUJD', self.stdlog.logger.output)

    def test_longest(self):
        data = b'x' * 49149
        self.be_rescued(user_data=base64.b64encode(data).decode())
        self.assertEqual(data, self.from_service()[1])

    def test_host_that_is_not_upgraded(self):
        self.change_compute_node(compute_rescue='1.3')
        self.assert_refused(
            self.server, self.rescue_with(self.server, **self.request()),
            'which key_name, user_data needs. Leave that out')


class ShownTest(SessionTestCase):

    def setUp(self):
        super().setUp()
        self.server = self._create_server(networks='none')

    def test_rescued(self):
        image = self.create_image(STABLE)
        self.assert_rescued(self.server, self.rescue_with(
            self.server, rescue_image_ref=image, timeout=90))
        shown = self.shown(self.server)['rescue_session']
        self.assertEqual({'since', 'until', 'image_id', 'layout', 'key_name',
                          'ready_line', 'disks'}, set(shown))
        self.assertEqual(image, shown['image_id'])
        since, until = (timeutils.parse_isotime(shown[name])
                        for name in ('since', 'until'))
        self.assertEqual(90, (until - since).total_seconds())
        # No database rounds it.
        self.assertEqual(0, self.instance(
            self.server).launched_at.microsecond)

    def test_without_a_timeout(self):
        self.assert_rescued(self.server, self.rescue_with(self.server))
        self.assertIsNone(self.shown(self.server)['rescue_session']['until'])

    def test_not_in_rescue(self):
        self.assertIsNone(self.shown(self.server)['rescue_session'])

    def test_below(self):
        self.assert_rescued(self.server, self.rescue_with(self.server))
        self.assertNotIn('rescue_session', self.shown(self.server, '1.3'))

    def test_rescued_without_a_record(self):
        """By stock Nova."""
        self.assert_rescued(self.server, self.rescue_with(self.server))
        instance = self.instance(self.server)
        instance_metadata.forget_rescue(instance)
        instance.save()
        shown = self.shown(self.server)['rescue_session']
        since = shown.pop('since')
        self.assertIsNotNone(since)
        self.assertEqual({'until': None, 'image_id': None, 'layout': None,
                          'key_name': None, 'ready_line': None,
                          'disks': []}, shown)

    def test_other_answers(self):
        """What an update and a rebuild of Nova show of a server."""
        with self.opted_in('1.4'):
            updated = self.api.put_server(self.server['id'], {
                'server': {'name': 'other'}})
        self.assertIsNone(updated['server']['rescue_session'])

    def test_cell_that_does_not_answer(self):
        self.assert_rescued(self.server, self.rescue_with(self.server))
        self.patch('nova_rescue_ext.rescue.view._views_in_cell',
                   self.fail_to_answer)
        self.assertNotIn('rescue_session', self.shown(self.server))

    @staticmethod
    def fail_to_answer(context, uuids):
        raise exception.CellTimeout()

    def test_cell_that_is_away(self):
        """Nova shows no state then."""
        self.assert_rescued(self.server, self.rescue_with(self.server))
        with nova_fixtures.DownCellFixture():
            shown = self.shown(self.server)
        self.assertEqual('UNKNOWN', shown['status'])
        self.assertNotIn('rescue_session', shown)

    def test_answers_without_a_status(self):
        with self.opted_in('1.4'):
            answers = [*self.api.get_servers(detail=False),
                       self.api.post_server({
                           'server': self._build_server(networks='none')})]
        self.assertEqual(2, len(answers))
        for answer in answers:
            self.assertIn('id', answer)
            self.assertNotIn('rescue_session', answer)

    def test_unrescued_since_nova_read_it(self):
        self.assert_rescued(self.server, self.rescue_with(self.server))
        read = view._views

        def unrescue_and_read(uuids):
            instance = self.instance(self.server)
            instance.vm_state = 'active'
            instance.save()
            return read(uuids)

        self.patch('nova_rescue_ext.rescue.view._views', unrescue_and_read)
        with self.opted_in('1.4'):
            shown = self.api.get_server(self.server['id'])
        self.assertEqual('RESCUE', shown['status'])
        self.assertIsNone(shown['rescue_session'])

    def test_one_of_many(self):
        other = self._create_server(networks='none')
        self.assert_rescued(self.server, self.rescue_with(self.server))
        self.assertIsNone(self.shown(other)['rescue_session'])
        self.assertIsNotNone(self.shown(self.server)['rescue_session'])


class DefaultVersionTest(SessionTestCase):

    OPTIONS = {'default_api_version': 'latest'}

    def test_no_field_for_those_who_name_no_version(self):
        """Their client may refuse it."""
        server = self._create_server(networks='none')
        self.assertNotIn('rescue_session', self.api.get_server(server['id']))
        self.assertIsNone(self.shown(server)['rescue_session'])

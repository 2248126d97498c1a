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


"""Unrescue by a domain that is rebuilt from the database."""

import inspect
import os
from unittest import mock

import fixtures
from nova import objects
from nova.tests.functional.api import client
from nova.virt.libvirt import driver
from nova.virt.libvirt import utils as libvirt_utils
from oslo_serialization import jsonutils

from nova_rescue_ext import activation
from nova_rescue_ext import conf as ext_conf
from nova_rescue_ext import instance_metadata
from tests.functional import base

# Of virDomainUndefineFlags; Nova's double of libvirt lacks the second one in
# Nova 29 and 30.
UNDEFINE_NVRAM = 4
UNDEFINE_KEEP_NVRAM = 8


class UnrescueTestCase(base.RescueTestCase):

    def setUp(self):
        super().setUp()
        self.server = self._create_server(networks='none')

    def instance(self):
        return objects.Instance.get_by_uuid(
            self.context, self.server['id'],
            expected_attrs=['system_metadata', 'device_metadata'])

    def path(self, *names):
        return os.path.join(libvirt_utils.get_instance_path(self.instance()),
                            *names)

    def put_file(self, name, content='old'):
        with open(self.path(name), 'w') as file:
            file.write(content)

    def rescue_now(self, **properties):
        image_id = self.create_image(properties)
        self.assert_rescued(self.server, self.rescue(self.server, image_id))
        return image_id

    def names_of_disks(self):
        """The file or the serial of each disk of the server's domain."""
        return [name for *_, name in self.domains.disks(self.server)]

    def unrescue(self):
        self.api.post_server_action(self.server['id'], {'unrescue': None})
        return self._wait_for_state_change(self.server, 'ACTIVE')


class UnrescueTest(UnrescueTestCase):

    def test_the_domain_is_rebuilt(self):
        before = self.domains.disks(self.server)
        self.rescue_now()
        self.assertNotEqual(before, self.domains.disks(self.server))
        self.assertFalse(os.path.exists(self.path('unrescue.xml')))
        self.unrescue()
        self.assertEqual(before, self.domains.disks(self.server))

    def test_stable_rescue(self):
        before = self.domains.disks(self.server)
        self.rescue_now(hw_rescue_device='disk', hw_rescue_bus='virtio')
        self.unrescue()
        self.assertEqual(before, self.domains.disks(self.server))

    def test_with_a_volume(self):
        volume = self.cinder.IMAGE_BACKED_VOL
        self.api.post_server_volume(self.server['id'], {
            'volumeAttachment': {'volumeId': volume}})
        self._wait_for_volume_attach(self.server['id'], volume)
        self.rescue_now()
        self.assertNotIn(volume, self.names_of_disks())
        self.unrescue()
        self.assertEqual(['disk', volume], self.names_of_disks())

    def test_boot_from_volume(self):
        self.server = self.create_bfv_server()
        before = self.domains.disks(self.server)
        with self.opted_in():
            self.rescue_now()
            self.unrescue()
        self.assertEqual(before, self.domains.disks(self.server))

    def test_after_the_original_image_was_deleted(self):
        before = self.domains.disks(self.server)
        self.rescue_now()
        self.glance.delete(self.context, self.server['image']['id'])
        self.unrescue()
        self.assertEqual(before, self.domains.disks(self.server))

    def test_after_the_host_was_rebooted(self):
        before = self.domains.disks(self.server)
        self.rescue_now()
        self.computes['compute1'].driver._host.get_guest(
            self.instance()).poweroff()
        self.unrescue()
        self.assertEqual(before, self.domains.disks(self.server))

    def test_after_the_domain_was_lost(self):
        self.rescue_now()
        guest = self.computes['compute1'].driver._host.get_guest(
            self.instance())
        guest.poweroff()
        guest.delete_configuration()
        self.unrescue()

    def test_what_the_rescue_left_is_removed(self):
        self.rescue_now()
        self.put_file('disk.rescue')
        self.put_file('kernel.rescue')
        self.put_file('disk')
        self.put_file('disk.info', jsonutils.dumps(
            {self.path('disk'): 'raw', self.path('disk.rescue'): 'qcow2'}))
        self.unrescue()
        self.assertEqual({'disk', 'disk.info'}, set(os.listdir(self.path())))
        with open(self.path('disk.info')) as formats:
            self.assertEqual({self.path('disk'): 'raw'},
                             jsonutils.loads(formats.read()))

    def test_a_file_that_cannot_be_removed_costs_nothing(self):
        self.rescue_now()
        with mock.patch('nova_rescue_ext.host.rescue_files.remove',
                        side_effect=PermissionError('no')):
            self.unrescue()
        self.assertIn('*.rescue files', self.stdlog.logger.output)

    def test_a_failure_can_be_repaired_by_a_hard_reboot(self):
        self.rescue_now()
        self.put_file('disk.rescue')
        with mock.patch('nova.virt.libvirt.driver.LibvirtDriver.'
                        '_create_guest_with_network',
                        side_effect=OSError('broken')):
            self.assertRaises(client.OpenStackApiException, self.unrescue)
        self._wait_for_state_change(self.server, 'ERROR')
        self.assertTrue(os.path.exists(self.path('disk.rescue')))
        self.assertIsNone(instance_metadata.rescue_of(self.instance()))
        self._reboot_server(self.server, hard=True)
        self.assert_rescued(self.server, self.rescue(self.server))
        self.assertFalse(os.path.exists(self.path('disk.rescue')))

    def test_device_metadata_is_that_of_the_server(self):
        volume = self.cinder.IMAGE_BACKED_VOL
        self.api.post_server_volume(self.server['id'], {
            'volumeAttachment': {'volumeId': volume, 'tag': 'data'}})
        self._wait_for_volume_attach(self.server['id'], volume)
        before = self.instance().device_metadata.obj_to_primitive()
        self.rescue_now()
        self.unrescue()
        self.assertEqual(before,
                         self.instance().device_metadata.obj_to_primitive())


class RecordTest(UnrescueTestCase):

    def assert_recorded(self, image_id, mode):
        recorded = instance_metadata.rescue_of(self.instance())
        self.assertIsNotNone(recorded.since)
        self.assertEqual(
            instance_metadata.RescueRecord(image_id, None, None, mode,
                                           'active', 'running'),
            recorded._replace(since=None))

    def test_legacy(self):
        self.assert_recorded(self.rescue_now(), 'legacy')

    def test_stable(self):
        self.assert_recorded(self.rescue_now(hw_rescue_device='disk'),
                             'stable')

    def test_forgotten_by_unrescue(self):
        self.rescue_now()
        self.unrescue()
        instance = self.instance()
        self.assertEqual([], [key for key in instance.system_metadata
                              if key.startswith('rescue_ext_')])

    def test_ignored_once_the_state_was_reset(self):
        self.rescue_now()
        self.admin_api.post_server_action(
            self.server['id'], {'os-resetState': {'state': 'active'}})
        self.assertIsNone(instance_metadata.rescue_of(self.instance()))

    def test_files_of_an_earlier_rescue_are_not_used(self):
        self.put_file('disk.rescue')
        self.put_file('disk.config.rescue')
        self.put_file('disk')
        self.rescue_now()
        self.assertEqual(['disk'], os.listdir(self.path()))


class NothingLostTest(UnrescueTestCase):
    """What stock Nova's unrescue keeps is kept."""

    def machine_types(self):
        return (self.instance().system_metadata.get('image_hw_machine_type'),
                self.domains.machine_type(self.server))

    def boot_with_q35(self):
        self.server = self._create_server(
            image_uuid=self.create_image({'hw_machine_type': 'q35'}),
            networks='none')
        self.assertEqual(('q35', 'q35'), self.machine_types())

    def test_machine_type(self):
        self.boot_with_q35()
        self.rescue_now()
        self.assertEqual(('q35', 'pc'), self.machine_types())
        self.unrescue()
        self.assertEqual(('q35', 'q35'), self.machine_types())

    def test_machine_type_of_a_server_rescued_by_stock_nova(self):
        self.boot_with_q35()
        activation.deactivate()
        self.rescue_now()
        self.assertEqual(('pc', 'pc'), self.machine_types())
        # The double of libvirt has one machine type for all domains.
        with open(self.path('unrescue.xml')) as file:
            domain = file.read()
        self.assertIn("machine='pc-0.12'", domain)
        self.put_file('unrescue.xml', domain.replace('pc-0.12', 'q35'))
        ext_conf.register_opts(base.CONF)
        self.assertTrue(activation.activate(base.CONF))
        self.unrescue()
        self.assertEqual(('q35', 'q35'), self.machine_types())
        self.assertFalse(os.path.exists(self.path('unrescue.xml')))

    def test_a_saved_domain_that_cannot_be_read(self):
        self.rescue_now()
        instance = self.instance()
        instance_metadata.forget_rescue(instance)
        instance.save()
        for content in ('', '<domain/>'):
            self.put_file('unrescue.xml', content)
        self.unrescue()
        self.assertIn('cannot be read', self.stdlog.logger.output)

    def test_uefi_variables(self):
        flags = []
        domain = type(self.computes['compute1'].driver._host.get_guest(
            self.instance())._domain)
        undefine = domain.undefineFlags
        self.useFixture(fixtures.MonkeyPatch(
            '%s.Domain.undefineFlags' % domain.__module__,
            lambda itself, given: (flags.append(given),
                                   undefine(itself, given))))
        self.rescue_now()
        self.unrescue()
        self.assertTrue(flags)
        for given in flags:
            self.assertFalse(given & UNDEFINE_NVRAM)
            self.assertTrue(given & UNDEFINE_KEEP_NVRAM)
        self.api.delete_server(self.server['id'])
        self._wait_until_deleted(self.server)
        self.assertTrue(flags[-1] & UNDEFINE_NVRAM)

    def test_firmware(self):
        """Of a rescue guest with a BIOS, Nova has nothing to keep."""
        if 'old_guest' not in inspect.signature(
                driver.LibvirtDriver._get_guest_config).parameters:
            self.skipTest('Nova keeps the files of a firmware from 33 on')
        self.server = self._create_server(
            image_uuid=self.create_image({'hw_firmware_type': 'uefi',
                                          'hw_machine_type': 'q35'}),
            networks='none')
        self.put_file('code.fd')
        self.put_file('vars.fd')
        self.patch('nova_rescue_ext.host.guests.firmware',
                   lambda *args: instance_metadata.Firmware(
                       self.path('code.fd'), 'no', '/of/the/server.fd',
                       self.path('vars.fd')))
        self.rescue_now()
        self.unrescue()
        loader, = self.domains.find(self.server, 'os/loader')
        nvram, = self.domains.find(self.server, 'os/nvram')
        self.assertEqual(
            (self.path('code.fd'), '/of/the/server.fd',
             self.path('vars.fd')),
            (loader.text, nvram.text, nvram.get('template')))
        self.assertIsNone(instance_metadata.recorded_firmware(
            self.instance()))

    def test_persistent_memory(self):
        self.rescue_now()
        with mock.patch('nova.virt.libvirt.driver.LibvirtDriver._get_vpmems',
                        return_value=[mock.Mock(devpath='/dev/dax0.0')]), \
                mock.patch('nova.virt.libvirt.driver.LibvirtDriver.'
                           '_guest_add_vpmems'), \
                mock.patch('nova.privsep.libvirt.cleanup_vpmem') as zero:
            self.unrescue()
            zero.assert_not_called()
            self.api.delete_server(self.server['id'])
            self._wait_until_deleted(self.server)
            zero.assert_called_with('/dev/dax0.0')

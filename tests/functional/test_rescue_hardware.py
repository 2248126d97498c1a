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


"""The hardware of a rescue: whose it is, and what of it is refused."""

from tests.functional import base


class HardwareTestCase(base.RescueTestCase):

    CAST_AS_CALL = False

    def rescue_with(self, server, **properties):
        self.image = self.create_image(properties)
        with self.opted_in():
            return self.rescue(server, self.image)

    def rescued_with(self, server, **properties):
        self.assert_rescued(server, self.rescue_with(server, **properties))

    def create_server(self):
        return self._create_server(image_uuid=self.IMAGE, networks='none')


class OfTheServerTest(HardwareTestCase):
    """With stable devices it is that of the server's own domain."""

    def _test(self, server):
        machine = self.domains.machine_type(server)
        disks = self.domains.disks(server)
        self.flags(hw_machine_type=['x86_64=q35'], group='libvirt')
        self.rescued_with(server, hw_rescue_device='cdrom')
        self.assertEqual('pc', machine)
        self.assertEqual('pc', self.domains.machine_type(server))
        after = self.domains.disks(server)
        self.assertEqual(
            [disk[:3] for disk in disks], [disk[:3] for disk in after[:-1]])
        self.assertEqual(('ide', 'cdrom'), after[-1][1:3])

    def test_machine_type_in_nova_conf_has_changed(self):
        self._test(self.create_server())

    def test_of_a_boot_from_volume_server(self):
        self._test(self.create_bfv_server())

    def test_config_drive_stays_on_its_bus(self):
        self.flags(force_config_drive=True)
        self._test(self.create_server())

    def test_properties_of_the_volume_have_changed(self):
        server = self.create_bfv_server()
        self.claim_image(hw_machine_type='q35')
        self.rescued_with(server, hw_rescue_device='disk')
        self.assertEqual('pc', self.domains.machine_type(server))

    def test_as_in_stock_if_not_opted_in(self):
        server = self.create_server()
        self.flags(hw_machine_type=['x86_64=q35'], group='libvirt')
        self.assert_rescued(server, self.rescue(server, self.create_image(
            {'hw_rescue_device': 'cdrom'})))
        self.assertEqual('q35', self.domains.machine_type(server))
        self.assertEqual(('sata', 'cdrom'),
                         self.domains.disks(server)[-1][1:3])


class KernelTest(HardwareTestCase):
    """A kernel takes the rescue disk for its root."""

    def _command_line(self, **properties):
        server = self.create_server()
        self.rescued_with(server, kernel_id=self.create_image(
            container_format='aki', disk_format='aki'), **properties)
        line, = self.domains.find(server, 'os/cmdline')
        return line.text

    def test_stable_devices(self):
        self.assertIn('root=/dev/vdb ',
                      self._command_line(hw_rescue_device='disk'))

    def test_legacy(self):
        self.assertIn('root=/dev/vda ', self._command_line())

    def test_command_line_of_the_image(self):
        for properties in ({}, {'hw_rescue_device': 'disk'}):
            with self.subTest(**properties):
                self.assertEqual('root=LABEL=rescue', self._command_line(
                    os_command_line='root=LABEL=rescue', **properties))


class ScsiModelTest(HardwareTestCase):

    def _models(self, server):
        return [controller.get('model') for controller
                in self.domains.find(server, 'devices/controller')
                if controller.get('type') == 'scsi']

    def test_of_the_rescue_image(self):
        """If the server has no such controller."""
        server = self.create_server()
        self.rescued_with(server, hw_rescue_bus='scsi',
                          hw_scsi_model='virtio-scsi')
        self.assertEqual(['virtio-scsi'], self._models(server))

    def test_of_the_server(self):
        server = self._create_server(image_uuid=self.create_image({
            'hw_disk_bus': 'scsi', 'hw_scsi_model': 'lsilogic'}),
            networks='none')
        self.rescued_with(server, hw_rescue_bus='scsi',
                          hw_scsi_model='virtio-scsi')
        self.assertEqual(['lsilogic'], self._models(server))


class RefusedTest(HardwareTestCase):
    """In words, before anything happens."""

    def _test(self, *words, **properties):
        server = self.create_server()
        self.assert_refused(server, self.rescue_with(server, **properties),
                            *words)

    def test_other_firmware(self):
        self._test('hw_firmware_type uefi', 'firmware of the server', 'bios',
                   hw_firmware_type='uefi', hw_rescue_device='disk')

    def test_other_firmware_for_a_boot_from_volume_server(self):
        server = self.create_bfv_server()
        self.assert_refused(
            server, self.rescue_with(server, hw_firmware_type='uefi'),
            'hw_firmware_type uefi')

    def test_same_firmware(self):
        server = self.create_server()
        self.rescued_with(server, hw_firmware_type='bios',
                          hw_rescue_device='disk')

    def test_a_kernel_boots_with_both(self):
        server = self.create_server()
        self.rescued_with(
            server, hw_firmware_type='uefi', hw_rescue_device='disk',
            kernel_id=self.create_image(container_format='aki',
                                        disk_format='aki'))

    def test_tpm(self):
        self._test('hw_tpm_version 2.0', 'the server has no TPM',
                   hw_tpm_version='2.0', hw_tpm_model='tpm-crb')

    def test_video_memory(self):
        self._test('hw_video_ram 64', 'allows 0 MiB', hw_video_ram='64')

    def test_not_with_stable_devices(self):
        """Which have the server's own."""
        server = self.create_server()
        self.rescued_with(server, hw_video_ram='64', hw_tpm_version='2.0',
                          hw_rescue_device='disk')

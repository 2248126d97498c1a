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


import unittest
from unittest import mock

from nova import exception

from nova_rescue_ext.host import guests


class IsInRescueTest(unittest.TestCase):

    def _is_in_rescue(self, *sources):
        disks = ''.join('<disk><source %s/></disk>' % source
                        for source in sources)
        driver = mock.Mock()
        driver._host.get_guest.return_value.get_xml_desc.return_value = (
            '<domain><devices>%s</devices></domain>' % disks)
        return guests.is_in_rescue(driver, mock.sentinel.instance)

    def test_own_disks(self):
        self.assertFalse(self._is_in_rescue(
            'file="/server/disk"', 'dev="/dev/mapper/server_disk-dmcrypt"'))

    def test_file(self):
        self.assertTrue(self._is_in_rescue(
            'file="/server/disk"', 'file="/server/disk.rescue"'))

    def test_volume_on_rbd(self):
        self.assertTrue(self._is_in_rescue(
            'protocol="rbd" name="pool/server_disk.rescue"'))

    def test_encrypted_volume(self):
        self.assertTrue(self._is_in_rescue(
            'dev="/dev/mapper/server_disk.rescue-dmcrypt"'))

    def test_no_domain(self):
        driver = mock.Mock()
        driver._host.get_guest.side_effect = exception.InstanceNotFound(
            instance_id='it')
        self.assertFalse(guests.is_in_rescue(driver, mock.sentinel.instance))


class FirmwareTest(unittest.TestCase):

    LOADER = '<loader type="pflash" secure="no">/code.fd</loader>'
    NVRAM = '<nvram template="/vars.fd">/of/the/server.fd</nvram>'

    def _firmware(self, system):
        driver = mock.Mock()
        driver._host.get_guest.return_value.get_xml_desc.return_value = (
            '<domain><os>%s</os></domain>' % system)
        return guests.firmware(driver, mock.sentinel.instance)

    def test_uefi(self):
        self.assertEqual(
            ('/code.fd', 'no', '/of/the/server.fd', '/vars.fd'),
            self._firmware(self.LOADER + self.NVRAM))

    def test_bios(self):
        self.assertIsNone(self._firmware('<type>hvm</type>'))

    def test_without_variables(self):
        self.assertIsNone(self._firmware(self.LOADER))

    def test_no_domain(self):
        driver = mock.Mock()
        driver._host.get_guest.side_effect = exception.InstanceNotFound(
            instance_id='it')
        self.assertIsNone(guests.firmware(driver, mock.sentinel.instance))

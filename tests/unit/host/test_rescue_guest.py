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

"""The guest of a rescue that is started again."""

from unittest import mock

from lxml import etree
from nova import conf
from nova.virt.libvirt import config as vconfig
from oslo_utils.fixture import uuidsentinel as uuids
import testtools

from nova_rescue_ext.host import rescue_guest

CONF = conf.CONF


class VolumesTest(testtools.TestCase):
    """A device path of before may be another volume.

    Hazard: stale-saved-domain.
    """

    DOMAIN = '''
        <domain><devices>
          <disk type='block' device='disk'>
            <source dev='/dev/sdx'/><target dev='vda' bus='virtio'/>
            <serial>%(volume)s</serial><address type='pci' slot='0x04'/>
          </disk>
          <disk type='file' device='disk'>
            <source file='/i/disk.rescue'/><target dev='vdb' bus='virtio'/>
            <boot order='1'/>
          </disk>
        </devices></domain>''' % {'volume': uuids.volume}

    def _renewed(self, **methods):
        driver = mock.Mock(spec_set=['_connect_volume', '_disconnect_volume',
                                     '_get_volume_config'], **methods)
        domain = etree.fromstring(self.DOMAIN)
        bdm = mock.MagicMock()
        info = {'serial': uuids.volume}
        bdm.__getitem__.side_effect = {'connection_info': info}.get
        rescue_guest._connect_volumes(
            driver, 'context', 'instance',
            {'block_device_mapping': [bdm]}, domain)
        self.assertEqual(
            [mock.call._disconnect_volume('context', info, 'instance',
                                          destroy_secrets=False, force=True),
             mock.call._connect_volume('context', info, 'instance')],
            driver.mock_calls[:2])
        bdm.save.assert_called_once_with()
        return domain.findall('devices/disk')

    def _assert_renewed(self, get_volume_config):
        root, rescue = self._renewed(_get_volume_config=get_volume_config)
        self.assertEqual('/dev/sdy', root.find('source').get('dev'))
        self.assertEqual('vda', root.find('target').get('dev'))
        self.assertEqual('0x04', root.find('address').get('slot'))
        self.assertEqual('/i/disk.rescue', rescue.find('source').get('file'))

    @staticmethod
    def _config(info):
        config = vconfig.LibvirtConfigGuestDisk()
        config.source_type = 'block'
        config.source_path = '/dev/sdy'
        config.target_dev = info['dev']
        config.target_bus = info['bus']
        return config

    def test_renewed(self):
        self._assert_renewed(
            lambda connection_info, disk_info: self._config(disk_info))

    def test_renewed_by_nova_29(self):
        self._assert_renewed(
            lambda instance, connection_info, disk_info: self._config(
                disk_info))


class SerialPortsTest(testtools.TestCase):

    DOMAIN = '''
        <domain><devices>
          <serial type='tcp'>
            <source mode='bind' host='192.0.2.1' service='10000'/>
          </serial>
          <serial type='tcp'>
            <source mode='bind' host='192.0.2.1' service='10001'/>
          </serial>
          <console type='tcp'>
            <source mode='bind' host='192.0.2.1' service='10000'/>
          </console>
          <channel type='unix'><source mode='bind' path='/p'/></channel>
        </devices></domain>'''

    def _ports(self, enabled):
        domain = etree.fromstring(self.DOMAIN)
        CONF.set_override('enabled', enabled, group='serial_console')
        self.addCleanup(CONF.clear_override, 'enabled',
                        group='serial_console')
        with mock.patch('nova.console.serial.acquire_port',
                        side_effect=[10005, 10006]) as acquire:
            rescue_guest._acquire_serial_ports(domain)
        for call in acquire.mock_calls:
            self.assertEqual(mock.call('192.0.2.1'), call)
        return [source.get('service')
                for source in domain.iterfind('devices/*/source')]

    def test_acquired(self):
        self.assertEqual(['10005', '10006', '10005', None],
                         self._ports(True))

    def test_without_consoles(self):
        self.assertEqual(['10000', '10001', '10000', None],
                         self._ports(False))

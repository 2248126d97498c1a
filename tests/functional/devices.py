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

"""What Nova's double of libvirt leaves out of the devices of a domain."""

import fixtures
from lxml import etree
from nova.tests.fixtures import libvirt


class Serials(fixtures.Fixture):
    """Disks have serial numbers in Nova's double of libvirt, too.

    :param domains: the base.Domains of the test
    """

    def __init__(self, domains):
        super().__init__()
        self._domains = domains

    def _setUp(self):
        describe = libvirt.Domain.XMLDesc

        def describe_with_serials(itself, flags):
            domain = etree.fromstring(describe(itself, flags))
            serials = self._domains.serials(itself.UUIDString())
            for disk in domain.findall('devices/disk'):
                # Nova's own, of a volume.
                kind, _, volume_id = disk.find('alias').get('name').partition(
                    '-')
                serial = (volume_id if kind == 'ua' else serials.get(
                    disk.find('target').get('dev')))
                if serial and disk.find('serial') is None:
                    etree.SubElement(disk, 'serial').text = serial
            return etree.tostring(domain, encoding='unicode')

        self.useFixture(fixtures.MonkeyPatch(
            'nova.tests.fixtures.libvirt.Domain.XMLDesc',
            describe_with_serials))


class Taps(fixtures.Fixture):
    """Interfaces have names and models in Nova's double, too.

    :param neutron: the NeutronFixture
    """

    def __init__(self, neutron):
        super().__init__()
        self._neutron = neutron

    def _setUp(self):
        describe = libvirt.Domain.XMLDesc

        def describe_with_names(itself, flags):
            domain = etree.fromstring(describe(itself, flags))
            names = {port['mac_address']: 'tap' + port['id'][:11]
                     for port in self._neutron._ports.values()}
            for interface in domain.findall('devices/interface'):
                interface.find('target').set(
                    'dev', names.get(interface.find('mac').get('address'),
                                     'of-no-port'))
                if interface.find('model') is None:
                    etree.SubElement(interface, 'model', type='virtio')
            return etree.tostring(domain, encoding='unicode')

        self.useFixture(fixtures.MonkeyPatch(
            'nova.tests.fixtures.libvirt.Domain.XMLDesc',
            describe_with_names))

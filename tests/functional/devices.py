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


class _Described(fixtures.Fixture):
    """What Nova's double of libvirt leaves out when it describes a domain."""

    def _setUp(self):
        describe = libvirt.Domain.XMLDesc

        def describe_all(itself, flags):
            domain = etree.fromstring(describe(itself, flags))
            self.complete(domain, itself.UUIDString())
            return etree.tostring(domain, encoding='unicode')

        self.useFixture(fixtures.MonkeyPatch(
            'nova.tests.fixtures.libvirt.Domain.XMLDesc', describe_all))

    def complete(self, domain, uuid):
        """Add what libvirt would say, too.

        :param domain: an etree.Element; changed in place
        :param uuid: of the domain
        """


class Serials(_Described):
    """Disks have serial numbers.

    :param domains: the base.Domains of the test
    """

    def __init__(self, domains):
        super().__init__()
        self._domains = domains

    def complete(self, domain, uuid):
        serials = self._domains.serials(uuid)
        for disk in domain.findall('devices/disk'):
            # Nova's own, of a volume.
            kind, _, volume_id = disk.find('alias').get('name').partition('-')
            serial = (volume_id if kind == 'ua' else serials.get(
                disk.find('target').get('dev')))
            if serial and disk.find('serial') is None:
                etree.SubElement(disk, 'serial').text = serial


class Taps(_Described):
    """Interfaces have names and models.

    :param neutron: the NeutronFixture
    """

    def __init__(self, neutron):
        super().__init__()
        self._neutron = neutron

    def complete(self, domain, uuid):
        names = {port['mac_address']: 'tap' + port['id'][:11]
                 for port in self._neutron._ports.values()}
        for interface in domain.findall('devices/interface'):
            interface.find('target').set(
                'dev', names.get(interface.find('mac').get('address'),
                                 'of-no-port'))
            if interface.find('model') is None:
                etree.SubElement(interface, 'model', type='virtio')

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

"""Console logs of guests, as libvirt keeps them beside Nova's double of it."""

import os

import fixtures
from lxml import etree
import nova.privsep.path
from nova.tests.fixtures import libvirt

# What the domain says of the log; Nova asks for this.
APPEND = 'off'


class Consoles(fixtures.Fixture):
    """Domains of Nova's double show their console log and keep its file."""

    def _setUp(self):
        # Nova's tests start no helper that is root.
        self.useFixture(fixtures.MonkeyPatch(
            'nova.privsep.path.last_bytes',
            nova.privsep.path.last_bytes.args[0]))
        name = 'nova.tests.fixtures.libvirt.Domain.'
        for method in ('_parse_definition', 'XMLDesc', 'createWithFlags'):
            self.useFixture(fixtures.MonkeyPatch(
                name + method, getattr(self, '_make' + method)(
                    getattr(libvirt.Domain, method))))

    @staticmethod
    def _make_parse_definition(original):
        def parse(itself, xml):
            definition = original(itself, xml)
            log = etree.fromstring(xml).find('devices/*/log')
            if log is not None:
                log.set('append', APPEND)
            definition['log'] = log
            return definition

        return parse

    @staticmethod
    def _makeXMLDesc(original):
        def describe(itself, flags):
            domain = etree.fromstring(original(itself, flags))
            log = itself._def['log']
            if log is not None:
                device = etree.SubElement(domain.find('devices'), 'serial',
                                          type='pty')
                etree.SubElement(device, 'log', log.attrib)
            return etree.tostring(domain, encoding='unicode')

        return describe

    @staticmethod
    def _makecreateWithFlags(original):
        def create(itself, flags):
            log = itself._def['log']
            # Empties it, unless the domain says otherwise.
            if log is not None and os.path.isdir(os.path.dirname(
                    log.get('file'))):
                mode = 'wb' if log.get('append') == 'off' else 'ab'
                open(log.get('file'), mode).close()
            return original(itself, flags)

        return create

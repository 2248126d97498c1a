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


"""Everything of Nova that the package calls is verified before it is used."""

import re

import testtools

from nova_rescue_ext.activation import relied_on
from nova_rescue_ext.activation import verification
from tests.unit.activation import nova_calls

# What need not be verified -> why.
EXEMPT = {
    r'nova\.exception:NovaException\.__init__':
        'takes the values of a message, by name',
    r'nova\.objects\..*\.(__init__|obj_\w+)':
        'of every versioned object: takes the values of fields, by name',
    r'nova\.objects\..*\.(get_(all|by|in)_?\w*|get_all|from_dict)':
        'a query of versioned objects, which is called over RPC: another '
        'signature would be another version of the object',
    r'nova\.objects\.instance:Instance\.(image_meta|name)':
        'data: a property that is made of fields',
    r'nova\.network\.neutron:API\.__init__':
        'takes nothing',
    r'nova\.scheduler\.client\.report:report_client_singleton':
        'takes nothing, and returns what makes the calls that are verified',
    r'nova\.objects:register_all':
        'takes nothing and returns nothing',
}

# Relied on without being called: what Nova does before and after an override
# is called, and what it does to the same data.
NOT_CALLED = {
    'nova.compute.manager:ComputeManager._error_out_instance_on_exception':
        'sets the state in which a rescue that failed leaves a server',
    'nova.compute.manager:ComputeManager._power_on':
        'starts a guest by the driver, without the lock of the instance',
    'nova.compute.manager:ComputeManager._reboot_instance':
        'leaves a server RESCUED, and says so in its tasks',
    'nova.compute.manager:ComputeManager._resume_guests_state':
        'calls the driver after a reboot of the host',
    'nova.virt.libvirt.driver:LibvirtDriver._clean_shutdown':
        'how a guest is powered off, when its rescue disk is ready',
    'nova.virt.libvirt.driver:LibvirtDriver.power_on':
        'is a hard reboot',
    'nova.virt.libvirt.driver:LibvirtDriver._soft_reboot':
        'starts the domain that is defined, which is that of a rescue',
    'nova.virt.libvirt.driver:LibvirtDriver.destroy':
        'deletes the disks of a server with what rescue has added',
}


def covered():
    return set(relied_on.CALLABLES) | {
        target for targets in nova_calls.overridden().values()
        for target in targets}


def not_covered(uses, known):
    """The uses of callables that are not known, in words."""
    for use in uses:
        if known.isdisjoint(use.names) and not all(
                any(re.fullmatch(pattern, name) for pattern in EXEMPT)
                for name in use.names):
            yield '%s calls %s' % (use.where, ' or '.join(use.names))


class ReliedOnTest(testtools.TestCase):

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.uses = list(nova_calls.uses())

    def test_everything_that_is_called_is_verified(self):
        found = list(not_covered(self.uses, covered()))
        self.assertEqual(
            [], found, 'Add the callables to nova_rescue_ext/activation/'
            'relied_on.py and run tools/make_digests.py. If one is nothing '
            'of Nova, or does not matter, say why: NOT_OF_NOVA in '
            'tests/unit/activation/nova_calls.py, EXEMPT here.')

    def test_each_is_missed(self):
        """Taken out of the list, everything that is called is found."""
        known = covered()
        called = {name for use in self.uses for name in use.names}
        for name in known & called:
            sole = any(known.intersection(use.names) == {name}
                       for use in self.uses)
            found = list(not_covered(self.uses, known - {name}))
            self.assertEqual(sole, bool(found), name)

    def test_relied_on_without_a_call(self):
        self.assertEqual(set(), set(NOT_CALLED) - covered())

    def test_each_is_in_some_series(self):
        """A name that Nova never had is verified nowhere."""
        known = {name for series in verification.SERIES
                 for name in verification.load_digests(series)}
        self.assertEqual([], sorted(covered() - known))

    def test_each_once(self):
        self.assertEqual(len(set(relied_on.CALLABLES)),
                         len(relied_on.CALLABLES))

    def test_every_exemption_is_used(self):
        for pattern in EXEMPT:
            self.assertTrue(
                any(re.fullmatch(pattern, name) for use in self.uses
                    for name in use.names), pattern)


class FinderTest(testtools.TestCase):
    """What the finder sees in code."""

    def _names(self, source, module='nova_rescue_ext.x', targets=None):
        return [use.names for use in nova_calls.uses_in(
            source, module, targets or {})]

    def test_function(self):
        self.assertEqual(
            [('nova.utils:instance_sys_meta',)],
            self._names('from nova import utils\nx = utils.instance_sys_meta'))

    def test_imported_in_a_function(self):
        self.assertEqual(
            [('nova.policy:init',)],
            self._names('def f():\n    from nova import policy as p\n'
                        '    p.init()\n'))

    def test_constructor(self):
        self.assertEqual(
            [('nova.compute.utils:EventReporter.__init__',)],
            self._names('from nova.compute import utils\n'
                        'utils.EventReporter(1)'))

    def test_by_the_name_of_an_object(self):
        for code, name in (
                ('driver._undefine_domain(x)',
                 'nova.virt.libvirt.driver:LibvirtDriver._undefine_domain'),
                ('a.b(c).driver.unrescue',
                 'nova.virt.libvirt.driver:LibvirtDriver.unrescue'),
                ('driver._host.get_guest(x)',
                 'nova.virt.libvirt.host:Host.get_guest'),
                ('instance.refresh()',
                 'nova.objects.instance:Instance.refresh')):
            self.assertIn((name,), self._names(code))

    def test_self(self):
        """Of the class that the function overrides a method of."""
        code = ('def rescue(original, self):\n    _help(self)\n'
                'def _help(self):\n    self._get_image(1)\n'
                'class Own:\n    def x(self):\n        self._get_image(1)\n')
        target = 'nova.compute.api:API.rescue'
        self.assertEqual(
            [('nova.compute.api:API._get_image',)],
            self._names(code, 'm', {'m:rescue': [target]}))

    def test_inherited(self):
        self.assertEqual(
            [('nova.virt.driver:ComputeDriver.capabilities_as_traits',)],
            self._names('driver.capabilities_as_traits()'))

    def test_unknown_object(self):
        """It may be anything that has a method of this name."""
        code = 'import nova.conf\nx = thing()._undefine_domain'
        self.assertEqual(
            [('nova.virt.libvirt.driver:LibvirtDriver._undefine_domain',)],
            self._names(code))
        self.assertEqual([], self._names(code.partition('\n')[2]))

    def test_data(self):
        """Fields of objects, what a library has, what everything has."""
        self.assertEqual([], self._names(
            'from oslo_log import log\nimport nova.conf\n'
            'instance.uuid, instance.flavor, log.getLogger(x), thing.get(x), '
            'nova.conf.CONF.libvirt.virt_type'))

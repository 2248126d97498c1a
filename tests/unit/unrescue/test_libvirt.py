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

"""Unrescue in the libvirt driver."""

from unittest import mock

import fixtures
from nova import objects
from oslo_utils.fixture import uuidsentinel as uuids
import testtools

from nova_rescue_ext import exception
from nova_rescue_ext.host import hard_reboot
from nova_rescue_ext import instance_metadata
from nova_rescue_ext.unrescue import libvirt
from nova_rescue_ext.unrescue import operation


class LibvirtTestCase(testtools.TestCase):

    def setUp(self):
        super().setUp()
        objects.register_all()
        self.instance = objects.Instance(
            mock.Mock(), uuid=uuids.instance, host='here', vm_state='active',
            task_state='unrescuing', system_metadata={},
            image_ref='', flavor=objects.Flavor(extra_specs={}))
        self.original = mock.Mock(return_value='done')

    def patch(self, name, new):
        self.useFixture(fixtures.MonkeyPatch('nova_rescue_ext.' + name, new))
        return new

    def reboot(self, leave_off=False):
        return hard_reboot.HardReboot(mock.Mock(), self.instance, leave_off)


class UnrescueTest(LibvirtTestCase):

    def setUp(self):
        super().setUp()
        self.useFixture(fixtures.MonkeyPatch(
            'nova.objects.Instance.get_by_uuid',
            lambda *args: self.instance))
        self.calls = []
        self.patch('host.hard_reboot.HardReboot.run', self.run_reboot)

    def run_reboot(self, reboot, context):
        self.calls.append((context, reboot.leave_off,
                           self.unrescue.has_turn))

    def test_without_an_operation(self):
        self.assertEqual('done', libvirt.unrescue(
            self.original, mock.Mock(), 'context', self.instance))
        self.original.assert_called_once_with('context', self.instance)
        self.assertEqual([], self.calls)

    def test_hard_reboot_in_its_turn(self):
        self.unrescue = operation.Unrescue(mock.Mock(), self.instance)
        off = self.unrescue.power_off_if_soft_deleted = mock.Mock(
            side_effect=lambda: self.calls.append(self.unrescue.has_turn))
        for leaves_off in (False, True):
            self.calls.clear()
            self.unrescue.leaves_off = leaves_off
            with self.unrescue:
                libvirt.unrescue(self.original, mock.Mock(), 'context',
                                 self.instance)
            self.assertEqual([('context', leaves_off, True), True],
                             self.calls)
            self.assertFalse(self.unrescue.has_turn)
        self.original.assert_not_called()
        self.assertEqual(2, off.call_count)


class CleanTest(LibvirtTestCase):
    """What a rescue has left, when a hard reboot ends the rescue."""

    def setUp(self):
        super().setUp()
        self.remove = self.patch('host.rescue_files.remove_all', mock.Mock())
        self.left = self.patch('host.rescue_files.are_left',
                               mock.Mock(return_value=False))

    def clean(self):
        """:returns: whether files were removed"""
        self.remove.reset_mock()
        driver = mock.Mock()
        libvirt.clean_after_hard_reboot(self.original, driver, 'context',
                                        self.instance, 'network', power=True)
        self.original.assert_called_with('context', self.instance, 'network',
                                         power=True)
        if self.remove.called:
            self.remove.assert_called_once_with(driver, self.instance)
        return self.remove.called

    def test_nothing(self):
        self.assertFalse(self.clean())

    def test_files(self):
        self.left.return_value = True
        self.assertTrue(self.clean())

    def test_record(self):
        """Its volumes cannot be seen in the directory of the server."""
        self.instance.system_metadata = {
            instance_metadata.MODE: instance_metadata.STABLE, 'other': '1'}
        self.assertTrue(self.clean())
        self.assertEqual({'other': '1'}, self.instance.system_metadata)

    def test_still_in_rescue(self):
        self.instance.vm_state = 'rescued'
        self.left.return_value = True
        self.assertFalse(self.clean())

    def test_ours(self):
        """It does that itself, once the server runs."""
        self.left.return_value = True
        with self.reboot():
            self.assertFalse(self.clean())

    def test_not_loaded(self):
        """Nova's own tests have such, and nothing is loaded for them."""
        self.left.return_value = True
        for values in ({'vm_state': 'active'}, {'system_metadata': {}}):
            self.instance = objects.Instance(uuid=uuids.instance, **values)
            self.assertFalse(self.clean())


class CreateGuestTest(LibvirtTestCase):

    def create(self):
        return libvirt.create_guest_with_network(
            self.original, mock.Mock(), 'context', '<domain/>',
            self.instance, 'network', power_on=True)

    def assert_called(self, power_on):
        self.original.assert_called_once_with(
            'context', '<domain/>', self.instance, 'network',
            power_on=power_on)

    def test_not_ours(self):
        self.assertEqual('done', self.create())
        self.assert_called(power_on=True)

    def test_started(self):
        with self.reboot(leave_off=False):
            self.assertEqual('done', self.create())
        self.assert_called(power_on=True)

    def test_left_off(self):
        """It is defined, and nobody waits until it runs."""
        with self.reboot(leave_off=True):
            self.assertRaises(exception.LeftOff, self.create)
        self.assert_called(power_on=False)


class KeptTest(LibvirtTestCase):
    """What Nova removes with a domain."""

    def test_persistent_memory(self):
        libvirt.cleanup_vpmems(self.original, mock.Mock(), ['memory'])
        self.original.assert_called_once_with(['memory'])
        self.original.reset_mock()
        with self.reboot():
            libvirt.cleanup_vpmems(self.original, mock.Mock(), ['memory'])
        self.original.assert_not_called()

    def delete(self, original):
        self.guest = mock.Mock()
        return libvirt.delete_configuration(original, self.guest, 'other')

    def test_variables_of_others(self):
        self.assertEqual('done', self.delete(self.original))
        self.original.assert_called_once_with('other')
        self.assertEqual([], self.guest.mock_calls)

    def test_variables(self):
        calls = []

        def original(other, keep_nvram=False):
            calls.append((other, keep_nvram))
            return 'kept'

        with self.reboot():
            self.assertEqual('kept', self.delete(original))
        self.assertEqual([('other', True)], calls)

    def test_tpm(self):
        """With no second attempt of Nova's, which would delete it."""
        with self.reboot():
            self.assertIsNone(libvirt.delete_configuration(
                self.fail, self.guest_of_mock(), keep_vtpm=True,
                keep_nvram=True))
        # ... and VIR_DOMAIN_UNDEFINE_KEEP_TPM
        self.guest._domain.undefineFlags.assert_called_once_with(1 | 8 | 64)

    def guest_of_mock(self):
        self.guest = mock.Mock()
        return self.guest

    def test_variables_with_an_older_nova(self):
        def original(other):
            self.fail('It removes them.')

        with self.reboot():
            self.delete(original)
        # VIR_DOMAIN_UNDEFINE_MANAGED_SAVE and _KEEP_NVRAM
        self.guest._domain.undefineFlags.assert_called_once_with(1 | 8)

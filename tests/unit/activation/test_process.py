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


"""Modules of Nova that several threads import at once."""

import sys
import threading
import types
from unittest import mock

import fixtures
import testtools

from nova_rescue_ext.activation import overrides
from nova_rescue_ext.activation import process


class Applied:
    """In place of an override that is put around Nova's callable."""

    def __init__(self, override, module):
        assert override.module == module.__name__
        self.override = override

    def remove(self):
        pass


def modules(number):
    return [types.ModuleType('m%d' % index) for index in range(number)]


class ImportTest(testtools.TestCase):

    def setUp(self):
        super().setUp()
        self.patch(Applied)

    def patch(self, applied):
        self.useFixture(fixtures.MonkeyPatch(
            'nova_rescue_ext.activation.overrides.Applied', applied))

    def activation(self, imported):
        """One that waits for modules, with an override in each."""
        activation = process.Activation()
        activation.active = True
        activation._waiting = {
            module.__name__: [overrides.Override(module.__name__ + ':f', '')]
            for module in imported}
        return activation

    def assert_all_applied(self, imported, activation):
        self.assertEqual(
            {module.__name__ + ':f': process.APPLIED for module in imported},
            activation.override_states())

    def test_while_another_thread_applies(self):
        """It goes on with its module when that is overridden."""
        first, second = imported = modules(2)
        activation = self.activation(imported)
        applying, other_waits = threading.Event(), threading.Event()

        class Slow(Applied):
            def __init__(self, override, module):
                super().__init__(override, module)
                if module is first:
                    applying.set()
                    other_waits.wait(60)

        class Due(process.threading.Event):
            def wait(self, timeout=None):
                other_waits.set()
                return super().wait(60)

        def import_second():
            applying.wait(60)
            activation._on_import(second)
            seen.append(activation.override_states()['m1:f'])

        self.patch(Slow)
        self.useFixture(fixtures.MonkeyPatch(
            'nova_rescue_ext.activation.process.threading.Event', Due))
        seen = []
        thread = threading.Thread(target=import_second)
        thread.start()
        activation._on_import(first)
        thread.join(60)
        self.assertEqual([process.APPLIED], seen)
        self.assert_all_applied(imported, activation)

    def test_as_the_applying_thread_ends(self):
        """The module that comes in at the last moment is not lost."""
        first, second = imported = modules(2)
        activation = self.activation(imported)
        other = threading.Thread(
            target=activation._on_import, args=(second,))

        class Due(list):
            def __bool__(self):
                found = len(self) > 0
                if not found and other.ident is None:
                    other.start()
                    other.join(0.2)  # it cannot come in between
                return found

        activation._due._modules = Due()
        activation._on_import(first)
        other.join(60)
        self.assert_all_applied(imported, activation)

    def test_many_threads(self):
        interval = sys.getswitchinterval()
        self.addCleanup(sys.setswitchinterval, interval)
        sys.setswitchinterval(1e-6)
        for _ in range(50):
            imported = modules(8)
            activation = self.activation(imported)
            barrier = threading.Barrier(4)

            def go(mine):
                barrier.wait(60)
                for module in mine:
                    activation._on_import(module)

            threads = [threading.Thread(target=go, args=(imported[i::4],))
                       for i in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
            self.assert_all_applied(imported, activation)

    def test_imported_by_what_overrides(self):
        """One module at a time: what overrides has to be complete."""
        outer, inner = imported = modules(2)
        activation = self.activation(imported)
        events = []

        class Nested(Applied):
            def __init__(self, override, module):
                if module is outer:
                    activation._on_import(inner)
                super().__init__(override, module)
                events.append(module)

        self.patch(Nested)
        activation._on_import(outer)
        self.assertEqual(imported, events)

    def test_a_failure_lets_nobody_wait(self):
        imported = modules(2)
        activation = self.activation(imported)

        class Broken(Applied):
            def __init__(self, override, module):
                raise RuntimeError('broken')

        self.patch(Broken)
        for module in imported:
            activation._on_import(module)
        self.assertFalse(activation.active)
        self.assertIn('broken', activation.summary())

    def test_after_a_failure(self):
        """It may be activated again, and applies what is imported then."""
        first, second = imported = modules(2)
        activation = self.activation(imported)

        class Broken(Applied):
            def __init__(self, override, module):
                raise RuntimeError('broken')

        self.patch(Broken)
        activation._on_import(first)
        self.patch(Applied)
        activation._waiting = self.activation(imported)._waiting
        activation._on_import(first)
        activation._on_import(second)
        self.assert_all_applied(imported, activation)


class ActivateTest(testtools.TestCase):

    def test_two_threads(self):
        """The second one finds what the first one has done."""
        activation = process.Activation()
        prepared, results = [], []
        second = threading.Thread(
            target=lambda: results.append(activation.activate(mock.Mock())))

        def prepare(conf):
            prepared.append(conf)
            if len(prepared) == 1:
                second.start()
                second.join(0.2)  # it cannot come in between
            return ''

        self.useFixture(fixtures.MonkeyPatch(
            'nova_rescue_ext.conf.find_names_of_images', lambda conf: []))
        activation._prepare = prepare
        first = mock.Mock()
        self.assertTrue(activation.activate(first))
        second.join(60)
        self.assertEqual([first], prepared)
        self.assertEqual([True], results)

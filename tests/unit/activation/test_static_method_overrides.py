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


"""Overrides of static methods get no instance."""

import types
import unittest
from unittest import mock

from nova_rescue_ext.activation import overrides


class Nova:

    @staticmethod
    def save(context, updates=None):
        return 'nova', context, updates


def ours(original, context, updates=None):
    return ('ours',) + original(context, updates=updates)


class StaticMethodTest(unittest.TestCase):

    def setUp(self):
        module = types.ModuleType('module')
        module.Nova = Nova
        override = overrides.Override('module:Nova.save', '')
        with mock.patch.object(overrides, '_load', return_value=ours):
            self.applied = overrides.Applied(override, module)
        self.addCleanup(self.applied.remove)

    def test_called_on_class_and_instance(self):
        for owner in (Nova, Nova()):
            self.assertEqual(('ours', 'nova', 1, 2), owner.save(1, updates=2))

    def test_removed(self):
        self.applied.remove()
        self.assertEqual(('nova', 1, None), Nova().save(1))
        self.assertIsInstance(vars(Nova)['save'], staticmethod)

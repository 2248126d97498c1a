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

"""Extra specs mean here what they mean to Nova."""

import itertools
import unittest

from nova.scheduler.filters import extra_specs_ops

from nova_rescue_ext.cmd import extra_specs

_VALUES = ('', '1', '9', '10', 'yes', 'a b', 'abc')
_SPECS = ('', 'yes', '1', '= 5', '>= 5', '<= 5', '== 9', '!= 9', '> 5',
          's== yes', 's!= yes', 's< b', 's<= b', 's> a', 's>= a', 's== a b',
          '<in> b', '<in>', '<all-in> a', '<all-in> a z', '<all-in>',
          '<or> yes <or> 9', '<or> 9', '<or> yes <or>', 'yes indeed', '>=',
          's==')


class ExtraSpecsTest(unittest.TestCase):

    def test_match(self):
        for value, spec in itertools.product(_VALUES, _SPECS):
            with self.subTest(value=value, spec=spec):
                try:
                    expected = extra_specs_ops.match(value, spec)
                except ValueError:  # no number: the filter fails
                    expected = False
                self.assertIs(expected, extra_specs.match(value, spec))

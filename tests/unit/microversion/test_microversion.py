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


import microversion_parse
import testtools

from nova_rescue_ext import microversion


class ParseTest(testtools.TestCase):

    def test_every_version(self):
        self.assertEqual(microversion.RESCUE, microversion.parse('1.1'))
        self.assertEqual(microversion.MAX_VERSION,
                         microversion.parse('latest'))
        self.assertEqual(microversion.MAX_VERSION,
                         microversion.parse(' LATEST '))

    def test_malformed(self):
        for text in ('', '1', '1.', '.1', '1.1.1', 'x', '1.1x', '01.1',
                     '1.01', '-1.0', '+1.1', '1 .1', '\u0661.\u0661'):
            self.assertRaises(microversion.Malformed,
                              microversion.parse, text)

    def test_out_of_range(self):
        for text in ('1.99', '2.0', '2.1', '9' * 50 + '.1',
                     '9' * 5000 + '.1', '1.' + '9' * 5000):
            self.assertRaises(microversion.OutOfRange,
                              microversion.parse, text)


class DefaultTest(testtools.TestCase):

    def setUp(self):
        super().setUp()
        self.addCleanup(microversion.set_default_version, '1.0')

    def test_set(self):
        microversion.set_default_version('latest')
        self.assertEqual(microversion.MAX_VERSION,
                         microversion.default_version())

    def test_unusable(self):
        for text in ('1.99', 'nonsense'):
            error = self.assertRaises(
                ValueError, microversion.set_default_version, text)
            self.assertIn('"%s" is no version from 1.0' % text, str(error))


class IsRequestedTest(testtools.TestCase):

    class Context:
        pass

    def test_not_named(self):
        self.assertFalse(microversion.is_requested(self.Context(),
                                                   microversion.RESCUE))

    def test_named(self):
        context = self.Context()
        for minor, expected in ((0, False), (1, True), (2, True)):
            context.compute_rescue = microversion_parse.Version(1, minor)
            self.assertEqual(expected, microversion.is_requested(
                context, microversion.RESCUE))

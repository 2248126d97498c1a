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

"""The signature of a callable, without the body, which takes long to parse."""

import ast
import textwrap

import testtools

from nova_rescue_ext.activation import overrides


class SignatureTest(testtools.TestCase):

    def signature(self, source):
        """As Python sees it again: the names of its arguments."""
        self.text = overrides._signature(textwrap.dedent(source))
        function, = ast.parse(self.text).body
        return [argument.arg for argument in function.args.args]

    def assert_without_body(self, expected, source):
        self.assertEqual(expected, self.signature(source))
        self.assertNotIn('body', self.text)

    def test_one_line(self):
        self.assert_without_body(['a', 'b'], '''\
            def f(a, b={}):
                body()
            ''')

    def test_several_lines(self):
        self.assert_without_body(['a', 'b', 'c'], '''\
            @decorator(a=1)
            async def f(a: dict[str, int],  # a: comment with ):
                        b=(1,
                           2), c={'x':
                                  1}):
                body()
            ''')

    def test_body_in_the_same_line(self):
        self.assertEqual(['a'], self.signature('def f(a): return body(a)\n'))

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


"""A comment between decorators does not end them."""

import unittest

from nova_rescue_ext.activation import verification

SOURCE = '''class API:

    # Of nothing.

    @first
    # Why the second is here.
    @second(one,
            two)
    def rebuild(self):
        pass
'''


class CommentedDecoratorsTest(unittest.TestCase):

    def test_all_decorators_are_extracted(self):
        text = verification.extract(SOURCE, 'API.rebuild')
        self.assertEqual(SOURCE[SOURCE.index('    @first'):], text)

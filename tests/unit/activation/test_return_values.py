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


"""What Nova returns to its callers, ours return, too."""

import ast
import textwrap

import testtools

from nova_rescue_ext.activation import overrides
from nova_rescue_ext.activation import verification

# Ours drop what the original returns, and why.
DROPPED = {
    'nova.virt.libvirt.driver:LibvirtDriver._create_guest_with_network':
        'it raises afterwards, to end the hard reboot',
}


def function(name):
    source = textwrap.dedent(verification.source_of(name))
    return ast.parse(source).body[0]


def returns_a_value(node):
    """Whether a function returns something, functions within it aside."""
    todo = list(ast.iter_child_nodes(node))
    while todo:
        child = todo.pop()
        if isinstance(child, ast.Return) and child.value is not None and not (
                isinstance(child.value, ast.Constant)
                and child.value.value is None):
            return True
        if not isinstance(child, (ast.FunctionDef, ast.Lambda)):
            todo.extend(ast.iter_child_nodes(child))
    return False


def drops_a_value(node):
    """Whether a function calls the original as a statement of its own."""
    return any(isinstance(child, ast.Expr)
               and isinstance(child.value, ast.Call)
               and getattr(child.value.func, 'id', None) == 'original'
               for child in ast.walk(node))


class ReturnValueTest(testtools.TestCase):

    def test_none_is_dropped(self):
        dropped = {
            override.target for override in overrides.declared()
            if returns_a_value(function(override.target))
            and (drops_a_value(function(override.ours))
                 or not returns_a_value(function(override.ours)))}
        self.assertEqual(set(DROPPED), dropped)

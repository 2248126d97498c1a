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

"""What can be changed in a source, and what must not be."""

import ast
import textwrap
import unittest

from tests.mutants import operators


def changes(source):
    """What can be changed: [(before, after)]."""
    return [(mutant.before, mutant.after) for mutant in found(source)]


def found(source):
    return operators.find('a.py', textwrap.dedent(source).encode())


def changed(source, before, after):
    """The source with one change."""
    source = textwrap.dedent(source)
    [mutant] = [mutant for mutant in found(source)
                if (mutant.before, mutant.after) == (before, after)]
    return mutant.apply(source.encode()).decode()


class OperatorsTest(unittest.TestCase):

    def test_conditions(self):
        self.assertEqual(
            [('a == 1 and (not b)', 'False'), ('a == 1 and (not b)', 'True'),
             ('a == 1 and (not b)', '(not b)'),
             ('a == 1 and (not b)', 'a == 1'),
             ('a == 1', 'a != 1'), ('1', '2'), ('not b', 'b'),
             ('call()', 'pass')],
            changes('''\
                def f():
                    if a == 1 and not b:
                        call()
                '''))

    def test_words(self):
        """What people read, and what has no effect, is left alone."""
        self.assertEqual([], changes('''\
            """Words."""
            import typing
            if typing.TYPE_CHECKING:
                import other
            LOG = logging.getLogger(__name__)

            class C(Exception):
                """Words."""
                message: 'int'
                msg_fmt = _('Words of %(a)s')

                def f(self, a: 'str | None') -> 'None':
                    LOG.info('word', {'a': a == 1})
                    name = f'{a}/disk'
            '''))

    def test_statements(self):
        source = '''\
            def f(self):
                x = get()
                self.y = x
                del self.z
                raise Error(x)
            '''
        self.assertEqual(
            [('self.y = x', 'pass'), ('del self.z', 'pass'),
             ('raise Error(x)', 'pass')], changes(source))

    def test_handlers(self):
        source = '''\
            def f():
                try:
                    x = get()
                except (A, B):
                    x = other()
                except C as exc:
                    x = exc
                return x
            '''
        self.assertEqual([('(A, B)', '(B,)'), ('(A, B)', '(A,)'),
                          ('C', '()'), ('x', 'None')], changes(source))
        self.assertIn('except ((B,)):', changed(source, '(A, B)', '(B,)'))

    def test_with(self):
        """Its body stays."""
        source = '''\
            def f():
                with lock(a,
                          b), other():  # why
                    x = 'two words'
            '''
        self.assertEqual('''\
def f():
    if True:  # why
        x = 'two words'
''', changed(source, 'with lock(a, b), other()', 'no with'))

    def test_places(self):
        """Wherever it is, what comes of a change is Python again."""
        source = textwrap.dedent('''\
            class C:
                names = ('ä', 'b')

                @retry(times=3)
                def f(self, a=1):
                    return [each for each in self.names if (
                        each != 'ä' and
                        each in a) or each]

                def g(self):
                    def inner(b):
                        return b + self.h(lambda: b > 1)
                    return inner if self.x else None
            ''')
        mutants = found(source)
        self.assertGreater(len(mutants), 15)
        for mutant in mutants:
            after = mutant.apply(source.encode()).decode()
            self.assertNotEqual(source, after)
            ast.parse(after)
        self.assertEqual({'C', 'C.f', 'C.g'},
                         {mutant.function for mutant in mutants})

    def test_ids(self):
        """They stay when other code comes, and no two are the same."""
        source = '''\
            def f():
                first(a == 1)
                second(a == 1)
            '''
        before = {mutant.id for mutant in found(source)}
        self.assertEqual(6, len(before))
        after = {mutant.id for mutant in found('''\
            def other():
                return first(a == 1)

            def f():
                first(a == 1)
                between(a)
                second(a == 1)
            ''')}
        self.assertLess(before, after)

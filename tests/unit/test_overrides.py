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


import subprocess
import sys
import types

import fixtures
import testtools

from nova_rescue_ext.activation import exception
from nova_rescue_ext.activation import overrides

OURS = 'tests.unit.test_overrides:%s'


class Target:
    """Stands for a class of Nova."""

    def rescue(self, context, image=None, clean=True):
        return ('nova', context, image, clean)

    @classmethod
    def make(cls, name):
        return ('nova', cls.__name__, name)

    @staticmethod
    def check(name):
        return ('nova', name)


class Child(Target):
    pass


def target(a, b=2):
    return ('nova', a, b)


def ours(original, self, context, *args, **kwargs):
    return ('ours', self, original(context, *args, **kwargs))


def ours_class(original, cls, name):
    return ('ours', original(name))


def ours_function(original, *args, **kwargs):
    return ('ours', original(*args, **kwargs))


class AppliedTest(testtools.TestCase):

    def setUp(self):
        super().setUp()
        self.module = types.ModuleType('fake_nova')
        for name in ('Target', 'Child', 'target'):
            value = globals()[name]
            if isinstance(value, type):
                value = type(name, value.__bases__, dict(vars(value)))
            setattr(self.module, name, value)
        self.module.Child.__bases__ = (self.module.Target,)

    def _apply(self, qualname, function='ours'):
        return overrides.Applied(
            overrides.Override('fake_nova:' + qualname, OURS % function),
            self.module)

    def test_method(self):
        server = self.module.Target()
        self._apply('Target.rescue')
        expected = ('ours', server, ('nova', 'ctx', 'img', True))
        self.assertEqual(expected, server.rescue('ctx', 'img'))
        self.assertEqual(expected, server.rescue(context='ctx', image='img'))
        self.assertEqual(expected,
                         self.module.Target.rescue(server, 'ctx', 'img'))

    def test_subclass_sees_it(self):
        child = self.module.Child()
        self._apply('Target.rescue')
        self.assertEqual('ours', child.rescue('ctx')[0])

    def test_function(self):
        self._apply('target', 'ours_function')
        self.assertEqual(('ours', ('nova', 1, 2)), self.module.target(1))

    def test_remove(self):
        before = dict(vars(self.module.Target))
        for name in ('rescue', 'make', 'check'):
            self._apply('Target.' + name, 'ours_class').remove()
        self.assertEqual(before, dict(vars(self.module.Target)))

    def test_remove_inherited(self):
        applied = self._apply('Child.rescue')
        self.assertEqual('nova', self.module.Target().rescue('ctx')[0])
        self.assertEqual('ours', self.module.Child().rescue('ctx')[0])
        applied.remove()
        self.assertNotIn('rescue', vars(self.module.Child))
        self.assertEqual('nova', self.module.Child().rescue('ctx')[0])

    def test_remove_below_somebody_elses(self):
        """Theirs stays, ours is out of the way."""
        applied = self._apply('Target.rescue')
        below = self.module.Target.rescue

        def theirs(self, *args):
            return ('theirs', below(self, *args))

        self.module.Target.rescue = theirs
        applied.remove()
        self.assertIs(theirs, vars(self.module.Target)['rescue'])
        self.assertEqual(('theirs', ('nova', 'ctx', None, True)),
                         self.module.Target().rescue('ctx'))

    def test_remove_function_below_somebody_elses(self):
        applied = self._apply('target', 'ours_function')
        below = self.module.target
        self.module.target = lambda *args: ('theirs', below(*args))
        applied.remove()
        self.assertEqual(('theirs', ('nova', 1, 2)), self.module.target(1))

    def test_attributes_show_through(self):
        """Nova marks functions; wrapped ones must look the same."""
        vars(self.module.Target)['rescue'].wsgi_action = 'rescue'
        self._apply('Target.rescue')
        self.assertEqual('rescue', self.module.Target.rescue.wsgi_action)
        self.assertEqual('rescue', self.module.Target().rescue.__name__)

    def test_missing_target(self):
        self.assertRaises(AttributeError, self._apply, 'Target.nowhere')


class CheckFitTest(testtools.TestCase):

    THEIRS = 'def rescue(self, context, image=None, *, clean=True): pass'

    def _check(self, ours_source, theirs=THEIRS):
        texts = {'nova:theirs': theirs, 'us:ours': ours_source}
        self.useFixture(fixtures.MonkeyPatch(
            'nova_rescue_ext.activation.verification.source_of',
            texts.__getitem__))
        overrides.check_fit(overrides.Override('nova:theirs', 'us:ours'))

    def test_fits(self):
        for parameters in (
                'original, self, context, image=None, *, clean=True',
                'original, self, context, image=None, *args, **kwargs',
                'original, self, *args, **kwargs',
                'original, *args, **kwargs'):
            self._check('def ours(%s): pass' % parameters)

    def test_does_not_fit(self):
        for parameters, word in (
                ('original, self, ctx, image=None, *args, **kwargs', 'ctx'),
                ('original, self, context', 'image, clean'),
                ('original, self, context, *args', 'image, clean'),
                ('original, self, context, **kwargs', 'image, clean'),
                ('original, self, context, image=1, *args, **kwargs',
                 'default of image'),
                ('original, self, context, image, *args, **kwargs',
                 'default of image'),
                ('original, self, context, image=None', 'clean'),
                ('original, self, context, image=None, clean=True',
                 'Nova does not pass clean')):
            error = self.assertRaises(
                exception.Misfit, self._check,
                'def ours(%s): pass' % parameters)
            self.assertIn(word, str(error))

    def test_catch_alls(self):
        theirs = 'def rescue(self, *args, **kwargs): pass'
        self._check('def ours(original, self, *args, **kwargs): pass', theirs)
        for parameters in ('original, self, *args', 'original, self',
                           'original, self, **kwargs'):
            self.assertRaises(exception.Misfit, self._check,
                              'def ours(%s): pass' % parameters, theirs)


class DeclaredTest(testtools.TestCase):

    def test_all_fit_the_installed_nova(self):
        declared = overrides.declared()
        self.assertNotEqual([], declared)
        for override in declared:
            overrides.check_fit(override)

    def test_nothing_of_nova_is_imported(self):
        code = ('import sys; from nova_rescue_ext import activation; '
                'print(activation.examine().objections()); '
                'print([name for name in sys.modules '
                'if name.split(".")[0] == "nova"])')
        output = subprocess.run([sys.executable, '-c', code], check=True,
                                capture_output=True, text=True).stdout
        self.assertEqual(['([], [])', '[]'], output.split('\n')[:2])

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


import ast
import json
import os
import shutil
import textwrap

import fixtures
import testtools

from nova_rescue_ext.activation import exception
from nova_rescue_ext.activation import overrides
from nova_rescue_ext.activation import relied_on
from nova_rescue_ext.activation import verification

SOURCE = textwrap.dedent('''\
    import os

    def first(a):
        return a


    # About the class.
    @decorated
    class Server:
        """A server."""

        @property
        def name(self):
            return 'x'

        # Why it is locked.
        @locked(
            states=[
                1,
            ],
        )
        @logged
        def rescue(
            self,
            image=None,
        ):
            """Rescue.

    Text that stands at the left.
            """
    # A comment, too.
            return image

        async def rescue_all(self):
            pass

        def rescue_none(self): pass

    class Other:
        def rescue(self):
            return 'other'

    def last():
        return 1
    ''')


class ExtractTest(testtools.TestCase):

    def _extract(self, name):
        text = verification.extract(SOURCE, name)
        return text.split('\n')

    def test_function(self):
        self.assertEqual(['def first(a):', '    return a'],
                         self._extract('first')[:2])

    def test_last_function(self):
        self.assertEqual(['def last():', '    return 1', ''],
                         self._extract('last'))

    def test_method_with_all_its_decorators(self):
        lines = self._extract('Server.rescue')
        self.assertEqual('    @locked(', lines[0])
        self.assertEqual('        return image', lines[-2])

    def test_of_the_right_class(self):
        self.assertIn("        return 'other'", self._extract('Other.rescue'))

    def test_async_and_one_line(self):
        self.assertEqual('    async def rescue_all(self):',
                         self._extract('Server.rescue_all')[0])
        self.assertEqual(['    def rescue_none(self): pass', ''],
                         self._extract('Server.rescue_none'))

    def test_missing(self):
        for name in ('nowhere', 'Server.nowhere', 'Nowhere.rescue', 'resc'):
            self.assertRaises(exception.SourceNotFound,
                              verification.extract, SOURCE, name)

    def test_every_change_is_seen(self):
        """A change in any line of the callable changes its digest."""
        text = verification.extract(SOURCE, 'Server.rescue')
        before = verification.digest(text)
        lines = text.rstrip('\n').split('\n')
        for number in range(len(lines)):
            changed = SOURCE.replace(
                text, '\n'.join(lines[:number] + [lines[number] + ' # x']
                                + lines[number + 1:]) + '\n')
            self.assertNotEqual(SOURCE, changed)
            self.assertNotEqual(before, verification.digest(
                verification.extract(changed, 'Server.rescue')))


class InstalledNovaTest(testtools.TestCase):
    """The Nova that the tests run on is one that the package supports."""

    def test_all_verified(self):
        findings = verification.verify(verification.nova_release())
        self.assertEqual([], [finding for finding in findings
                              if finding.state != verification.VERIFIED])

    def test_all_is_cut_out(self):
        """What is compared is all of each callable, as the parser sees it."""
        bodies = {}
        for name in verification.load_digests(verification.series_of(
                verification.nova_release())):
            module, _, qualname = name.partition(':')
            source = verification._read_module(module)
            if module not in bodies:
                bodies[module] = ast.parse(source).body
            body = bodies[module]
            for part in qualname.split('.'):
                node = [node for node in body
                        if getattr(node, 'name', None) == part][-1]
                body = node.body
            first = min([node.lineno] + [decorator.lineno for decorator
                                         in node.decorator_list])
            lines = source.split('\n')[first - 1:node.end_lineno]
            self.assertIn('\n'.join(lines), verification.source_of(name))

    def test_every_series_has_what_is_declared(self):
        names = {override.target for override in overrides.declared()}
        names.update(relied_on.CALLABLES)
        for series in verification.SERIES:
            known = set(verification.load_digests(series))
            missing = {override.target for override in overrides.declared()
                       } - known
            self.assertEqual((series, set()), (series, missing))
            self.assertEqual((series, set()), (series, known - names))


class DistributorsTest(testtools.TestCase):
    """Patches of distributors that the package was tested on."""

    NAME = 'nova.virt.hardware:check_hw_rescue_props'

    def setUp(self):
        super().setUp()
        folder = self.useFixture(fixtures.TempDir()).join('digests')
        shutil.copytree(verification.DIGESTS, folder)
        self.useFixture(fixtures.MonkeyPatch(
            'nova_rescue_ext.activation.verification.DIGESTS', folder))
        self.path = os.path.join(folder, verification.DISTRIBUTORS)
        self.addCleanup(verification.forget_sources)
        self.useFixture(fixtures.MonkeyPatch(
            'nova_rescue_ext.activation.verification.source_of',
            lambda name: 'patched'))
        self.release = verification.nova_release()

    def write(self, series):
        with open(self.path, 'w', encoding='utf-8') as file:
            json.dump({series: {self.NAME: {
                verification.digest('patched'): '1-1 of Debian'}}}, file)
        verification._read_digests.cache_clear()

    def finding(self):
        return [finding for finding in verification.verify(self.release)
                if finding.callable == self.NAME]

    def test_known(self):
        self.write(verification.series_of(self.release))
        self.assertEqual([verification.Finding(
            self.NAME, verification.VERIFIED, 'as in Nova 1-1 of Debian')],
            self.finding())

    def test_known_for_another_series(self):
        self.write('28')
        finding, = self.finding()
        self.assertEqual(verification.DIFFERS, finding.state)

    def test_only_what_we_override_or_rely_on(self):
        for series in verification.SERIES:
            verification._read_digests.cache_clear()
            with open(self.path, encoding='utf-8') as file:
                patched = json.load(file).get(series, {})
            self.assertEqual(
                set(), set(patched) - set(verification.load_digests(series)))


class StatesTest(testtools.TestCase):

    NAME = 'nova.virt.hardware:check_hw_rescue_props'

    def _verify(self):
        release = verification.nova_release()
        return {finding.callable: finding
                for finding in verification.verify(release)}[self.NAME]

    def _patch(self, source_of):
        original = verification.source_of

        def patched(name):
            return source_of() if name == self.NAME else original(name)

        self.useFixture(fixtures.MonkeyPatch(
            'nova_rescue_ext.activation.verification.source_of', patched))

    def test_verified(self):
        self.assertEqual(verification.VERIFIED, self._verify().state)

    def test_differs(self):
        self._patch(lambda: 'def check_hw_rescue_props():\n    pass\n')
        self.assertEqual(verification.DIFFERS, self._verify().state)

    def test_missing(self):
        def missing():
            raise exception.SourceNotFound('gone')
        self._patch(missing)
        finding = self._verify()
        self.assertEqual((verification.MISSING, 'gone'),
                         (finding.state, finding.detail))

    def test_no_source(self):
        self.assertRaises(exception.SourceNotFound,
                          verification.source_of, 'nova.nowhere:f')
        self.assertRaises(exception.SourceNotFound,
                          verification.source_of, 'nowhere_at_all.x:f')

    def test_nova_not_installed(self):
        def version(name):
            raise verification.importlib.metadata.PackageNotFoundError(name)
        self.useFixture(fixtures.MonkeyPatch(
            'importlib.metadata.version', version))
        self.assertRaises(exception.SourceNotFound,
                          verification.nova_release)

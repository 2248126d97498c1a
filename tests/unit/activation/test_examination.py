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


"""What speaks against activation beside a Nova that differs."""

import importlib
import json
import os
import shutil
import sys
import tempfile

import fixtures
import testtools

from nova_rescue_ext import activation
from nova_rescue_ext.activation import distribution
from nova_rescue_ext.activation import exception
from nova_rescue_ext.activation import overrides
from nova_rescue_ext.activation import verification

STOCK = 'nova.compute.api:API.rescue'


class MissingTest(testtools.TestCase):

    def test_told_once(self):
        """What is missing need not fit, too."""
        findings = [verification.Finding(
            override.target, verification.MISSING
            if override.target == STOCK else verification.VERIFIED, 'detail')
            for override in overrides.declared()]
        checked = []
        for name, new in (
                ('verification.verify', lambda release: findings),
                ('overrides.check_fit', lambda override: checked.append(
                    override.target))):
            self.useFixture(fixtures.MonkeyPatch(
                'nova_rescue_ext.activation.' + name, new))
        self.assertEqual(([STOCK + ' is missing (detail)'], []),
                         activation.examine().objections())
        self.assertEqual(len(findings) - 1, len(checked))
        self.assertNotIn(STOCK, checked)


class DistributionTest(testtools.TestCase):
    """Metadata of another version, left over on the path."""

    def setUp(self):
        super().setUp()
        self.folder = self.useFixture(fixtures.TempDir()).path
        self.useFixture(fixtures.MonkeyPatch(
            'sys.path', [self.folder] + sys.path))

    def add(self, version, targets, additions=None):
        if additions is None:
            additions = overrides.additions()
        info = os.path.join(
            self.folder, 'nova_rescue_ext-%s.dist-info' % version)
        os.mkdir(info)
        with open(os.path.join(info, 'METADATA'), 'w') as metadata:
            metadata.write('Metadata-Version: 2.1\nName: nova-rescue-ext\n'
                           'Version: %s\n' % version)
        with open(os.path.join(info, 'entry_points.txt'), 'w') as points:
            points.write('[%s]\n' % overrides.GROUP)
            for override in targets:
                points.write('%s = %s\n' % override)
            points.write('[%s]\n' % overrides.ADDITIONS)
            for addition in additions:
                points.write('%s = %s\n' % addition)
        importlib.invalidate_caches()

    def test_the_first_counts(self):
        """As Python imports the package; nothing is put together of two."""
        self.add('0.0.1', [overrides.Override('nova.x:f', 'y:f')])
        self.assertEqual([overrides.Override('nova.x:f', 'y:f')],
                         overrides.declared())
        self.assertEqual('0.0.1', activation.version())
        self.assertEqual('0.0.1 in %s' % self.folder,
                         distribution.all_in_words()[0])

    def test_the_same_twice(self):
        self.add('9.9.9', overrides.declared())
        self.assertEqual(([], []), activation.examine().objections())

    def test_one_is_missing(self):
        self.add('0.0.1', [override for override in overrides.declared()
                           if override.target != STOCK])
        severe, _ = activation.examine().objections()
        self.assertIn(STOCK + ' is not declared', severe[0])
        self.assertIn('0.0.1 in %s, ' % self.folder, severe[0])

    def test_one_too_many(self):
        self.add('0.0.1', overrides.declared() + [overrides.Override(
            'nova.compute.api:API.shelve', 'nova_rescue_ext.rescue.api:x')])
        severe, _ = activation.examine().objections()
        self.assertIn('API.shelve is not known', severe[0])

    def test_no_addition(self):
        """A rebuild would fail where there is no way back."""
        self.add('0.0.1', overrides.declared(), additions=[])
        severe, _ = activation.examine().objections()
        self.assertIn('rebuild_instance_in_cell0 is not declared', severe[0])

    def test_addition_too_many(self):
        self.add('0.0.1', overrides.declared(), overrides.additions() + [
            overrides.Addition('nova.compute.api:API.x', 'y:x')])
        severe, _ = activation.examine().objections()
        self.assertIn('API.x is not known', severe[0])

    def test_refused(self):
        """Also with allow_unverified."""
        self.add('0.0.1', [])
        conf = activation.cfg.ConfigOpts()
        conf([], project='x')
        activation.process.ext_conf.register_opts(conf)
        conf.set_override('allow_unverified', True, 'rescue_ext')
        self.addCleanup(activation.deactivate)
        self.assertFalse(activation.activate(conf))
        self.assertIn('metadata of nova-rescue-ext', activation.summary())


class DigestsTest(testtools.TestCase):
    """The file that says what the package was tested on."""

    def setUp(self):
        super().setUp()
        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder)
        self.folder = os.path.join(folder, 'digests')
        shutil.copytree(verification.DIGESTS, self.folder)
        self.useFixture(fixtures.MonkeyPatch(
            'nova_rescue_ext.activation.verification.DIGESTS', self.folder))
        self.path = os.path.join(
            self.folder, 'nova-%s.json' % verification.series_of(
                verification.nova_release()))
        self.addCleanup(verification.forget_sources)

    def assert_named(self):
        error = self.assertRaises(exception.DigestsUnusable,
                                  activation.examine)
        self.assertIn(self.path, str(error))
        self.addCleanup(activation.deactivate)
        conf = activation.cfg.ConfigOpts()
        conf([], project='x')
        self.assertFalse(activation.activate(conf))
        self.assertIn('NOT active', activation.summary())
        self.assertIn(self.path, activation.summary())
        self.assertIn('Install nova-rescue-ext again', activation.summary())

    def test_whole(self):
        self.assertEqual(([], []), activation.examine().objections())

    def test_missing(self):
        os.unlink(self.path)
        self.assert_named()

    def test_patches_missing(self):
        self.path = os.path.join(self.folder, verification.DISTRIBUTORS)
        os.unlink(self.path)
        self.assert_named()

    def test_patches_damaged(self):
        self.path = os.path.join(self.folder, verification.DISTRIBUTORS)
        series = verification.series_of(verification.nova_release())
        for text in ('', '{"34"', '[]', 'null', json.dumps({series: 1})):
            with open(self.path, 'w', encoding='utf-8') as file:
                file.write(text)
            self.assert_named()

    def test_no_folder(self):
        shutil.rmtree(self.folder)
        self.assert_named()

    def test_damaged(self):
        with open(self.path, encoding='utf-8') as file:
            whole = file.read()
        for text in ('', whole[:1000], '[]', '{}', 'null', '\x00',
                     json.dumps({'callables': {}}),
                     json.dumps({'callables': []})):
            with open(self.path, 'w', encoding='utf-8') as file:
                file.write(text)
            self.assert_named()

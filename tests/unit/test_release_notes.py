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

"""What release notes may tell before there is a release."""

import configparser
import pathlib

import testtools
import yaml

ROOT = pathlib.Path(__file__).parents[2]
# They tell those who have an earlier release what has changed for them.
ABOUT_EARLIER_RELEASES = {'fixes', 'upgrade', 'deprecations', 'critical'}


class ReleaseNotesTestCase(testtools.TestCase):

    def setUp(self):
        super().setUp()
        config = configparser.ConfigParser()
        config.read(ROOT / 'setup.cfg')
        # Goes with the first release: doc/source/contributor/releasing.rst.
        if 'version' not in config['metadata']:
            self.skipTest('there has been a release')
        self.notes = {path.name: yaml.safe_load(path.read_text())
                      for path in (ROOT / 'releasenotes/notes').glob('*.yaml')}

    def test_nothing_about_earlier_releases(self):
        self.assertEqual({}, {
            name: sections for name, note in self.notes.items()
            if (sections := ABOUT_EARLIER_RELEASES.intersection(note))})

    def test_there_are_notes(self):
        self.assertTrue(any('features' in note
                            for note in self.notes.values()))

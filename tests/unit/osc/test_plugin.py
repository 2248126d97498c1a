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

"""What OpenStackClient finds in the plugin."""

import argparse
import importlib.metadata
import os
import subprocess
import sys
import types
import unittest
from unittest import mock

from osc_lib import exceptions

from nova_rescue_ext.osc import plugin

# What a machine without Nova does, in one process: to start one takes long.
_WITHOUT_NOVA = """\
import sys
sys.modules['nova'] = None  # to import it is an ImportError
from nova_rescue_ext.cmd import manage, migrate_rescued, rebuild_failed
from nova_rescue_ext.osc import commands, hooks, plugin
assert rebuild_failed.Aggregate(set(), {'ssd': 'yes'}).takes({
    'tenant_id': 'x', 'flavor': {'extra_specs': {
        'aggregate_instance_extra_specs:ssd': 'yes'}}})
for argv in (['--help'], ['rebuild-failed', '--help'],
             ['migrate-rescued', '--help'], ['rebuild-interrupted']):
    try:
        manage.main(argv)
    except SystemExit as exc:
        print(argv, exc.code)
"""


class PluginTest(unittest.TestCase):

    def test_version(self):
        for version in ('1.0', '1.3', 'latest', '1.99', '2.0'):
            self.assertIs(True, plugin.check_api_version(version))
        for version in ('1', '1.', 'x', '1.1.1'):
            self.assertRaisesRegex(exceptions.CommandError, 'X.Y or latest',
                                   plugin.check_api_version, version)

    def test_option(self):
        for environment, expected in (({}, None), (
                {'OS_COMPUTE_RESCUE_API_VERSION': '1.1'}, '1.1')):
            with mock.patch.dict(os.environ, environment):
                parser = plugin.build_option_parser(argparse.ArgumentParser())
            # Some releases of osc_lib answer '' and not None.
            self.assertEqual(
                expected,
                parser.parse_args([]).os_compute_rescue_api_version or None)

    def test_nothing_is_chosen_by_default(self):
        for versions in ({}, {'compute_rescue': ''}):
            self.assertIsNone(plugin.chosen_version(
                types.SimpleNamespace(api_version=versions)))

    def test_entry_points_load(self):
        found = [entry_point for entry_point
                 in importlib.metadata.distribution(
                     'nova-rescue-ext').entry_points
                 if entry_point.value.startswith('nova_rescue_ext.osc')]
        self.assertEqual(18, len(found))
        for entry_point in found:
            entry_point.load()


class WithoutNovaTest(unittest.TestCase):
    """A user's machine has no Nova, and an operator's need not have one."""

    def test_commands(self):
        done = subprocess.run(
            [sys.executable, '-c', _WITHOUT_NOVA], stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True)
        self.assertEqual(0, done.returncode, done.stdout)
        for argv in (['--help'], ['rebuild-failed', '--help'],
                     ['migrate-rescued', '--help']):
            self.assertIn('%s 0' % argv, done.stdout)
        self.assertIn("['rebuild-interrupted'] Run this command "
                      "where nova-conductor runs", done.stdout)

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

import argparse
import contextlib
import io
import unittest
from unittest import mock

from nova_rescue_ext.cmd import compute_api
from nova_rescue_ext.cmd import migrate_rescued

SERVER = {
    'id': 'web', 'name': 'web-1', 'tenant_id': 'alice', 'status': 'RESCUE',
    'flavor': {}, 'OS-EXT-STS:task_state': None,
    'OS-EXT-SRV-ATTR:host': 'compute1'}
MIGRATING = dict(SERVER, **{'OS-EXT-STS:task_state': 'migrating'})
MOVED = dict(SERVER, **{'OS-EXT-SRV-ATTR:host': 'compute2'})
DOWN = compute_api.CellDown('web')


class CellDownTest(unittest.TestCase):
    """A response without the state of a server says nothing about it."""

    def migrate(self, *states, timeout='3600', refusal=None):
        """Migrate a server that is shown in these states.

        :returns: the exit code and the output
        """
        parser = argparse.ArgumentParser()
        migrate_rescued.add_parser(parser.add_subparsers())
        arguments = parser.parse_args(
            ['migrate-rescued', 'compute1', '--timeout', timeout])
        arguments.dry_run = False
        self.client = mock.Mock()
        self.client.list_servers.return_value = [SERVER]
        self.client.show.side_effect = states
        self.client.act.return_value = refusal
        with contextlib.redirect_stdout(io.StringIO()) as output, \
                mock.patch.object(compute_api, 'connect'), \
                mock.patch.object(compute_api, 'Client',
                                  return_value=self.client), \
                mock.patch.object(migrate_rescued, '_SECONDS', 0):
            code = arguments.action(arguments)
        return code, output.getvalue()

    def test_while_it_migrates(self):
        code, output = self.migrate(SERVER, MIGRATING, DOWN, MOVED)
        self.assertEqual(0, code)
        self.assertIn('1 moved', output)

    def test_before_the_request(self):
        code, output = self.migrate(DOWN)
        self.assertEqual(1, code)
        self.assertIn('1 skipped', output)
        self.assertIn('database of its cell', output)
        self.client.act.assert_not_called()

    def test_when_the_answer_is_lost(self):
        code, output = self.migrate(SERVER, DOWN, MIGRATING, MOVED,
                                    refusal='lost')
        self.assertEqual(0, code)

    def test_until_the_end(self):
        code, output = self.migrate(SERVER, DOWN, DOWN, timeout='0.0001')
        self.assertEqual(1, code)
        self.assertIn('1 unknown', output)

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

"""The commands that OpenStackClient does not have."""

import argparse
from unittest import mock

from osc_lib import exceptions

from nova_rescue_ext.osc import commands
from nova_rescue_ext.osc import wait
from tests.unit.osc import base


class ShowVersionTest(base.CommandTestCase):

    def show(self, answer, headers=base.STOCK, version=''):
        self.http.get(base.URL + '/', json={'version': answer},
                      headers=headers)
        command = commands.ShowVersion(self.command(version).app, None)
        return command.take_action(argparse.Namespace())[1]

    def test_offered(self):
        offered = {'compute_rescue': {'min_version': '1.0',
                                      'version': '1.3'}}
        self.assertEqual(('1.0', '1.3', '1.0', None), self.show(offered))
        self.assertEqual(('1.0', '1.3', '1.1', 'latest'), self.show(
            offered, base.OPTED_IN, 'latest'))

    def test_not_offered(self):
        self.assertRaisesRegex(exceptions.CommandError, 'does not offer',
                               self.show, {'id': 'v2.1'})


class ShowRescueTest(base.CommandTestCase):

    def show(self, version=''):
        command = commands.ShowRescue(self.command(version).app, None)
        parser = command.get_parser('openstack')
        return dict(zip(*command.take_action(parser.parse_args(['web']))))

    def test_in_rescue(self):
        self.server({'status': 'RESCUE', 'rescue_session': {
            'since': '2026-11-28T10:00:00Z', 'until': None,
            'image_id': 'grml', 'layout': 'stable',
            'key_name': 'mine', 'ready_line': 'seen', 'disks': [
                {'role': 'root', 'serial': 'abc'}]}})
        shown = self.show()
        self.assertEqual("role='root', serial='abc'",
                         shown.pop('disks').human_readable())
        self.assertEqual({'since': '2026-11-28T10:00:00Z', 'until': None,
                          'image_id': 'grml', 'layout': 'stable',
                          'key_name': 'mine', 'ready_line': 'seen'}, shown)
        self.assertEqual(['compute 2.84, compute-rescue 1.4'], self.asked())

    def test_not_in_rescue(self):
        self.server({'rescue_session': None})
        self.assertRaisesRegex(exceptions.CommandError,
                               'web is not in rescue. It is ACTIVE', self.show)

    def test_cell_that_is_away(self):
        """It is not said to be in rescue, nor not to be."""
        for status in ('RESCUE', 'UNKNOWN'):
            self.server({'status': status})
            self.assertRaisesRegex(
                exceptions.CommandError,
                'web is that it is %s: the cloud cannot' % status, self.show)

    def test_unrescued_just_now(self):
        self.server({'status': 'RESCUE', 'rescue_session': None})
        self.assertRaisesRegex(exceptions.CommandError,
                               'web is no longer in rescue', self.show)

    def test_chosen_version(self):
        self.assertRaisesRegex(exceptions.CommandError, '1.4 or greater',
                               self.show, '1.3')
        self.assertEqual([], self.asked())


class RebuildServerTest(base.CommandTestCase):

    def setUp(self):
        super().setUp()
        patcher = mock.patch.object(wait, '_SECONDS', 0)
        patcher.start()
        self.addCleanup(patcher.stop)
        self.server({'status': 'ERROR'})
        self.answer({'server': {'id': 'web', 'name': 'web-1',
                                'status': 'BUILD', 'adminPass': 'q2k8'}})

    def rebuild(self, *argv, version=''):
        command = commands.RebuildServer(self.command(version).app, None)
        parser = command.get_parser('openstack')
        return command.take_action(parser.parse_args(['web', *argv]))[1]

    def body(self):
        return next(request.json() for request in self.http.request_history
                    if request.method == 'POST')

    def test_nothing_is_named(self):
        self.assertEqual(('web', 'web-1', 'BUILD', 'q2k8'), self.rebuild())
        self.assertEqual({'rebuild': {}}, self.body())
        self.assertEqual({'compute 2.84, compute-rescue 1.2'},
                         set(self.asked()))

    def test_parameters(self):
        self.assertNotIn('q2k8', self.rebuild(
            '--password', 'mine', '--network', 'net', '--port', 'port',
            version='latest'))
        self.assertEqual({'rebuild': {
            'adminPass': 'mine',
            'networks': [{'uuid': 'net'}, {'port': 'port'}]}}, self.body())
        self.assertEqual({'compute 2.84, compute-rescue latest'},
                         set(self.asked()))

    def test_what_is_gone(self):
        self.rebuild('--security-group', 'web', '--without', 'one',
                     '--without', 'two')
        self.assertEqual({'rebuild': {
            'security_groups': [{'name': 'web'}],
            'without_block_devices': ['one', 'two']}}, self.body())

    def test_chosen_version(self):
        self.assertRaisesRegex(exceptions.CommandError, '1.2 or greater',
                               self.rebuild, version='1.1')
        self.assertEqual([], self.asked())
        self.rebuild(version='1.99')  # newer than the plugin, perhaps

    def test_refused(self):
        self.answer({'forbidden': {'message': 'Quota exceeded'}}, status=403)
        self.assertRaisesRegex(exceptions.CommandError, 'Quota exceeded',
                               self.rebuild)

    def test_has_booted(self):
        """Nova would overwrite its disk."""
        self.server({'OS-SRV-USG:launched_at': '2026-11-28T12:00:00'})
        self.assertRaisesRegex(exceptions.CommandError, 'has booted',
                               self.rebuild, '--image', 'debian')
        self.assertEqual(
            ['GET'], [sent.method for sent in self.http.request_history])

    def test_wait(self):
        self.server({'status': 'ERROR'}, {'status': 'BUILD'},
                    {'status': 'BUILD', 'OS-EXT-STS:task_state': 'spawning'},
                    {'name': 'web-1'})
        self.assertEqual(('web', 'web-1', 'ACTIVE', 'q2k8'),
                         self.rebuild('--wait'))

    def test_failed_again(self):
        self.server({}, {'status': 'BUILD'}, {'status': 'ERROR', 'fault': {
            'message': 'No valid host was found.'}})
        self.assertRaisesRegex(
            exceptions.CommandError,
            'not built, and is ERROR. No valid host', self.rebuild, '--wait')

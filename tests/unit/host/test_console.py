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

"""What is read of a console log, and when."""

import os
from unittest import mock

import fixtures
from lxml import etree
import nova.privsep.path
import testtools

from nova_rescue_ext.host import console


class LogPathTest(testtools.TestCase):

    def path(self, *devices):
        domain = '<domain><devices>%s</devices></domain>' % ''.join(devices)
        with mock.patch('nova_rescue_ext.host.guests.read_domain',
                        lambda driver, instance: etree.fromstring(domain)):
            return console.log_path('driver', 'instance')

    def test_devices(self):
        for device in ('serial', 'console'):
            for append in ('', " append='off'"):
                self.assertEqual('/log', self.path(
                    '<channel/><%s/><%s><log file="/log"%s/></%s>' % (
                        device, device, append, device)))

    def test_none(self):
        for device in ('<channel><log file="/log"/></channel>',
                       '<serial type="tcp"/>',
                       '<console><log append="off"/></console>'):
            self.assertIsNone(self.path(device))

    def test_not_emptied(self):
        self.assertIsNone(self.path(
            '<serial><log file="/log" append="on"/></serial>'))


class LogTest(testtools.TestCase):

    def setUp(self):
        super().setUp()
        self.path = os.path.join(
            self.useFixture(fixtures.TempDir()).path, 'console.log')
        self.read = self.useFixture(fixtures.MockPatch(
            'nova.privsep.path.last_bytes',
            side_effect=nova.privsep.path.last_bytes.args[0])).mock
        self.log = console.Log(self.path)

    def write(self, text, path=None):
        with open(path or self.path, 'ab') as log:
            log.write(text)

    def test_all_that_is_new(self):
        """In whole, as a line may come in pieces."""
        self.write(b'one')
        self.assertEqual(b'one', self.log.read_new())
        self.write(b' two')
        self.assertEqual(b'one two', self.log.read_new())
        self.assertFalse(self.log.has_begun_anew)

    def test_nothing_new(self):
        self.write(b'one')
        self.log.read_new()
        self.assertEqual(b'', self.log.read_new())
        self.assertFalse(self.log.has_begun_anew)
        self.read.assert_called_once_with(self.path, 102400)

    def test_not_there_yet(self):
        self.assertEqual(b'', self.log.read_new())
        self.assertFalse(self.log.has_begun_anew)
        self.write(b'one')
        self.assertEqual(b'one', self.log.read_new())

    def test_no_longer_there(self):
        self.write(b'one')
        self.log.read_new()
        os.remove(self.path)
        self.assertEqual(b'', self.log.read_new())
        self.assertTrue(self.log.has_begun_anew)

    def test_large(self):
        self.write(b'x' + b'y' * 102400)
        self.assertEqual(b'y' * 102400, self.log.read_new())

    def test_grows_while_it_is_read(self):
        self.read.side_effect = lambda path, most: (b'x' * (most + 1), 0)
        self.write(b'one')
        self.assertEqual(102400, len(self.log.read_new()))

    def test_cannot_be_read(self):
        """It is read when that is possible."""
        self.write(b'one')
        read, self.read.side_effect = self.read.side_effect, OSError('busy')
        self.assertRaises(OSError, self.log.read_new)
        self.read.side_effect = read
        self.assertEqual(b'one', self.log.read_new())

    def test_emptied(self):
        """For another guest: what was rotated is of the one before."""
        self.write(b'of the guest before')
        self.log.read_new()
        self.write(b'of the guest before', self.path + '.0')
        os.truncate(self.path, 0)
        self.write(b'one')
        self.assertEqual(b'one', self.log.read_new())
        self.assertTrue(self.log.has_begun_anew)

    def test_rotated(self):
        self.write(b'one')
        self.log.read_new()
        self.write(b' two')
        os.rename(self.path, self.path + '.0')
        self.write(b' three')
        self.assertEqual(b'one two three', self.log.read_new())
        self.assertTrue(self.log.has_begun_anew)

    def test_replaced(self):
        """By another guest, and not rotated."""
        self.write(b'one')
        self.log.read_new()
        self.write(b'of the guest before', self.path + '.0')
        os.rename(self.path, self.path + '.1')
        self.write(b'two')
        self.assertEqual(b'two', self.log.read_new())

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


import os
import struct
import tempfile
import unittest

from nova_rescue_ext.host import qcow2


class BackingFileTest(unittest.TestCase):

    def _write(self, content):
        descriptor, path = tempfile.mkstemp()
        self.addCleanup(os.unlink, path)
        with open(descriptor, 'wb') as file:
            file.write(content)
        return path

    def _header(self, offset, length, magic=b'QFI\xfb'):
        return struct.pack('>4sIQI', magic, 3, offset, length).ljust(
            512, b'\0')

    def test_named(self):
        path = self._write(self._header(512, 5) + b'/basexyz')
        self.assertEqual('/base', qcow2.backing_file(path))

    def test_none(self):
        self.assertIsNone(qcow2.backing_file(
            self._write(self._header(0, 0))))

    def test_other_format(self):
        with self.assertRaisesRegex(ValueError, 'is not qcow2'):
            qcow2.backing_file(self._write(self._header(0, 0, b'abcd')))

    def test_too_short(self):
        with self.assertRaisesRegex(ValueError, 'has no header'):
            qcow2.backing_file(self._write(b'QFI\xfb'))

    def test_missing(self):
        with self.assertRaises(OSError):
            qcow2.backing_file('/nonexistent/disk')

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


"""Which files are carried, and processes that can be stopped."""

import threading
from unittest import mock

import testtools

from nova_rescue_ext import exception
from nova_rescue_ext.live_migration import manifest
from nova_rescue_ext.live_migration import stoppable


class StorageClassTest(testtools.TestCase):

    def test_two_names_of_the_same(self):
        for one, other in (('raw', 'flat'), ('default', 'qcow2')):
            self.assertEqual(manifest.storage_class(one),
                             manifest.storage_class(other))

    def test_default_without_cow(self):
        with mock.patch.object(manifest, 'CONF') as conf:
            conf.use_cow_images = False
            self.assertEqual('raw', manifest.storage_class('default'))

    def test_others_differ(self):
        kinds = [manifest.storage_class(name) for name in (
            'raw', 'qcow2', 'rbd', 'lvm', None)]
        self.assertEqual(5, len(set(kinds)))


class StoppableTest(testtools.TestCase):

    def test_not_begun(self):
        self.assertRaises(exception.CopyUnwanted, self._run, lambda: False)

    def test_nobody_knows(self):
        """What cannot be told ends no copy."""
        answers = [True]

        def is_wanted():
            if answers:
                return answers.pop()
            asked.set()
            raise ValueError('no database')

        asked = threading.Event()
        process = mock.Mock()
        with mock.patch.object(stoppable, 'SECONDS', 0.01):
            with stoppable.process(is_wanted) as on_execute:
                on_execute(process)
                self.assertTrue(asked.wait(60))
        process.terminate.assert_not_called()

    def _run(self, is_wanted):
        with stoppable.process(is_wanted):
            self.fail('begun')

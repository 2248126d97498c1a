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

"""What the runner of Nova's own tests says of a worker that is lost."""

import os
import tempfile

import fixtures
import testtools

from tests.nova_suite import runner


class LostWorkerTestCase(testtools.TestCase):

    def lose(self, program):
        """:returns: what is said of a worker that is this program"""
        folder = self.useFixture(fixtures.TempDir()).path
        path = os.path.join(folder, 'python')
        with open(path, 'w') as file:
            file.write(program)
        os.chmod(path, 0o755)
        with tempfile.TemporaryFile() as log:
            process = runner._Worker(False, log, runner.Setting(python=path))
            self.addCleanup(process.kill)
            return str(self.assertRaises(
                runner.WorkerDied, lambda: list(process.run({}))))

    def test_exit_status(self):
        self.assertIn('ended with exit status 3', self.lose(
            '#!/bin/sh\nexit 3\n'))

    def test_signal(self):
        self.assertIn('ended by SIGKILL', self.lose(
            '#!/bin/sh\nkill -KILL $$\n'))

# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.

"""The openstack command line, as a user would type it."""

import json
import os

from tests.lab import base
from tests.lab.cloud import process
from tests.lab.cloud import settings


def openstack(*argv):
    return process.run(
        settings.VENV / 'bin/openstack', *argv,
        env={key: value for key, value in os.environ.items()
             if key.startswith('OS_')})


class CommandLine(base.LabTest):

    def test_rescue_and_unrescue(self):
        server, before = self.boot()
        openstack('server', 'rescue', '--image',
                  self.image('rescue-stable'), server.id)
        server.wait_for('RESCUE')
        self.assertDisksInPlace(before, server.wait_for_guest('rescue'))
        shown = json.loads(openstack('server', 'show', server.id, '-f',
                                     'json'))
        self.assertEqual('RESCUE', shown['status'])
        openstack('server', 'unrescue', server.id)
        server.wait_for('ACTIVE')
        after = server.wait_for_guest('base', after=before.boot_id)
        self.assertDisksInPlace(before, after)

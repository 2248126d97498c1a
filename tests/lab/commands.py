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

"""Commands as a user or an operator types them."""

import os

from tests.lab.cloud import process
from tests.lab.cloud import settings


def openstack(*argv):
    return _call('openstack', *argv)


def opted_in(version, *argv):
    return openstack('--os-compute-rescue-api-version', version, *argv)


def manage(*argv):
    return _call('nova-rescue-ext-manage', *argv)


def _call(program, *argv):
    return process.run(
        settings.VENV / 'bin' / program, *argv,
        env={key: value for key, value in os.environ.items()
             if key.startswith('OS_')})

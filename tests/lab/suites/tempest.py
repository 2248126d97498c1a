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

"""Tempest's own tests, in parts that can be run one at a time, and ours."""

from tests.lab.cloud import install as lab_install
from tests.lab.cloud import tempest


class Suite:
    """Tests of Tempest, or of a plugin for it.

    :param regex: which, as "tempest run" takes it
    """

    def __init__(self, regex):
        self._regex = regex

    @staticmethod
    def install():
        tempest.install_it()
        lab_install.install_package(tempest.VENV)

    def run(self):
        """Run the tests inside the lab.

        :returns: {test: result}
        :raises: LabError if they did not run to their end
        """
        return tempest.results(self._regex)


SUITES = {'plugin': Suite('nova_rescue_ext'), **{
    f'tempest-{name}': Suite(rf'^tempest\.api\.compute\.{tests}')
    for name, tests in {
        # With stable devices, from volumes, and the negative ones.
        'rescue': r'servers\.test_server_rescue',
        'migration': r'admin\.test_migrations\.',
        'live-migration': r'admin\.test_live_migration',
        'actions': r'servers\.test_server_actions\.',
    }.items()}}

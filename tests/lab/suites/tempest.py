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

"""Tempest's own tests, and those of the plugin that is in the package."""

from tests.lab.cloud import install as lab_install
from tests.lab.cloud import tempest

NAME = 'Tempest'


def install():
    tempest.install_it()
    lab_install.install_package(tempest.VENV)


def run():
    """Run Tempest's tests inside the lab.

    :returns: {test: result}
    """
    return tempest.results()

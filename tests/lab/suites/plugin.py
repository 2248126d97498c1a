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

"""The plugin for Tempest that is in the package, in the lab."""

from tests.lab.cloud import tempest as lab_tempest
from tests.lab.suites import page
from tests.lab.suites import tempest

NAME = "The package's plugin for Tempest"
# Its tests opt in, and some want a cloud that changes nothing else.
CLOUDS = (page.WITH,)
install = tempest.install


def run():
    """Run the plugin's tests inside the lab.

    :returns: {test: result}
    """
    return lab_tempest.results('nova_rescue_ext')

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

"""Placement."""

from tests.lab.cloud import config
from tests.lab.cloud import process
from tests.lab.cloud import settings

_ETC = settings.ETC / 'placement'
_CONF = _ETC / 'placement.conf'


def up():
    config.write(_CONF, {
        'placement_database': {'connection': config.database('placement')},
        'api': {'auth_strategy': 'keystone'},
        'keystone_authtoken': config.authtoken('placement'),
    })
    process.run(settings.VENV / 'bin/placement-manage', '--config-file',
                _CONF, 'db', 'sync', log='placement-manage')
    config.wsgi('placement', 'placement.wsgi.api:application',
                {'OS_PLACEMENT_CONFIG_DIR': _ETC})
    process.wait_port('placement')

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

"""The Tempest plugin: its tests and options."""

from __future__ import annotations

import pathlib
import typing

from tempest.test_discover import plugins

import nova_rescue_ext
from nova_rescue_ext.tempest_plugin import config

if typing.TYPE_CHECKING:
    from oslo_config import cfg


class Plugin(plugins.TempestPlugin):

    def load_tests(self) -> tuple[str, str]:
        top = pathlib.Path(nova_rescue_ext.__file__).parents[1]
        tests = pathlib.Path(__file__).parent / 'tests'
        return str(tests), str(top)

    def register_opts(self, conf: cfg.ConfigOpts) -> None:
        conf.register_group(config.GROUP)
        conf.register_opts(config.OPTS, config.GROUP)

    def get_opt_lists(self) -> list[tuple[str, list[cfg.Opt]]]:
        return [(config.GROUP.name, config.OPTS)]

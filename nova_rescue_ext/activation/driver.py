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


"""The entry point: a configuration source driver that activates the package.

oslo.config opens configuration sources when a service parses its
configuration: after any monkey patching, before managers and controllers
exist. Ours has no option values to offer; opening it activates the overrides,
all of them or none.
"""

import typing

from oslo_config import cfg
from oslo_config import sources

from nova_rescue_ext import activation
from nova_rescue_ext.activation import early_imports
from nova_rescue_ext.activation import messages
from nova_rescue_ext import conf as ext_conf


class Driver(sources.ConfigurationSourceDriver):
    """The oslo.config driver ``nova_rescue_ext``."""

    def list_options_for_discovery(self) -> list[cfg.Opt]:
        return ext_conf.OPTS

    def open_source_from_opt_group(
            self, conf: cfg.ConfigOpts,
            group_name: str) -> sources.ConfigurationSource:
        """Activate the package in a service of Nova.

        Never raises: oslo.config would hide that in a message about sources.
        """
        # Nova's privsep daemons and our own commands parse nova.conf, too.
        if conf.project == 'nova':
            early_imports.bind_again()
            messages.hold(command=_is_command(conf))
            if _has_sources_after(conf, group_name):
                # They are opened later, and may set our options.
                messages.when_logging_is_set_up(
                    lambda: activation.activate(conf))
            else:
                activation.activate(conf)
        return _NoValues()


class _NoValues(sources.ConfigurationSource):

    def get(self, group_name: str | None, option_name: str,
            opt: cfg.Opt) -> tuple[typing.Any, None]:
        return (sources._NoValue, None)


def _is_command(conf: cfg.ConfigOpts) -> bool:
    """Whether this is a command like nova-manage, whose output is parsed.

    Commands have subcommands, in an option of this name; services do not.
    """
    return 'category' in conf


def _has_sources_after(conf: cfg.ConfigOpts, group_name: str) -> bool:
    names = list(conf.config_source)
    return bool(set(names[names.index(group_name) + 1:]) - {group_name})

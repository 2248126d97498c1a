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

"""What OpenStackClient asks of a plugin for a service of its own.

``--os-compute-rescue-api-version``, ``OS_COMPUTE_RESCUE_API_VERSION`` and, in
clouds.yaml, ``compute_rescue_api_version``.
"""

from __future__ import annotations

import argparse
import typing

import microversion_parse
from osc_lib import exceptions
from osc_lib import utils

from nova_rescue_ext import microversion

if typing.TYPE_CHECKING:
    from keystoneauth1 import adapter
    from openstackclient.common import clientmanager
    from openstackclient import shell

API_NAME = 'compute_rescue'
API_VERSION_OPTION = 'os_compute_rescue_api_version'
# No version, so that the default of the cloud applies.
DEFAULT_API_VERSION = ''


def build_option_parser(
        parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add the global option."""
    parser.add_argument(
        '--os-compute-rescue-api-version',
        metavar='<compute-rescue-api-version>',
        default=utils.env('OS_COMPUTE_RESCUE_API_VERSION'),
        help='compute-rescue API version, X.Y or latest; default: that of '
             'the cloud (Env: '
             'OS_COMPUTE_RESCUE_API_VERSION)')
    return parser


def check_api_version(version: str) -> bool:
    """Check the form of a version.

    The cloud, which may be newer than this plugin, decides whether the version
    exists.

    :param version: the version that the user chose
    :returns: True, which tells OpenStackClient to skip its own check
    :raises: osc_lib.exceptions.CommandError
    """
    try:
        microversion.parse(version)
    except microversion.Malformed:
        raise exceptions.CommandError(
            '--os-compute-rescue-api-version must be X.Y or latest, not '
            '"%s"' % version)
    except microversion.OutOfRange:
        pass
    return True


def chosen_version(app: shell.OpenStackShell) -> str | None:
    """The version that the user chose, as text, or None.

    :param app: the OpenStackShell
    """
    return app.api_version.get(API_NAME) or None


def needed_version(app: shell.OpenStackShell,
                   needed: microversion_parse.Version, what: str,
                   is_chosen: bool = False) -> str:
    """The version to request for what not every version can do.

    :param app: the OpenStackShell
    :param needed: the first version that can do it
    :param what: what cannot be done without, for example 'to show a rescue'
    :param is_chosen: whether the user has to choose the version
    :returns: the version that the user chose, as text; else the needed one
    :raises: CommandError
    """
    chosen = chosen_version(app)
    try:
        if (is_chosen if chosen is None
                else microversion.parse(chosen) < needed):
            raise exceptions.CommandError(
                '--os-compute-rescue-api-version %s or greater is required %s'
                % (needed, what))
    except microversion.OutOfRange:
        pass  # the cloud may be newer than this plugin
    return chosen or str(needed)


def make_client(instance: clientmanager.ClientManager) -> adapter.Adapter:
    """Make ``client_manager.compute_rescue``: the adapter for the compute API.

    :param instance: the ClientManager
    """
    return instance.sdk_connection.compute


def clients(app: shell.OpenStackShell) -> typing.Any:
    """The ClientManager of a command, which has an attribute for each plugin.

    :param app: the OpenStackShell
    """
    return app.client_manager

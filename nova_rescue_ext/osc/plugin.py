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

from osc_lib import exceptions
from osc_lib import utils

from nova_rescue_ext import microversion

API_NAME = 'compute_rescue'
API_VERSION_OPTION = 'os_compute_rescue_api_version'
# None is chosen. A version would override the default of the cloud.
DEFAULT_API_VERSION = ''


def build_option_parser(parser):
    """Add the global option."""
    parser.add_argument(
        '--os-compute-rescue-api-version',
        metavar='<compute-rescue-api-version>',
        default=utils.env('OS_COMPUTE_RESCUE_API_VERSION'),
        help='compute-rescue API version, X.Y or latest; default: what the '
             'cloud takes for its default (Env: '
             'OS_COMPUTE_RESCUE_API_VERSION)')
    return parser


def check_api_version(version):
    """Check the form of a version.

    Whether there is such a version is for the cloud to say, which may be
    newer than this plugin.

    :returns: True, which tells OpenStackClient not to check it any further
    :raises: osc_lib.exceptions.CommandError
    """
    try:
        microversion.parse(version)
    except microversion.Malformed:
        raise exceptions.CommandError(
            '--os-compute-rescue-api-version has to be X.Y or latest, not '
            '"%s"' % version)
    except microversion.OutOfRange:
        pass
    return True


def chosen_version(app):
    """The version that the user chose, as text, or None.

    :param app: the OpenStackShell
    """
    return app.api_version.get(API_NAME) or None


def make_client(instance):
    """What ``client_manager.compute_rescue`` is: the compute API's adapter.

    :param instance: the ClientManager
    """
    return instance.sdk_connection.compute

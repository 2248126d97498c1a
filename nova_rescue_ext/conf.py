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


"""Options of the package, in group ``[rescue_ext]`` of nova.conf."""

from oslo_config import cfg

GROUP = cfg.OptGroup(
    'rescue_ext',
    title='Options of nova-rescue-ext',
    help="""
Switches nova-rescue-ext on in this Nova service. The service activates the
package when nova.conf holds these lines::

    [DEFAULT]
    config_source = rescue_ext

    [rescue_ext]
    driver = nova_rescue_ext

and runs as stock Nova when they are absent.
""")

OPTS = [
    cfg.StrOpt(
        'default_api_version',
        default='1.0',
        help="""
The ``compute-rescue`` API version of a request that names none.

A caller opts in to what the package adds with the header
``OpenStack-API-Version: compute 2.95, compute-rescue 1.1``. Clients that
cannot send the second part (the openstack command line, Horizon, Terraform)
get what this option says.

Possible values:

* ``1.0``: the behaviour of the Nova underneath (default)
* A version from 1.0 to the maximum that ``GET /`` of the compute API shows
* ``latest``: that maximum

Used by nova-api. An unusable value keeps the package from being activated.
"""),
    cfg.IntOpt(
        'rebuild_quiet_period',
        default=15,
        min=0,
        help="""
How long a server whose build failed on a host is left alone, in seconds.

nova-compute and nova-conductor set such a server to ERROR before they have
released its ports and its allocation. A rebuild within this time after the
last change of the server is answered with 409. It does not concern servers
that no host was found for: those are complete when they become visible.

Used by nova-api.
"""),
    cfg.BoolOpt(
        'allow_unverified',
        default=False,
        help="""
Activate the package on a Nova whose code it was not tested on.

Before it touches anything, the package compares the source of every Nova
function that it overrides or relies on with the Nova releases that it was
tested on. If one differs, nothing is activated, the service runs as stock
Nova, and an ERROR line names the difference. With this option the package is
activated all the same, with a WARNING, as long as every function exists and
takes the arguments that the package expects.

You may want this on a Nova that your distribution has patched, after you have
read the output of ``nova-rescue-ext-status overrides`` and the patches. You do
not want it on a Nova series that the package does not support.
"""),
]


def register_opts(conf):
    """Register the options.

    :param conf: the oslo.config ConfigOpts of a Nova service
    """
    conf.register_group(GROUP)
    conf.register_opts(OPTS, group=GROUP)


def list_opts():
    """The options for oslo-config-generator (namespace nova_rescue_ext)."""
    return [(GROUP, OPTS)]

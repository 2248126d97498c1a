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


"""How the cloud knows what a compute service can do.

nova-compute reports the highest ``compute-rescue`` version that it can serve
in the statistics of its compute node, which Nova's resource tracker writes
anew with every update. A trait in placement would outlive the package: stock
Nova never takes away a trait that it does not know, and the API would go on
trusting a host from which the package was removed, or on which it refused to
be activated.
"""

import typing

import microversion_parse
from nova import exception
from nova import objects
from oslo_serialization import jsonutils

from nova_rescue_ext import microversion

STATISTIC = 'compute_rescue'
# Of hosts where the TPM of a server outlives its domain.
STATISTIC_OF_TPMS = 'compute_rescue_tpms'
# Of hosts with any driver, as what it says is nova-compute's own.
STATISTIC_OF_BUILDS = 'compute_rescue_builds'

# For the scheduler, which knows traits only: a driver capability as Nova's
# own, and its trait. Whoever acts on it checks the statistic as well.
LIVE_MIGRATE_RESCUED = 'supports_live_migrate_rescued'
TRAIT_LIVE_MIGRATE_RESCUED = 'CUSTOM_COMPUTE_LIVE_MIGRATE_RESCUED'


def report(resources: dict[str, typing.Any], keeps_tpms: bool) -> None:
    """Add what this host can do to the resources that the driver reports.

    :param resources: the dict that the driver's get_available_resource()
        returns; changed in place
    :param keeps_tpms: whether the TPM of a server outlives its domain
    """
    statistics = dict(resources.get('stats') or {})
    statistics[STATISTIC] = str(microversion.MAX_VERSION)
    if keeps_tpms:
        statistics[STATISTIC_OF_TPMS] = str(microversion.MAX_VERSION)
    resources['stats'] = statistics


def report_builds(resources: dict[str, typing.Any]) -> dict[str, typing.Any]:
    """Add how this host builds servers to the resources that it reports.

    :param resources: the dict that the driver's get_available_resource()
        returned; not changed
    :returns: a dict
    """
    statistics = resources.get('stats') or {}
    if isinstance(statistics, str):
        statistics = jsonutils.loads(statistics)  # as Nova takes it, too
    return dict(resources, stats={
        **statistics, STATISTIC_OF_BUILDS: str(microversion.MAX_VERSION)})


def keeps_volumes(compute_node: typing.Any) -> bool:
    """Whether a host leaves the volumes of a rebuild that fails.

    :param compute_node: the ComputeNode
    """
    return _has_reported(compute_node, STATISTIC_OF_BUILDS,
                         microversion.REBUILD_NEVER_BOOTED)


def keeps_tpms(compute_node: typing.Any) -> bool:
    """Whether a host keeps the TPM of a server through its rescue.

    :param compute_node: the ComputeNode
    """
    return _has_reported(compute_node, STATISTIC_OF_TPMS,
                         microversion.RESCUE_SESSION)


def is_libvirt(driver: object) -> bool:
    """Whether a nova-compute has the libvirt driver.

    :param driver: its ComputeDriver
    """
    # Not by import: only a nova-compute with libvirt has that module.
    return any(base.__module__ == 'nova.virt.libvirt.driver'
               for base in type(driver).__mro__)


def host_can(compute_node: typing.Any,
             version: microversion_parse.Version) -> bool:
    """Whether a host serves what a ``compute-rescue`` version added.

    :param compute_node: the ComputeNode that the instance runs on
    :param version: a version of nova_rescue_ext.microversion
    """
    return _has_reported(compute_node, STATISTIC, version)


def _has_reported(compute_node: typing.Any, statistic: str,
                  version: microversion_parse.Version) -> bool:
    reported = (compute_node.stats or {}).get(statistic)
    if not reported:
        return False
    return microversion_parse.parse_version_string(reported) >= version


def is_up(api: typing.Any, context: typing.Any, host: str,
          unknown: bool = False) -> bool:
    """Whether the compute service of a host is up, or disabled but running.

    :param api: Nova's compute API
    :param context: a RequestContext
    :param host: the host
    :param unknown: what is returned for a host that has no compute service
    """
    try:
        service = objects.Service.get_by_compute_host(context.elevated(), host)
    except exception.ComputeHostNotFound:
        return unknown
    return api.servicegroup_api.service_is_up(service)

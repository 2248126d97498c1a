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


"""The quota of the project, for the rebuild of a server that never booted."""

from __future__ import annotations

import nova.conf
from nova import context as nova_context
from nova.limit import placement as placement_limits
from nova.limit import utils as limit_utils
from nova import objects
from nova.scheduler import utils as scheduler_utils

CONF = nova.conf.CONF


def check(context: nova_context.RequestContext, instance: objects.Instance,
          request_spec: objects.RequestSpec) -> None:
    """Check the quota of the server's project and user, whoever calls.

    The server itself is counted as an instance already. Whether its cores and
    memory are depends on how Nova counts. A leaked allocation must be gone.

    :raises: OverQuota, answered with 403
    """
    if limit_utils.use_unified_limits():
        _check_unified_limits(context, instance, request_spec)
        return
    deltas = {'instances': 0, 'cores': 0, 'ram': 0}
    if CONF.quota.count_usage_from_placement:
        deltas.update(cores=instance.flavor.vcpus,
                      ram=instance.flavor.memory_mb)
    objects.Quotas.check_deltas(
        context, deltas, instance.project_id, user_id=instance.user_id,
        check_project_id=instance.project_id, check_user_id=instance.user_id)


def _check_unified_limits(context: nova_context.RequestContext,
                          instance: objects.Instance,
                          request_spec: objects.RequestSpec) -> None:
    flavor = instance.flavor
    is_bfv = bool('is_bfv' in request_spec and request_spec.is_bfv)
    enforce = getattr(placement_limits, 'enforce_num_instances_and_resources',
                      None)
    if enforce:  # Nova 34
        limits = scheduler_utils.request_spec_for_limits(flavor, is_bfv)
        limits.requested_resources = list(request_spec.requested_resources)
        enforce(context, instance.project_id, limits, 1, 1,
                delta_updates={'servers': 0})
    else:
        placement_limits.enforce_num_instances_and_flavor(
            context, instance.project_id, flavor, is_bfv, 1, 1,
            delta_updates={'servers': 0})

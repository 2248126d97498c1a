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


"""Live migration of rescued servers in nova-conductor."""

from nova.compute import vm_states
from nova import exception
from nova.i18n import _

from nova_rescue_ext import capabilities
from nova_rescue_ext import microversion


def get_request_spec(original, self, attempted_hosts=None):
    """Have the scheduler choose among the hosts that can receive it."""
    request_spec = original(attempted_hosts)
    if self.instance.vm_state == vm_states.RESCUED:
        level = request_spec.request_level_params
        level.root_required = level.root_required | {
            capabilities.TRAIT_LIVE_MIGRATE_RESCUED}
    return request_spec


def call_checks_on_host(original, self, destination, provider_mapping):
    """Check both hosts, also when the destination is forced (hazard 13).

    The trait is not enough: it outlives the package.

    :raises: MigrationPreCheckError, nothing else, as Nova would set the
        server to ERROR (hazard 30)
    """
    if self.instance.vm_state == vm_states.RESCUED:
        for role, host in (('source', self.source),
                           ('destination', destination)):
            node = self._get_compute_info(host)
            if not capabilities.host_can(node,
                                         microversion.LIVE_MIGRATE_RESCUED):
                raise exception.MigrationPreCheckError(reason=_(
                    'the %(role)s compute node %(node)s does not support '
                    'live migration of rescued servers (compute-rescue '
                    '%(version)s)') % {
                        'role': role, 'node': node.hypervisor_hostname,
                        'version': microversion.LIVE_MIGRATE_RESCUED})
    return original(destination, provider_mapping)

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


"""Unrescue in nova-api.

nova-compute comes here, too, for servers that have been in rescue for
``rescue_timeout``.
"""

from nova.compute import task_states
from nova import exception
from oslo_log import log as logging

from nova_rescue_ext import instance_metadata
from nova_rescue_ext import microversion
from nova_rescue_ext.task import conflict

LOG = logging.getLogger(__name__)


def unrescue(original, self, context, instance):
    """From compute-rescue 1.1 the server goes back to its state of before.

    One server must not keep rescue_timeout from the others
    (hazard: rescue-timeout): nova-compute unrescues all of them in one loop,
    which an exception ends.
    """
    instance_metadata.request_previous_state(instance, _goes_back(context))
    try:
        with conflict.loser_is_refused(instance, 'unrescue',
                                       task_states.MIGRATING):
            return original(context, instance)
    except exception.InstanceInvalidState as exc:
        if not _is_timeout(context):
            raise
        LOG.info('Not unrescued after rescue_timeout now, but in a later '
                 'run: %s', exc.format_message(), instance=instance)


def _goes_back(context):
    if _is_timeout(context):  # nobody could name a version
        return microversion.default_version() >= microversion.RESCUE
    return microversion.is_requested(context, microversion.RESCUE)


def _is_timeout(context):
    return context.user_id is None

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


"""Events of tasks whose process has ended."""

from nova import context as nova_context
from nova import exception
from nova import objects
from oslo_log import log as logging

LOG = logging.getLogger(__name__)


def end(context: nova_context.RequestContext, instance: 'objects.Instance',
        action: str, error: Exception | None = None) -> None:
    """End the event that began before nova-compute was restarted.

    :param context: a RequestContext
    :param instance: the Instance
    :param action: of nova.compute.instance_actions
    :param error: why the action failed, or None
    """
    context = context.elevated()
    try:
        # An event belongs to the request that began its action.
        context.request_id = next(
            begun.request_id for begun
            in objects.InstanceActionList.get_by_instance_uuid(
                context, instance.uuid) if begun.action == action)
        objects.InstanceActionEvent.event_finish_with_failure(
            context, instance.uuid, 'compute_%s_instance' % action,
            exc_val=error, exc_tb=None if error is None else '',
            want_result=False)
    except (StopIteration, exception.InstanceActionNotFound,
            exception.InstanceActionEventNotFound) as exc:
        LOG.debug('There is no open event of the %(action)s: %(reason)s',
                  {'action': action, 'reason': exc}, instance=instance)

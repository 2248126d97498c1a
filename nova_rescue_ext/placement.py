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


"""What is asked of placement, where no answer is neither yes nor no."""

from __future__ import annotations

import typing

from nova import context as nova_context
from nova import exception

if typing.TYPE_CHECKING:
    from nova.scheduler.client import report


def delete_allocation(report_client: report.SchedulerReportClient,
                      context: nova_context.RequestContext, uuid: str,
                      **kwargs: typing.Any) -> None:
    """Delete the allocation of a consumer.

    Nova's method only logs that placement does not answer, and returns None.

    :param report_client: a SchedulerReportClient
    :param context: a RequestContext
    :param uuid: the UUID of the consumer
    :param kwargs: of Nova's method
    :raises: AllocationDeleteFailed
    """
    if report_client.delete_allocation_for_instance(context, uuid,
                                                    **kwargs) is None:
        raise exception.AllocationDeleteFailed(
            consumer_uuid=uuid, error='placement does not answer')

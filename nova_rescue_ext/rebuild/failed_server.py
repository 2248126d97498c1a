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


"""A server that never booted, as a rebuild finds it."""

from __future__ import annotations

import typing

from nova.compute import utils as compute_utils
from nova.compute import vm_states
import nova.conf
from nova import context as nova_context
from nova import exception as nova_exception
from nova import objects
from oslo_log import log as logging
from oslo_utils import timeutils

from nova_rescue_ext import exception
from nova_rescue_ext import host_names
from nova_rescue_ext import instance_metadata
from nova_rescue_ext import rebuild
from nova_rescue_ext.rebuild import block_devices
from nova_rescue_ext.rebuild import database
from nova_rescue_ext.rebuild import fault
from nova_rescue_ext.rebuild import spec_extras
from nova_rescue_ext.rebuild import unsaved_objects

if typing.TYPE_CHECKING:
    from nova.scheduler.client import report

CONF = nova.conf.CONF
LOG = logging.getLogger(__name__)

# Seconds after which the clean-up of networks has failed, if it has not ended.
_LONGEST_CLEAN_UP = 300


class FailedServer:
    """The server, read once; nothing is changed here.

    :ivar cell: the CellMapping that has its row
    :ivar instance: the Instance
    :ivar bdms: a list of BlockDeviceMapping
    :ivar left_out: another, of those that its owner goes on without
    :ivar history: instance actions, see :func:`database.read_history`
    :ivar spec: the RequestSpec
    :ivar extras: what is kept beside the RequestSpec
    :ivar root_bdm: the BlockDeviceMapping that it boots from, or None
    :ivar is_volume_backed: whether it boots from a volume
    """

    def __init__(self, context: nova_context.RequestContext,
                 instance: objects.Instance,
                 without: typing.Collection[str] = ()) -> None:
        """Read the server.

        :param instance: the Instance as the request has looked it up. What
            is not found as it says is found when the row is removed.
        :param without: ids of the block devices that are left out
        :raises: RebuildRefused; InstanceMappingNotFound; InstanceNotFound
        """
        uuid = instance.uuid
        self.cell = _cell_of(context, uuid)
        with nova_context.target_cell(context, self.cell) as cctxt:
            self.instance = _complete(cctxt, instance)
            self.bdms, self.left_out = block_devices.leave_out(
                block_devices.read(cctxt, uuid), without)
            self.history = database.read_history(cctxt, uuid)
        try:
            self.spec, self.extras = spec_extras.read_with_spec(context, uuid)
        except nova_exception.RequestSpecNotFound:
            raise exception.RequestSpecLost()
        block_devices.renew(self.bdms)
        self._add_missing_block_devices(without)
        self.root_bdm = next(
            (bdm for bdm in self.bdms if bdm.boot_index == 0), None)
        self.is_volume_backed = compute_utils.is_volume_backed_instance(
            context, self.instance,
            objects.BlockDeviceMappingList(objects=self.bdms))

    def _add_missing_block_devices(self,
                                   without: typing.Collection[str]) -> None:
        kept, left_out = block_devices.leave_out(
            block_devices.from_kept(self.extras.get('block_devices', ())),
            without)
        self.bdms += block_devices.missing(self.bdms, kept)
        if sum(bdm.boot_index == 0 for bdm in self.bdms) > 1:
            raise exception.TwoBootDevices()
        self.left_out += left_out

    def check_at_rest(self, context: nova_context.RequestContext) -> None:
        """Refuse while a service may still be working on the server.

        :raises: InstanceInvalidState; RebuildRefused
        """
        instance = self.instance
        if instance.task_state is not None:
            raise nova_exception.InstanceInvalidState(
                attr='task_state', instance_uuid=instance.uuid,
                state=instance.task_state, method='rebuild')
        if not rebuild.is_on_no_host(instance):
            LOG.warning('The rebuild is refused, as host %s may have a guest '
                        'of the server. Check the host, then run '
                        '"nova-rescue-ext-manage rebuild-release %s".',
                        instance.host, instance.uuid, instance=instance)
            raise exception.HostHasServer(
                host=host_names.after(context, instance.host))
        host = instance_metadata.host_with_left_guest(instance)
        if host is not None:
            LOG.warning('The rebuild is refused, as host %s may still have a '
                        'guest of the server: it could not clean up after the '
                        'failed build.', host, instance=instance)
            raise exception.GuestMayBeLeft()
        if self.cell.is_cell0():
            return
        self._check_clean_up(context)
        # nova-conductor and nova-compute set ERROR before they clean up.
        quiet = CONF.rescue_ext.rebuild_quiet_period
        if instance.system_metadata.get('network_allocated') == 'True':
            # Nobody tries again if Neutron fails: the rebuild frees the ports.
            quiet = max(quiet, _LONGEST_CLEAN_UP)
        since = instance.updated_at or instance.created_at
        if not timeutils.is_older_than(since, quiet):
            raise exception.CleanUpGoesOn(seconds=quiet)

    def _check_clean_up(self, context: nova_context.RequestContext) -> None:
        """Refuse if a host without the package could not clean up.

        It has recorded nothing. From now on it is as if it had.

        :raises: GuestMayBeLeft
        """
        instance = self.instance
        with nova_context.target_cell(context, self.cell) as cctxt:
            host = fault.host_that_may_have_guest(
                objects.InstanceFault.get_latest_for_instance(
                    cctxt, instance.uuid))
        if host is None or instance_metadata.has_no_guest_on(instance, host):
            return
        LOG.warning('The rebuild is refused, as host %s could not clean up '
                    'after the failed build, and may have a guest of the '
                    'server. If nova-rescue-ext is not active there, remove '
                    'the guest if there is one, and run '
                    '"nova-rescue-ext-manage rebuild-release --no-guest".',
                    host, instance=instance)
        instance_metadata.record_left_guest(instance, host)
        try:
            instance.save(expected_vm_state=[vm_states.ERROR],
                          expected_task_state=[None])
        except (nova_exception.InstanceNotFound,
                nova_exception.InstanceUpdateConflict):
            pass  # it is being deleted, or rebuilt
        raise exception.GuestMayBeLeft()

    def check_asked_of_no_host(self, context: nova_context.RequestContext,
                               placement: report.SchedulerReportClient
                               ) -> None:
        """Refuse while a host may still get the message to build the server.

        An operator may have reset the state of one that is being built, and so
        does Nova with all servers of a request of which one fails. Such a
        server has its allocation; a failed build has none.

        :param placement: a SchedulerReportClient
        :raises: AllocationLeft; ConsumerAllocationRetrievalFailed and
            ClientException if placement does not say
        """
        if not self.cell.is_cell0() and self.has_allocation(context,
                                                            placement):
            raise exception.AllocationLeft()

    def has_allocation(self, context: nova_context.RequestContext,
                       placement: report.SchedulerReportClient) -> bool:
        """Whether the server has an allocation in placement.

        :raises: ConsumerAllocationRetrievalFailed and ClientException if
            placement does not say
        """
        return bool(placement.get_allocs_for_consumer(
            context, self.instance.uuid)['allocations'])


def _cell_of(context: nova_context.RequestContext,
             uuid: str) -> objects.CellMapping:
    """The cell in which the request has found a server.

    That it is still there is seen when the rebuild begins.

    :param context: the RequestContext, which Nova has targeted at the cell
    :raises: ServerIsBeingBuilt; InstanceMappingNotFound
    """
    for cell in nova_context.CELLS:
        if cell.uuid == context.cell_uuid:
            return cell
    mapping = objects.InstanceMapping.get_by_instance_uuid(context, uuid)
    if mapping.cell_mapping is None:
        raise exception.ServerIsBeingBuilt()
    return mapping.cell_mapping


def _complete(context: nova_context.RequestContext,
              looked_up: objects.Instance) -> objects.Instance:
    """An Instance with all that a rebuild needs of it.

    :param context: a RequestContext that is targeted at the server's cell
    :param looked_up: the Instance, with its metadata
    :raises: InstanceNotFound
    """
    if all(looked_up.obj_attr_is_set(attribute)
           for attribute in unsaved_objects.ATTRIBUTES):
        return looked_up
    instance = objects.Instance.get_by_uuid(
        context, looked_up.uuid, expected_attrs=unsaved_objects.ATTRIBUTES)
    instance.metadata = dict(looked_up.metadata)
    instance.system_metadata = dict(looked_up.system_metadata)
    return instance

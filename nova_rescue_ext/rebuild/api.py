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


"""Rebuild in nova-api's compute API: the steps and their order.

Until the BuildRequest is made nothing is changed, and a refusal leaves the
server as it was. From then on the BuildRequest is the server. At every point a
GET finds exactly one of the row in the cell and the BuildRequest, and as long
as the row is there no message was sent (hazard: crash-between-steps).
"""

from __future__ import annotations

import typing

from nova.compute import api as compute_api
from nova.compute import utils as compute_utils
from nova.compute import vm_states
from nova import context as nova_context
from nova import exception as nova_exception
from nova import objects
from nova.objects import fields
from oslo_db import exception as db_exc
from oslo_log import log as logging
from oslo_utils import excutils

from nova_rescue_ext.claims import ownership
from nova_rescue_ext import exception
from nova_rescue_ext import instance_metadata
from nova_rescue_ext import microversion
from nova_rescue_ext import nova_types
from nova_rescue_ext import placement
from nova_rescue_ext import rebuild as feature
from nova_rescue_ext.rebuild import block_devices
from nova_rescue_ext.rebuild import database
from nova_rescue_ext.rebuild import failed_server
from nova_rescue_ext.rebuild import new_build
from nova_rescue_ext.rebuild import notifications
from nova_rescue_ext.rebuild import quota
from nova_rescue_ext.rebuild import refusals
from nova_rescue_ext.rebuild import request as rebuild_request
from nova_rescue_ext.rebuild import spec_extras
from nova_rescue_ext.rebuild import unsaved_objects
from nova_rescue_ext.rebuild import wsgi

LOG = logging.getLogger(__name__)


def get(original: nova_types.Original, self: compute_api.API,
        context: nova_context.RequestContext, instance_id: str,
        expected_attrs: list[str] | None = None,
        cell_down_support: bool = False) -> objects.Instance:
    """Look a server up, and in a rebuild request only once.

    Nova's controller does so for the rebuild, which needs more than Nova
    reads, and for the answer, which is what was made then.

    :raises: ServiceFails
    """
    request = wsgi.BeyondSchema.of_this_thread(instance_id)
    if request is None:
        return original(context, instance_id, expected_attrs,
                        cell_down_support)
    if request.rebuilt is not None:
        return request.rebuilt
    try:
        return original(
            context, instance_id,
            list({*(expected_attrs or ()), *unsaved_objects.ATTRIBUTES}),
            cell_down_support)
    except nova_exception.NotFound:
        raise
    except nova_exception.NovaException as error:
        # Nova has no answer to a cell that does not respond.
        LOG.warning('A rebuild is refused, as the server cannot be looked '
                    'up: %s', error, instance_uuid=instance_id)
        raise exception.ServiceFails(service='Nova')


def rebuild(original: nova_types.Original, self: compute_api.API,
            context: nova_context.RequestContext, instance: objects.Instance,
            image_href: str, admin_password: str,
            files_to_inject: list[typing.Any] | None = None,
            reimage_boot_volume: bool = False, **kwargs: typing.Any) -> None:
    """Build a server that never booted again.

    Everything else is Nova's own rebuild.

    :raises: what Nova's controller answers; RebuildRefused
    """
    asked = microversion.is_requested(
        context, microversion.REBUILD_NEVER_BOOTED)
    if not asked or not feature.never_booted(instance):
        if asked and instance.vm_state == vm_states.BUILDING:
            # Without an image Nova would ask for one.
            raise exception.ServerIsBeingBuilt()
        wsgi.check_for_nova(instance)
        return original(context, instance, image_href, admin_password,
                        files_to_inject=files_to_inject,
                        reimage_boot_volume=reimage_boot_volume, **kwargs)
    beyond_schema = wsgi.beyond_schema(instance.uuid)
    request = rebuild_request.RebuildRequest(
        image_href if beyond_schema.has_image else None, admin_password,
        files_to_inject or [], reimage_boot_volume, beyond_schema.networks,
        beyond_schema.security_groups, kwargs, beyond_schema.without)
    with refusals.in_novas_words():
        beyond_schema.rebuilt = _rebuild_never_booted(self, context, instance,
                                                      request)


# Nova's wrapper is outermost there, too: a locked server answers 409 whatever
# else is the matter.
@compute_api.check_instance_lock
@compute_api.check_instance_state(vm_state=[vm_states.ERROR],
                                  must_have_launched=False)
def _rebuild_never_booted(self: compute_api.API,
                          context: nova_context.RequestContext,
                          instance: objects.Instance,
                          request: rebuild_request.RebuildRequest
                          ) -> objects.Instance:
    return Rebuild(self, context, instance, request).run()


class Rebuild:
    """One rebuild, from the request to the message to nova-conductor.

    :param api: Nova's compute API
    :param context: the RequestContext of the caller
    :param instance: the Instance as the request has looked it up
    :param request: what the caller asks for
    """

    def __init__(self, api: compute_api.API,
                 context: nova_context.RequestContext,
                 instance: objects.Instance,
                 request: rebuild_request.RebuildRequest) -> None:
        self._api = api
        self._context = context
        self._uuid = instance.uuid
        self._looked_up = instance
        self._request = request
        self._server: failed_server.FailedServer = None  # type: ignore
        self._build: new_build.NewBuild = None  # type: ignore
        self._build_request: objects.BuildRequest = None
        self._spec_text: str | None = None
        self._attempt: dict[str, typing.Any] = {}
        self._not_reserved: list[objects.BlockDeviceMapping] = []
        self._found: set[str | None] = set()

    def run(self) -> objects.Instance:
        """Rebuild the server.

        :returns: the Instance of the BuildRequest
        :raises: RebuildRefused, or another exception of Nova
        """
        self.find_server()
        self.check_server()
        self.prepare_build()
        self.check_volumes()
        self.make_build_request()
        try:
            self.free_resources()
            self.check_quota()
            self.reserve_volumes()
            self.destroy_row()
        except exception.RebuildUndecided:
            raise
        except Exception:
            with excutils.save_and_reraise_exception():
                self.roll_back()
        # There is no way back: it is built, or fails, and that is told.
        notifications.started(self._context, self._build_request.instance,
                              self._build.bdms)
        self.mark_sent()
        self.send_to_conductor()
        return self._build_request.instance

    def find_server(self) -> None:
        """Read all that is known of the server."""
        self._server = failed_server.FailedServer(self._context,
                                                  self._looked_up,
                                                  self._request.without)
        # The request context is targeted at the server's cell since it was
        # looked up, and objects that are made here are not to be.
        nova_context.set_target_cell(self._context, None)

    def check_server(self) -> None:
        """Refuse a server that is in use, or that the caller may not have."""
        server = self._server
        server.check_at_rest(self._context)
        server.check_asked_of_no_host(self._context,
                                      self._api.placementclient)
        ownership.check_volumes(self._context, server.instance, server.bdms)
        ownership.check_key_pair(self._context, server.instance,
                                 self._request.key_name)

    def prepare_build(self) -> None:
        """Make the objects to build with, and check that they may be used."""
        build = new_build.NewBuild(self._api, self._context, self._server,
                                   self._request)
        build.prepare()
        ownership.check_secrets(self._context, build.instance,
                                build.spec.image, build.bdms)
        self._build = build

    def check_volumes(self) -> None:
        """Check that the server may have each volume that exists."""
        build = self._build
        block_devices.check_left_out(
            self._context, self._api.image_api, self._api.volume_api,
            build.instance, self._server.left_out, self._request.without)
        self._not_reserved = block_devices.check(
            self._context, self._api.volume_api, build.instance, build.bdms)
        # One may be gone, and have to be made again.
        ownership.check_volumes(self._context, build.instance, build.bdms)
        block_devices.check_sources(
            self._context, self._api.image_api, self._api.volume_api,
            build.instance, build.bdms)
        block_devices.check_hosts(self._context, self._api.servicegroup_api,
                                  self._server.instance, build.bdms)

    def make_build_request(self) -> None:
        """Make the BuildRequest the server. Only one caller can.

        :raises: AlreadyRebuilding; BurialInterrupted; ServerChanged
        """
        build, server = self._build, self._server
        # A conductor without the package never writes it to the new row.
        older = server.extras.get('history', [])[-database.HISTORY_LENGTH:]
        attempt = self._attempt = spec_extras.new_attempt(server.cell, older)
        instance_metadata.begin_rebuild(
            build.instance, attempt['attempt'],
            [bdm.volume_id for bdm in build.bdms if bdm.volume_id])
        try:
            self._build_request, self._spec_text, is_replaced = database.begin(
                self._context, build, server.cell, server.instance,
                dict(server.extras, rebuild=attempt, sent=None,
                     before=build.spec_before,
                     history=older + server.history),
                server.extras.get('rebuild'))
        except db_exc.DBDuplicateEntry:
            raise self._why_there_is_a_build_request()
        except db_exc.DBError:
            with excutils.save_and_reraise_exception() as reraise:
                # Maybe only the answer was lost.
                reraise.reraise = not self._has_begun(attempt)
            is_replaced = self._may_have_replaced()
        self._tell_of_replaced(is_replaced)

    def _may_have_replaced(self) -> bool:
        """Whether this rebuild may have replaced one that was not over.

        If that was over by then, its end is told twice, not never.
        """
        return 'rebuild' in self._server.extras

    def _tell_of_replaced(self, is_replaced: bool) -> None:
        """Whoever has buried the server does not, from here on."""
        if is_replaced and self._server.cell.is_cell0():
            notifications.replaced(self._context, self._uuid,
                                   self._server.cell)

    def _why_there_is_a_build_request(self) -> exception.RebuildRefused:
        """Another rebuild takes the server out of its cell."""
        mapping = objects.InstanceMapping.get_by_instance_uuid(
            self._context, self._uuid)
        if mapping.cell_mapping is None:
            return exception.AlreadyRebuilding()
        LOG.warning('The server has a BuildRequest although it is in cell %s. '
                    'If that lasts, a conductor died while it buried the '
                    'server: run "nova-rescue-ext-manage '
                    'rebuild-interrupted".', mapping.cell_mapping.identity,
                    instance_uuid=self._uuid)
        return exception.BurialInterrupted()

    def _has_begun(self, attempt: dict[str, object]) -> bool:
        try:
            if not spec_extras.is_attempt(self._context, self._uuid, attempt):
                return False
            self._build_request = objects.BuildRequest.get_by_instance_uuid(
                self._context, self._uuid)
            return True
        except db_exc.DBError:
            LOG.exception('It is not known whether the rebuild of the server '
                          'has begun, as the API database does not answer. '
                          'If the server stays in BUILD, '
                          '"nova-rescue-ext-manage rebuild-interrupted" '
                          'undoes the rebuild.', instance_uuid=self._uuid)
            self._tell_of_replaced(self._may_have_replaced())
            raise exception.RebuildUndecided()

    def reserve_volumes(self) -> None:
        """Reserve the volumes that are not reserved for the server.

        Not earlier: a rebuild that loses to another would leave them reserved.
        """
        if not self._not_reserved:
            return
        self._found = {bdm.attachment_id for bdm in self._not_reserved}
        for row, bdm in zip(self._server.bdms, self._build.bdms):
            if bdm in self._not_reserved:
                block_devices.reserve(self._context, self._api.volume_api,
                                      self._server.instance, row, bdm)
        # A DELETE from now on has to find them.
        self._build_request.block_device_mappings = self._build.bdms
        self._build_request.save()

    def _free_volumes(self) -> None:
        """Free those that were reserved for a server that was deleted."""
        for bdm in self._not_reserved:
            # Not those of the rows, which whoever deletes the server finds.
            if bdm.attachment_id and bdm.attachment_id not in self._found:
                try:
                    self._api.volume_api.attachment_delete(
                        self._context, bdm.attachment_id)
                except nova_exception.VolumeAttachmentNotFound:
                    pass
                except Exception:
                    LOG.exception('Volume %s stays reserved for a server that '
                                  'was deleted: delete attachment %s.',
                                  bdm.volume_id, bdm.attachment_id,
                                  instance_uuid=self._uuid)

    def free_resources(self) -> None:
        """Free what a failed build has left in placement, Cyborg, Neutron.

        A leaked allocation would make the scheduler take this for a move, and
        would count for the quota. Nobody else can have made one: this is the
        only rebuild, unless it was undone while it waited for one of them
        (hazard: slow-rebuild). That is seen between each look at what there
        is and its removal.

        :raises: Overtaken
        """
        self._free_allocation()
        self._free_accelerators()
        self._build.release_ports(self._check_attempt)

    def _check_attempt(self) -> None:
        spec_extras.is_unsent(self._context, self._uuid, self._attempt)

    def _free_allocation(self) -> None:
        client = self._api.placementclient
        if self._server.has_allocation(self._context, client):
            self._check_attempt()
            placement.delete_allocation(client, self._context, self._uuid,
                                        force=True)

    def _free_accelerators(self) -> None:
        instance = self._server.instance
        if 'accel:device_profile' in instance.flavor.extra_specs:
            self._check_attempt()
            compute_utils.delete_arqs_if_needed(self._context, instance)

    def check_quota(self) -> None:
        """Refuse what exceeds the quota of the server's project.

        :raises: OverQuota
        """
        quota.check(self._context, self._server.instance, self._build.spec)

    def destroy_row(self) -> None:
        """Remove the server's row from its cell, if it is as it was found.

        :raises: ServerChanged; RebuildUndecided
        """
        with nova_context.target_cell(
                self._context, self._server.cell) as cctxt:
            try:
                database.destroy_row(cctxt, self._server.instance)
            except nova_exception.ConstraintNotMet:
                raise exception.ServerChanged()
            except db_exc.DBError:
                with excutils.save_and_reraise_exception() as reraise:
                    # Maybe only the answer was lost.
                    reraise.reraise = self._has_row(cctxt)

    def _has_row(self, context: nova_context.RequestContext) -> bool:
        try:
            return database.has_row(context, self._uuid)
        except db_exc.DBError:
            # Undoing it would lose the server if the row is gone.
            LOG.exception('It is not known whether the row of the server in '
                          'cell %s was deleted, as the database does not '
                          'answer. The server stays in BUILD. When the '
                          'database is back, "nova-rescue-ext-manage '
                          'rebuild-interrupted" finishes or undoes the '
                          'rebuild.', self._server.cell.identity,
                          instance_uuid=self._uuid)
            raise exception.RebuildUndecided()

    def roll_back(self) -> None:
        """Have the row in the cell be the server again.

        :raises: RebuildUndone; RebuildUndecided
        """
        try:
            if database.undo_begin(self._context, self._uuid,
                                   self._server.cell, self._attempt):
                return
        except exception.Overtaken:
            # It is, and may be rebuilt by somebody else.
            raise exception.RebuildUndone()
        except db_exc.DBError:
            LOG.exception('The rebuild is not undone, as the API database '
                          'does not answer. The server stays in BUILD until '
                          '"nova-rescue-ext-manage rebuild-interrupted" '
                          'undoes the rebuild.', instance_uuid=self._uuid)
            raise exception.RebuildUndecided()
        # The owner deleted the server while it was in BUILD: finish that.
        self._free_volumes()
        with nova_context.target_cell(
                self._context, self._server.cell) as cctxt:
            # Their DELETE may have changed it before.
            database.destroy_unfinished_row(cctxt, self._uuid)
        database.remove_traces(self._context, self._uuid)

    def mark_sent(self) -> None:
        """Say that the message is going to be sent: there is no way back.

        :raises: InstanceNotFound if the owner has deleted the server;
            RebuildUndone; RebuildUndecided
        """
        build = self._build
        try:
            if not database.mark_sent(
                    self._context, self._uuid, self._attempt, build.networks,
                    spec_extras.named_ports(self._server.extras),
                    block_devices.kept_of(build.bdms), self._spec_text):
                # The DELETE may have seen the BuildRequest without them.
                self._free_volumes()
                database.remove_traces(self._context, self._uuid)
                gone = nova_exception.InstanceNotFound(instance_id=self._uuid)
                notifications.failed(
                    self._context, self._build_request.instance,
                    fields.NotificationSource.API, gone)
                raise gone
        except exception.Overtaken:
            raise exception.RebuildUndone()
        except db_exc.DBError:
            LOG.exception('The message to build the server is not sent, as '
                          'the API database does not answer. The server stays '
                          'in BUILD until "nova-rescue-ext-manage '
                          'rebuild-interrupted" undoes the rebuild.',
                          instance_uuid=self._uuid)
            raise exception.RebuildUndecided()

    def send_to_conductor(self) -> None:
        """Have nova-conductor build the server."""
        build, request = self._build, self._request
        LOG.info('Rebuilding the server, which never booted and was in cell '
                 '%s.', self._server.cell.identity, instance_uuid=self._uuid)
        try:
            self._api.compute_task_api.rebuild_instance_in_cell0(
                self._context, self._build_request, build.spec, build.image,
                request.admin_password, request.files, build.networks,
                build.bdms, build.tags)
        except Exception:
            # It may have been delivered: never send it again by itself.
            LOG.exception('The message to build this server may not have been '
                          'delivered. If the server stays in BUILD, its '
                          'owner can delete it, and "nova-rescue-ext-manage '
                          'rebuild-interrupted" can finish or undo the '
                          'rebuild.', instance_uuid=self._uuid)

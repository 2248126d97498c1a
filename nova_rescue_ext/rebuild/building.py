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


"""The build of a rebuild, as long as a nova-conductor or an operator has it.

The message may come to two conductors, and one that is slow looks dead to the
operator: only one of them all has the build (hazard: slow-conductor). Whoever
has it has marked the RequestSpec in a transaction, and looks there again
before each step that the others would not survive.

Nova imports its objects with this module: it must not import much.
"""

from __future__ import annotations

from nova import context as nova_context
from nova.db.api import api as api_db_api
from nova import exception as nova_exception
from nova import objects

from nova_rescue_ext import exception
from nova_rescue_ext import nova_types
from nova_rescue_ext.rebuild import database
from nova_rescue_ext.rebuild import spec_extras
from nova_rescue_ext.task import operation


class Build(operation.Operation):
    """The build that a message has brought to this conductor.

    :param instance_uuid: the UUID of the server
    :param attempt: what spec_extras.new_attempt() returned; None of a create
    :param text: of the RequestSpec, with the mark
    """

    def __init__(self, instance_uuid: str, attempt: spec_extras.Extras | None,
                 text: str) -> None:
        super().__init__(instance_uuid)
        self.attempt = attempt
        self.text = text

    def go_on(self, context: nova_context.RequestContext) -> None:
        """Check that the conductor still has the build, after a wait.

        That also tells the operator's command that it is at work.

        :raises: Overtaken
        """
        if not spec_extras.replace_text(context, self.instance_uuid,
                                        self.text, self.text):
            raise exception.Overtaken()

    def check(self, context: nova_context.RequestContext) -> None:
        """The same until the end of a transaction.

        :raises: Overtaken
        """
        if not spec_extras.is_text(context, self.instance_uuid, self.text):
            raise exception.Overtaken()


class Burial(Build):
    """A build that an operator has reclaimed, in order to bury the server."""

    def check(self, context: nova_context.RequestContext) -> None:
        """The same, and that the server is buried.

        Who has lost the build may have mapped the server meanwhile, and Nova
        buries none that is in a cell: it only logs that.

        :raises: Overtaken
        """
        super().check(context)
        cell0 = objects.CellMapping.get_by_uuid(
            context, objects.CellMapping.CELL0_UUID)
        with nova_context.target_cell(context, cell0) as cctxt:
            if not database.has_row(cctxt, self.instance_uuid):
                raise exception.Overtaken()


def get_new_instance(original: nova_types.Original,
                     self: objects.BuildRequest,
                     context: nova_context.RequestContext) -> objects.Instance:
    """Have the Instance to build or bury, as the first step after scheduling.

    :raises: Overtaken
    """
    if Build.is_run_by_this_thread():
        build = Build.of_this_thread(self.instance_uuid)
        if build is not None:
            build.go_on(context)
    return original(context)


def map_instance_to_cell(original: nova_types.Original,
                         context: nova_context.RequestContext,
                         instance: objects.Instance,
                         cell: objects.CellMapping) -> objects.InstanceMapping:
    """Map a server to its cell, unless the operator has buried it meanwhile.

    Nova overwrites the mapping, and the other row is lost.

    :raises: Overtaken
    """
    build = Build.on(instance)
    if build is None:
        return original(context, instance, cell)
    try:
        with api_db_api.context_manager.writer.using(context):
            build.check(context)
            return original(context, instance, cell)
    except exception.Overtaken:
        # What others have removed is there again.
        with nova_context.target_cell(context, cell) as cctxt:
            try:
                database.destroy_unfinished_row(cctxt, instance.uuid,
                                                instance.id)
            except nova_exception.ConstraintNotMet:
                pass  # it is another's
        raise


def destroy(original: nova_types.Original, self: objects.BuildRequest) -> None:
    """Delete the BuildRequest, unless it is that of the operator or a rebuild.

    Whoever finds none takes the server for deleted, and destroys the row that
    it has, which may be the work of another.

    :raises: Overtaken
    """
    build = Build.of_this_thread(self.instance_uuid)
    if build is None:
        return original()
    with api_db_api.context_manager.writer.using(self._context):
        build.check(self._context)
        return original()

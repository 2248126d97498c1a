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


"""What the package raises, where Nova has been imported.

Before that, see :mod:`nova_rescue_ext.activation.exception`. What goes to
another service over RPC is one of Nova's own exceptions: a service takes none
from another module and gets a RemoteError instead.
"""

import typing

from nova import exception as nova_exception

from nova_rescue_ext.i18n import _
from nova_rescue_ext.i18n import N_


class RescueExtException(nova_exception.NovaException):
    """Base of all.

    Subclasses have a message format, which is translated when one is raised.
    Nova's API answers with the HTTP status code in ``code``, which is 500
    unless a subclass has it from another exception of Nova.

    :param values: of the message format
    """

    msg_fmt = N_('An unknown error occurred in nova-rescue-ext.')

    def __init__(self, **values: typing.Any) -> None:
        super().__init__(_(self.msg_fmt) % values, **values)


class TaskEnded(RescueExtException):
    """A message reached nova-compute after its task had ended."""

    msg_fmt = N_('nova-compute did not %(action)s the server: its task had '
                 'already been ended by a restart of nova-compute or by a '
                 'reset of its state.')


class RescueNotReady(RescueExtException):
    """The console did not show that a rescue system is ready."""

    msg_fmt = N_('not seen: %(reason)s. The server is in rescue all the same. '
                 'Its console may tell more.')


# nova.api.openstack.wsgi:Resource._process_stack answers this class with 400,
# and no other.
class InvalidVersion(RescueExtException,
                     nova_exception.InvalidAPIVersionString):
    """A version of compute-rescue that is not one."""

    msg_fmt = N_("compute-rescue API version '%(version)s' is of invalid "
                 "format. It must be MajorNum.MinorNum or latest.")


# The same method answers this class with 406, and no other.
class UnsupportedVersion(RescueExtException,
                         nova_exception.InvalidGlobalAPIVersion):
    """A version of compute-rescue that this package does not have."""

    msg_fmt = N_('Version %(req_ver)s of compute-rescue is not supported by '
                 'the API. Minimum is %(min_ver)s and maximum is %(max_ver)s.')


# Of the classes that MigrateServerController._migrate_live answers with 400,
# the one that it answers so in an asynchronous request, too.
class NodeCannotMigrateRescued(
        RescueExtException, nova_exception.ExtendedResourceRequestOldCompute):
    """A compute node has no live migration of rescued servers."""

    msg_fmt = N_('The %(role)s compute node%(node)s does not support live '
                 'migration of rescued servers (compute-rescue %(version)s). '
                 'Ask the operator to upgrade it, or unrescue the server '
                 'first.')


# Answered as the one above.
class TPMCannotMigrate(RescueExtException,
                       nova_exception.ExtendedResourceRequestOldCompute):
    """A server with a TPM cannot be live-migrated while it is in rescue."""

    msg_fmt = N_('The server has a TPM, whose state stays on its host while '
                 'it is in rescue: it cannot be live-migrated. Unrescue it '
                 'first.')


# ServersController.delete, and DeferredDeleteController._force_delete, answer
# this class with 409 and with its own words.
class RescuedServerMigrates(RescueExtException,
                            nova_exception.InstanceIsLocked):
    """A server cannot be deleted while it migrates in rescue."""

    msg_fmt = N_('Server %(instance_uuid)s is in rescue and is being '
                 'live-migrated. Wait until the migration has ended, or have '
                 'it aborted, and then delete the server.')


# Nova's controllers of what can be done in rescue answer this class with 409
# and with its own words.
class NodeDoesNotServe(RescueExtException, nova_exception.InstanceIsLocked):
    """A compute node is older than what is asked of a server in rescue."""

    msg_fmt = N_('Server %(instance_uuid)s is in rescue, and compute '
                 'node%(node)s does not serve compute-rescue %(version)s. '
                 'Unrescue the server, or ask the operator to upgrade the '
                 'node.')


class HostDidNotAnswer(RescueExtException, nova_exception.InstanceIsLocked):
    """Whether something was attached to a server in rescue is not known."""

    msg_fmt = N_('Nova did not answer in time whether it was attached to '
                 'server %(instance_uuid)s, which is in rescue. See whether '
                 'it works there before you attach it again.')


class GuestNotInRescue(RescueExtException):
    """A server is RESCUED, and its guest is not that of its rescue."""

    msg_fmt = N_('The %(action)s was not done: the server is in rescue, but '
                 'its guest is not that of its rescue, or is gone. Unrescue '
                 'the server.')
    code = 409


class TPMSecretNotReadable(RescueExtException):
    """Without its secret, a server with a TPM cannot be started."""

    msg_fmt = N_('The secret of the TPM of the server cannot be read '
                 '(%(error)s), and without it the server cannot be started. '
                 'Nothing was changed. A user of its project, who may read '
                 'the secret, can do it.')


# nova.api.openstack.wsgi:expected_errors, around ServersController
# ._action_rebuild, lets only this class pass to us.
class LeftToNova(RescueExtException, nova_exception.ValidationError):
    """A rebuild is Nova's to answer: the server is not one that never booted.

    Raised in the compute API and caught in the WSGI layer.
    """

    msg_fmt = N_('The server is not one that never booted.')


class DatabaseAway(RescueExtException):
    """The state of a server cannot be read, and so nothing is decided."""

    msg_fmt = N_('The database of the server cannot be read.')


class LeftOff(RescueExtException):
    """A domain is defined and will not be started.

    Raised and caught in a hard reboot that leaves a server off.
    """

    msg_fmt = N_('The guest is defined and left off.')


class ClaimRefused(RescueExtException):
    """A server may not have something: see :mod:`nova_rescue_ext.claims`.

    The message is a sentence without its full stop, to which the caller adds
    what to do next.
    """

    msg_fmt = N_('The server may not have what was claimed for it')
    code = 409


class NotVisible(ClaimRefused):
    """Something does not exist, or the caller cannot see it."""

    msg_fmt = N_('%(what)s %(id)s does not exist or you cannot see it')


class NotOfProject(ClaimRefused):
    """Something does not exist, or the server's project may not have it."""

    msg_fmt = N_('%(what)s %(id)s does not exist, or is neither public nor '
                 'one that project %(project)s of the server may use')


class NetworkNotOfProject(ClaimRefused):
    """A caller may use a network that the server's project may not."""

    msg_fmt = N_('You have access to network %(network)s, but project '
                 '%(project)s of the server may not. Have a user of that '
                 'project rebuild the server')


class AddressNotOfProject(ClaimRefused):
    """A server claims an address that its project may not choose."""

    msg_fmt = N_('The server asks for an address in network %(network)s, '
                 'which project %(project)s of the server may not choose. '
                 'Have a user of that project rebuild the server, or name '
                 'its networks in the request')


class ImageNotActive(ClaimRefused):
    """An image has no data now."""

    msg_fmt = N_('%(what)s %(id)s is %(status)s, not active')


class ImageMalformed(ClaimRefused):
    """Nova cannot read the properties of an image."""

    msg_fmt = N_('image %(image)s has a property that is not valid: '
                 '%(reason)s')


class ImageServiceFails(ClaimRefused):
    """Glance or Keystone gives no answer."""

    msg_fmt = N_('the image service does not answer. Try again later')


class VolumeWouldBeYours(ClaimRefused):
    """Nova would make a volume of the server in the caller's project."""

    msg_fmt = N_('The rebuild creates a volume, which would belong to you and '
                 'not to project %(project)s of the server. Have a user of '
                 'that project rebuild the server')


class KeyPairWouldBeYours(ClaimRefused):
    """Nova would look up a key pair among the caller's."""

    msg_fmt = N_('Key pair %(name)s would be looked up among your own. Leave '
                 'out key_name to keep the key pair of the server')


class SecretWouldBeYours(ClaimRefused):
    """The key manager would give a secret of the server to the caller."""

    msg_fmt = N_('The rebuild creates a secret (for the TPM or for an '
                 'encrypted disk), which would belong to you and not to '
                 'project %(project)s of the server. Have a user of that '
                 'project rebuild the server')


class CopyUnwanted(RescueExtException):
    """The result of a copy is no longer wanted."""

    msg_fmt = N_('The copy was stopped, as its live migration was given up or '
                 'aborted.')


class VolumesNotDisconnected(RescueExtException):
    """The destination of an abandoned migration is to be asked again."""

    msg_fmt = N_('%(host)s has not disconnected volumes %(volumes)s')


# No Exception: for those the error path of ComputeManager.pre_live_migration
# disconnects the server's volumes on this host, where it may run by now.
class MigrationSuperseded(BaseException):
    """A live migration was given up, aborted or replaced by another.

    Raised and caught in one call of nova-compute on the destination.
    """


class RebuildInterrupted(RescueExtException):
    """A service died in the middle of a rebuild, which was undone."""

    msg_fmt = N_('The rebuild was interrupted. The server can be rebuilt '
                 'again.')


class Overtaken(RescueExtException):
    """A rebuild was undone, or has gone on, during a slow request."""

    msg_fmt = N_('The rebuild of the server was undone, or has gone on, in '
                 'the meantime.')


class RebuildRefused(RescueExtException, nova_exception.ValidationError):
    """A rebuild of a server that never booted is refused.

    A ValidationError, because ``nova.api.openstack.wsgi.expected_errors``
    turns other classes that the controller does not expect into 500. nova-api
    answers with its ``code`` and its message.
    """

    msg_fmt = N_('The server cannot be rebuilt: %(reason)s')
    code = 409


class BadRebuildRequest(RebuildRefused):
    """Nova refuses the request, in its own words."""

    msg_fmt = N_('%(reason)s')
    code = 400


class RebuildForbidden(RebuildRefused):
    """Nova forbids the request, in its own words."""

    msg_fmt = N_('%(reason)s')
    code = 403


class ServerGone(RebuildRefused):
    """The server was deleted since it was looked up. In Nova's words."""

    msg_fmt = N_('%(reason)s')
    code = 404


class ServiceFails(RebuildRefused):
    """Cinder, Neutron, placement, ... failed while a rebuild was checked."""

    msg_fmt = N_('The server was not changed: a service that Nova depends on '
                 'failed (%(service)s). Try again later.')


class ServerIsBeingBuilt(RebuildRefused):
    """The server is in no cell, as it has a BuildRequest."""

    msg_fmt = N_('The server is being built.')


class AlreadyRebuilding(RebuildRefused):
    """Another rebuild made the BuildRequest first."""

    msg_fmt = N_('The server is already being rebuilt or deleted.')


class ServerChanged(RebuildRefused):
    """The row of the server changed after it was read."""

    msg_fmt = N_('The server was changed meanwhile, or is being deleted. Try '
                 'again.')


class RebuildUndone(RebuildRefused):
    """The operator undid a rebuild while it was slow."""

    msg_fmt = N_('The rebuild took so long that the operator undid it. Try '
                 'again.')


class RequestSpecLost(RebuildRefused):
    """There is no RequestSpec to build from."""

    msg_fmt = N_('Nova no longer has a record of what was requested when this '
                 'server was created. Delete it and create another.')


class HostHasServer(RebuildRefused):
    """The row of the server names a host."""

    msg_fmt = N_('The server never booted, but is still assigned to '
                 'host%(host)s, which may have its guest. Ask the operator to '
                 'run "nova-rescue-ext-manage rebuild-release", or delete the '
                 'server and create another.')


class CleanUpGoesOn(RebuildRefused):
    """A failed build sets ERROR before it has cleaned up."""

    msg_fmt = N_('The failed build of the server is still being cleaned up. '
                 'Try again in %(seconds)d seconds.')


class AllocationLeft(RebuildRefused):
    """Placement has an allocation of the server."""

    msg_fmt = N_('A host may still build the server, as it has an allocation '
                 'in placement. If it is still in ERROR in a few minutes, ask '
                 'the operator to make sure that no host builds it and to '
                 'delete the allocation, or delete the server and create '
                 'another.')


class NetworksUnknown(RebuildRefused):
    """The requested networks were not kept."""

    msg_fmt = N_('The networks that were requested for this server are not '
                 'known, as it was created before Nova kept them for a '
                 'rebuild. Add "networks" to the request, as for a new server '
                 '(compute 2.37 or later).')


class BootVolumeDeleted(RebuildRefused):
    """No block device has boot index 0."""

    msg_fmt = N_('The boot volume of the server was deleted when its creation '
                 'failed. Delete the server and create another.')


class TwoBootDevices(RebuildRefused):
    """What was kept of the server contradicts itself."""

    msg_fmt = N_('Nova has two records of what the server boots from. Delete '
                 'the server and create another.')


class ImageUnavailable(RebuildRefused):
    """The server cannot have the image."""

    msg_fmt = N_('%(claim)s. Choose an image with imageRef.')
    code = 400


class NotGiven(RebuildRefused):
    """The server cannot have something else."""

    msg_fmt = N_('%(claim)s.')


class NotGivenToProject(RebuildRefused):
    """The project of the server cannot have something else."""

    msg_fmt = N_('%(claim)s. Name another in the request if the API allows '
                 'it, or share it with that project.')


class VolumeLost(RebuildRefused):
    """A volume is gone that Nova did not make."""

    msg_fmt = N_('Volume %(volume)s of the server no longer exists. Name it '
                 'in "without_block_devices" in the request to have the '
                 'server built without it.')


class BootVolumeLost(RebuildRefused):
    """The same for the volume that the server boots from."""

    msg_fmt = N_('Volume %(volume)s, from which the server boots, no longer '
                 'exists. Delete the server and create another.')


class VolumeInDanger(RebuildRefused):
    """A host without the package deletes volumes when it fails to build."""

    msg_fmt = N_('Volume %(volume)s of the server is to be deleted with it, '
                 'and some hosts would do that if they fail to build the '
                 'server. Try again when the operator has upgraded '
                 'nova-compute on all hosts.')


class VolumeTaken(RebuildRefused):
    """A volume is not available for the server."""

    msg_fmt = N_('Volume %(volume)s of the server is %(status)s and no longer '
                 'reserved for the server. Make it available and try again.')


class GuestMayBeLeft(RebuildRefused):
    """A host could not clean up after the failed build."""

    msg_fmt = N_('The host that failed to build the server may still have its '
                 'guest, and looks for it every ten minutes. If the problem '
                 'persists, ask the operator to remove the guest, or delete '
                 'the server and create another.')


class RebuildUndecided(RebuildRefused):
    """A database does not say whether the row of the server is gone."""

    msg_fmt = N_('A database failed when the rebuild began. The server stays '
                 'in BUILD until the operator finishes or undoes the rebuild. '
                 'You may delete it.')
    code = 503


class PortsNotReleased(RebuildRefused):
    """Neutron still has ports bound to the server."""

    msg_fmt = N_('The failed build left ports bound to the server that '
                 'Neutron does not release: %(ports)s. Try again later.')


class ZoneUnavailable(RebuildRefused):
    """The zone of the server is gone; Nova answers a create with 400, too."""

    msg_fmt = N_('Availability zone %(zone)s, which was requested for the '
                 'server, is not available. Ask the operator about it, or '
                 'delete the server and create another.')
    code = 400


class SecurityGroupLost(RebuildRefused):
    """A security group of the server was deleted."""

    msg_fmt = N_('Security group %(group)s of the server no longer exists. '
                 'Add "security_groups" to the request, as for a new server.')
    code = 400


class SnapshotLost(RebuildRefused):
    """A volume is to be made from a snapshot that was deleted."""

    msg_fmt = N_('Volume snapshot %(snapshot)s, from which a volume of the '
                 'server is made, no longer exists. Name it in '
                 '"without_block_devices" in the request to have the server '
                 'built without that volume.')
    code = 400


class BootSnapshotLost(RebuildRefused):
    """The same for the volume that the server boots from."""

    msg_fmt = N_('Volume snapshot %(snapshot)s, from which the boot volume of '
                 'the server is made, no longer exists. Delete the server and '
                 'create another.')
    code = 400


class NoSuchBlockDevice(RebuildRefused):
    """The request names something that is no block device of the server."""

    msg_fmt = N_('Apart from its boot device, the server has no block device '
                 'that is, or is made from, %(ids)s. Remove it from '
                 '"without_block_devices".')
    code = 400


class BlockDeviceNotGone(RebuildRefused):
    """The request names a block device that still exists."""

    msg_fmt = N_('%(id)s exists, so the server gets it. Remove it from '
                 '"without_block_devices"; you can detach it once the server '
                 'runs.')
    code = 400


class BurialInterrupted(RebuildRefused):
    """The server has a BuildRequest and is in a cell."""

    msg_fmt = N_('The clean-up after the failed creation of the server has '
                 'not finished. Try again in a minute. If the problem '
                 'persists, ask the operator to run "nova-rescue-ext-manage '
                 'rebuild-interrupted".')


class CannotRelease(RescueExtException):
    """A server cannot be taken off its host. For operators."""

    msg_fmt = N_('The server cannot be taken off its host. %(reason)s')


# RescueController._rescue answers this class with 409 and with its own words.
class ComputeServiceDown(RescueExtException, nova_exception.InstanceIsLocked):
    """A server cannot be rescued while its host cannot be told to."""

    msg_fmt = N_('Server %(instance_uuid)s cannot be rescued now: its compute '
                 'service is down. Try again later, or ask the operator to '
                 'bring the compute service back.')

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

"""Everything that the package keeps with a server, in its system metadata.

RPC calls have no room for it and must be understood by services without the
package, and it has to go where the server goes. Keys must not start with
``image_``: those are the properties of the server's image.

=========================== =============== =============== ==================
Key (after ``rescue_ext_``) Written by      Read by         Goes
=========================== =============== =============== ==================
``version``                 nova-api        nova-compute    as ``image_id``
``request``                 as ``version``
``offered_image``           nova-api        nova-compute    as ``image_id``
``requested_timeout``       nova-api        nova-compute    when it is
                                                            recorded, failed
                                                            rescue
``requested_ready_line``    as ``requested_timeout``
``image_id``                nova-compute    nova-compute    unrescue, failed
                                                            rescue, next rescue
``kernel_id``               as ``image_id``
``ramdisk_id``              as ``image_id``
``mode``                    as ``image_id``
``vm_state``                as ``image_id``
``guest``                   as ``image_id``
``serials``                 as ``image_id``, and read by nova-api
``key_name``, ``key_data``, nova-api        nova-compute,   as ``image_id``,
``key_type``, ``user_data``                 metadata API    in pieces
``timeout``                 as ``serials``
``ready_line``              as ``serials``
``ready``                   as ``serials``
``since``                   as ``image_id``
``switched``                nova-compute    metadata API    rescue is complete,
                                                            as ``image_id``
``firmware_``: ``loader``,  as ``image_id``
``secure``, ``nvram``,
``template``
``goes_back``               nova-api        nova-compute    unrescue
``requested_attempt``       nova-api        nova-conductor  next migration
``attempt``                 nova-compute    nova-compute    next migration,
                            (source)        (both)          abort
``transferred``             nova-compute    nova-compute    next migration
                            (destination)   (source)
``destination``             nova-conductor  nova-compute    never saved: only
                                            (source)        sent
``checked_attempt``         as ``destination``
``left_attachment_`` and    nova-compute    nova-compute    attachment is
the id of the attachment    (source)                        deleted
``rebuild``                 nova-api        nova-conductor, next rebuild
                                            nova-compute
``existing_volume_`` and    nova-api        nova-compute    next rebuild
the id of the volume
``guest_left_on``           nova-compute,   nova-api        guest is gone, next
                            nova-api                        rebuild
``no_guest_on``             nova-compute,   nova-api,       guest is back, next
                            ``nova-rescue-  ``nova-rescue-  rebuild
                            ext-manage``    ext-manage``
=========================== =============== =============== ==================
"""

import datetime
import typing

import microversion_parse
from nova.compute import task_states
from nova.compute import vm_states
from nova import objects
from oslo_utils import timeutils

from nova_rescue_ext import microversion

LEGACY = 'legacy'
STABLE = 'stable'

RUNNING = 'running'
OFF = 'off'

PREFIX = 'rescue_ext_'

# What nova-api tells nova-compute about a rescue that it asks for.
_VERSION = PREFIX + 'version'
_REQUEST = PREFIX + 'request'
_OFFERED_IMAGE = PREFIX + 'offered_image'
_REQUESTED_TIMEOUT = PREFIX + 'requested_timeout'
_REQUESTED_READY_LINE = PREFIX + 'requested_ready_line'

# What became of the ready line of a rescue.
WAITING = 'waiting'
SEEN = 'seen'
NOT_SEEN = 'not_seen'

# What a server was rescued with: the fields of RescueRecord.
MODE = PREFIX + 'mode'  # no record is without it

# The server's own guest is off, and that of its rescue comes next.
_SWITCHED = PREFIX + 'switched'

# What the rescue system of a server gets: the fields of RescueAccess.
_ACCESS = PREFIX + 'access_'
# The longest value of the database, and of a number of pieces.
_PIECE = 255

# The files of a server's own firmware: the fields of Firmware.
_FIRMWARE = PREFIX + 'firmware_'

# What nova-api tells nova-compute about an unrescue.
_GOES_BACK = PREFIX + 'goes_back'

# Of a live migration.
REQUESTED_ATTEMPT = PREFIX + 'requested_attempt'
_DESTINATION = PREFIX + 'destination'
_CHECKED_ATTEMPT = PREFIX + 'checked_attempt'
ATTEMPT = PREFIX + 'attempt'
TRANSFERRED = PREFIX + 'transferred'
_LEFT_ATTACHMENT = PREFIX + 'left_attachment_'

# Of a rebuild of a server that never booted.
_REBUILD = PREFIX + 'rebuild'
_EXISTING_VOLUME = PREFIX + 'existing_volume_'
GUEST_LEFT_ON = PREFIX + 'guest_left_on'
_NO_GUEST_ON = PREFIX + 'no_guest_on'


class RescueRecord(typing.NamedTuple):
    """What a server was rescued with.

    :ivar image_id: the ID of the rescue image
    :ivar kernel_id: the ID of the kernel; None if the rescue system boots from
        its disk
    :ivar ramdisk_id: the ID of the ramdisk, or None
    :ivar mode: LEGACY or STABLE (spec: stable-device-rescue)
    :ivar vm_state: the state before the rescue; None in old records
    :ivar guest: RUNNING or OFF before the rescue; None in old records
    :ivar serials: 'True' if the server's own disks have serial numbers
    :ivar timeout: after how many seconds the server is unrescued, as text;
        None for never
    :ivar ready_line: what the console shows when the rescue system is ready;
        None if nobody looks for it
    :ivar ready: SEEN or NOT_SEEN; None until that is known
    :ivar since: when the rescue was complete, as text; None before that
    """

    image_id: typing.Optional[str]
    kernel_id: typing.Optional[str]
    ramdisk_id: typing.Optional[str]
    mode: str
    vm_state: typing.Optional[str] = None
    guest: typing.Optional[str] = None
    serials: typing.Optional[str] = None
    timeout: typing.Optional[str] = None
    ready_line: typing.Optional[str] = None
    ready: typing.Optional[str] = None
    since: typing.Optional[str] = None


class RescueAccess(typing.NamedTuple):
    """What lets the user of a rescue system in, and what it runs at start.

    :ivar key_name: the name of a key pair; None for the server's own
    :ivar key_data: its public key
    :ivar key_type: ssh or x509
    :ivar user_data: base64 text, or None
    """

    key_name: typing.Optional[str] = None
    key_data: typing.Optional[str] = None
    key_type: typing.Optional[str] = None
    user_data: typing.Optional[str] = None


class Firmware(typing.NamedTuple):
    """The files that libvirt has chosen for the firmware of a server.

    ``loader``, ``nvram`` and ``template`` are paths; ``secure`` is 'yes' or
    'no', or None if the domain does not say.
    """

    loader: str
    secure: typing.Optional[str]
    nvram: str
    template: str


def record_firmware(instance: 'objects.Instance', firmware: Firmware) -> None:
    """Record the firmware of a server in rescue. The caller saves it.

    :param instance: the Instance
    :param firmware: that of the server's own domain
    """
    for name, value in firmware._asdict().items():
        if value:
            instance.system_metadata[_FIRMWARE + name] = value


def recorded_firmware(instance: 'objects.Instance') -> Firmware | None:
    """The firmware of a server's own domain; None if none is recorded.

    :param instance: the Instance
    """
    values = {name: instance.system_metadata.get(_FIRMWARE + name)
              for name in Firmware._fields}
    if not values['loader']:
        return None
    return Firmware(**values)


def record_rescue(instance: 'objects.Instance', image_id: str | None,
                  kernel_id: str | None, ramdisk_id: str | None, mode: str,
                  was_running: bool) -> None:
    """Record a rescue. The caller saves the instance.

    :param instance: the Instance, in its state before the rescue
    :param image_id: the id of the image of the rescue disk
    :param kernel_id: the id of the kernel's image, or None
    :param ramdisk_id: the id of the ramdisk's image, or None
    :param mode: LEGACY or STABLE
    :param was_running: whether the guest runs
    """
    _forget_record(instance)
    # Taken, so that a later request of a stock nova-api does not find it.
    timeout = instance.system_metadata.pop(_REQUESTED_TIMEOUT, None)
    ready_line = instance.system_metadata.pop(_REQUESTED_READY_LINE, None)
    serials = rescue_asks_for(instance, microversion.RESCUE_SESSION)
    record = RescueRecord(image_id, kernel_id, ramdisk_id, mode,
                          instance.vm_state, RUNNING if was_running else OFF,
                          str(serials) if serials else None, timeout,
                          ready_line)
    for name, value in record._asdict().items():
        if value:
            instance.system_metadata[PREFIX + name] = value


def rescue_of(instance: 'objects.Instance') -> RescueRecord | None:
    """The record of a server that is in rescue.

    None unless the state of the server is RESCUED: after a reset or a rebuild
    an old record means nothing (hazard: stale-record). Also None if stock Nova
    rescued the server, which leaves the record of a rescue before it.

    :param instance: the Instance
    :returns: a RescueRecord or None
    """
    if not is_in_rescue(instance):
        return None
    values = {name: instance.system_metadata.get(PREFIX + name)
              for name in RescueRecord._fields}
    if not values['mode']:
        return None
    if values['since'] and values['since'] != _launched_at(instance):
        return None
    return RescueRecord(**values)


def complete_record(instance: 'objects.Instance') -> None:
    """Tie the record to a rescue that is complete. The caller saves it.

    Nova sets launched_at with every rescue, and with nothing that a server in
    rescue accepts.

    :param instance: the Instance, with the launched_at of the rescue
    """
    if has_record(instance):
        # Some databases round it.
        instance.launched_at = instance.launched_at.replace(microsecond=0)
        instance.system_metadata[PREFIX + 'since'] = _launched_at(instance)
        instance.system_metadata.pop(_SWITCHED, None)


def record_switch(instance: 'objects.Instance') -> None:
    """Record that the next guest is that of the rescue. The caller saves it.

    :param instance: the Instance, which is being rescued
    """
    instance.system_metadata[_SWITCHED] = 'True'


def forget_switch(instance: 'objects.Instance') -> bool:
    """Record that the next guest is the server's own. The caller saves it.

    :param instance: the Instance
    :returns: whether anything else was recorded
    """
    return instance.system_metadata.pop(_SWITCHED, None) is not None


def has_rescue_guest(instance: 'objects.Instance') -> bool:
    """Whether the guest of a server is that of a recorded rescue.

    During a rescue that changes before the state does, and during an unrescue
    as well: then it is taken to have changed.

    :param instance: the Instance
    """
    if instance.task_state == task_states.RESCUING:
        return _SWITCHED in instance.system_metadata
    return (instance.task_state != task_states.UNRESCUING
            and rescue_of(instance) is not None)


def _launched_at(instance: 'objects.Instance') -> str | None:
    if instance.launched_at is None:
        return None
    return timeutils.normalize_time(instance.launched_at).isoformat()


def is_in_rescue(instance: 'objects.Instance') -> bool:
    """Whether a server is in rescue, whoever rescued it.

    :param instance: the Instance
    """
    return instance.vm_state == vm_states.RESCUED


def end_of_rescue(
        instance: 'objects.Instance') -> datetime.datetime | None:
    """When a server will be unrescued, as its rescue requested.

    :param instance: the Instance
    :returns: None for never
    """
    record = rescue_of(instance)
    if record is None or not record.timeout or instance.launched_at is None:
        return None
    # Nova sets it when a rescue begins, and goes by it itself.
    return instance.launched_at + datetime.timedelta(
        seconds=int(record.timeout))


def recorded_image_id(instance: 'objects.Instance') -> str | None:
    """The id of the image of a rescue that may not have ended, or None.

    :param instance: the Instance
    """
    return instance.system_metadata.get(PREFIX + 'image_id')


def ran_before_rescue(instance: 'objects.Instance') -> bool:
    """Whether the guest of a server that is being rescued ran before that.

    :param instance: the Instance, whose state is that before the rescue
    """
    recorded = instance.system_metadata.get(PREFIX + 'guest')
    if recorded:
        return recorded == RUNNING
    return instance.vm_state == vm_states.ACTIVE


def forget_rescue(instance: 'objects.Instance') -> None:
    """Forget a rescue, and what it requested. The caller saves the instance.

    A nova-api without the package requests the next one by leaving this alone.

    :param instance: the Instance
    """
    _forget_record(instance)
    forget_rescue_request(instance)


def _forget_record(instance: 'objects.Instance') -> None:
    for name in RescueRecord._fields:
        instance.system_metadata.pop(PREFIX + name, None)
    for name in Firmware._fields:
        instance.system_metadata.pop(_FIRMWARE + name, None)
    instance.system_metadata.pop(_GOES_BACK, None)
    instance.system_metadata.pop(_SWITCHED, None)


def request_rescue(instance: 'objects.Instance',
                   version: microversion_parse.Version,
                   offered_image: str | None = None,
                   timeout: int | None = None,
                   access: RescueAccess = RescueAccess(),
                   ready_line: str | None = None, *,
                   request_id: str) -> None:
    """Tell nova-compute what was requested. Nova saves the instance.

    :param instance: the Instance
    :param version: the ``compute-rescue`` version of the request
    :param offered_image: the id of the operator's image, if it is one that
        the caller cannot see
    :param timeout: after how many seconds to unrescue the server, or None
    :param access: what the rescue system gets
    :param ready_line: what its console shows when it is ready, or None
    :param request_id: the ID of the API request
    """
    forget_rescue_request(instance)
    instance.system_metadata[_VERSION] = str(version)
    instance.system_metadata[_REQUEST] = request_id
    if offered_image:
        instance.system_metadata[_OFFERED_IMAGE] = offered_image
    if timeout is not None:
        instance.system_metadata[_REQUESTED_TIMEOUT] = str(timeout)
    if ready_line:
        instance.system_metadata[_REQUESTED_READY_LINE] = ready_line
    for name, text in access._asdict().items():
        for number, begin in enumerate(range(0, len(text or ''), _PIECE)):
            instance.system_metadata['%s%s_%03d' % (_ACCESS, name, number)] = (
                text[begin:begin + _PIECE])


def forget_requested_ready_line(instance: 'objects.Instance') -> None:
    """Let nobody look for the ready line. The caller saves the instance.

    :param instance: the Instance
    """
    instance.system_metadata.pop(_REQUESTED_READY_LINE, None)


def ready_line_of(instance: 'objects.Instance') -> str | None:
    """What the console of a server in rescue shows when it is ready.

    :param instance: the Instance
    :returns: None if nobody looks for it
    """
    record = rescue_of(instance)
    return record.ready_line if record else None


def readiness_of(instance: 'objects.Instance') -> str | None:
    """What became of the ready line of a server in rescue.

    :param instance: the Instance
    :returns: WAITING, SEEN or NOT_SEEN; None if nobody looks for it
    """
    record = rescue_of(instance)
    if record is None or not record.ready_line:
        return None
    return record.ready or WAITING


def record_readiness(instance: 'objects.Instance', readiness: str) -> None:
    """Record what became of the ready line. The caller saves the instance.

    :param instance: the Instance, in rescue
    :param readiness: SEEN or NOT_SEEN
    """
    instance.system_metadata[PREFIX + 'ready'] = readiness


def has_record(instance: 'objects.Instance') -> bool:
    """Whether a rescue is recorded, whatever the state of the server is.

    :param instance: the Instance
    """
    return MODE in instance.system_metadata


def forget_rescue_request(instance: 'objects.Instance') -> None:
    """Forget what a rescue requested. The caller saves the instance.

    :param instance: the Instance
    """
    metadata = instance.system_metadata
    # Every rescue calls this. Nothing else comes without a version.
    if _VERSION in metadata:
        metadata.pop(_VERSION)
        metadata.pop(_REQUEST, None)
        metadata.pop(_OFFERED_IMAGE, None)
        metadata.pop(_REQUESTED_TIMEOUT, None)
        metadata.pop(_SWITCHED, None)
        forget_requested_ready_line(instance)
        for key in [key for key in metadata if key.startswith(_ACCESS)]:
            del metadata[key]


def forget_other_rescue_request(instance: 'objects.Instance',
                                request_id: str) -> None:
    """Forget what another API request than this one requested of a rescue.

    A stock nova-api leaves that alone, and a nova-api that was killed did not
    get to have it done. The caller saves the instance.

    :param instance: the Instance
    :param request_id: the ID of the API request that asks for a rescue
    """
    # Every nova-api sends it. Nova would read it later, or not at all.
    if (instance.obj_attr_is_set('system_metadata')
            and instance.system_metadata.get(_REQUEST) != request_id):
        forget_rescue_request(instance)


def forget_own_rescue_request(instance: 'objects.Instance',
                              request_id: str) -> None:
    """Forget what this API request, and no other, requested of a rescue.

    The caller saves the instance.

    :param instance: the Instance
    :param request_id: the ID of the API request that asks for a rescue
    """
    if instance.system_metadata.get(_REQUEST) == request_id:
        forget_rescue_request(instance)


def has_same_rescue_request(sent: 'objects.Instance',
                            fresh: 'objects.Instance') -> bool:
    """Whether no other rescue was requested since a message was sent.

    That of a stock nova-api is not noticed.

    :param sent: the Instance of the message, as it was sent
    :param fresh: the Instance as the database has it now
    """
    return (not sent.obj_attr_is_set('system_metadata')
            or sent.system_metadata.get(_REQUEST)
            == fresh.system_metadata.get(_REQUEST))


def access_to_rescue(instance: 'objects.Instance') -> RescueAccess | None:
    """What the rescue system of a server gets.

    :param instance: the Instance, which is in rescue or gets there
    :returns: None if the rescue was requested below compute-rescue 1.4: then
        it gets what the server itself has
    """
    if not rescue_asks_for(instance, microversion.RESCUE_SESSION):
        return None
    return RescueAccess(*(_joined(instance, _ACCESS + name + '_')
                          for name in RescueAccess._fields))


def _joined(instance: 'objects.Instance', prefix: str) -> str | None:
    pieces = sorted((key, value) for key, value
                    in instance.system_metadata.items()
                    if key.startswith(prefix))
    return ''.join(value for _, value in pieces) or None


def rescue_asks_for(instance: 'objects.Instance',
                    version: microversion_parse.Version) -> bool:
    """Whether the rescue was requested with a ``compute-rescue`` version.

    :param instance: the Instance
    :param version: the lowest version that counts
    """
    requested = instance.system_metadata.get(_VERSION)
    return bool(requested) and (
        microversion_parse.parse_version_string(requested) >= version)


def is_offered_image(instance: 'objects.Instance',
                     image_id: str | None) -> bool:
    """Whether to read an image with the operator's rights.

    Only the one that was offered: a nova-api without the package checks no
    image, and leaves the offer of an earlier rescue.

    :param instance: the Instance
    :param image_id: the id of the image, or None
    """
    return bool(image_id) and (
        instance.system_metadata.get(_OFFERED_IMAGE) == image_id)


def request_previous_state(instance: 'objects.Instance',
                           wanted: bool) -> None:
    """Tell nova-compute in which state an unrescue should end.

    The caller saves the instance.

    :param instance: the Instance
    :param wanted: whether it is the state before the rescue, not ACTIVE
    """
    if wanted:
        instance.system_metadata[_GOES_BACK] = 'True'
    elif _GOES_BACK in instance.system_metadata:
        del instance.system_metadata[_GOES_BACK]


def state_after_unrescue(instance: 'objects.Instance') -> str:
    """The state that an unrescue ends in.

    :param instance: the Instance, in rescue
    :returns: vm_states.STOPPED if the server was stopped before its rescue
        and goes back to that, else vm_states.ACTIVE
    """
    record = rescue_of(instance)
    if (record and record.vm_state == vm_states.STOPPED
            and _GOES_BACK in instance.system_metadata):
        return vm_states.STOPPED
    return vm_states.ACTIVE


class Checked(typing.NamedTuple):
    """What nova-conductor says of the migration that it prepares.

    :ivar destination: the host that it has checked
    :ivar attempt: the UUID of the migration
    """

    destination: str
    attempt: str


def with_checked_destination(instance: 'objects.Instance', host: str,
                             attempt: str) -> 'objects.Instance':
    """Copy an instance, and say in it which destination was checked.

    nova-conductor sends it to the destination, which sends it to the source.
    Only the source is sure to have the package (hazard:
    unchecked-destination).

    :param instance: the Instance, which is not changed
    :param host: the destination
    :param attempt: the UUID of the migration
    :returns: an Instance, to be sent
    """
    copy = instance.obj_clone()
    copy.system_metadata[_DESTINATION] = host
    copy.system_metadata[_CHECKED_ATTEMPT] = attempt
    # The destination may save it, which writes only what has changed.
    copy.obj_reset_changes(['system_metadata'])
    return copy


def take_checked_destination(
        instance: 'objects.Instance') -> Checked | None:
    """Read on the source which destination was checked, and remove that.

    :param instance: the Instance, as it was received
    :returns: a Checked, or None if no conductor has checked a destination
    """
    host = instance.system_metadata.pop(_DESTINATION, None)
    attempt = instance.system_metadata.pop(_CHECKED_ATTEMPT, None)
    if host is not None:
        # As if it had never been there.
        instance.obj_reset_changes(['system_metadata'])
    return Checked(host, attempt) if host and attempt else None


def request_attempt(instance: 'objects.Instance', attempt: str) -> None:
    """Tell nova-conductor which migration is requested. Nova saves it.

    It is saved with the task of the server, and tells to which request the
    task belongs.

    :param instance: the Instance
    :param attempt: the UUID that the migration will have
    """
    instance.system_metadata[REQUESTED_ATTEMPT] = attempt


def requested_attempt(instance: 'objects.Instance') -> str | None:
    """The UUID of the migration that was requested last, or None.

    :param instance: the Instance, as it was sent or as the database has it
    """
    if not instance.obj_attr_is_set('system_metadata'):
        return None  # in tests of Nova's
    return instance.system_metadata.get(REQUESTED_ATTEMPT)


def begin_attempt(instance: 'objects.Instance', attempt: str) -> None:
    """Record the current migration, and forget what earlier ones recorded.

    The caller saves the instance.

    :param instance: the Instance, as the database has it
    :param attempt: the UUID of the migration
    """
    instance.system_metadata[ATTEMPT] = attempt
    instance.system_metadata.pop(TRANSFERRED, None)


def attempt_of(instance: 'objects.Instance') -> str | None:
    """The UUID of the current migration, or None.

    :param instance: the Instance
    """
    return instance.system_metadata.get(ATTEMPT)


def end_attempt(instance: 'objects.Instance') -> None:
    """Record that no migration is current. The caller saves the instance.

    :param instance: the Instance, as the database has it
    """
    instance.system_metadata.pop(ATTEMPT, None)


def record_transfer(instance: 'objects.Instance', attempt: str) -> None:
    """Record that the destination has all files. The caller saves it.

    :param instance: the Instance, as the database has it
    :param attempt: the UUID of the migration
    """
    instance.system_metadata[TRANSFERRED] = attempt


def is_transferred(instance: 'objects.Instance', attempt: str) -> bool:
    """Whether the destination has recorded that it has all files.

    :param instance: the Instance, as the database has it
    :param attempt: the UUID of the migration
    """
    return instance.system_metadata.get(TRANSFERRED) == attempt


class LeftAttachment(typing.NamedTuple):
    """An attachment to a host that has not disconnected the volume.

    :ivar attachment_id: its ID in Cinder
    :ivar volume_id: the ID of the volume
    :ivar host: the host
    """

    attachment_id: str
    volume_id: str
    host: str


def record_left_attachments(instance: 'objects.Instance',
                            left: typing.Iterable[LeftAttachment]) -> None:
    """Record which attachments a migration has left. The caller saves it.

    :param instance: the Instance, as the database has it
    :param left: each LeftAttachment
    """
    for one in left:
        instance.system_metadata[_LEFT_ATTACHMENT + one.attachment_id] = (
            '%s %s' % (one.volume_id, one.host))


def left_attachments(instance: 'objects.Instance') -> list[LeftAttachment]:
    """The attachments that migrations of a server have left.

    :param instance: the Instance
    """
    return [LeftAttachment(key[len(_LEFT_ATTACHMENT):], *value.split(' ', 1))
            for key, value in sorted(instance.system_metadata.items())
            if key.startswith(_LEFT_ATTACHMENT)]


def forget_left_attachment(instance: 'objects.Instance',
                           attachment_id: str) -> None:
    """Forget an attachment that was deleted. The caller saves the instance.

    :param instance: the Instance, as the database has it
    :param attachment_id: the ID of the attachment
    """
    instance.system_metadata.pop(_LEFT_ATTACHMENT + attachment_id, None)


def begin_rebuild(instance: 'objects.Instance', attempt: str,
                  volume_ids: typing.Iterable[str]) -> None:
    """Forget the failed build, and record what the next one must keep.

    :param instance: a new Instance that was never saved
    :param attempt: the UUID of the rebuild
    :param volume_ids: ids of the volumes that exist
    """
    instance.system_metadata = {
        key: value for key, value in instance.system_metadata.items()
        if not key.startswith((_EXISTING_VOLUME, GUEST_LEFT_ON,
                               _NO_GUEST_ON))}
    instance.system_metadata[_REBUILD] = attempt
    for volume_id in volume_ids:
        instance.system_metadata[_EXISTING_VOLUME + volume_id] = 'True'


def is_rebuilt(instance: 'objects.Instance') -> bool:
    """Whether the build of a server is that of a rebuild.

    :param instance: the Instance
    """
    return _REBUILD in instance.system_metadata


def rebuild_attempt(instance: 'objects.Instance') -> str | None:
    """The UUID of the rebuild that builds a server, or None for a create.

    :param instance: the Instance of a message to build it
    """
    if not instance.obj_attr_is_set('system_metadata'):
        return None
    return instance.system_metadata.get(_REBUILD)


def existed_before_rebuild(instance: 'objects.Instance',
                           volume_id: str | None) -> bool:
    """Whether a volume existed before the server was rebuilt.

    :param instance: the Instance
    :param volume_id: the id of the volume, or None
    """
    # A build always comes with its metadata, so they are never loaded here.
    return (volume_id is not None
            and instance.obj_attr_is_set('system_metadata')
            and _EXISTING_VOLUME + volume_id in instance.system_metadata)


def record_left_guest(instance: 'objects.Instance', host: str) -> None:
    """Record that a host may have a guest of a failed build.

    The caller saves the instance.

    :param instance: the Instance
    :param host: the name of the host
    """
    instance.system_metadata[GUEST_LEFT_ON] = host


def host_with_left_guest(instance: 'objects.Instance') -> str | None:
    """The host that may have a guest of a failed build, or None.

    :param instance: the Instance
    """
    return instance.system_metadata.get(GUEST_LEFT_ON)


def forget_left_guest(instance: 'objects.Instance') -> None:
    """No host has a guest of a failed build. The caller saves the instance.

    :param instance: the Instance
    """
    instance.system_metadata.pop(GUEST_LEFT_ON, None)


def record_no_guest(instance: 'objects.Instance',
                    host: str | None) -> bool:
    """Record which host was seen to have no guest of the server.

    The caller saves the instance.

    :param instance: the Instance
    :param host: the name of the host, or None if it has one
    :returns: whether that was not known
    """
    if instance.system_metadata.get(_NO_GUEST_ON) == host:
        return False
    if host is None:
        del instance.system_metadata[_NO_GUEST_ON]
    else:
        instance.system_metadata[_NO_GUEST_ON] = host
    return True


def has_no_guest_on(instance: 'objects.Instance', host: str) -> bool:
    """Whether a host was seen to have no guest of the server.

    :param instance: the Instance
    :param host: the name of the host
    """
    return instance.system_metadata.get(_NO_GUEST_ON) == host

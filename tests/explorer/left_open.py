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

"""Violations that are known and left as they are, each with the reason.

They do not fail a run, and are listed in explored.rst.
"""

import re
import typing


class Entry(typing.NamedTuple):
    """Violations that one reason explains.

    :ivar schedule: a regular expression that matches a part of the schedule,
        or of what has happened in one of its steps
    :ivar violation: a regular expression that matches a part of the violation
    :ivar reason: why it is left, in a sentence
    """

    schedule: str
    violation: str
    reason: str


# What is never left open because stock Nova does it, or something else fails.
_COSTS_DATA = (
    'two guests|a guest on|the content of|the disk|the TPM is gone|'
    'a volume was deleted|'
    'done with rights|the server is gone|'
    'deleted, but there is a domain|no way out|cannot be deleted|harness|'
    'not at rest')

ALL = (
    Entry(r'^((un)?rescue|stop|start|reboot)[\w-]*@api/'
          r'((db\.action_start|rpc\.cast\.\w+)#\d+=(fail|lost|crash)\b|'
          r'db.instance_update_and_get_original#\d+=lost\b)',
          '^(periodic tasks change it: [^,]*|a task remains: )'
          '(ACTIVE|SHUTOFF|RESCUE)( with |/)'
          '((un)?rescuing|powering-o(n|ff)|rebooting)',
          'nova-api fails, or is killed, between saving the task and sending '
          'the message: the task stays, as in stock Nova, until nova-compute '
          'is restarted.'),
    Entry(r'^rescue[\w-]*@api/'
          r'((db\.action_start|rpc\.cast\.\w+)#\d+=(fail|lost|crash)\b|'
          r'db.instance_update_and_get_original#\d+=lost\b)',
          r'^metadata of a rescue is left: \[('
          r"'rescue_ext_(access|requested)_\w+'(, )?)+\]$",
          'The same: what was requested is tied to that request, and goes '
          'with the next rescue.'),
    Entry(r'@[\w-]+/db\.action_event_(start|finish)#\d+=(fail|lost|crash)\b|'
          r'^(fail|lost|crash) at [\w-]+/db\.action_event_(start|finish) of ',
          '^(after an hour: )?an event is open',
          'The database fails just when Nova writes the begin or the end of '
          'an event, which it does once, as in stock Nova.'),
    Entry(r'@[\w-]+/os\.unlink\([\w.]+\)#\d+=fail$',
          '^files of a rescue are left',
          'A file that cannot be removed is logged, and goes with the next '
          'rescue, or with the server.'),
    # While a server is being rescued, the rescue is rolled back.
    Entry(r'^((?!rescue)[^@]*|rescue[\w-]*@compute1/'
          r'(db\.action_event_finish|os\.unlink\(unrescue\.xml\))#1|'
          r'rescue-(not-)?ready@compute1/(db\.action_event_start#2|'
          r'db\.instance_update_and_get_original#4)|'
          r'rescue(?=.*\+).*)@?.*=reset_active\b',
          '^(after an hour: |after the periodic tasks: )?'
          'ACTIVE, but the rescue disk boots',
          'An administrator resets the state of a server that is in rescue '
          'to active: that changes what the API says, not the guest. Its '
          'owner reboots it hard.'),
    Entry(r'=reset_active\b',
          r'^(ACTIVE, but no guest runs|periodic tasks change it: '
          r'ACTIVE/None on compute1, guests \[\], then SHUTOFF/None )',
          'An administrator resets the state of a server that is off, or '
          'whose guest is exchanged, to active: the power sync corrects '
          'that.'),
    Entry(r'^rebuild[\w-]*@.*=reset_(active|error)\b',
          '^answer 500 to POST action of the reset_(active|error)',
          'Nova answers 500 if the state of a server is reset that has no '
          'row yet (actions-on-a-build-request).'),
    Entry(r'^rebuild[\w-]*@.*=reset_active\b',
          r'^(after [\w -]+: )?(ACTIVE on (None|host1), guests on \[\]|'
          r'allocations on \[\], the server is on (None|host1))$',
          'An administrator resets the state of a server that has failed to '
          'active: that changes what the API says. Reset to error it can be '
          'rebuilt.'),
    Entry(r'^rebuild[\w-]*@scheduler/placement\.put#\d+=interrupted$',
          r'^(after rebuild-interrupted: )?ERROR, but allocations on ',
          'The scheduler claims after an hour, when nobody waits for it any '
          'more, as in stock Nova after a time-out. The next rebuild, or the '
          'deletion, of the server frees that.'),
    Entry(r'^rebuild[\w-]*@conductor/[^=]*=reset_error$',
          '^notifications of the rebuild: 1 start$',
          'An administrator resets the state of a server before its host '
          'begins to build it: the host drops the message, as it drops that '
          'of a build that an operator has given up, who tells of it.'),
    Entry(r'=reset_(active|error)\b',
          '^(after the periodic tasks: )?'
          '(files of a rescue are left|metadata of a rescue is left)',
          'The state is reset while a server is rescued, unrescued, or '
          'stopped in rescue. Its record means nothing, and goes with its '
          'next hard reboot or rescue, as do the files.'),
    Entry(r'^(un)?rescue-tpm[\w-]*@[^=]*=evacuate$',
          r'^(ACTIVE, but no guest runs|periodic tasks change it: '
          r'ACTIVE/None on compute1, guests \[\], then SHUTOFF/None )',
          'Nova evacuates no server that has a TPM. When its host has lost '
          'power and is booted, the guest is off, and the power sync says so, '
          'as in stock Nova.'),
    Entry(r'=evacuate\b',
          '^(after [\\w -]+: )?(metadata of a rescue is left|'
          r"files of a rescue are left: \['disk(.config)?.rescue'"
          r"(, 'disk.rescue')?\]$)",
          'A server in rescue is evacuated only if its state was reset. What '
          'its rescue has left on shared storage goes with its next start or '
          'rescue (masakari-and-watcher).'),
    Entry(r'^rescue-rbd@.*=evacuate\b',
          '^(after [\\w -]+: )?(files are left on compute1: |'
          r"files of a rescue are left: |deleted, but there are files: "
          r"\{'compute1': )\[('disk.rescue', )?'unrescue.xml'\]\}?$",
          'A host that was evacuated keeps the directory of a server whose '
          'disks are in Ceph, and the domain that Nova has saved there, as in '
          'stock Nova.'),
    Entry(r'^migrate[\w-]*@conductor/db\.instance_update_and_get_original#\d+='
          r'evacuate$',
          r"^(after [\w -]+: )?RESCUE, but the guests are \[\('compute2', "
          r'False\)\]$',
          'Nova writes the state after a migration that was refused, whatever '
          'it is by then. The package looks just before; whoever comes '
          'between unrescues the server.'),
    Entry(r'^settle-in-doubt@.*=(force_)?delete$',
          r"^(deleted, but there is a domain: \['running on compute2'\]|"
          r"deleted, but there are files: |periodic tasks change it: "
          r"404/None on None, guests \[\('compute2', True\)\], then "
          r"404/None on None, guests \[\]$)",
          'The host that the server is on is down: nova-api deletes it from '
          'its database only. The host that its guest has moved to removes '
          'that with its next periodic task, as in stock Nova.'),
    Entry(r'^migrate-by-stock@',
          r'^(after [\w -]+: )?(RESCUE, but the guests are '
          r"\[\('compute2', False\)\]|allocations on |"
          r"a migration (is \['accepted'\]|that is over has allocations))",
          'A nova-conductor without the package ends a migration that the '
          'hosts refuse as stock Nova does, whatever has happened since.'),
    Entry(r'^rescue-session@api/[^=]*=migrate$',
          '^the content of disk.config has changed$',
          'The server is migrated just before its rescue, without shared '
          'storage: libvirt copies no disk that is read-only, as a config '
          'drive of Nova 31 and later is, as in stock Nova.'),
    Entry(r'^rescue-encrypted@api/db\.instance_(update_and_get_original|'
          r'extra_update_by_uuid)#1=detach_port$',
          '^the domain on compute1 has what is no port of it$',
          'A port is detached between the look of nova-api and its save: the '
          'rescue system has its interface until the unrescue, as in stock '
          'Nova in a rescue that it has, too.'),
    Entry(r'^(unrescue|reboot-hard)[\w-]*@.*=evacuate\b',
          '^(after [\\w -]+: )?(files are left on compute1: |'
          r"deleted, but there are files: \{'compute1': )",
          'A host loses its power while it has no domain of the server, by '
          'which Nova knows what to remove when it is up, as in a hard '
          'reboot by stock Nova.'),
    Entry(r'^(migrate(-qcow2|-to-stock|-by-stock)?|drain)@.*=evacuate\b',
          '^(after [\\w -]+: )?the content of disk has changed$',
          'Without shared storage an evacuation makes the disks anew from the '
          'image. On a host that a live migration has prepared, Nova takes '
          'the empty file that is there, as in stock Nova.'),
    Entry(r'^migrate[\w-]*@.*=evacuate\b',
          r'^(after [\w -]+: )?allocations on \[\], the server is on '
          'compute2$',
          'A server is evacuated to the host that its live migration is '
          'checking, and fails to check, as the source is gone: '
          'nova-conductor removes what was claimed there for both, as in '
          'stock Nova.'),
    Entry(r'^(migrate-bfv|attend|settle[\w-]*)@.*=evacuate\b',
          r'^(after [\w -]+: )?allocations on \[\], the server is on '
          'compute2$',
          'A server is evacuated to the host that its guest has moved to: '
          'Nova finds the guest, fails, and removes what was claimed there '
          'for both, as in stock Nova. "nova-manage placement '
          'heal_allocations" puts it right.'),
    Entry(r'^migrate-bfv@compute1/.*=evacuate$',
          r"^after an hour: files are left on compute1: "
          r"\['disk.info', 'disk.rescue'\]$",
          'The source loses its power when the guest has moved. An evacuation '
          'to where it is fails, and Nova does not clean up the source, as in '
          'stock Nova.'),
    Entry(r'=evacuate\b',
          r'^(after [\w -]+: )?an event is open: compute_\w+ of ',
          'A host that loses its power does not end the events of what it '
          'did.'),
    Entry(r'^rescue-(not-)?ready@compute1/db\.action_event_start#2=crash$',
          r'^the ready line is (not_)?seen, but told is \[\]$',
          'nova-compute is killed between recording whether the rescue system '
          'is ready and telling of it, which it does only once.'),
    Entry(r'^migrate-bfv@compute2/db\.block_device_mapping_update#1='
          r'(crash|evacuate)$',
          '^(after an hour: )?(2 attachments of volumes instead of 1|'
          'an attachment is that of (compute2|None), the server is on '
          'compute1|an event is open: compute_pre_live_migration )',
          'nova-compute on the destination is killed when it has made an '
          'attachment of a volume and not recorded it: nobody knows of that, '
          'as in stock Nova. Cinder lists it.'),
    Entry(r'=(fail|lost|late|crash)\b.*=(fail|lost|late|crash)\b',
          '^(after [\\w -]+: )?(files of a rescue are left|'
          'metadata of a rescue is left|an event is open|'
          'notifications of)',
          'A second failure on the way back from the first one: what is left '
          'is logged, and no data is lost.'),
    Entry(r'^rebuild[\w-]*@.*=(fail|lost)\b.*=(fail|lost)\b',
          r'^(ERROR, but a guest on host\d|'
          r'(after another rebuild: )?ERROR, but allocations on \S+|'
          r'no way out by rebuild: answer 409, then ERROR/None on None, '
          r'guests \[\])$',
          'A build fails, and then what cleans up after it. The next rebuild '
          'is refused in words, so that there are no two guests, until an '
          'operator has looked.'),
    Entry(r'=crash\b.*=(fail|lost|crash)\b',
          '^a task remains: |^periodic tasks change it: [^,]*/un?rescuing|'
          r'^RESCUE, but the guests are \[\]$',
          'What nova-compute does when it starts fails, or is killed, too. It '
          'is done at its next start.'),
    Entry(r'=crash\b.*=reset_(active|error)\b|'
          r'=reset_(active|error)\b.*=crash\b',
          '^(after the periodic tasks: )?an event is open',
          'A service is killed, and the state of the server is reset before '
          'it is up: its hard reboot puts it right.'),
    Entry(r'^attach-port-in-rescue@compute1/[^=]*=drain$',
          '^answer 500 to POST os-interface of the operation: .*'
          'Failed to attach network adapter',
          'The guest has moved while a port was attached to it: Nova answers '
          '500 and gives the port back, as in stock Nova if the server is '
          'migrated.'),
    Entry(r'^(migrate|drain|settle|attend)[\w-]*@.*=crash\b',
          '^(after an hour: )?an event is open',
          'A service of Nova that is killed does not end the events of what '
          'it did for a live migration.'),
)


_AS_STOCK = 'Stock Nova does the same in the same moment.'
_NEVER_LEFT = re.compile(_COSTS_DATA)
_WHEN = re.compile(r'^(after [\w -]+: )+')
# The words with which a violation begins, up to names and numbers.
_KIND = re.compile(r"[^:\[\d']*")


def whenever(violation):
    """A violation without when it was seen."""
    return _WHEN.sub('', violation)


def _kind(violation):
    return _KIND.match(whenever(violation))[0].strip()


def _is_as_stock(violation, stock):
    return (not _NEVER_LEFT.search(violation)
            and _kind(violation) in {_kind(each) for each in stock})


def reason_of(schedule, violations, stock=(), happened=()):
    """Why all violations of a schedule are left open.

    :param schedule: its text
    :param violations: a list of texts
    :param stock: the violations of stock Nova in the same schedule
    :param happened: what has happened in each of its steps, as texts
    :returns: the reasons, or None if one of them is not left open
    """
    reasons = []
    for violation in violations:
        found = [entry.reason for entry in ALL
                 if re.search(entry.violation, violation)
                 and any(re.search(entry.schedule, text)
                         for text in (schedule, *happened))]
        if _is_as_stock(violation, stock):
            found.append(_AS_STOCK)
        if not found:
            return None
        reasons.append(found[0])
    return sorted(set(reasons))

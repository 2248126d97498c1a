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

"""What must be true once the cloud has come to rest.

Each sentence of a violation begins with what is violated, so that equal ones
can be counted.
"""

import collections
import contextlib

import eventlet
from nova.compute import task_states
from nova import exception
from nova import objects

from nova_rescue_ext.cmd import compute_api
from nova_rescue_ext import instance_metadata
from nova_rescue_ext.rescue import readiness
from tests.explorer import actors
from tests.explorer import clouds
from tests.explorer import failures
from tests.explorer import intruders
from tests.explorer import left_open

# These stay until the next rescue or migration: see the table of that module.
_ALLOWED_METADATA = ('rescue_ext_version', 'rescue_ext_request',
                     'rescue_ext_offered_image',
                     instance_metadata.REQUESTED_ATTEMPT,
                     instance_metadata.ATTEMPT,
                     instance_metadata.TRANSFERRED)

_FAILURES = {failures.FAIL, failures.LOST, failures.LATE, failures.CRASH,
             'evacuate'}

_RESETS = {name for name, intruder in intruders.ALL.items()
           if intruder.resets}

# What others have called meanwhile has timed out.
_LET_TIME_PASS = {'settle'}

# Who is killed ends nothing, nor does Nova for a server that is gone.
_TELLS_NOBODY = {failures.CRASH, 'delete', 'force_delete', 'evacuate'}

# What a way out puts right, whatever it was left by.
_GOES = ('files of a rescue', 'metadata of a rescue', 'ACTIVE, but',
         'SHUTOFF, but', 'RESCUE, but')

# Seconds of the virtual clock.
_UNTIL_AUDIT = 700


class Before:
    """What the server had before the operation.

    :ivar disks: {name: bytes} of its own disks
    :ivar resources: those that it has in placement
    :ivar tpm: the bytes of its TPM
    :ivar tpm_secrets: {ID: passphrase} of the key manager
    """

    def __init__(self, cloud):
        files = cloud.files()
        self.disks = {name: content
                      for names in files.values()
                      for name, content in names.items()
                      if is_own_disk(name)}
        self.resources, = cloud.allocations_by_host().values()
        self.attachments = len(cloud.cinder.attachment_ids_for_instance(
            cloud.server['id']))
        if cloud.TPM:
            (self.tpm,) = cloud.tpm_states().values()
            self.tpm_secrets = dict(cloud.tpm_secrets())


def is_own_disk(name):
    """Whether a file is a disk of the server and not of its rescue."""
    return name.startswith('disk') and name != 'disk.info' and (
        not name.endswith('.rescue'))


def check_libvirt(cloud, explorer):
    """All violations, with the ways out tried as well.

    :param cloud: a clouds.LibvirtCloud
    :param explorer: the Explorer
    :returns: a list of texts
    """
    cloud.remove_left_directories()
    if cloud.READY_LINE:
        cloud.look_for_ready_lines()
        explorer.rest()
    before = cloud.state()
    if (before['status'] != 404 and _is_deleted(cloud)
            and _happened(explorer) & _FAILURES):
        # A deletion that was interrupted: its owner deletes it again.
        return list(_last_delete(cloud, explorer))
    found = _violations(cloud, before)
    if _happened(explorer) == {failures.NONE} and not cloud.IS_REFUSED:
        found += list(_failed(cloud))
    if _happened(explorer) & (_FAILURES | _RESETS | _LET_TIME_PASS) and (
            before['task'] == task_states.MIGRATING
            or intruders.unfinished_migrations(cloud)
            or cloud.migration_allocations()):
        # nova-compute ends what nobody has worked on for long.
        cloud.let_an_hour_pass()
        raised = intruders.let_periodic_tasks_run(cloud)
        explorer.rest()
        cloud.remove_left_directories()
        before = cloud.state()
        found = raised + ['after an hour: ' + each
                          for each in _violations(cloud, before)]
    found += intruders.let_periodic_tasks_run(cloud)
    explorer.rest()
    after = cloud.state()
    if after != before:
        found.append('periodic tasks change it: %s, then %s' % (
            _short(before), _short(after)))
        found += ['after the periodic tasks: ' + each
                  for each in _violations(cloud, after)]
    found += _bad_answers(cloud, explorer) + _rights(cloud)
    found += _notifications(cloud, explorer, 'rescue')
    if after['status'] != 404 and _are_left_open(explorer, found):
        # Whoever is at fault already, cannot be asked for a way out.
        found += _unknown(found, _ways_out(cloud, explorer, after))
    return found


def _failed(cloud):
    """What fails although nothing happens."""
    for action, event in _events_of(cloud):
        if event.result == 'Error' and event.event != readiness.EVENT:
            yield 'harness: %s of %s fails' % (event.event, action.action)


def _is_deleted(cloud):
    """Whether a request to delete the server was accepted."""
    return any(answer[:2] == (204, 'DELETE')
               and answer[2].endswith(cloud.server['id'])
               or (answer[0], answer[4]) == (202, 'force_delete')
               for answer in cloud.answers)


def _unknown(known, found):
    """Those violations that were not there before, or should have gone."""
    before = {left_open.whenever(each) for each in known
              if not left_open.whenever(each).startswith(_GOES)}
    return [each for each in found if left_open.whenever(each) not in before]


def _are_left_open(explorer, found):
    return left_open.reason_of(str(explorer.schedule), found,
                               happened=explorer.happened) is not None


def violations(cloud):
    """What is violated now, with nothing tried.

    :param cloud: a clouds.LibvirtCloud
    """
    return _violations(cloud, cloud.state()) + _rights(cloud)


def _short(state):
    return '%s/%s on %s, guests %s' % (state['status'], state['task'],
                                       state['host'], state['guests'])


def _violations(cloud, state):
    if state['status'] == 404:
        if cloud.server['id'] not in cloud.to_be_deleted:
            return ['the server is gone, and nobody has deleted it']
        return _left_of_deleted(cloud)
    return [text for check in (
        _one_in_lists, _no_task, _guest_is_what_api_says,
        _guest_is_on_its_host, _disks_are_there,
        _nothing_of_rescue, _session, _ready, _volumes, _keys, _tpm,
        _placement, _ports, _migrations, _events)
        for text in check(cloud, state)]


def _left_of_deleted(cloud):
    uuid = cloud.server['id']
    found = []
    if cloud.times_listed():
        found.append('deleted, but it is listed')
    found += ['deleted, but ' + each for each in _quota(cloud, 0)]
    if cloud.domains_of_server():
        found.append('deleted, but there is a domain: %s' % [
            '%s on %s' % ('running' if domain.isActive() else 'defined',
                          host)
            for host, domain in cloud.domains_of_server()])
    if cloud.allocations_by_host():
        found.append('deleted, but it has allocations')
    if cloud.migration_allocations():
        found.append('deleted, but its migration has allocations')
    if cloud.cinder.attachment_ids_for_instance(uuid):
        found.append('deleted, but a volume is attached')
    if cloud.volumes.connected:
        found.append('deleted, but a volume is connected: %s' % [
            host for _, host in cloud.volumes.connected])
    found += ['deleted, but ' + each
              for each in _keys(cloud, {'host': None})]
    left = {host: sorted(names) for host, names in cloud.files().items()}
    if left:
        found.append('deleted, but there are files: %s' % left)
    if cloud.volumes.deleted:
        found.append('a volume was deleted that nobody wanted deleted')
    if cloud.ports():
        found.append('deleted, but it has a port')
    return found + list(_left_of_tpm(cloud))


def _left_of_tpm(cloud):
    if cloud.TPM and cloud.tpm_states():
        yield 'deleted, but its TPM is left'
    if cloud.TPM and cloud.tpm_secrets():
        yield 'deleted, but the secret of its TPM is left'


def _one_in_lists(cloud, state):
    number = cloud.times_listed()
    if number != 1:
        yield 'listed %d times' % number
    yield from _quota(cloud, 1)


def _no_task(cloud, state):
    if state['task']:
        yield 'a task remains: %s with %s' % (state['status'],
                                              state['task'])


def _guest_is_what_api_says(cloud, state):
    status, guests = state['status'], state['guests']
    if status in ('ACTIVE', 'SHUTOFF') and any(
            in_rescue for _, in_rescue in guests):
        yield '%s, but the rescue disk boots' % status
    may_be_off = cloud.MAY_BE_OFF or state['host'] in cloud.have_been_off
    if (status == 'RESCUE' and not any(rescue for _, rescue in guests)
            and (guests or not may_be_off)):
        yield 'RESCUE, but the guests are %s' % guests
    if status == 'ACTIVE' and not guests:
        yield 'ACTIVE, but no guest runs'
    if status == 'SHUTOFF' and guests:
        yield 'SHUTOFF, but a guest runs'
    if status not in ('RESCUE', 'ACTIVE', 'SHUTOFF', 'ERROR'):
        yield 'a state that nobody asked for: %s' % status


def _guest_is_on_its_host(cloud, state):
    if len(state['guests']) > 1:
        yield 'two guests of one server: %s' % state['guests']
    for host, _ in state['guests']:
        if host != state['host']:
            yield 'a guest on %s, the server is on %s' % (host,
                                                          state['host'])
    for host, domain in cloud.domains_of_server():
        if host != state['host']:
            yield 'a domain is left on %s' % host


def _disks_are_there(cloud, state):
    files = cloud.files()
    on_host = files.get(state['host'], {})
    for name, content in cloud.before.disks.items():
        if on_host.get(name) is None:
            yield 'the disk %s is gone from %s' % (name, state['host'])
        elif on_host[name] != content:
            yield 'the content of %s has changed' % name
    for host, names in files.items():
        # On shared storage all hosts see the same files.
        if host != state['host'] and not cloud.SHARED:
            yield 'files are left on %s: %s' % (host, sorted(names))


def _nothing_of_rescue(cloud, state):
    if state['status'] == 'RESCUE' or any(
            in_rescue for _, in_rescue in state['guests']):
        return
    instance = cloud.instance(cloud.server)
    if state['status'] == 'ERROR' and instance_metadata.has_record(instance):
        # It is still rescued: its unrescue has failed. The way out cleans up.
        return
    left = [name for names in cloud.files().values() for name in names
            if name.endswith('.rescue') or name == 'unrescue.xml']
    if left:
        yield 'files of a rescue are left: %s' % sorted(set(left))
    if state['status'] == 'ERROR':
        return
    keys = [key for key in instance.system_metadata
            if key.startswith(instance_metadata.PREFIX)
            and key not in _ALLOWED_METADATA]
    if keys:
        yield 'metadata of a rescue is left: %s' % sorted(keys)


def _session(cloud, state):
    """A server in rescue has what its rescue was asked with."""
    if state['status'] != 'RESCUE' or not cloud.SESSION:
        return
    if any(status == 409 and lineage == actors.OPERATION
           for status, _, _, _, lineage in cloud.answers):
        return  # another rescue was first
    instance = cloud.instance(cloud.server)
    record = instance_metadata.rescue_of(instance)
    access = instance_metadata.access_to_rescue(instance)
    for name, found in (('timeout', record and int(record.timeout or 0)),
                        ('key_name', access and access.key_name),
                        ('user_data', access and access.user_data)):
        if found != cloud.SESSION[name]:
            yield 'RESCUE, but its %s is %.20s' % (name, found)


def _ready(cloud, state):
    """It was found out and told whether the rescue system came up."""
    if not cloud.READY_LINE:
        return
    instance = cloud.instance(cloud.server)
    ready = instance_metadata.readiness_of(instance)
    if ready == instance_metadata.WAITING:
        yield 'nobody finds out whether the rescue system is ready'
    told = [event.result for _, event in _events_of(cloud)
            if event.event == readiness.EVENT]
    notified = len([
        each for each in cloud.notifier.versioned_notifications
        if each['event_type'] == 'instance.rescue.progress'
        and each['payload']['nova_object.data']['uuid'] == instance.uuid])
    if len(told) != notified:
        yield 'readiness is told %d times, and notified of %d times' % (
            len(told), notified)
    if state['status'] == 'RESCUE':
        expected = {instance_metadata.SEEN: 'Success',
                    instance_metadata.NOT_SEEN: 'Error'}.get(ready)
        if expected is None:
            yield 'RESCUE, but its ready line is %s' % ready
        elif told[:1] != [expected]:
            yield 'the ready line is %s, but told is %s' % (ready, told)


def _volumes(cloud, state):
    number = len(cloud.cinder.attachment_ids_for_instance(
        cloud.server['id']))
    expected = cloud.before.attachments
    if cloud.changes_volumes:
        recorded = cloud.attached_volumes()
        expected = len(recorded)
        yield from _are_connected(cloud, state, recorded)
    if number != expected:
        yield '%d attachments of volumes instead of %d' % (number, expected)
    if cloud.volumes.deleted:
        yield 'a volume was deleted that nobody wanted deleted'
    for attachments in cloud.cinder.volume_to_attachment.values():
        for attachment in attachments.values():
            host = (attachment['connector'] or {}).get('host')
            if host != state['host']:
                yield 'an attachment is that of %s, the server is on %s' % (
                    host, state['host'])
    hosts = {host for host, _ in state['guests']}
    connected = {host for _, host in cloud.volumes.connected}
    if cloud.BFV and hosts - connected:
        yield 'a guest runs on %s without its volume' % sorted(
            hosts - connected)
    if connected - {state['host']}:
        yield 'a volume is connected to %s' % sorted(
            connected - {state['host']})


def _are_connected(cloud, state, recorded):
    """What a server has is connected where it is, and nothing else."""
    connected = {volume for volume, host in cloud.volumes.connected
                 if host == state['host']}
    if state['guests'] and set(recorded) - connected:
        yield 'a guest runs without a volume that the server has'
    if connected - set(recorded):
        yield 'volumes are connected that the server has not: %s' % sorted(
            connected - set(recorded))


def _keys(cloud, state):
    known = {host for host, _ in cloud.secrets.known} if cloud.secrets else ()
    if set(known) - {state['host']}:
        yield 'the key of a volume is left on %s' % sorted(
            set(known) - {state['host']})


def _tpm(cloud, state):
    """It is whole, where the server is, and not that of a rescue system."""
    if not cloud.TPM:
        return
    states = cloud.tpm_states()
    if state['host'] not in states:
        yield 'the TPM is gone from %s' % state['host']
    if set(states) - {state['host']}:
        yield 'a TPM is left on %s' % sorted(set(states) - {state['host']})
    if set(states.values()) - {cloud.before.tpm}:
        yield 'the content of the TPM has changed'
    if cloud.tpm_secrets() != cloud.before.tpm_secrets:
        yield 'the key manager has %d secrets of it' % len(
            cloud.tpm_secrets())
    for host, domain in cloud.domains_of_server():
        if clouds.has_rescue_disk(domain) == (domain.tpm is not None):
            yield 'the domain of %s has %s TPM' % (
                ('the rescue', 'a') if domain.tpm is not None
                else ('the server', 'no'))


def _placement(cloud, state):
    allocations = cloud.allocations_by_host()
    if allocations != {state['host']: cloud.before.resources}:
        yield 'allocations on %s, the server is on %s' % (
            sorted(allocations), state['host'])
    if cloud.migration_allocations():
        yield 'a migration that is over has allocations'


def _ports(cloud, state):
    ports = cloud.ports()
    if not cloud.changes_ports and set(ports) != {cloud.PORT}:
        yield '%d ports instead of 1' % len(ports)
    for port in ports.values():
        if port.get('binding:host_id') != state['host']:
            yield 'a port is bound to %s, the server is on %s' % (
                port.get('binding:host_id'), state['host'])
    if set(ports) != cloud.cached_ports():
        yield 'Nova has recorded %d ports, Neutron %d' % (
            len(cloud.cached_ports()), len(ports))
    expected = {port['mac_address'] for port in ports.values()}
    for host, domain in cloud.domains_of_server():
        found = clouds.addresses(domain)
        if expected - found:
            yield 'a port is not in the domain on %s' % host
        if found - expected:
            yield 'the domain on %s has what is no port of it' % host


def _migrations(cloud, state):
    running = intruders.unfinished_migrations(cloud)
    if running:
        yield 'a migration is %s' % running


def _events(cloud, state):
    """Every event of an action that was begun is over.

    What is done twice begins two of the same name, of which Nova ends the
    first.
    """
    begun, over = {}, set()
    for action, event in _events_of(cloud):
        begun[action.id, event.event] = action.action
        if event.finish_time:
            over.add((action.id, event.event))
    for key in sorted(set(begun) - over):
        yield 'an event is open: %s of %s' % (key[1], begun[key])


def _events_of(cloud):
    """(action, event) of all that was done to the server, newest first."""
    for action in objects.InstanceActionList.get_by_instance_uuid(
            cloud.context, cloud.server['id']):
        for event in objects.InstanceActionEventList.get_by_action(
                cloud.context, action.id):
            yield action, event


def _happened(explorer):
    """The names of all that happens in a schedule."""
    return {explorer.schedule.happening, *(
        step.happening for step in explorer.schedule.steps)}


def _bad_answers(cloud, explorer):
    if _happened(explorer) & _FAILURES:
        # With what it needs away, Nova says 500, or forgets what it has said.
        return []
    if _is_deleted(cloud) and cloud.show() is not None:
        return ['DELETE was accepted, and the server is there']
    form = 'answer %d to %s %s of the %s: %s'
    return [form % (status, method, uri.rpartition('/')[2], lineage,
                    text[:100])
            for status, method, uri, text, lineage in cloud.answers
            if status >= 500]


def _rights(cloud):
    """What was done with rights that the server's project does not have."""
    return ['done with rights of another: %s of %s %s' % (
        call.action, call.service, call.what)
        for call in cloud.audit.violations]


def _notifications(cloud, explorer, action):
    """Who was told that it begins is told that it is over."""
    if _happened(explorer) & _TELLS_NOBODY:
        return
    phases = collections.Counter(
        notification['event_type'].rpartition('.')[2]
        for notification in cloud.notifier.versioned_notifications
        if notification['event_type'].startswith('instance.%s.' % action))
    if phases['start'] != phases['end'] + phases['error']:
        yield 'notifications of the %s: %s' % (
            action, ', '.join('%d %s' % (number, phase) for phase, number
                              in sorted(phases.items())))


def _quota(cloud, number):
    used = cloud.api.api_get('/limits').body['limits']['absolute'][
        'totalInstancesUsed']
    if used != number:
        yield 'the quota counts %d servers instead of %d' % (used, number)


def _ways_out(cloud, explorer, state):
    found = []
    if state['task']:
        # Left open where only a restart of nova-compute ends it.
        cloud.kill_and_restart(state['host'])
        explorer.rest()
        state = cloud.state()
        found += ['after a restart: ' + each
                  for each in _violations(cloud, state)]
    name = 'unrescue' if state['status'] == 'RESCUE' else 'hard reboot'
    body = ({'unrescue': None} if name == 'unrescue'
            else {'reboot': {'type': 'HARD'}})
    answer = explorer.as_caller(lambda: cloud.act(body))
    after = cloud.state()
    if (answer.status_code >= 400
            or (after['status'], after['task']) != ('ACTIVE', None)
            or [rescue for _, rescue in after['guests']] != [False]):
        found.append('no way out by %s: answer %d, then %s' % (
            name, answer.status_code, _short(after)))
    found += ['after the %s: %s' % (name, each)
              for each in _violations(cloud, after)]
    if after['task'] is None:
        found += _last_delete(cloud, explorer)
    return found


def _last_delete(cloud, explorer):
    answer = explorer.as_caller(cloud.delete)
    if cloud.show() is not None:
        yield 'cannot be deleted: answer %d' % answer.status_code
    for each in _left_of_deleted(cloud):
        yield 'after the last delete: ' + each


# --- rebuild of servers that never booted ------------------------------------

def check_rebuild(cloud, explorer):
    """The same for a server that never booted.

    :param cloud: a clouds.RebuildCloud
    :param explorer: the Explorer
    """
    found = rebuild_violations(cloud)
    before = cloud.state()
    if before['status'] == 'ERROR' and before['host']:
        # nova-compute looks each ten minutes whether it has a guest.
        eventlet.sleep(_UNTIL_AUDIT)
    for name in ('sync_power_states', 'cleanup_deleted', 'audit'):
        intruders.ALL[name].act(cloud)
    explorer.rest()
    after = cloud.state()
    if after != before:
        found.append('periodic tasks change it: %s, then %s' % (
            _short(before), _short(after)))
    found += _bad_answers(cloud, explorer) + _rights(cloud)
    if not cloud.STOCK_SERVICES:  # Nova has none
        found += _notifications(cloud, explorer, 'rebuild')
    if cloud.is_told_to_finish() or (
            _happened(explorer) & _FAILURES and after['status'] == 'BUILD'):
        # The documented way, after a crash or without an answer.
        cloud.finish_interrupted()
        explorer.rest()
        after = cloud.state()
        found = ['after rebuild-interrupted: ' + each
                 for each in rebuild_violations(cloud)]
        if not cloud.STOCK_SERVICES:
            found += _notifications(cloud, explorer, 'rebuild')
    for listed, status in cloud.looks:
        if (len(listed), status) not in ((1, 200), (0, 404)):
            found.append('listed %d times, GET says %d' % (len(listed),
                                                           status))
    if after['status'] != 404 and _are_left_open(explorer, found):
        found += _unknown(found, _rebuild_ways_out(cloud, explorer, after))
    return found


def rebuild_violations(cloud):
    """What is violated now of a server that never booted.

    :param cloud: a clouds.RebuildCloud
    """
    state = cloud.state()
    found = []
    there = {
        'it is listed': cloud.times_listed(),
        'it has a row': cloud.count_rows(cloud.server, deleted=0),
        'a guest runs': state['guests'],
        'it has allocations': cloud.allocations_by_host(),
        'a volume is attached': len(
            cloud.cinder.attachment_ids_for_instance(cloud.server['id'])),
    }
    if objects.BuildRequestList.get_all(cloud.context).objects:
        found.append('a build request is left')
    if len(state['guests']) > 1:
        found.append('two guests of one server: %s' % state['guests'])
    if state['task']:
        found.append('a task remains: %s with %s' % (state['status'],
                                                     state['task']))
    found += _quota(cloud, int(state['status'] != 404))
    if state['status'] == 404:
        if cloud.server['id'] not in cloud.to_be_deleted:
            found.append('the server is gone, and nobody has deleted it')
        return found + ['deleted, but ' + text for text in there
                        if there[text]]
    if cloud.deleted_volumes:
        found.append('a volume was deleted that nobody wanted deleted')
    if (there['it is listed'], there['it has a row']) != (1, 1):
        found.append('listed %d times, with %d rows' % (
            there['it is listed'], there['it has a row']))
    return found + list(_not_rebuilt(
        cloud, state, there['it has allocations'],
        there['a volume is attached']))


def _not_rebuilt(cloud, state, allocations, attachments):
    hosts = [host for host, _ in state['guests']]
    if state['status'] == 'ACTIVE':
        if hosts != [state['host']]:
            yield 'ACTIVE on %s, guests on %s' % (state['host'], hosts)
        if set(allocations) != {state['host']}:
            yield 'allocations on %s, the server is on %s' % (
                sorted(allocations), state['host'])
        if attachments != cloud.BFV:
            yield 'ACTIVE, with %d attachments of volumes' % attachments
    elif state['status'] != 'ERROR':
        yield 'a state that nobody asked for: %s' % state['status']
    else:
        # A service that was killed, or a reset, leaves them where it is.
        known = {state['host'], _left_guest(cloud)}
        for host in set(hosts) - known:
            yield 'ERROR, but a guest on %s' % host
        if set(allocations) - known:
            yield 'ERROR, but allocations on %s' % sorted(allocations)


def _left_guest(cloud):
    """The host that is known to have a guest of a failed build."""
    with contextlib.suppress(exception.InstanceNotFound):
        return instance_metadata.host_with_left_guest(cloud.instance())
    return None


def _rebuild_ways_out(cloud, explorer, state):
    found = []
    if state['status'] == 'ERROR' and state['guests']:
        answer = explorer.as_caller(cloud.ask_rebuild)
        # 400 of Nova's own rebuild, if the build was complete.
        if answer.status_code not in (400, 409):
            # Two guests, of which nobody need say more.
            return ['rebuilt beside a guest on %s: answer %d' % (
                state['guests'], answer.status_code)]
        # It stays until an operator removes it, as the log says.
        cloud.remove_guests()
        explorer.rest()
    if state['status'] == 'ERROR' and not _is_hindered(explorer):
        if state['host']:
            found += _release(cloud)
        answer = explorer.as_caller(cloud.ask_rebuild)
        after = cloud.state()
        if (after['status'], len(after['guests'])) != ('ACTIVE', 1):
            found.append('no way out by rebuild: answer %d, then %s' % (
                answer.status_code, _short(after)))
        found += ['after another rebuild: ' + each
                  for each in rebuild_violations(cloud)]
    if not state['task']:
        answer = explorer.as_caller(cloud.delete)
        if cloud.show() is not None:
            found.append('cannot be deleted: answer %d' % answer.status_code)
        found += ['after the last delete: ' + each
                  for each in rebuild_violations(cloud)]
    return found


def _release(cloud):
    """Have the operator take a server off its host, as the log says."""
    try:
        cloud.release()
    except compute_api.Refused as exc:
        yield 'no way out by rebuild-release: %s' % exc


def _is_hindered(explorer):
    return any(name in intruders.ALL and (intruders.ALL[name].resets
                                          or intruders.ALL[name].takes_away
                                          or 'delete' in name)
               for name in _happened(explorer))

# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.

"""What must be true once the cloud has come to rest.

In the words of tests/explorer/invariants.py, where they say the same. Each
sentence begins with what is violated, so that equal ones can be counted.
"""

from tests.lab.cloud import hypervisor
from tests.lab.cloud import settings
from tests.lab import evidence

_OVER = ('completed', 'failed', 'error', 'cancelled', 'done', 'confirmed',
         'reverted')


def at_rest(subject):
    """Whether no service works on a server any more.

    :param subject: a subjects.Subject
    """
    shown = subject.shown()
    return shown is None or (shown['OS-EXT-STS:task_state'] is None
                             and shown['status'] != 'BUILD'
                             and not _unfinished(subject))


def violations(subject):
    """What is violated, as a list of texts.

    :param subject: a subjects.Subject
    """
    shown = subject.shown()
    if shown is None:
        return list(_left_of_deleted(subject))
    state = _State(subject, shown)
    checks = [_listed_once, _no_task, _migrations, _guest_is_what_api_says,
              _guest_is_on_its_host, _placement]
    if subject.report is not None:
        checks += [_disks_are_there, _nothing_of_rescue, _volumes]
    return [text for check in checks for text in check(subject, state)]


def two_run(subject):
    """Whether two guests of a server run, which is no state to wait in.

    :param subject: a subjects.Subject
    """
    hosts = {guest.host for guest in hypervisor.guests(subject.server.id)}
    return len(hosts) > 1 and all(
        hypervisor.virsh(host, 'domstate', subject.domain).strip()
        == 'running' for host in hosts)


def files_of_migrations():
    """What copies of files have left on any host, as a list of texts."""
    return [f'files are left on {host}: {path.name}'
            for host in settings.HYPERVISORS
            for path in _instances(host).glob('rescue_ext_*')]


def _instances(host):
    if settings.Shape.current().profile == 'shared':
        return settings.DATA / 'shared-source'
    return settings.DATA / host / 'instances'


class _State:

    def __init__(self, subject, shown):
        self.status = shown['status']
        self.task = shown['OS-EXT-STS:task_state']
        self.host = shown['OS-EXT-SRV-ATTR:host']
        self.guests = [(guest.host, guest.in_rescue) for guest
                       in hypervisor.guests(subject.server.id)]
        self.runs_rescue = any(in_rescue for _, in_rescue in self.guests)


def _left_of_deleted(subject):
    if subject.times_listed():
        yield 'deleted, but it is listed'
    for guest in hypervisor.guests(subject.server.id):
        yield f'deleted, but there is a domain: running on {guest.host}'
    for trace in evidence.traces(subject.server.id, subject.domain):
        yield f'deleted, but there is: {trace}'
    for migration in subject.migrations():
        if subject.allocations(migration['uuid']):
            yield 'deleted, but its migration has allocations'
    yield from _volumes_of_deleted(subject)


def _volumes_of_deleted(subject):
    for volume in subject.kept_volumes():
        attached = subject.attached_to(volume)
        if attached is None:
            yield 'a volume was deleted that nobody wanted deleted'
        elif attached or subject.attachments(volume):
            yield 'deleted, but a volume is attached'
    for volume in set(subject.volumes) - set(subject.kept_volumes()):
        if subject.attached_to(volume) is not None:
            yield 'deleted, but its own volume is there'


def _listed_once(subject, state):
    number = subject.times_listed()
    if number != 1:
        yield f'listed {number} times'


def _no_task(subject, state):
    if state.task:
        yield f'a task remains: {state.status} with {state.task}'


def _unfinished(subject):
    return [migration['status'] for migration in subject.migrations()
            if migration['status'] not in _OVER]


def _migrations(subject, state):
    running = _unfinished(subject)
    if running:
        yield f'a migration is {running}'


def _guest_is_what_api_says(subject, state):
    if state.status in ('ACTIVE', 'SHUTOFF') and state.runs_rescue:
        yield f'{state.status}, but the rescue disk boots'
    if state.status == 'RESCUE' and not state.runs_rescue:
        yield f'RESCUE, but the guests are {state.guests}'
    if state.status == 'ACTIVE' and not state.guests:
        yield 'ACTIVE, but no guest runs'
    if state.status == 'SHUTOFF' and state.guests:
        yield 'SHUTOFF, but a guest runs'
    if state.status not in ('RESCUE', 'ACTIVE', 'SHUTOFF', 'ERROR'):
        yield f'a state that nobody asked for: {state.status}'


def _guest_is_on_its_host(subject, state):
    if len(state.guests) > 1:
        yield f'two guests of one server: {state.guests}'
    for host, _ in state.guests:
        if host != state.host:
            yield f'a guest on {host}, the server is on {state.host}'
    for host in settings.HYPERVISORS:
        if host != state.host and subject.domain in hypervisor.virsh(
                host, 'list', '--all', '--name').split():
            yield f'a domain is left on {host}'


def _disks_are_there(subject, state):
    content = subject.content()
    for name, digest in subject.sums.items():
        if name not in content:
            yield f'the disk {name} is gone from {state.host}'
        elif content[name] != digest:
            yield f'the content of {name} has changed'
    # On shared storage all hosts see the same files.
    if settings.Shape.current().profile == 'shared':
        return
    for host in settings.HYPERVISORS:
        left = sorted(path.name for path in _instances(host).glob(
            f'{subject.server.id}*'))
        if left and host != state.host:
            yield f'files are left on {host}: {left}'


def _nothing_of_rescue(subject, state):
    if state.status in ('RESCUE', 'ERROR') or state.runs_rescue:
        return
    left = evidence.rescue_leftovers(subject.server)
    if left:
        yield f'files of a rescue are left: {left}'


def _volumes(subject, state):
    for volume in subject.volumes:
        attached = subject.attached_to(volume)
        if attached is None:
            yield 'a volume was deleted that nobody wanted deleted'
            continue
        number = len(subject.attachments(volume))
        if number != 1:
            yield f'{number} attachments of volumes instead of 1'
        for server, host in attached:
            if (server, host) != (subject.server.id, state.host):
                yield (f'a volume is attached to {server} on {host}, the '
                       f'server is on {state.host}')


def _placement(subject, state):
    allocations = subject.allocations()
    expected = {state.host: subject.resources}
    if subject.resources is None:
        # It was not built when the round began.
        allocations = set(allocations)
        expected = {state.host} - {None}
    if allocations != expected:
        yield (f'allocations on {sorted(allocations)}, the server is on '
               f'{state.host}')
    if any(subject.allocations(migration['uuid'])
           for migration in subject.migrations()
           if migration['status'] in _OVER):
        yield 'a migration that is over has allocations'

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

"""The proof that the explorer works: without a remedy it finds the fault.

A mutation takes one remedy of the package out. The explorer is told the
operation and what may happen in it, but neither where nor when; it has to come
upon a violation that the mutation is known for.
"""

import contextlib
import importlib
import os
import re
import sys
import typing

from nova.compute import vm_states

from tests.explorer import failures

VARIABLE = 'EXPLORER_MUTATION'
_DIRECTORY = '.explorer/mutations'


class Mutation(typing.NamedTuple):
    """A remedy that is taken out.

    :ivar words: the fault that comes back
    :ivar where: the callable that is replaced, as ``module:name``
    :ivar replacement: what it is replaced by
    :ivar operation: the operation in which the fault shows
    :ivar happenings: what may happen in it
    :ivar violation: a regular expression that a violation must match
    :ivar several: whether it takes more than one happening
    """

    words: str
    where: str
    replacement: typing.Callable
    operation: str
    happenings: tuple
    violation: str
    several: bool = False


def _stock(original, *args, **kwargs):
    """In place of an override."""
    return original(*args, **kwargs)


def _nothing(*args, **kwargs):
    return None


@contextlib.contextmanager
def _nothing_around(*args, **kwargs):
    yield


def _act(manager, instance, action, task_state, act, *args, **kwargs):
    return act()


def _yes(*args, **kwargs):
    return True


def _lock_only(task):
    """In place of a look at the task under the lock."""
    task._lock()
    return True


def _finish(instance):
    instance.vm_state = vm_states.RESCUED


ALL = {
    # Rescue and unrescue.
    'no-roll-back': Mutation(
        'a failed rescue leaves the guest off',
        'nova_rescue_ext.rescue.operation:Rescue._restore_guest', _nothing,
        'rescue-legacy', (failures.FAIL,), 'ACTIVE, but no guest runs'),
    'files-left': Mutation(
        'the files of a rescue outlive it',
        'nova_rescue_ext.host.rescue_files:remove_all', _nothing,
        'unrescue', (failures.NONE,), 'files of a rescue are left'),
    'no-restart': Mutation(
        'a restart of nova-compute leaves a rescue in the middle',
        'nova_rescue_ext.rescue.compute:init_instance', _stock,
        'rescue-legacy', (failures.CRASH,), 'a task remains|, but '),
    'no-restart-in-unrescue': Mutation(
        'the same in an unrescue',
        'nova_rescue_ext.rescue.compute:init_instance', _stock,
        'unrescue', (failures.CRASH,), 'a task remains|, but '),
    'launched-at': Mutation(
        'rescue_timeout ends a rescue that was finished after a restart',
        'nova_rescue_ext.rescue.recovery:_finish', _finish,
        'rescue-legacy', (failures.CRASH,), 'periodic tasks change it'),
    'doubled-message': Mutation(
        'a message that comes when its task is over is acted on',
        'nova_rescue_ext.task.stale_message:act_in_time', _act,
        'unrescue', (failures.DOUBLED,), '.'),
    'no-last-save': Mutation(
        'the end of a task that could not be saved stays',
        'nova_rescue_ext.task.final_save:ensured', _nothing_around,
        'rescue-legacy', (failures.FAIL,), 'a task remains'),
    'rescue-guest-as-active': Mutation(
        'a rescue that fails at its end leaves ACTIVE with the rescue disk',
        'nova_rescue_ext.rescue.operation:Rescue.may_end', _yes,
        'rescue-legacy', (failures.FAIL,),
        'ACTIVE, but the rescue disk boots'),
    'reset-in-rescue': Mutation(
        'a server whose state is reset in its rescue is ACTIVE with the '
        'rescue disk',
        'nova_rescue_ext.rescue.operation:Rescue.settle', _nothing,
        'rescue-legacy', ('reset_active',),
        'ACTIVE, but the rescue disk boots'),
    'delete-in-rescue': Mutation(
        'a rescue starts a guest in the middle of a DELETE, or after it',
        'nova_rescue_ext.task.host_task:HostTask._check', _nothing,
        'rescue-legacy', ('delete',), 'deleted, but', several=True),
    'roll-back-in-delete': Mutation(
        'a rescue that fails starts the guest that a DELETE has destroyed',
        'nova_rescue_ext.rescue.operation:Rescue._take_turn_back',
        _lock_only, 'rescue-legacy', ('delete',), 'deleted, but',
        several=True),
    'unrescue-after-delete': Mutation(
        'an unrescue that waited for the lock makes a deleted server anew',
        'nova_rescue_ext.task.host_task:HostTask._check', _nothing,
        'unrescue', ('delete',), 'deleted, but', several=True),
    # Live migration of servers in rescue.
    'nothing-copied': Mutation(
        'a migration leaves the disks behind that QEMU does not move',
        'nova_rescue_ext.live_migration.libvirt:pre_live_migration', _stock,
        'migrate', (failures.NONE,), 'the disk|RESCUE, but'),
    # Rebuild of servers that never booted.
    'no-undo': Mutation(
        'a rebuild that fails early leaves the server in BUILD',
        'nova_rescue_ext.rebuild.api:Rebuild.roll_back', _nothing,
        'rebuild-cell0', (failures.FAIL,), 'a build request|listed|state'),
    'row-lost': Mutation(
        'a row that is deleted, and the answer lost, is given back',
        'nova_rescue_ext.rebuild.api:Rebuild._has_row', _yes,
        'rebuild-cell0', (failures.LOST,), 'listed|deleted|state'),
    'no-recovery': Mutation(
        'a rebuild that a crash interrupts stays in BUILD',
        'nova_rescue_ext.rebuild.recovery:find', lambda *args: [],
        'rebuild-cell0', (failures.CRASH,), 'a build request|state'),
}


def place_of(name):
    """Where the remedy is that a mutation takes out.

    :param name: of the Mutation
    :returns: (a module or class, the name of a callable in it)
    :raises: LookupError if it is gone
    """
    mutation = ALL[name]
    module, _, attribute = mutation.where.partition(':')
    owner = importlib.import_module(module)
    *path, last = attribute.split('.')
    for part in path:
        owner = getattr(owner, part, None)
    if not hasattr(owner, last):
        raise LookupError('%s is gone: mutation %s needs another place'
                          % (mutation.where, name))
    return owner, last


def apply(name):
    """Take a remedy out of this process, before it is used.

    :param name: of the Mutation
    :raises: LookupError if it is gone
    """
    setattr(*place_of(name), ALL[name].replacement)


def apply_from_environment():
    """Take out what ``EXPLORER_MUTATION`` says, if it is there."""
    if os.environ.get(VARIABLE):
        apply(os.environ[VARIABLE])


def main(work, arguments):
    """Run all mutations, or those that are named.

    :param work: lets a worker do something
    :param arguments: those of the command line
    :returns: the exit code
    """
    names = arguments.schedules or list(ALL)
    missed = [name for name in names if not _is_found(work, name, arguments)]
    print('%d of %d mutations were found.' % (len(names) - len(missed),
                                              len(names)))
    return 1 if missed else 0


def _is_found(work, name, arguments):
    mutation = ALL[name]
    results, _, seconds = work(
        mutation.operation, directory=os.path.join(_DIRECTORY, name),
        limit=arguments.seconds, environ={VARIABLE: name},
        seconds=arguments.seconds,
        seed=arguments.seed or '1', only=mutation.happenings,
        several=2000 if mutation.several else 0,
        stop_at=mutation.violation or '.')
    found = [result for result in results if any(
        re.search(mutation.violation, each) and not each.startswith('harness')
        for each in result.violations)]
    print('%-24s %s: %s' % (
        name, 'found' if found else 'NOT FOUND', mutation.words), flush=True)
    if found:
        print('    after %d schedules and %d s, by %s\n    %s' % (
            len(results), seconds, found[0].schedule,
            found[0].violations[0]), flush=True)
    elif not results:
        print('    see %s' % os.path.join(_DIRECTORY, name,
                                          mutation.operation + '.out'),
              file=sys.stderr)
    return bool(found)

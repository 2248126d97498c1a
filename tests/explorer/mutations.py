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

"""The remedies that are taken out, one at a time, to see the fault found.

The explorer is told the operation and what may happen in it, but neither where
nor when; it has to come upon a violation that the mutation is known for.
"""

import contextlib
import importlib
import os
import typing

from nova.compute import vm_states

from tests.explorer import failures

VARIABLE = 'EXPLORER_MUTATION'


class Mutation(typing.NamedTuple):
    """A remedy that is taken out.

    :ivar words: the fault that comes back
    :ivar where: the callable that is replaced, as ``module:name``, or several
        that are one remedy, separated by spaces
    :ivar replacement: what it is replaced by
    :ivar operation: the operation in which the fault shows
    :ivar happenings: what may happen in it
    :ivar violation: a regular expression that a violation must match
    :ivar several: whether it takes more than one happening
    :ivar missed: why it is not found, if it is not
    """

    words: str
    where: str
    replacement: typing.Callable
    operation: str
    happenings: tuple
    violation: str
    several: bool = False
    missed: str = ''


def _stock(original, itself, *args, **kwargs):
    """In place of an override of a method."""
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


def _no_names(*args, **kwargs):
    return set()


def _no_extras(*args, **kwargs):
    return {}


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
        'unrescue', (failures.DOUBLED,), '.',
        missed='It ends as it should: no invariant counts how often a '
               'guest is started.'),
    'no-last-save': Mutation(
        'the end of a task that could not be saved stays',
        'nova_rescue_ext.task.final_save:ensured', _nothing_around,
        'rescue-legacy', (failures.FAIL,), 'a task remains',
        missed='Here each call fails once, and Nova saves a second time when '
               'it clears the task.'),
    'saved-domain-left': Mutation(
        'the domain of before a rescue outlives it (stale-saved-domain)',
        'nova_rescue_ext.host.rescue_files:remove_stock_domain', _nothing,
        'rescue-legacy', (failures.NONE,), 'files of a rescue are left'),
    'unrescue-and-migrate': Mutation(
        'who comes second gets 500 (unrescue-and-migrate)',
        'nova_rescue_ext.task.conflict:loser_is_refused', _nothing_around,
        'unrescue', ('migrate',), 'answer 500', several=True),
    'failed-at-its-end': Mutation(
        'a rescue that fails at its end is saved as one of long ago, which '
        'rescue_timeout ends',
        'nova_rescue_ext.rescue.operation:Rescue.may_end', _yes,
        'rescue-legacy', (failures.FAIL,), 'periodic tasks change it: RESCUE'),
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
        _lock_only, 'rescue-legacy', ('delete', failures.FAIL),
        'deleted, but', several=True),
    'unrescue-after-delete': Mutation(
        'an unrescue that waited for the lock makes a deleted server anew',
        'nova_rescue_ext.task.host_task:HostTask._check', _nothing,
        'unrescue', ('delete',), 'deleted, but', several=True),
    # Live migration of servers in rescue.
    'nothing-copied': Mutation(
        'a migration leaves the disks behind that QEMU does not move',
        'nova_rescue_ext.live_migration.libvirt:pre_live_migration '
        'nova_rescue_ext.live_migration.libvirt:live_migration', _stock,
        'migrate-config-drive', (failures.NONE,), 'the disk|RESCUE, but'),
    'late-copy': Mutation(
        'a copy that outlives its migration goes on (late-copy)',
        'nova_rescue_ext.live_migration.destination:Arrival._is_current '
        'nova_rescue_ext.live_migration.destination:Arrival.check_current '
        'nova_rescue_ext.live_migration.destination:Arrival._record', _yes,
        'migrate', (failures.LATE,), 'left on compute2', several=True),
    'second-guest': Mutation(
        'a restart after the guest has moved frees the server, whose guest '
        'is started twice (second-guest)',
        'nova_rescue_ext.live_migration.compute:reset_live_migration',
        _stock, 'migrate-shared', (failures.CRASH,), '^a guest on'),
    'nobody-runs-it': Mutation(
        'a migration that nobody runs stays (nobody-runs-it)',
        'nova_rescue_ext.live_migration.periodic:look', _nothing,
        'migrate', (failures.CRASH,), 'a task remains'),
    'delete-in-migration': Mutation(
        'a DELETE leaves what is at the destination (delete-in-migration)',
        'nova_rescue_ext.live_migration.api:_refuse_while_migrating',
        _nothing, 'migrate', ('delete',), 'deleted, but'),
    # Rebuild of servers that never booted.
    'volume-deleted': Mutation(
        'a build that is aborted deletes a volume that was there before '
        '(aborted-build-deletes-volumes)',
        'nova_rescue_ext.rebuild.compute:cleanup_volumes', _stock,
        'rebuild-bfv', (failures.FAIL,), 'a volume was deleted'),
    'transferred-volume': Mutation(
        'a server gets a volume that belongs to another project by now '
        '(rights-of-the-caller)',
        'nova_rescue_ext.claims.volumes:_check_owner', _nothing,
        'rebuild-reserved', ('transfer',), 'done with rights of another'),
    'guest-left': Mutation(
        'a guest that is left is taken for one that is gone (guest-left)',
        'nova_rescue_ext.rebuild.compute:shutdown_instance', _stock,
        'rebuild-cell0', (failures.FAIL, failures.LOST),
        'two guests|but a guest on',
        several=True),
    'doubled-build': Mutation(
        'a message to build that comes twice costs the server its mapping '
        '(duplicate-cast)',
        'nova_rescue_ext.rebuild.database:_is_doubled_or_late', _no_names,
        'rebuild-cell0', (failures.DOUBLED,), '.'),
    'begun-twice': Mutation(
        'a rebuild begins of a server that was rebuilt meanwhile, and frees '
        'what it has',
        'nova_rescue_ext.rebuild.database:_is_as_found', _yes,
        'rebuild-cell', ('rebuild',), 'allocations on'),
    'buried-twice': Mutation(
        'of two operators who bury a server, one destroys the row of the '
        'other',
        'nova_rescue_ext.rebuild.building:destroy', _stock,
        'rebuild-interrupted', ('interrupted',), 'the server is gone'),
    'reset-while-it-boots': Mutation(
        'a guest is forgotten whose server was reset while it booted',
        'nova_rescue_ext.rebuild.compute:_had_booted',
        lambda *args: False, 'rebuild-cell', ('reset_error',), 'a guest on'),
    'delete-of-the-old-row': Mutation(
        'a DELETE that holds the old row is answered, and the server is '
        'built (delete-in-rebuild)',
        'nova_rescue_ext.rebuild.delete:delete', _stock,
        'rebuild-cell0', ('delete',), 'DELETE was answered|answer 500',
        several=True),
    'networks-lost': Mutation(
        'the requested networks are not kept (networks-not-kept)',
        'nova_rescue_ext.rebuild.conductor:_to_be_kept', _no_extras,
        'rebuild-cell0', (failures.FAIL,), 'no way out by rebuild'),
    'no-undo': Mutation(
        'a rebuild that fails early leaves the server in BUILD',
        'nova_rescue_ext.rebuild.api:Rebuild.roll_back', _nothing,
        'rebuild-cell0', (failures.FAIL,), 'a build request|listed|state',
        missed='The log tells the operator to run rebuild-interrupted, as '
               'after a crash, and that puts it right.'),
    'row-lost': Mutation(
        'a row that is deleted, and the answer lost, is given back',
        'nova_rescue_ext.rebuild.api:Rebuild._has_row', _yes,
        'rebuild-cell0', (failures.LOST,), 'listed|deleted|state'),
    'no-recovery': Mutation(
        'a rebuild that a crash interrupts stays in BUILD',
        'nova_rescue_ext.rebuild.recovery:find', lambda *args: [],
        'rebuild-cell0', (failures.CRASH,), 'a build request|state'),
}


def places_of(name):
    """Where the remedy is that a mutation takes out.

    :param name: of the Mutation
    :returns: a list of (a module or class, the name of a callable in it)
    :raises: LookupError if it is gone
    """
    return [_place(name, where) for where in ALL[name].where.split()]


def _place(name, where):
    module, _, attribute = where.partition(':')
    owner = importlib.import_module(module)
    *path, last = attribute.split('.')
    for part in path:
        owner = getattr(owner, part, None)
    if not hasattr(owner, last):
        raise LookupError('%s is gone: mutation %s needs another place'
                          % (where, name))
    return owner, last


def apply(name):
    """Take a remedy out of this process, before it is used.

    :param name: of the Mutation
    :raises: LookupError if it is gone
    """
    for owner, attribute in places_of(name):
        setattr(owner, attribute, ALL[name].replacement)


def apply_from_environment():
    """Take out what ``EXPLORER_MUTATION`` says, if it is there."""
    if os.environ.get(VARIABLE):
        apply(os.environ[VARIABLE])

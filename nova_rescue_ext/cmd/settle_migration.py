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


"""``nova-rescue-ext-manage settle-migration``: where does the guest run?

For a server in rescue that keeps the task of an abandoned live migration, if
nova-compute cannot find out by itself.
"""

from __future__ import annotations

import argparse
import sys
import typing

from nova_rescue_ext.cmd import compute_api

if typing.TYPE_CHECKING:
    from nova import context as nova_context
    from nova import objects

    from nova_rescue_ext.live_migration import recovery


class _Refused(Exception):
    """Nothing is done, for a reason in words."""


def add_parser(
        commands: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the command to those of the program."""
    parser = commands.add_parser(
        'settle-migration',
        help='end an abandoned live migration of a server in rescue, on the '
             'host where its guest runs')
    parser.add_argument('server', metavar='SERVER', help='its UUID')
    parser.add_argument('--config-file', action='append', help='of Nova')
    parser.add_argument(
        '--runs-on', metavar='HOST',
        help='where the guest runs, if a nova-compute does not answer; look '
             'with virsh list on both hosts')
    parser.add_argument(
        '--older-than', type=int, default=600, metavar='SECONDS',
        help='skip a migration that changed less than SECONDS ago, '
             'as a service may still be working on it (default 600)')
    parser.set_defaults(action=run, local=True)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """End a migration on the host where the guest runs.

    Run where nova-conductor runs: it needs the databases, the message bus,
    placement and Neutron.

    :returns: the exit code: 0, or 1 if nothing was done
    """
    from nova import context as nova_context
    from nova import exception
    from nova import objects

    context = nova_context.get_admin_context()
    try:
        mapping = objects.InstanceMapping.get_by_instance_uuid(
            context, arguments.server)
        with nova_context.target_cell(context, mapping.cell_mapping) as cell:
            _settle(cell, arguments)
    except _Refused as exc:
        print('%s: nothing is done. %s' % (arguments.server, exc))
        return 1
    except (exception.InstanceMappingNotFound, exception.InstanceNotFound):
        print('%s: there is no such server, or it was deleted meanwhile.'
              % arguments.server)
        return 1
    except exception.UnexpectedTaskStateError:
        print('%s: its state was reset meanwhile, or somebody else has ended '
              'its migration. What this command has not done, nova-compute on '
              'the source does, or logs why it cannot: see there.'
              % arguments.server)
        return 1
    return 0


def _settle(context: nova_context.RequestContext,
            arguments: argparse.Namespace) -> None:
    from nova_rescue_ext.live_migration import recovery

    instance, migration = _read(context, arguments)
    services = _services()
    answers = {host: recovery.runs_on(services, context, instance, host)
               for host in (instance.host, migration.dest_compute)}
    print(compute_api.table(['Host', 'Role', 'Runs the guest'], [
        [host, 'source' if host == instance.host else 'destination',
         {True: 'yes', False: 'no', None: 'does not answer'}[runs]]
        for host, runs in answers.items()]))
    host = _decide(answers, arguments.runs_on)
    if arguments.dry_run:
        print('It would be in rescue on %s.' % host)
        return
    # To ask takes minutes if a host does not answer.
    asked, instance_asked = migration, instance
    instance, migration = _read(context, arguments)
    if (instance.host, migration.id) != (instance_asked.host, asked.id):
        raise _Refused('It was migrated once more while the hosts were asked. '
                       'Run the command again.')
    if host == instance.host:
        recovery.give_back(services, context, instance, migration)
    else:
        _finish(services, context, instance, migration, answers[host])
    print('%s is in rescue on %s.' % (instance.uuid, host))


def _read(context: nova_context.RequestContext,
          arguments: argparse.Namespace
          ) -> tuple[objects.Instance, objects.Migration]:
    """The server and its migration.

    :raises: _Refused if that is not to be settled
    """
    from nova import objects

    from nova_rescue_ext.live_migration import recovery

    instance = objects.Instance.get_by_uuid(
        context, arguments.server,
        expected_attrs=['flavor', 'info_cache', 'system_metadata'])
    return instance, _check_stuck(
        instance, recovery.to_settle(context, instance.uuid),
        arguments.older_than)


def _check_stuck(instance: objects.Instance,
                 migration: objects.Migration | None,
                 older_than: int) -> objects.Migration:
    """Refuse a migration that somebody may be at work on.

    :returns: the migration
    :raises: _Refused
    """
    from nova.compute import task_states
    from nova.compute import vm_states
    from oslo_utils import timeutils

    if (instance.vm_state != vm_states.RESCUED
            or instance.task_state != task_states.MIGRATING):
        raise _Refused('It is %s, with task %s.' % (instance.vm_state,
                                                    instance.task_state))
    if migration is None or not migration.dest_compute:
        raise _Refused('No host has begun with its migration. nova-compute '
                       'on %s takes the task from it.' % instance.host)
    now = timeutils.utcnow(with_timezone=True)
    age = min(timeutils.delta_seconds(record.updated_at or record.created_at,
                                      now) for record in (instance, migration))
    if age < older_than:
        raise _Refused('It changed %d seconds ago, so a service may still be '
                       'working on it. Wait, or use --older-than.' % age)
    return migration


def _services() -> 'recovery.Services':
    from nova.compute import rpcapi
    from nova.network import neutron
    from nova.scheduler.client import report
    from nova.volume import cinder

    from nova_rescue_ext.live_migration import recovery

    return recovery.Services(neutron.API(), rpcapi.ComputeAPI(),
                             report.report_client_singleton(), cinder.API())


def _decide(answers: dict[str, bool | None], runs_on: str | None) -> str:
    """The host where the guest runs.

    :raises: _Refused if that is not sure
    """
    running = [host for host, runs in answers.items() if runs]
    silent = [host for host, runs in answers.items() if runs is None]
    if len(running) > 1:
        raise _Refused('The guest runs on both hosts, and both write to its '
                       'disks. Find out which one is in use, destroy the '
                       'other with virsh, then run the command again.')
    if runs_on is not None:
        if runs_on not in answers:
            raise _Refused('%s is neither the source nor the destination.'
                           % runs_on)
        if not answers[runs_on] and (running or runs_on not in silent):
            raise _Refused('According to the hosts it does not run on %s.'
                           % runs_on)
        return runs_on
    if silent:
        raise _Refused('%s does not answer. Check there with virsh list, and '
                       'name the host with --runs-on.' % ' and '.join(silent))
    if not running:
        raise _Refused('The guest runs on neither host. Compare the '
                       'directories of the server on both. If the one on the '
                       'source is complete, set the state of the server to '
                       'active and hard reboot it.')
    return running[0]


def _finish(services: 'recovery.Services',
            context: nova_context.RequestContext, instance: objects.Instance,
            migration: objects.Migration, answers: bool | None) -> None:
    from nova_rescue_ext.live_migration import recovery

    if answers:
        try:
            recovery.finish(services, context, instance, migration)
            return
        except Exception as exc:
            print('%s cannot take it over (%s).'
                  % (migration.dest_compute, exc), file=sys.stderr)
    else:
        print('%s did not answer.' % migration.dest_compute, file=sys.stderr)
    try:
        recovery.activate_ports(services, context, instance, migration)
    except Exception as exc:
        print('Its ports cannot be bound there (%s): bind them when that is '
              'repaired.' % exc, file=sys.stderr)
    recovery.set_host(context, instance, migration)
    try:
        recovery.finish_books(services, context, instance, migration)
    except Exception as exc:
        print('What it held on %s cannot be released now (%s): nova-compute '
              'there tries it again.' % (migration.source_compute, exc),
              file=sys.stderr)
    print('When nova-compute on %s is up, hard reboot the server or unrescue '
          'it, which defines its domain there.' % migration.dest_compute,
          file=sys.stderr)

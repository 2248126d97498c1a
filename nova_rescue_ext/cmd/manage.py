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


"""``nova-rescue-ext-manage``: what operators do about failed builds."""

import argparse
import sys

from oslo_utils import timeutils
import prettytable

from nova_rescue_ext import activation
from nova_rescue_ext.cmd import rebuild_failed


def _table(columns, rows):
    table = prettytable.PrettyTable(columns)
    table.align = 'l'
    for row in rows:
        table.add_row(row)
    return table


def rebuild_interrupted(arguments):
    """Finish or undo rebuilds that a crash has interrupted.

    Run where nova-conductor runs: it needs both databases.

    :returns: the exit code: 0, or 1 if one was left as it is
    """
    from nova import context as nova_context
    from nova import exception
    from oslo_db import exception as db_exc

    from nova_rescue_ext.rebuild import recovery

    context = nova_context.get_admin_context()
    found = recovery.find(context, arguments.older_than)
    print(_table(['Server', 'Project', 'Since (UTC)', 'Remedy'], [
        [one.instance_uuid, one.project_id, one.since, one.remedy]
        for one in found]))
    if arguments.dry_run:
        return 0
    failed = 0
    for one in found:
        try:
            recovery.remedy(context, one)
        except (exception.NovaException, db_exc.DBError) as exc:
            failed += 1
            print('%s: not done (%s). Run the command again.' % (
                one.instance_uuid, exc))
    print('%d finished or undone, %d not.' % (len(found) - failed, failed))
    return int(bool(failed))


def rebuild_failed_servers(arguments):
    """Find servers that never booted, and rebuild them.

    :returns: the exit code: 0, or 1 if one was refused or failed again
    """
    client = rebuild_failed.Client(rebuild_failed.connect(
        arguments.os_cloud), arguments.compute_version)
    before = arguments.failed_before or timeutils.utcnow()
    try:
        aggregate = arguments.aggregate and client.aggregate(
            arguments.aggregate)
    except rebuild_failed.NoAggregate as exc:
        print(exc)
        return 1
    servers = [server for server in client.list_failed(arguments.project)
               if rebuild_failed.matches(server, arguments, before,
                                         aggregate)]
    servers = servers[:arguments.limit]
    print(_table(['Server', 'Name', 'Project', 'Flavor', 'Failed (UTC)',
                  'Reason'], [
        [server['id'], server['name'], server['tenant_id'],
         server['flavor'].get('original_name'), server['updated'],
         rebuild_failed.reason(server)] for server in servers]))
    if arguments.dry_run or not servers:
        return 0
    print('If this is interrupted, go on with those that are left: '
          '--failed-before %s' % before.isoformat(timespec='seconds'),
          flush=True)
    results = rebuild_failed.rebuild_all(client, servers, arguments.rate,
                                         arguments.timeout)
    print(_table(['Server', 'Result', 'Reason'], [
        [result.server_id, result.state, result.reason]
        for result in results]))
    states = [result.state for result in results]
    print(', '.join('%d %s' % (states.count(state), state)
                    for state in sorted(set(states))))
    return int(any(state != 'ACTIVE' for state in states))


def _time(text):
    return timeutils.normalize_time(timeutils.parse_isotime(text))


def _positive(text):
    number = float(text)
    if number <= 0:
        raise argparse.ArgumentTypeError('%s is not positive' % text)
    return number


def _parser():
    parser = argparse.ArgumentParser(
        prog='nova-rescue-ext-manage',
        description='Rebuild servers that never booted, and finish or undo '
                    'rebuilds that were interrupted.')
    parser.add_argument('--version', action='version',
                        version=activation.version())
    commands = parser.add_subparsers(required=True, dest='command')

    interrupted = commands.add_parser(
        'rebuild-interrupted',
        help='finish or undo rebuilds that a crash has interrupted')
    interrupted.add_argument(
        '--config-file', action='append', help='of Nova')
    interrupted.add_argument(
        '--older-than', type=int, default=3600, metavar='SECONDS',
        help='leave younger ones alone, as a conductor may be at work on '
             'them (default 3600)')
    interrupted.set_defaults(action=rebuild_interrupted, local=True)

    failed = commands.add_parser(
        'rebuild-failed', help='rebuild servers that never booted')
    failed.add_argument('--os-cloud', metavar='NAME',
                        help='of clouds.yaml; default: the environment, as '
                             'openstack does')
    failed.add_argument('--compute-version', default='2.94',
                        metavar='VERSION', help='microversion of the compute '
                                                'API (default 2.94)')
    failed.add_argument('--project', metavar='ID',
                        help='only of this project')
    failed.add_argument('--reason', metavar='TEXT',
                        help='only where the fault has this text')
    failed.add_argument('--flavor', metavar='NAME',
                        help='only of this flavor')
    failed.add_argument('--aggregate', metavar='NAME',
                        help='only those that may get a host of this host '
                             'aggregate (name or id), after capacity was '
                             'added to it')
    failed.add_argument('--availability-zone', metavar='NAME',
                        help='only those that asked for this zone')
    failed.add_argument(
        '--older-than', type=int, default=0, metavar='SECONDS',
        help='only those that failed so long ago')
    failed.add_argument(
        '--failed-before', type=_time, metavar='TIME',
        help='only those that failed before (UTC, ISO 8601): to resume')
    failed.add_argument('--limit', type=int, metavar='NUMBER',
                        help='at most so many')
    failed.add_argument('--rate', type=_positive, default=60,
                        metavar='NUMBER', help='at most so many requests a '
                                               'minute (default 60)')
    failed.add_argument('--timeout', type=_positive, default=600,
                        metavar='SECONDS', help='wait so long for the last '
                                                'to be built (default 600)')
    failed.set_defaults(action=rebuild_failed_servers, local=False)

    for command in (interrupted, failed):
        command.add_argument('--dry-run', action='store_true',
                             help='only show what would be done')
    return parser


def _start_as_nova(config_files):
    """Read Nova's configuration, which activates the package.

    :raises: SystemExit if it does not
    """
    from nova import config
    from nova import objects

    config.parse_args(['nova-rescue-ext-manage'],
                      default_config_files=config_files)
    objects.register_all()
    if not activation.is_active():
        sys.exit(activation.summary())


def main(argv=None):
    """The command.

    :param argv: arguments, those of the process if None
    """
    arguments = _parser().parse_args(argv)
    if arguments.local:
        _start_as_nova(arguments.config_file)
    return arguments.action(arguments)


if __name__ == '__main__':
    sys.exit(main())

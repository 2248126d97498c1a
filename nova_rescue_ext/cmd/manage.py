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


"""``nova-rescue-ext-manage``: tools for operators.

``rebuild-interrupted``, ``rebuild-release`` and ``settle-migration`` work on
Nova's databases, and ``rescue-leftovers`` on a compute host; the others are
clients of the compute API.
"""

from __future__ import annotations

import argparse
import sys

from keystoneauth1 import exceptions as ks_exc

from nova_rescue_ext import activation
from nova_rescue_ext.cmd import compute_api
from nova_rescue_ext.cmd import migrate_rescued
from nova_rescue_ext.cmd import prepare_removal
from nova_rescue_ext.cmd import rebuild_failed
from nova_rescue_ext.cmd import rebuild_release
from nova_rescue_ext.cmd import rescue_leftovers
from nova_rescue_ext.cmd import settle_migration


def rebuild_interrupted(arguments: argparse.Namespace) -> int:
    """Finish or undo rebuilds that a crash has interrupted.

    Run it where nova-conductor runs: it needs both databases.

    :returns: the exit code: 0, or 1 if one was left as it is
    """
    from nova import context as nova_context

    from nova_rescue_ext.rebuild import recovery

    context = nova_context.get_admin_context()
    found = recovery.find(context, arguments.older_than)
    print(compute_api.table(
        ['Server', 'Project', 'Since (UTC)', 'Remedy'], [
            [one.instance_uuid, one.project_id, one.since,
             one.remedy or 'cannot be decided: %s' % one.reason]
            for one in found]))
    if arguments.dry_run:
        return 0
    failed = 0
    for one in found:
        try:
            if one.remedy:
                recovery.remedy(context, one)
                continue
            reason = one.reason
        except Exception as exc:  # go on with the others
            reason = str(exc)
        failed += 1
        print('%s: not done (%s). Run the command again.' % (
            one.instance_uuid, reason))
    print('%d finished or undone, %d not.' % (len(found) - failed, failed))
    return int(bool(failed))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='nova-rescue-ext-manage',
        description='Rebuild servers that never booted, finish or undo '
                    'rebuilds that were interrupted, move servers that are '
                    'in rescue to other hosts, and prepare the removal of '
                    'nova-rescue-ext.')
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
        help='skip those that changed less than SECONDS ago, as a conductor '
             'may still be working on them (default 3600)')
    interrupted.set_defaults(action=rebuild_interrupted, local=True)

    rebuild_release.add_parser(commands)
    prepare_removal.add_parser(commands)
    rescue_leftovers.add_parser(commands)
    for command in (interrupted, rebuild_failed.add_parser(commands),
                    migrate_rescued.add_parser(commands),
                    settle_migration.add_parser(commands)):
        command.add_argument('--dry-run', action='store_true',
                             help='only show what would be done')
    return parser


def _start_as_nova(config_files: list[str] | None) -> None:
    """Read Nova's configuration, which activates the package.

    :raises: SystemExit if it does not
    """
    try:
        from nova import config
        from nova import objects
    except ImportError as exc:
        sys.exit('Run this command where nova-conductor runs, with the Python '
                 'of Nova (%s).' % exc)

    config.parse_args(['nova-rescue-ext-manage'],
                      default_config_files=config_files)
    objects.register_all()
    if not activation.is_active():
        sys.exit(activation.summary())


def main(argv: list[str] | None = None) -> int:
    """The command.

    :param argv: arguments, those of the process if None
    """
    arguments = _parser().parse_args(argv)
    if arguments.local:
        _start_as_nova(arguments.config_file)
    try:
        return arguments.action(arguments)
    except compute_api.Refused as exc:
        sys.exit(str(exc))
    except ks_exc.ClientException as exc:
        sys.exit('The compute API cannot be reached (%s). If the command had '
                 'begun, run it again: it resumes.' % exc)


if __name__ == '__main__':
    sys.exit(main())

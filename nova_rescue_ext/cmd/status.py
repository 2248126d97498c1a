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


"""``nova-rescue-ext-status``: whether services will activate the package."""

import argparse
import glob
import os
import pwd
import re
import sys

from oslo_config import cfg
from oslo_config import iniparser
from oslo_upgradecheck import upgradecheck
import prettytable

from nova_rescue_ext import activation
from nova_rescue_ext.activation import exception
from nova_rescue_ext.activation import overrides
from nova_rescue_ext.cmd import readability
from nova_rescue_ext import conf as ext_conf

NOVA_FOLDER = '/etc/nova'

Code = upgradecheck.Code
Result = upgradecheck.Result


class Checks(upgradecheck.UpgradeCommands):
    """The checks of ``nova-rescue-ext-status upgrade check``.

    :param conf: the configuration, parsed by the time that checks run
    """

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        super().__init__()
        self._conf = conf

    def _check_nova(self) -> upgradecheck.Result:
        """The installed Nova is code that the package was tested on."""
        try:
            examination = activation.examine()
        except exception.SourceNotFound as exc:
            return Result(Code.FAILURE, '%s. Run this command in the '
                          'environment of Nova.' % exc)
        except exception.DigestsUnusable as exc:
            return Result(Code.FAILURE, '%s. Services will run as stock Nova.'
                          % _as_sentence(exc))
        severe, mild = examination.objections()
        if not severe and not mild:
            return Result(Code.SUCCESS, 'Nova %s' % examination.nova_release)
        details = 'Nova %s: %s.' % (examination.nova_release,
                                    '; '.join(severe + mild))
        if severe or not self._allow_unverified():
            return Result(
                Code.FAILURE, '%s Services will run as stock Nova. Install a '
                'nova-rescue-ext that supports this Nova.' % details)
        return Result(Code.WARNING, '%s Services will activate the package '
                      'all the same, as allow_unverified is set.' % details)

    def _allow_unverified(self) -> bool:
        try:
            return self._conf.rescue_ext.allow_unverified
        except (ValueError, cfg.Error):
            return False  # _check_options says so

    def _check_switched_on(self) -> upgradecheck.Result:
        """nova.conf activates the package."""
        for group in self._conf.config_source:
            try:
                if self._conf[group].driver == 'nova_rescue_ext':
                    return Result(Code.SUCCESS)
            except ValueError as exc:
                return Result(
                    Code.FAILURE, 'nova.conf: %s. Services may not start. The '
                    'valid values are the drivers of all packages that are '
                    'installed in this environment and can be read. Correct '
                    'the name, or install its package.' % exc)
        return Result(
            Code.WARNING, 'The package is installed, but nova.conf does not '
            'switch it on: set "config_source = rescue_ext" in [DEFAULT] and '
            '"driver = nova_rescue_ext" in [rescue_ext]. If it was on before, '
            'stock Nova cannot unrescue the servers that have been in rescue '
            'since then (openstack server list --all-projects --status '
            'RESCUE): hard reboot them. Files read: %s.'
            % (', '.join(self._files()) or 'no file'))

    def _check_options(self) -> upgradecheck.Result:
        """The options in [rescue_ext] exist and have usable values."""
        known = {opt.dest for opt in ext_conf.OPTS} | {'driver'}
        unknown = sorted(_options_in_files(
            self._files(), ext_conf.GROUP) - known)
        if unknown:
            return Result(Code.FAILURE, 'nova.conf: no such option in '
                          '[rescue_ext]: %s.' % ', '.join(unknown))
        try:
            ext_conf.check_values(self._conf)
        except ValueError as exc:
            return Result(Code.FAILURE, 'nova.conf: %s.' % exc)
        return Result(Code.SUCCESS)

    def _check_images(self) -> upgradecheck.Result:
        """Nova's own options for rescues hold the IDs of images."""
        faults = ext_conf.find_names_of_images(self._conf)
        if faults:
            return Result(Code.WARNING, 'nova.conf: %s.' % '. '.join(faults))
        return Result(Code.SUCCESS)

    def _check_readable(self) -> upgradecheck.Result:
        """The user of the services can read the package."""
        name = self._conf.service_user
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            return Result(Code.SUCCESS)  # no service runs here as this user
        if os.getuid() != 0 and os.getuid() != user.pw_uid:
            return Result(Code.SUCCESS, 'Not checked for user %s: run this '
                          'command as root or as that user.' % name)
        unreadable = readability.unreadable_by(user)
        if not unreadable:
            return Result(Code.SUCCESS)
        return Result(
            Code.FAILURE, 'User %s cannot read %s (%d files in all). Services '
            'will exit at start with "Valid values are [remote_file, '
            'castellan], but found \'nova_rescue_ext\'", as oslo.config does '
            'not find what it cannot read. Make the files readable (chmod -R '
            'o+rX) or install the package with umask 022.'
            % (name, unreadable[0], len(unreadable)))

    def _files(self) -> list[str]:
        return list(self._conf.config_file) + [
            path for directory in self._conf.config_dirs
            for path in sorted(glob.glob(os.path.join(directory, '*.conf')))]

    _upgrade_checks = (
        ('Nova', _check_nova),
        ('Options', _check_options),
        ('Images', _check_images),
        ('Switched on', _check_switched_on),
        ('Readable', _check_readable),
    )


class _SectionReader(iniparser.BaseParser):
    """The names of the options that a file sets, by section."""

    def __init__(self, section: str) -> None:
        super().__init__()
        self._wanted = section
        self._section: str | None = None
        self.names: set[str] = set()

    def new_section(self, section: str) -> None:
        self._section = section

    def assignment(self, key: str, value: list[str]) -> None:
        if self._section == self._wanted:
            self.names.add(re.sub('-', '_', key))


def _options_in_files(paths: list[str], section: str) -> set[str]:
    reader = _SectionReader(section)
    for path in paths:
        with open(path, encoding='utf-8') as lines:
            reader.parse(lines)
    return reader.names


def show_overrides() -> Code:
    """Print what the package overrides and relies on in Nova, and its state.

    :returns: the exit code: 0 if the package may be activated, else 2, as for
        a failure of ``upgrade check``
    """
    try:
        examination = activation.examine()
    except exception.ActivationError as exc:
        print('%s.' % _as_sentence(exc))
        return Code.FAILURE
    ours = {override.target: override.ours
            for override in overrides.declared()}
    table = prettytable.PrettyTable(['Nova callable', 'Ours', 'State'])
    table.align = 'l'
    for finding in sorted(examination.findings,
                          key=lambda finding: (finding.callable not in ours,
                                               finding.callable)):
        table.add_row([finding.callable,
                       ours.get(finding.callable, '(relied on)'),
                       '%s: %s' % (finding.state, finding.detail)])
    print('Nova %s' % examination.nova_release)
    print(table)
    severe, mild = examination.objections()
    for objection in severe + mild:
        print('* %s' % objection)
    return Code.FAILURE if severe or mild else Code.SUCCESS


def _as_sentence(error: Exception) -> str:
    text = str(error)
    return text[:1].upper() + text[1:]


def _add_commands(subparsers: argparse._SubParsersAction,
                  checks: Checks) -> None:
    upgrade = subparsers.add_parser(
        'upgrade', help='"upgrade check": whether services will activate the '
                        'package')
    upgrade.add_argument('check', choices=['check'])
    upgrade.set_defaults(action_fn=checks.check)
    listing = subparsers.add_parser(
        'overrides', help='what the package overrides and relies on in Nova, '
                          'and its state')
    listing.set_defaults(action_fn=show_overrides)


def main(argv: list[str] | None = None) -> int:
    """Run the command.

    :param argv: the arguments; None: those of the process
    :returns: the exit code, as of nova-status: 0 for success, 1 for warnings,
        2 for failures, 255 for an error
    """
    conf = cfg.ConfigOpts()
    ext_conf.register_opts(conf)
    conf.register_opts([cfg.StrOpt(option) for option
                        in ext_conf.IMAGES_OF_NOVA], group='libvirt')
    conf.register_cli_opt(cfg.StrOpt(
        'service-user', default='nova', metavar='NAME',
        help='the user that the services of Nova run as'))
    checks = Checks(conf)
    conf.register_cli_opt(cfg.SubCommandOpt(
        'command', title='Commands',
        handler=lambda subparsers: _add_commands(subparsers, checks)))
    argv = sys.argv[1:] if argv is None else argv
    try:
        # Not as project "nova": that would activate the package here.
        conf(argv, project='nova-rescue-ext', prog='nova-rescue-ext-status',
             version=activation.version(),
             default_config_files=cfg.find_config_files(project='nova'),
             default_config_dirs=cfg.find_config_dirs(project='nova'))
    except (cfg.Error, iniparser.ParseError, OSError) as exc:
        return _cannot_read(exc)
    if not conf.config_file and not os.access(NOVA_FOLDER,
                                              os.R_OK | os.X_OK):
        if os.path.isdir(NOVA_FOLDER):
            return _cannot_read('Permission denied: %s' % NOVA_FOLDER)
    return int(upgradecheck.run(conf))


def _cannot_read(reason: object) -> int:
    print('The configuration of Nova cannot be read. %s\nRun this command as '
          'root or as the user that the services of Nova run as, or name '
          'another file with --config-file.' % reason, file=sys.stderr)
    return 255


if __name__ == '__main__':
    sys.exit(main())

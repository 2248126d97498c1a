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

"""``python -m tests.lab.suites``: see the package."""

import argparse
import sys

from tests.lab.cloud import nova
from tests.lab.cloud import process
from tests.lab.cloud import settings
from tests.lab.suites import openstackclient
from tests.lab.suites import page
from tests.lab.suites import rally
from tests.lab.suites import record
from tests.lab.suites import tempest

_SUITES = {**tempest.SUITES, 'rally': rally,
           'openstackclient': openstackclient}
_SECTION = '[rescue_ext]\n'
_LATEST = 'default_api_version = latest\n'


def _run(pairs):
    """Run suites on clouds, and keep what each finds.

    :param pairs: list of suite and cloud
    :returns: list of text, why some of them have no results
    """
    broken = []
    try:
        for suite, cloud in pairs:
            _switch_to(cloud)
            print(f'{suite}: {cloud}', flush=True)
            try:
                found = _SUITES[suite].run()
            except process.LabError as exc:
                broken.append(f'{suite}: {cloud}: {exc}')
                print(broken[-1], flush=True)
            else:
                record.save(suite, cloud, found, **_where())
    except BaseException:
        # It may be halfway between two clouds.
        nova.switch_package(True)
        raise
    _switch_to(record.ON)
    return broken


def _where():
    return {'commit': settings.read_state()['commit'],
            'profile': settings.Shape.current().profile}


def _switch_to(cloud):
    """Make the cloud that is up another one."""
    with_package = cloud != record.OFF
    if settings.Shape.current().ext != with_package:
        nova.switch_package(with_package)
    if with_package:
        _set_default(_LATEST if cloud == record.LATEST else '')


def _set_default(line):
    """Let requests that name no version have another one."""
    text = nova.CONF.read_text()
    wanted = text.replace(_LATEST, '').replace(_SECTION, _SECTION + line)
    if wanted != text:
        nova.CONF.write_text(wanted)
        process.restart('nova-api')
        process.wait_port('nova-api')


def _parser():
    parser = argparse.ArgumentParser(prog='python -m tests.lab.suites')
    parser.add_argument('--install', action='store_true',
                        help='only make their environments')
    parser.add_argument('--again', action='store_true',
                        help='run also what has results of this commit')
    parser.add_argument('--clouds', nargs='+', choices=record.CLOUDS,
                        default=record.CLOUDS, help='default: all')
    parser.add_argument('--suites', nargs='+', choices=list(_SUITES),
                        default=list(_SUITES), help='default: all')
    return parser


def main():
    arguments = _parser().parse_args()
    if arguments.install:
        # Some share an environment.
        for install in dict.fromkeys(
                _SUITES[name].install for name in arguments.suites):
            install()
        return
    if not settings.Shape.current().ext:
        sys.exit('The lab is up without the package (EXT=0).')
    pairs = [(suite, cloud) for suite in arguments.suites
             for cloud in arguments.clouds if cloud in record.clouds(suite)]
    if not arguments.again:
        pairs = record.due(pairs, _where()['commit'])
    try:
        broken = _run(pairs)
    finally:
        page.PAGE.write_text(page.page())
    wrong = page.wrong()
    if wrong:
        broken.append('The package makes a difference:\n' + '\n'.join(wrong))
    sys.exit('\n'.join(broken) or None)


if __name__ == '__main__':
    try:
        main()
    except process.LabError as exc:
        sys.exit(str(exc))

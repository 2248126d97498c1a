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

"""python -m tests.lab.cloud COMMAND: what make's lab targets call."""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import time

from tests.lab.cloud import images
from tests.lab.cloud import install
from tests.lab.cloud import logs
from tests.lab.cloud import namespace
from tests.lab.cloud import process
from tests.lab.cloud import settings
from tests.lab.cloud import steps
from tests.lab.cloud import traces


def up(args):
    """Bring the cloud up; a cloud that is up already stays."""
    asked = settings.Shape.asked()
    state = settings.read_state()
    if state and process.is_alive(state['controller']):
        if settings.Shape.current() != asked:
            sys.exit(f'The lab is up with {settings.Shape.current()}, '
                     f'not {asked}: make lab-down first.')
    else:
        down(args)
        for folder in (settings.ETC, settings.RUN, settings.TMP,
                       settings.LOG):
            folder.mkdir(parents=True)
        if asked.ext:
            install.install_package()
        before = traces.snapshot()
        settings.write_state(
            shape=vars(asked), controller=namespace.make_controller(),
            before=before, commit=_commit())
    images.build()
    print(f'The lab in {settings.ROOT}: {asked}', flush=True)
    sys.exit(_inside(sys.executable, '-m', 'tests.lab.cloud', '_up'))


def _commit():
    """The commit of the package that the lab has."""
    # Not above: what ends the lab has the standard library only.
    from tests.records import store
    return store.commit()


def _up(args):
    steps.up()


def down(args):
    """End everything and throw the cloud's data away, but not its logs."""
    state = settings.read_state()
    if state:
        namespace.end_controller(state['controller'])
    shutil.rmtree(settings.DATA, ignore_errors=True)
    if args.command != 'down':
        shutil.rmtree(settings.LOG, ignore_errors=True)
    settings.STATE.unlink(missing_ok=True)
    left = traces.find(state['before']) if state else []
    if left:
        raise process.LabError('left behind:\n' + '\n'.join(left))


def status(args):
    """What runs, and since when."""
    print(settings.Shape.current() or 'The lab is not up.')
    if settings.read_state():
        sys.exit(_inside(sys.executable, '-m', 'tests.lab.cloud',
                         '_status'))


def _status(args):
    uptime = float(pathlib.Path('/proc/uptime').read_text().split()[0])
    for name in process.names():
        record = process.record(name)
        if process.is_alive(record):
            age = uptime - record['start'] / os.sysconf('SC_CLK_TCK')
            print(f'{name:24} pid {record["pid"]:6}  {age:7.0f} s  '
                  f'{process.log_path(name)}')
        else:
            print(f'{name:24} DEAD  see {process.log_path(name)}')


def run(args):
    """Run a command in the lab, with the administrator's credentials."""
    sys.exit(_inside(*args.argv))


def restart(args):
    """Start services again (all of them, if they are dead)."""
    for name in args.argv:
        process.restart(name)


def errors(args):
    """The last errors in all logs."""
    print(logs.errors_since({}))


def clean(args):
    """Take away all that the lab ever made."""
    down(args)
    shutil.rmtree(settings.ROOT, ignore_errors=True)


def _inside(*argv):
    env = {
        **os.environ,
        **process.environment(),
        'PYTHONPATH': str(settings.CHECKOUT),
        'LAB': str(settings.ROOT),
        'OS_CLOUD': 'lab',
        'OS_CLIENT_CONFIG_FILE': str(settings.DATA / 'clouds.yaml'),
    }
    return subprocess.run(namespace.enter_controller() + list(argv),
                          env=env, cwd=os.getcwd()).returncode


COMMANDS = {
    'install': lambda args: install.main(args.argv), 'up': up, 'down': down,
    'status': status, 'run': run, 'errors': errors, 'clean': clean,
    # These run inside the lab.
    'restart': restart, '_up': _up, '_status': _status,
}


def main():
    parser = argparse.ArgumentParser(prog='python -m tests.lab.cloud')
    parser.add_argument('command', choices=sorted(COMMANDS))
    parser.add_argument('argv', nargs=argparse.REMAINDER)
    args = parser.parse_args()
    if args.argv[:1] == ['--']:
        args.argv = args.argv[1:]
    begin = time.monotonic()
    try:
        COMMANDS[args.command](args)
    except process.LabError as exc:
        sys.exit(f'{args.command}: {exc}')
    if args.command == 'down':
        print(f'The lab is down ({time.monotonic() - begin:.1f} s).')


if __name__ == '__main__':
    main()

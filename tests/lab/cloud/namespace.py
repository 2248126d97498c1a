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

"""The machines of the lab: one controller and two hypervisors.

Each is a set of namespaces (process ids, mounts, network, host name) held
by a first process. The hypervisors are made inside the controller, and the
kernel ends everything in a process id namespace with its first process:
ending that one process ends the lab, mounts, network and orphans included.
"""

import ctypes
import json
import os
import pathlib
import signal
import subprocess
import sys

from tests.lab.cloud import process
from tests.lab.cloud import settings

CONTROLLER = 'ctl'
_PARTS = ('--mount', '--net', '--uts', '--pid', '--ipc')


def _init(name):
    """The first process of a machine: reap orphans for ever."""
    ctypes.CDLL(None).sethostname(name.encode(), len(name))
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    print('ready', flush=True)
    while True:
        signal.sigwait({signal.SIGCHLD})
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass


def _hold(name, enter=()):
    """Make a machine; return the record of its first process."""
    argv = [*enter, 'unshare', *_PARTS, '--fork', '--kill-child',
            '--mount-proc', '--propagation', 'private', sys.executable,
            '-m', __name__, name]
    with open(process.log_path(f'machine-{name}'), 'ab') as log:
        popen = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=log, start_new_session=True, cwd=settings.CHECKOUT,
            env=process.environment(PYTHONPATH=str(settings.CHECKOUT)))
    if popen.stdout.readline() != b'ready\n':
        raise process.LabError(
            f'no namespaces for {name}, see '
            f'{process.log_path("machine-" + name)} (root is needed)')
    popen.stdout.close()
    # nsenter and unshare both wait above the first process.
    pid = process.descendants(popen.pid)[-1]
    return {'pid': pid, 'start': process.started_at(pid)}


def make_controller():
    """Make the outer machine; called outside of it."""
    return _hold(CONTROLLER)


def make_hypervisor(name):
    """Make a machine inside the controller; called inside of it."""
    path = _path(name)
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(_hold(name)))


def _path(name):
    return settings.RUN / 'machines' / f'{name}.json'


def pid(name):
    """The first process of a hypervisor."""
    return json.loads(_path(name).read_text())['pid']


def enter(name):
    """The words before a command that bring it into a hypervisor."""
    return _nsenter(json.loads(_path(name).read_text()))


def enter_controller():
    """The words before a command that bring it into the controller."""
    state = settings.read_state()
    if not state or not process.is_alive(state['controller']):
        raise SystemExit('The lab is not up: make lab-up')
    return _nsenter(state['controller'])


def _nsenter(record):
    if not process.is_alive(record):
        raise process.LabError(f'machine {record} is gone')
    return ['nsenter', '--target', str(record['pid']), *_PARTS, '--']


def bind(source, target):
    """Put a folder or file of the lab over one of the machine's."""
    source = pathlib.Path(source)
    process.run('mount', '--bind', source, target)


def end_controller(record):
    """End all that runs in the lab; called outside of it."""
    if not process.is_alive(record):
        return
    os.kill(record['pid'], signal.SIGKILL)
    # The first process is gone only after all others in it are.
    process.wait_for(lambda: process.started_at(record['pid'])
                     != record['start'], 'the end of the lab', 60)


if __name__ == '__main__':
    _init(sys.argv[1])

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

"""Start, find and end processes, without ever touching a stranger.

A process is remembered by its id and the time it started, because the
kernel gives ids out again. The record also holds how it was started, so
that a killed service can be started the same way again.
"""

import json
import os
import pathlib
import signal
import socket
import subprocess
import time

from tests.lab.cloud import settings


class LabError(Exception):
    """Something did not come up; the text says where to look."""


def started_at(pid):
    """The kernel's start time of a running process, None if there is none."""
    try:
        stat = pathlib.Path(f'/proc/{pid}/stat').read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command's name may hold blanks and brackets, the rest does not.
    state, *fields = stat.rpartition(')')[2].split()
    return None if state in 'ZX' else int(fields[18])


def is_alive(record):
    start = started_at(record['pid'])
    return start is not None and start == record['start']


def children(pid):
    try:
        text = pathlib.Path(f'/proc/{pid}/task/{pid}/children').read_text()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [int(child) for child in text.split()]


def descendants(pid):
    found = []
    for child in children(pid):
        found += [child, *descendants(child)]
    return found


def environment(**extra):
    """The same, small environment for every service."""
    return {
        'PATH': f'{settings.VENV}/bin:/usr/sbin:/usr/bin:/sbin:/bin',
        'HOME': str(settings.TMP),
        'TMPDIR': str(settings.TMP),
        'LANG': 'C.UTF-8',
        'PYTHONUNBUFFERED': '1',
        'PYTHONWARNINGS': 'ignore',
        **extra,
    }


def _record_path(name):
    return settings.RUN / f'{name}.json'


def log_path(name):
    return settings.LOG / f'{name}.log'


def record(name):
    return json.loads(_record_path(name).read_text())


def names():
    return sorted(path.stem for path in settings.RUN.glob('*.json'))


def start(name, argv, host=None, env=None):
    """Start a daemon; in the namespaces of a hypervisor if one is named."""
    argv = [str(arg) for arg in argv]
    path = _record_path(name)
    if path.exists() and is_alive(record(name)):
        return
    enter = []
    if host:
        # Imported here, because namespaces need processes themselves.
        from tests.lab.cloud import namespace
        enter = namespace.enter(host)
    with open(log_path(name), 'ab') as log:
        popen = subprocess.Popen(
            enter + argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            env=environment(**(env or {})), start_new_session=True)
    pid = _only_child(popen) if enter else popen.pid
    start_time = started_at(pid)
    if start_time is None:
        raise LabError(f'{name} ended at once, see {log_path(name)}')
    path.write_text(json.dumps({
        'name': name, 'pid': pid, 'start': start_time, 'argv': argv,
        'host': host, 'env': env}, indent=1))


def _only_child(popen):
    """The service itself: nsenter waits above it as its parent."""
    for _ in wait_steps(10, 0.02):
        found = children(popen.pid)
        if found:
            return found[0]
        if popen.poll() is not None:
            break
    raise LabError(f'nothing was started by {popen.args}')


def restart(name):
    """Start a service again as it was started the first time."""
    old = record(name)
    stop(name)
    start(name, old['argv'], host=old['host'], env=old['env'])


def kill(name, sig=signal.SIGKILL):
    """Send a signal to a service and, for SIGKILL, to all its children.

    uWSGI and the oslo services fork workers, which would live on as
    orphans and hold the port.
    """
    old = record(name)
    if not is_alive(old):
        return
    family = [old['pid']]
    if sig == signal.SIGKILL:
        family += descendants(old['pid'])
    for pid in family:
        try:
            os.kill(pid, sig)
        except ProcessLookupError:
            pass


def stop(name, grace=5):
    """End a service: politely, then surely."""
    old = record(name)
    kill(name, signal.SIGTERM)
    for _ in wait_steps(grace, 0.1):
        if not is_alive(old):
            return
    kill(name)
    wait_for(lambda: not is_alive(old), f'the end of {name}', 10)


def run(*argv, host=None, env=None, log=None, timeout=300, **kwargs):
    """Run a command to its end and return what it printed."""
    argv = [str(arg) for arg in argv]
    if host:
        from tests.lab.cloud import namespace
        argv = namespace.enter(host) + argv
    done = subprocess.run(
        argv, env=environment(**(env or {})), text=True, timeout=timeout,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, **kwargs)
    if log:
        with open(log_path(log), 'a') as out:
            out.write(f'$ {" ".join(argv)}\n{done.stdout}{done.stderr}')
    if done.returncode:
        last = '\n'.join((done.stderr or done.stdout).splitlines()[-15:])
        raise LabError(f'{" ".join(argv)} exited with {done.returncode}:'
                       f'\n{last}')
    return done.stdout


def wait_steps(seconds, step=0.25):
    """Yield until the time is over; the caller leaves when satisfied."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield
        time.sleep(step)


def wait_for(condition, what, seconds=180, step=0.25):
    for _ in wait_steps(seconds, step):
        result = condition()
        if result:
            return result
    raise LabError(f'waited {seconds} s in vain for {what}')


def is_listening(port, address=settings.CONTROLLER):
    try:
        socket.create_connection((address, port), timeout=2).close()
    except OSError:
        return False
    return True


def wait_port(name, seconds=180):
    """Wait for a service's port, but not for one that has already died."""
    def listening():
        if not is_alive(record(name)):
            raise LabError(f'{name} has ended, see {log_path(name)}')
        return is_listening(settings.PORTS[name])

    wait_for(listening, f'the port of {name}, see {log_path(name)}', seconds)

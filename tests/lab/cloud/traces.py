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

"""What the lab could leave behind on the machine; "down" looks for it.

Other work on the machine goes on meanwhile, so only what must be the lab's
is looked at: whatever carries the name of its folder, its network devices,
and new files in the folders of the daemons that it runs.
"""

import os
import pathlib
import subprocess

from tests.lab.cloud import settings

_FOLDERS = (
    '/etc/libvirt', '/var/lib/libvirt', '/var/log/libvirt',
    '/var/cache/libvirt', '/var/lib/mysql', '/var/log/mysql',
    '/var/lib/rabbitmq', '/var/log/rabbitmq', '/var/lib/ceph',
    '/var/log/ceph', '/var/lib/openvswitch', '/var/log/openvswitch',
    '/var/lib/nova', '/run/libvirt', '/run/mysqld', '/run/ceph',
    '/run/openvswitch', '/run/netns', '/run/qemu', '/dev/shm')


def _files():
    return {str(path) for folder in _FOLDERS
            for path in pathlib.Path(folder).rglob('*')}


def _links():
    out = subprocess.run(['ip', '-o', 'link'], stdout=subprocess.PIPE,
                         text=True, check=True).stdout
    return {line.split(': ')[1].split('@')[0] for line in out.splitlines()}


def _mounts():
    return {line.split()[4] for line in
            pathlib.Path('/proc/self/mountinfo').read_text().splitlines()}


def snapshot():
    """What is there before the lab comes up."""
    return {'files': sorted(_files()), 'links': sorted(_links()),
            'mounts': sorted(_mounts())}


def find(before):
    """What is there now and was not; in words."""
    found = [f'process {pid}: {what}' for pid, what in _processes()]
    found += [f'file {path}' for path in
              sorted(_files() - set(before['files']))]
    found += [f'network device {link}' for link in
              sorted(_links() - set(before['links']))]
    found += [f'mount {mount}' for mount in
              sorted(_mounts() - set(before['mounts']))]
    found += [f'namespace of process {pid}' for pid in _strangers()]
    if settings.DATA.exists():
        found.append(f'folder {settings.DATA}')
    return found


def _mine():
    """This process and those above it, whose arguments name the lab, too."""
    pid, mine = os.getpid(), set()
    while pid > 1:
        mine.add(pid)
        stat = pathlib.Path(f'/proc/{pid}/stat').read_text()
        pid = int(stat.rpartition(')')[2].split()[1])
    return mine


def _processes():
    """Every service of the lab has the lab's TMPDIR, orphans included."""
    marker = f'TMPDIR={settings.TMP}'.encode()
    mine = _mine()
    for path in pathlib.Path('/proc').glob('[0-9]*'):
        pid = int(path.name)
        try:
            if pid not in mine and marker in (
                    path / 'environ').read_bytes().split(b'\0'):
                yield pid, (path / 'cmdline').read_bytes().replace(
                    b'\0', b' ').decode(errors='replace')[:100]
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            pass


def _strangers():
    """Processes in other mount namespaces that still see the lab's folder."""
    own = os.stat('/proc/self/ns/mnt').st_ino
    for path in pathlib.Path('/proc').glob('[0-9]*'):
        try:
            if (path / 'ns/mnt').stat().st_ino != own and str(
                    settings.DATA) in (path / 'mountinfo').read_text():
                yield path.name
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            pass

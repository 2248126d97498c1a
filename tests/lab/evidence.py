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

"""What is on a host, seen past Nova: the bytes of a server's disks."""

import hashlib
import os

from tests.lab.cloud import ceph
from tests.lab.cloud import hypervisor
from tests.lab.cloud import keystone
from tests.lab.cloud import nova
from tests.lab.cloud import process
from tests.lab.cloud import settings

# Not disks, or disks of the rescue only.
_OTHER = ('console.log', 'disk.info', 'libvirt.xml', 'unrescue.xml')


def disk_sums(server):
    """{disk: sha256 of all its bytes}, without those of a rescue.

    Also of the disks that the running domain does not have. They must be
    at rest: the server is stopped, or rescued without using them.
    """
    host = server.host
    sums = {}
    for path in sorted(server.folder.glob('disk*')):
        if path.name in _OTHER or path.suffix == '.rescue':
            continue
        inside = nova.INSTANCES / server.id / path.name
        sums[path.name] = _flat_sum(
            lambda flat: process.run('qemu-img', 'convert', '-U', '-O',
                                     'raw', inside, flat, host=host))
    if settings.Shape.current().profile == 'rbd':
        for name in _rbd('ls', 'vms').split():
            if name.startswith(server.id) and not name.endswith('.rescue'):
                disk = name[len(server.id) + 1:]
                sums[disk] = _flat_sum(
                    lambda flat: _rbd('export', '--no-progress',
                                      f'vms/{name}', flat))
    return sums


def volume_sum(volume):
    """The sha256 of all bytes of a volume, which must be at rest, too."""
    return _flat_sum(lambda flat: _rbd('export', '--no-progress',
                                       f'volumes/volume-{volume}', flat))


def rescue_leftovers(server):
    """Files of a rescue; there must be none once it is over."""
    return sorted(path.name for path in server.folder.glob('*')
                  if path.suffix == '.rescue' or path.name == 'unrescue.xml')


def traces(server_id, domain):
    """What is left of a server that was deleted; there must be nothing."""
    folders = ['shared-source', *(f'{host}/instances'
                                  for host in settings.HYPERVISORS)]
    found = [str(path) for folder in folders
             for path in (settings.DATA / folder).glob(f'{server_id}*')]
    found += [f'{domain} on {host}' for host in settings.HYPERVISORS
              if domain in hypervisor.virsh(
                  host, 'list', '--all', '--name').split()]
    if settings.Shape.current().profile == 'rbd':
        found += [name for name in _rbd('ls', 'vms').split()
                  if name.startswith(server_id)]
    allocations = keystone.connect().placement.get(
        f'/allocations/{server_id}').json()['allocations']
    return found + [f'allocation at {provider}' for provider in allocations]


def _flat_sum(make):
    """The digest of a flat copy that lives only as long as it takes."""
    flat = settings.TMP / f'evidence-{os.getpid()}.raw'
    flat.unlink(missing_ok=True)
    make(flat)
    try:
        with open(flat, 'rb') as data:
            return hashlib.file_digest(data, 'sha256').hexdigest()
    finally:
        flat.unlink()


def _rbd(*argv):
    return process.run('rbd', '-c', ceph.CONF, *argv)

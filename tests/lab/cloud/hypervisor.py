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

"""The hypervisors: namespaces, network, libvirtd, and what it may open."""

import collections
import contextlib
import json
import pathlib
import re
import shutil
import uuid

from tests.lab.cloud import ceph
from tests.lab.cloud import namespace
from tests.lab.cloud import nova
from tests.lab.cloud import process
from tests.lab.cloud import settings

_QEMU = '/usr/bin/qemu-system-x86_64'
_QEMU_72 = settings.CHECKOUT / 'tests/lab/qemu72/qemu-system-x86_64'

# Whenever a guest is started, libvirt makes its tap devices anew. Open vSwitch
# in user space goes on with those that are gone.
_HOOK = """#!/bin/sh
[ "$2" = started ] || exit 0
for tap in $(grep -o "dev='tap[^']*'" | cut -d"'" -f2); do
    ovs-appctl -t /run/openvswitch/ovs-vswitchd.ctl \\
        dpctl/del-if netdev@ovs-netdev "$tap"
    ovs-vsctl --no-wait set interface "$tap" other_config:lab="$(date +%s%N)"
done >/dev/null 2>&1
exit 0
"""

_SHARED = settings.DATA / 'shared'
# libvirt's folders, and where each hypervisor has its own.
_FOLDERS = {
    'run': '/run',
    'etc-libvirt': '/etc/libvirt',
    'lib-libvirt': '/var/lib/libvirt',
    'cache-libvirt': '/var/cache/libvirt',
    'log-libvirt': '/var/log/libvirt',
    # ... and of what makes the TPMs.
    'lib-swtpm': '/var/lib/swtpm-localca',
    'log-swtpm': '/var/log/swtpm',
}


def up_network():
    """A bridge in the controller; the hypervisors are plugged into it."""
    have = process.run('ip', '-json', 'link', 'show', 'type', 'bridge')
    if 'control' in have:
        return
    ip('link', 'set', 'lo', 'up')
    # No file of the machine's is touched by a service of the lab.
    (settings.DATA / 'ctl/run').mkdir(parents=True, exist_ok=True)
    (settings.DATA / 'ctl/run/lock').mkdir(exist_ok=True)
    namespace.bind(settings.DATA / 'ctl/run', '/run')
    _bind_hosts()
    _bridge('control', f'{settings.CONTROLLER}/24')
    if settings.Shape.current().net == 'ovs':
        _bridge('guests', '10.88.0.1/24')


def ip(*argv, host=None):
    process.run('ip', *argv, host=host)


def _bridge(name, address):
    ip('link', 'add', name, 'type', 'bridge')
    ip('addr', 'add', address, 'dev', name)
    ip('link', 'set', name, 'up')


def _bind_hosts():
    names = {'localhost': '127.0.0.1', 'ctl': settings.CONTROLLER,
             **settings.HYPERVISORS}
    hosts = settings.ETC / 'hosts'
    hosts.write_text(''.join(f'{address} {name}\n'
                             for name, address in names.items()))
    namespace.bind(hosts, '/etc/hosts')


def up_shared():
    """One instances folder that libvirt takes for a cluster file system.

    libvirt calls a migration on anything else unsafe, and looks only at
    the file system's type. Mounted before the hypervisors are made, which
    therefore all see the one mount.
    """
    if settings.Shape.current().profile != 'shared':
        return
    source = settings.DATA / 'shared-source'
    for folder in (source, _SHARED):
        folder.mkdir(exist_ok=True)
    process.start('bindfs', ['bindfs', '-f', '-o',
                             'subtype=glusterfs,allow_other', source,
                             _SHARED])
    process.wait_for(
        lambda: f'{_SHARED} fuse.glusterfs' in open('/proc/mounts').read(),
        'the shared instances folder, see bindfs.log', 20)


def up(host):
    """Make one hypervisor, up to a libvirtd that answers."""
    try:
        namespace.enter(host)
    except (FileNotFoundError, process.LabError):
        _prepare_folders(host)
        namespace.make_hypervisor(host)
        _bind_folders(host)
        _plug(host, 'control', 'eth0', settings.HYPERVISORS[host])
        if settings.Shape.current().net == 'ovs':
            _plug(host, 'guests', 'eth1')
    for daemon in ('virtlogd', 'libvirtd'):
        # Left behind by a daemon that was killed.
        (settings.DATA / host / f'run/{daemon}.pid').unlink(missing_ok=True)
    process.start(f'virtlogd-{host}', ['virtlogd'], host=host)
    process.start(f'libvirtd-{host}', ['libvirtd', '--listen'], host=host)
    process.wait_for(lambda: is_answering(host),
                     f'libvirtd, see libvirtd-{host}.log', 60)


def is_answering(host):
    try:
        virsh(host, 'version')
    except process.LabError:
        return False
    return True


def virsh(host, *argv):
    return process.run('virsh', '-q', '-c', 'qemu:///system', *argv,
                       host=host, timeout=60)


def give_ceph_key(host):
    """Let this libvirt open volumes."""
    xml = settings.DATA / host / 'ceph-secret.xml'
    xml.write_text(
        f"<secret ephemeral='no' private='no'><uuid>{ceph.SECRET}</uuid>"
        f"<usage type='ceph'><name>client.{ceph.USER}</name></usage>"
        '</secret>')
    virsh(host, 'secret-define', xml)
    virsh(host, 'secret-set-value', ceph.SECRET, '--base64', ceph.key())


Guest = collections.namedtuple('Guest', 'host pid in_rescue')


def guests(server_id):
    """The QEMU processes of a server on all hosts, whatever libvirt says.

    :param server_id: the UUID of the server
    """
    return [guest for host in settings.HYPERVISORS
            for guest in _guests_on(host, server_id)]


def _guests_on(host, server_id):
    for pid in process.descendants(namespace.pid(host)):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            line = pathlib.Path(f'/proc/{pid}/cmdline').read_text(
                errors='replace')
            if f'-uuid\0{server_id}\0' in line:
                yield Guest(host, pid, 'disk.rescue' in line)


def _prepare_folders(host):
    base = settings.DATA / host
    for folder in (*_FOLDERS, 'instances', 'nova'):
        (base / folder).mkdir(parents=True, exist_ok=True)
    (base / 'run/lock').mkdir(exist_ok=True)
    nova.INSTANCES.mkdir(exist_ok=True)
    etc = base / 'etc-libvirt'
    shutil.copytree('/etc/libvirt', etc, dirs_exist_ok=True)
    shutil.rmtree(etc / 'qemu/networks', ignore_errors=True)
    shutil.rmtree(etc / 'qemu/autostart', ignore_errors=True)
    if settings.Shape.current().net == 'ovs':
        hook = etc / 'hooks/qemu'
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(_HOOK)
        hook.chmod(0o755)
    address = settings.HYPERVISORS[host]
    _write_libvirt(etc / 'libvirtd.conf', {
        'listen_tls': 0, 'listen_tcp': 1, 'listen_addr': address,
        'auth_tcp': 'none', 'auth_unix_rw': 'none',
        # Two libvirts on one machine must not look like the same host.
        'host_uuid': str(uuid.uuid4()),
        'log_outputs': '2:stderr',
    })
    _write_libvirt(etc / 'qemu.conf', {
        'user': 'root', 'group': 'root', 'security_driver': 'none',
        'namespaces': [], 'cgroup_controllers': [],
        'migration_address': address,
        'swtpm_user': 'root', 'swtpm_group': 'root',
    })


def _write_libvirt(path, options):
    # libvirt writes strings as JSON does, and lists too.
    path.write_text(''.join(f'{key} = {json.dumps(value)}\n'
                            for key, value in options.items()))


def _bind_folders(host):
    base = settings.DATA / host
    instances = (_SHARED if settings.Shape.current().profile == 'shared'
                 else base / 'instances')
    process.run('mount', '--bind', instances, nova.INSTANCES, host=host)
    for folder, target in _FOLDERS.items():
        pathlib.Path(target).mkdir(exist_ok=True)
        process.run('mount', '--bind', base / folder, target, host=host)
    if _qemu_version() < (9, 0):
        # Read-only: whoever clears the lab away must not reach through it.
        (base / 'run/lab-usr').mkdir(exist_ok=True)
        process.run('mount', '--bind', '-o', 'ro', '/usr', '/run/lab-usr',
                    host=host)
        process.run('mount', '--bind', _QEMU_72, _QEMU, host=host)


def _qemu_version():
    version = re.search(r'version (\d+)\.(\d+)',
                        process.run(_QEMU, '--version'))
    return int(version[1]), int(version[2])


def _plug(host, bridge, nic, address=None):
    """A cable from a bridge of the controller to a hypervisor."""
    outer = f'{bridge[:4]}-{host}'
    ip('link', 'add', outer, 'type', 'veth', 'peer', 'name', nic, 'netns',
       str(namespace.pid(host)))
    ip('link', 'set', outer, 'master', bridge, 'up')
    ip('link', 'set', 'lo', 'up', host=host)
    if address:
        ip('addr', 'add', f'{address}/24', 'dev', nic, host=host)
    else:
        # Checksums are left to a card that is not there: user space
        # switches would drop the packets.
        process.run('ethtool', '-K', nic, 'tx', 'off', host=host)
        process.run('ethtool', '-K', outer, 'tx', 'off')
        process.run('ethtool', '-K', bridge, 'tx', 'off')
    ip('link', 'set', nic, 'up', host=host)


def cable(host):
    """The controller's end of a hypervisor's cable: tests pull it."""
    return f'cont-{host}'


@contextlib.contextmanager
def slow(host, rate):
    """All that a host receives comes at this rate, as "80mbit"."""
    process.run('tc', 'qdisc', 'add', 'dev', cable(host), 'root', 'tbf',
                'rate', rate, 'burst', '1mb', 'latency', '50ms')
    try:
        yield
    finally:
        process.run('tc', 'qdisc', 'del', 'dev', cable(host), 'root')

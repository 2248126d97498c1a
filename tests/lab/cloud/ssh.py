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


"""SSH between the hypervisors, with keys that live as long as the lab.

nova-compute copies files from another host with scp, as in a cold migration.
"""

from tests.lab.cloud import process
from tests.lab.cloud import settings

_ETC = settings.ETC / 'ssh'
_KEY = _ETC / 'key'


def make_keys():
    """One key for all: root of each hypervisor is root of the other."""
    _ETC.mkdir(exist_ok=True)
    if not _KEY.exists():
        process.run('ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', _KEY)
    _write('sshd_config', {
        'HostKey': _KEY,
        'AuthorizedKeysFile': f'{_KEY}.pub',
        'PermitRootLogin': 'prohibit-password',
        'PasswordAuthentication': 'no',
        'UsePAM': 'no',
        # The lab may live below a folder that others can write.
        'StrictModes': 'no',
        'PidFile': 'none',
        'Subsystem': 'sftp internal-sftp',
    })
    _write('ssh_config', {
        'IdentityFile': _KEY,
        'IdentitiesOnly': 'yes',
        'StrictHostKeyChecking': 'no',
        'UserKnownHostsFile': '/dev/null',
        'LogLevel': 'ERROR',
    })


def _write(name, options):
    (_ETC / name).write_text(''.join(f'{option} {value}\n'
                                     for option, value in options.items()))


def up(host):
    """Let a hypervisor be reached by the other, and reach it."""
    (settings.DATA / host / 'run/sshd').mkdir(exist_ok=True)
    process.run('mount', '--bind', _ETC / 'ssh_config', '/etc/ssh/ssh_config',
                host=host)
    process.start(f'sshd-{host}', [
        '/usr/sbin/sshd', '-D', '-e', '-f', _ETC / 'sshd_config'], host=host)
    process.wait_for(lambda: process.is_listening(
        22, settings.HYPERVISORS[host]), f'sshd, see sshd-{host}.log', 20)

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

"""Ceph on one node: a monitor, a manager and one OSD on a sparse file."""

import json
import re
import uuid

from tests.lab.cloud import config
from tests.lab.cloud import process
from tests.lab.cloud import settings

USER = 'lab'
POOLS = ('volumes', 'images', 'vms')
# libvirt's name for the key, the same on every hypervisor.
SECRET = 'c0ffee00-1ab0-4000-8000-00000000ceb1'

_DATA = settings.DATA / 'ceph'
_ETC = settings.ETC / 'ceph'
CONF = _ETC / 'ceph.conf'
_ADMIN = _ETC / 'ceph.client.admin.keyring'


def up():
    config.write(CONF, _sections())
    for folder in ('mon', 'mgr', 'osd', 'run'):
        (_DATA / folder).mkdir(parents=True, exist_ok=True)
    if not (_DATA / 'mon/store.db').exists():
        _make_monitor()
    process.start('ceph-mon', ['ceph-mon', '-c', CONF, '-f', '-i', 'a'])
    process.wait_port('ceph-mon', 60)
    ceph('auth', 'get-or-create', 'mgr.x', 'mon', 'allow profile mgr',
         'osd', 'allow *', 'mds', 'allow *',
         '-o', _ETC / 'ceph.mgr.x.keyring')
    process.start('ceph-mgr', ['ceph-mgr', '-c', CONF, '-f', '-i', 'x'])
    if not (_DATA / 'osd/ready').exists():
        _make_osd()
    process.start('ceph-osd', ['ceph-osd', '-c', CONF, '-f', '-i', '0'])
    for pool in POOLS:
        ceph('osd', 'pool', 'create', pool, '8', '8')
        ceph('osd', 'pool', 'application', 'enable', pool, 'rbd')
    ceph('auth', 'get-or-create', f'client.{USER}', 'mon', 'profile rbd',
         'osd', ', '.join(f'profile rbd pool={pool}' for pool in POOLS),
         'mgr', 'profile rbd', '-o', _ETC / f'ceph.client.{USER}.keyring')


def ceph(*argv, **kwargs):
    return process.run('timeout', '120', 'ceph', '-c', CONF, *argv,
                       log='ceph-setup', **kwargs)


def key():
    """The secret that libvirt needs to open volumes."""
    text = (_ETC / f'ceph.client.{USER}.keyring').read_text()
    return re.search(r'key = (\S+)', text).group(1)


def _sections():
    address = settings.CONTROLLER
    return {
        'global': {
            'fsid': _fsid(),
            'mon host': f'v2:{address}:3300/0,v1:{address}:6789/0',
            'mon initial members': 'a',
            'public addr': address,
            'public network': '10.77.0.0/24',
            'ms bind ipv6': 'false',
            'keyring': _ETC / '$cluster.$name.keyring',
            'run dir': _DATA / 'run',
            'admin socket': _DATA / 'run/$cluster-$name.$pid.asok',
            'pid file': '',
            'crash dir': _DATA / 'crash',
            # To the standard output, and so to the one log of a service.
            'log to file': 'false',
            'log to stderr': 'false',
            'mon cluster log to file': 'false',
            'osd pool default size': 1,
            'osd pool default min size': 1,
            'osd pool default pg autoscale mode': 'off',
            'osd crush chooseleaf type': 0,
            'mon allow pool size one': 'true',
            'mon warn on pool no redundancy': 'false',
            'mon data avail warn': 5,
            'auth allow insecure global id reclaim': 'false',
            'osd memory target': 939524096,
        },
        'mon.a': {'mon data': _DATA / 'mon'},
        'mgr.x': {'mgr data': _DATA / 'mgr', 'mgr initial modules': ''},
        'osd': {
            'osd data': _DATA / 'osd',
            'bluestore block size': 20 * 1024 ** 3,
            'bluestore block create': 'true',
        },
        f'client.{USER}': {'log to stderr': 'false'},
    }


def _fsid():
    path = settings.DATA / 'ceph-fsid'
    if not path.exists():
        path.write_text(str(uuid.uuid4()))
    return path.read_text()


def _tool(*argv):
    return process.run(*argv, log='ceph-setup').strip()


def _make_monitor():
    keyring = _ETC / 'mon.keyring'
    _tool('ceph-authtool', '--create-keyring', keyring, '--gen-key',
          '-n', 'mon.', '--cap', 'mon', 'allow *')
    _tool('ceph-authtool', '--create-keyring', _ADMIN, '--gen-key',
          '-n', 'client.admin', '--cap', 'mon', 'allow *', '--cap', 'osd',
          'allow *', '--cap', 'mds', 'allow *', '--cap', 'mgr', 'allow *')
    _tool('ceph-authtool', keyring, '--import-keyring', _ADMIN)
    address = settings.CONTROLLER
    _tool('monmaptool', '--create', '--clobber', '--fsid', _fsid(),
          '--addv', 'a', f'[v2:{address}:3300,v1:{address}:6789]',
          _ETC / 'monmap')
    _tool('ceph-mon', '-c', CONF, '--mkfs', '-i', 'a', '--monmap',
          _ETC / 'monmap', '--keyring', keyring)


def _make_osd():
    osd = str(uuid.uuid4())
    secret = _tool('ceph-authtool', '--gen-print-key')
    ceph('osd', 'new', osd, '-i', '-',
         input=json.dumps({'cephx_secret': secret}))
    _tool('ceph-authtool', '--create-keyring', _ETC / 'ceph.osd.0.keyring',
          '--name', 'osd.0', '--add-key', secret)
    _tool('ceph-osd', '-c', CONF, '-i', '0', '--mkfs', '--osd-uuid', osd)

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

"""Where the lab lives and which shape of cloud it is.

Everything that the lab writes is below one folder, so that taking the
folder away takes the lab away.
"""

import dataclasses
import json
import os
import pathlib

PROFILES = ('qcow2', 'raw', 'shared', 'rbd')
NETS = ('none', 'ovs')

# The cloud's own network. It exists only inside the lab's namespaces, so
# it cannot collide with anything on the machine.
CONTROLLER = '10.77.0.1'
HYPERVISORS = {'hv1': '10.77.0.11', 'hv2': '10.77.0.12'}

PASSWORD = 'secret'
REGION = 'RegionOne'
PORTS = {
    'mariadb': 3306,
    'rabbit': 5672,
    'ceph-mon': 3300,
    'keystone': 5000,
    'glance': 9292,
    'placement': 8778,
    'nova-api': 8774,
    'neutron': 9696,
    'cinder-api': 8776,
}


def url(service, path=''):
    return f'http://{CONTROLLER}:{PORTS[service]}{path}'


def older_venv(series):
    """Where a hypervisor's Nova of an older series is, once installed.

    :param series: as "33"
    """
    return ROOT / f'venv-nova-{series}'


def _default_root():
    cache = os.environ.get('XDG_CACHE_HOME') or '~/.cache'
    return pathlib.Path(cache).expanduser() / 'nova-rescue-ext-lab'


ROOT = pathlib.Path(os.environ.get('LAB') or _default_root()).resolve()
CHECKOUT = pathlib.Path(__file__).resolve().parents[3]
VENV = ROOT / 'venv'
WHEELS = ROOT / 'wheels'       # the package, built by "up"
IMAGES = ROOT / 'images'       # built once, kept
DATA = ROOT / 'data'           # thrown away by "down"
ETC = DATA / 'etc'
RUN = DATA / 'run'             # which processes are ours
TMP = DATA / 'tmp'
LOG = ROOT / 'log'             # kept by "down" to be read afterwards
STATE = ROOT / 'lab.json'      # exists while the lab is up


@dataclasses.dataclass(frozen=True)
class Shape:
    """What the person who runs the lab can choose."""

    profile: str = 'qcow2'
    ext: bool = True
    net: str = 'none'

    @classmethod
    def asked(cls):
        """The shape asked for in the environment (make's variables)."""
        profile = os.environ.get('PROFILE') or 'qcow2'
        net = os.environ.get('NET') or 'none'
        if profile not in PROFILES:
            raise SystemExit(f'PROFILE={profile}: one of {PROFILES}')
        if net not in NETS:
            raise SystemExit(f'NET={net}: one of {NETS}')
        return cls(profile, os.environ.get('EXT', '1') != '0', net)

    @classmethod
    def current(cls):
        """The shape of the lab that is up, or None."""
        state = read_state()
        return cls(**state['shape']) if state else None

    def __str__(self):
        return f'PROFILE={self.profile} EXT={int(self.ext)} NET={self.net}'


def read_state():
    try:
        return json.loads(STATE.read_text())
    except FileNotFoundError:
        return None


def write_state(**state):
    ROOT.mkdir(parents=True, exist_ok=True)
    STATE.write_text(json.dumps(state, indent=1))


def change_shape(**changes):
    """Note that the lab that is up has another shape now."""
    state = read_state()
    state['shape'].update(changes)
    write_state(**state)

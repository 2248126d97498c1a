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

"""The order in which a cloud comes up, as far in parallel as it can."""

import concurrent.futures
import time

from tests.lab.cloud import ceph
from tests.lab.cloud import cinder
from tests.lab.cloud import glance
from tests.lab.cloud import hypervisor
from tests.lab.cloud import images
from tests.lab.cloud import keystone
from tests.lab.cloud import mariadb
from tests.lab.cloud import neutron
from tests.lab.cloud import nova
from tests.lab.cloud import placement
from tests.lab.cloud import rabbit
from tests.lab.cloud import resources
from tests.lab.cloud import settings
from tests.lab.cloud import ssh


def _steps():
    """{step: (what it does, the steps before it)}"""
    hosts = list(settings.HYPERVISORS)
    ovs = settings.Shape.current().net == 'ovs'
    steps = {
        'network': (hypervisor.up_network, []),
        'mariadb': (mariadb.up, ['network']),
        'rabbit': (rabbit.up, ['network']),
        'keystone': (keystone.up, ['mariadb']),
        'ceph': (ceph.up, ['network']),
        'shared': (hypervisor.up_shared, ['network']),
        'ssh-keys': (ssh.make_keys, ['network']),
        'nova-api': (nova.up_api, ['keystone', 'rabbit']),
        'glance': (glance.up, ['keystone', 'ceph']),
        'placement': (placement.up, ['keystone']),
        'neutron': (neutron.up, ['keystone', 'rabbit']),
        'cinder': (cinder.up, ['keystone', 'rabbit', 'ceph']),
        'images': (lambda: images.upload(keystone.connect()), ['glance']),
        'hosts': (nova.discover_hosts, [f'compute-{h}' for h in hosts]),
        'resources': (lambda: resources.create(keystone.connect()),
                      ['nova-api', 'cinder', 'neutron']),
    }
    for host in hosts:
        steps[host] = (lambda h=host: hypervisor.up(h), ['shared'])
        steps[f'secret-{host}'] = (
            lambda h=host: hypervisor.give_ceph_key(h), [host, 'ceph'])
        steps[f'ssh-{host}'] = (lambda h=host: ssh.up(h), [host, 'ssh-keys'])
        steps[f'compute-{host}'] = (
            lambda h=host: nova.up_compute(h),
            [f'secret-{host}', f'ssh-{host}', 'nova-api', 'placement',
             'glance', 'neutron'])
        if ovs:
            steps[f'agent-{host}'] = (
                lambda h=host: neutron.up_agent(h), [host, 'neutron'])
            steps[f'compute-{host}'][1].append(f'agent-{host}')
    return steps


def up():
    steps = _steps()
    begin = time.monotonic()
    done, running = set(), {}
    with concurrent.futures.ThreadPoolExecutor(len(steps)) as pool:
        while len(done) < len(steps):
            for name, (action, needs) in steps.items():
                if name not in running and done.issuperset(needs):
                    running[name] = pool.submit(_timed, action)
            pending = [f for n, f in running.items() if n not in done]
            concurrent.futures.wait(
                pending, return_when=concurrent.futures.FIRST_COMPLETED)
            for name, future in running.items():
                if name not in done and future.done():
                    took = future.result()
                    done.add(name)
                    print(f'{time.monotonic() - begin:6.1f} s  {name} '
                          f'({took:.1f} s)', flush=True)


def _timed(action):
    begin = time.monotonic()
    action()
    return time.monotonic() - begin

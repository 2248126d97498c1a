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

"""What the tests use in every cloud: flavors, a second user, quotas."""

from tests.lab.cloud import cinder
from tests.lab.cloud import neutron
from tests.lab.cloud import settings

# name: (memory in MB, root disk, ephemeral disk in GB, swap in MB)
FLAVORS = {
    'lab': (128, 1, 0, 0),
    'lab-disks': (128, 1, 1, 64),   # with an ephemeral disk and swap
    'lab-two': (128, 1, 1, 0),      # two disks, as many as in rescue
    'lab-data': (128, 6, 0, 0),     # with room for data to move
    'lab-uefi': (320, 1, 0, 0),     # OVMF needs more memory
    'lab-bfv': (128, 0, 0, 0),      # the root disk is a volume
}
# Somebody who is not the administrator.
USER = PROJECT = 'alice'
# Somebody who may migrate what is in alice's project, and no more than that.
MANAGER = 'bob'


def create(cloud):
    for name, (ram, disk, ephemeral, swap) in FLAVORS.items():
        if not cloud.compute.find_flavor(name):
            cloud.compute.create_flavor(
                name=name, ram=ram, disk=disk, ephemeral=ephemeral,
                swap=swap, vcpus=1)
    _create_users(cloud.identity)
    cinder.create_type(cloud)
    if settings.Shape.current().net == 'ovs':
        neutron.create_network(cloud)


def _create_users(identity):
    project = (identity.find_project(PROJECT) or
               identity.create_project(name=PROJECT, domain_id='default'))
    for name, role in ((USER, 'member'), (MANAGER, 'manager')):
        user = identity.find_user(name) or identity.create_user(
            name=name, password=settings.PASSWORD, domain_id='default',
            default_project_id=project.id)
        identity.assign_project_role_to_user(
            project, user, identity.find_role(role))

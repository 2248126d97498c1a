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

"""The start of nova-compute on a host with many servers, some in rescue.

From the start of the service until it has looked at each server and reported
its resources. Nova's services run in this process on Nova's own fixtures;
libvirt is Nova's double.
"""

import gc
import json
import sys
import time
import unittest

from nova import monkey_patch
monkey_patch.patch()

from nova.network import model as network_model
from nova import objects
from nova.tests.functional.libvirt import base as nova_base  # noqa: F401
from oslo_utils import uuidutils

from bench import report
from nova_rescue_ext import activation
from tests.functional import base

ROUNDS = 5
SERVERS = 500
RESCUED = 100  # of them
GOAL = 5  # per cent

_KEPT = ('user_id', 'project_id', 'image_ref', 'kernel_id', 'ramdisk_id',
         'launch_index', 'key_name', 'power_state', 'vm_state', 'memory_mb',
         'vcpus', 'root_gb', 'ephemeral_gb', 'ephemeral_key_uuid', 'host',
         'node', 'compute_id', 'instance_type_id', 'user_data',
         'reservation_id', 'launched_at', 'availability_zone', 'os_type',
         'architecture', 'vm_mode', 'root_device_name', 'config_drive',
         'cleaned', 'system_metadata', 'metadata', 'flavor')


class Run(base.RescueTestCase):
    """A cloud with one host and its servers.

    :param scale: how many of the rounds to run, and of the servers to make
    :param pairs: a list; gets the seconds of CPU time of each pair
    """

    def __init__(self, scale, pairs):
        super().__init__('measure')
        self._scale = scale
        self._pairs = pairs

    def measure(self):
        running = self._create_server(networks='none')
        rescued = self._create_server(networks='none')
        with self.opted_in():
            response = self.rescue(rescued, self.create_image())
        self.assert_rescued(rescued, response)
        number = max(2, int(SERVERS * self._scale))
        in_rescue = max(1, int(RESCUED * self._scale))
        for _ in range(in_rescue - 1):
            self._double(rescued)
        for _ in range(number - in_rescue - 1):
            self._double(running)
        self._check(number)
        self._restart(True)  # warms up
        for each in range(max(1, int(ROUNDS * self._scale))):
            seconds = {}
            for active in (False, True) if each % 2 else (True, False):
                seconds[active] = self._restart(active)
            self._pairs.append((seconds[False], seconds[True]))

    def _check(self, number):
        """Raise unless so many servers and guests are on the host."""
        servers = objects.InstanceList.get_by_host(self.context, 'compute1')
        guests = self._host().list_guests()
        if (len(servers), len(guests)) != (number, number):
            raise RuntimeError('%d servers, %d guests' % (
                len(servers), len(guests)))

    def _double(self, server):
        """Another server like this one, on the same host."""
        like = objects.Instance.get_by_uuid(
            self.context, server['id'],
            expected_attrs=['system_metadata', 'metadata', 'flavor'])
        uuid = uuidutils.generate_uuid()
        instance = objects.Instance(
            self.context, uuid=uuid, hostname=uuid, display_name=uuid,
            **{name: getattr(like, name) for name in _KEPT
               if like.obj_attr_is_set(name)})
        instance.info_cache = objects.InstanceInfoCache(
            self.context, instance_uuid=uuid,
            network_info=network_model.NetworkInfo())
        instance.create()
        for bdm in objects.BlockDeviceMappingList.get_by_instance_uuid(
                self.context, like.uuid):
            double = objects.BlockDeviceMapping(
                self.context, instance_uuid=uuid, **{
                    name: getattr(bdm, name) for name in (
                        'source_type', 'destination_type', 'device_type',
                        'boot_index', 'image_id', 'device_name', 'disk_bus',
                        'delete_on_termination', 'guest_format')})
            double.create()
        self._define(like, instance)

    def _define(self, like, instance):
        """Let its guest run."""
        guest = self._host().get_guest(like)
        xml = guest.get_xml_desc().replace(like.uuid, instance.uuid)
        xml = xml.replace('<name>%s<' % like.name,
                          '<name>%s<' % instance.name)
        domain = self._host().get_connection().defineXML(xml)
        domain.create()

    def _host(self):
        return self.computes['compute1'].driver._host

    def _restart(self, active):
        """Restart nova-compute.

        :returns: its CPU time in seconds
        """
        activation.deactivate()
        if active:
            activation.activate()
        gc.collect()
        started = time.process_time()
        self.restart_compute_service('compute1')
        return time.process_time() - started


def _result(pairs):
    without, with_package = report.medians(pairs)
    cost = (report.median_ratio(pairs) - 1) * 100
    return report.Result(
        'Start of nova-compute with %d servers, %d in rescue' % (
            SERVERS, RESCUED),
        '%.2f s' % without, '%.2f s' % with_package, '%+.1f %%' % cost,
        '< %d %%' % GOAL, cost < GOAL, len(pairs),
        (without, with_package, cost / GOAL))


def main():
    pairs = []
    result = unittest.TestResult()
    Run(float(sys.argv[1]), pairs).run(result)
    if not result.wasSuccessful():
        sys.exit((result.errors + result.failures)[0][1])
    print(json.dumps([_result(pairs)]))


if __name__ == '__main__':
    main()

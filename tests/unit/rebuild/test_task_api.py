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


"""The method that the conductor's task API gets."""

import unittest
from unittest import mock

from nova.conductor import api as conductor_api

from nova_rescue_ext.activation import exception
from nova_rescue_ext.activation import overrides

NAME = 'rebuild_instance_in_cell0'


class TaskApiTest(unittest.TestCase):

    def add(self):
        addition, = overrides.additions()
        added = overrides.apply(addition, conductor_api)
        self.addCleanup(added.remove)
        return added

    def test_what_it_passes_on(self):
        self.add()
        with mock.patch('nova.conductor.rpcapi.ComputeTaskAPI'):
            api = conductor_api.ComputeTaskAPI()
        arguments = dict.fromkeys((
            'image', 'admin_password', 'injected_files', 'requested_networks',
            'block_device_mapping', 'tags'))
        for number, name in enumerate(arguments):
            arguments[name] = number
        with mock.patch.object(api, 'conductor_compute_rpcapi') as rpc:
            self.assertIsNone(api.rebuild_instance_in_cell0(
                'context', build_request='request', request_spec='spec',
                **arguments))
        rpc.schedule_and_build_instances.assert_called_once_with(
            'context', ['request'], ['spec'], *arguments.values())

    def test_as_long_as_the_package_is_active(self):
        self.assertFalse(hasattr(conductor_api.ComputeTaskAPI, NAME))
        added = self.add()
        self.assertTrue(hasattr(conductor_api.ComputeTaskAPI, NAME))
        added.remove()
        self.assertFalse(hasattr(conductor_api.ComputeTaskAPI, NAME))

    def test_replaced_by_somebody_else(self):
        added = self.add()
        with mock.patch.object(conductor_api.ComputeTaskAPI, NAME) as theirs:
            added.remove()
            self.assertIs(theirs, getattr(conductor_api.ComputeTaskAPI, NAME))

    def test_nova_has_one_of_its_own(self):
        self.add()
        self.assertRaises(exception.Misfit, self.add)

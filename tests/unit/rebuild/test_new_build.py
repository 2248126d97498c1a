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


"""Which networks are checked before the ports are freed."""

import unittest
from unittest import mock

from nova import objects
from oslo_utils.fixture import uuidsentinel as uuids

from nova_rescue_ext.rebuild import new_build
from nova_rescue_ext.rebuild import ports


class OtherNetworksTest(unittest.TestCase):

    def setUp(self):
        objects.register_all()
        self.build = new_build.NewBuild.__new__(new_build.NewBuild)
        self.build.left_ports = ports.LeftPorts.__new__(ports.LeftPorts)
        self.build.left_ports.named = [uuids.left]

    def checked(self, networks):
        self.build.networks = networks
        with mock.patch.object(self.build, '_check_networks') as check:
            self.build._check_other_networks()
        return [call.args[0] for call in check.mock_calls]

    def request(self, *port_ids):
        return objects.NetworkRequestList(objects=[
            objects.NetworkRequest(port_id=port) for port in port_ids])

    def test_left_ports_alone(self):
        """Nova would take an empty list for "what there is"."""
        self.assertEqual([], self.checked(self.request(uuids.left)))

    def test_others(self):
        others, = self.checked(self.request(uuids.left, uuids.other))
        self.assertEqual([uuids.other],
                         [network.port_id for network in others])

    def test_nothing_named(self):
        self.assertEqual([None], self.checked(None))

    def test_nothing_left(self):
        self.build.left_ports.named = []
        for networks in (self.request(), self.request(uuids.other)):
            self.assertEqual([networks], self.checked(networks))

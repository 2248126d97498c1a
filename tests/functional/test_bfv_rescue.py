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


"""Rescue of boot-from-volume servers, from HTTP to the libvirt domain."""

from tests.functional import base


class BFVRescueTest(base.RescueTestCase):
    """2-bfv-rescue.rst, from compute 2.87 and compute-rescue 1.1."""

    def setUp(self):
        super().setUp()
        self.server = self.create_bfv_server()

    def test_image_without_properties(self):
        before = self.domains.disks(self.server)
        with self.opted_in():
            response = self.rescue(self.server, self.create_image())
        self.assert_rescued(self.server, response)
        print(before, self.domains.disks(self.server))

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

"""Rescue with an image, from a volume, and with stable devices."""

from __future__ import annotations

from tempest import config
from tempest.lib.common.utils import data_utils
from tempest.lib import decorators
from tempest.lib import exceptions

from nova_rescue_ext.tempest_plugin.tests import base

CONF = config.CONF


class RescueTest(base.TestCase):
    """A server that boots from an image."""

    @decorators.idempotent_id('6f0e9bd2-3fcb-4f2d-a6b3-1f8f0b6c5a01')
    def test_rescue_with_image(self) -> None:
        server_id = self.boot()
        answer = self.rescue(server_id, self.rescue_image())
        if CONF.compute_feature_enabled.enable_instance_password:
            self.assertTrue(answer['adminPass'])
        self.unrescue(server_id)

    @decorators.idempotent_id('b3a3c2d8-7a54-4b0e-8d7c-4b8c1f0d2e02')
    def test_stopped_before_is_stopped_after(self) -> None:
        server_id = self.boot()
        self.servers_client.stop_server(server_id)
        self.wait_for('SHUTOFF', server_id)
        self.rescue(server_id, self.rescue_image())
        self.unrescue(server_id, 'SHUTOFF')

    @decorators.attr(type=['negative'])
    @decorators.idempotent_id('0c9b7c3e-52a0-4a8d-9a45-63f2d1f7ab03')
    def test_image_that_does_not_exist(self) -> None:
        """It is refused before anything happens."""
        server_id = self.boot()
        self.assertRaises(exceptions.BadRequest, self.opted_in.rescue_server,
                          server_id, rescue_image_ref=data_utils.rand_uuid())
        self.wait_for('ACTIVE', server_id)


class RescueFromVolumeTest(base.TestCase):
    """A server that boots from a volume."""

    @decorators.idempotent_id('2a51f4a7-0d1b-4f6e-93a4-8c1e7d5b9f04')
    def test_rescue_with_image(self) -> None:
        """All disks stay, and the rescue disk is one more."""
        server_id = self.boot_from_volume()
        before = self.disks(server_id)
        self.rescue(server_id, self.rescue_image())
        self.assertEqual(before + 1, self.disks(server_id))
        self.unrescue(server_id)
        self.assertEqual(before, self.disks(server_id))

    @decorators.idempotent_id('d7e02f6b-9c3a-4e57-8b1d-5a6f3c2e1d05')
    def test_rescue_without_image(self) -> None:
        server_id = self.boot_from_volume()
        self.rescue(server_id)
        self.unrescue(server_id)

    @decorators.attr(type=['negative'])
    @decorators.idempotent_id('9e4d1c85-6b2f-47a3-a0c9-7d8e5f1b3a06')
    def test_without_a_version(self) -> None:
        """Who does not opt in has the Nova underneath."""
        server_id = self.boot_from_volume()
        self.assertRaises(exceptions.BadRequest,
                          self.servers_client.rescue_server, server_id)


class StableDevicesTest(base.TestCase):
    """A rescue image with properties, and a server with several disks."""

    @classmethod
    def skip_checks(cls) -> None:
        super().skip_checks()
        if not CONF.compute_feature_enabled.stable_rescue:
            raise cls.skipException('[compute-feature-enabled] stable_rescue')

    @decorators.idempotent_id('4c8a7e1f-2d95-4b36-b7f0-1e9c3d6a5b07')
    def test_all_disks_stay(self) -> None:
        self._test_rescue(self.boot())

    @decorators.idempotent_id('b6e14d0a-9c52-4f87-8a3d-5e7f2c1b9d14')
    def test_attached_volume_stays(self) -> None:
        if not CONF.service_available.cinder:
            raise self.skipException('There is no Cinder.')
        server_id = self.boot()
        self._attach_volume(server_id)
        self._test_rescue(server_id)

    @decorators.idempotent_id('f2a95c73-1e4b-4d68-b0c9-8d6a3f7e5b15')
    def test_from_volume_with_another_volume(self) -> None:
        server_id = self.boot_from_volume()
        self._attach_volume(server_id)
        self._test_rescue(server_id)

    def _attach_volume(self, server_id: str) -> None:
        server = self.servers_client.show_server(server_id)['server']
        self.nova_volume_attach(server, self.create_volume())

    def _test_rescue(self, server_id: str) -> None:
        """The rescue disk is one more, and then it is gone."""
        before = self.disks(server_id)
        self.rescue(server_id, self._image())
        self.assertEqual(before + 1, self.disks(server_id))
        self.unrescue(server_id)
        self.assertEqual(before, self.disks(server_id))

    def _image(self) -> str:
        configured = CONF.compute_rescue.stable_rescue_image_ref
        if configured:
            return configured
        return self.rescue_image_with(hw_rescue_device='disk',
                                      hw_rescue_bus='virtio')

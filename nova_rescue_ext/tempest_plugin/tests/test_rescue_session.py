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

"""What a rescue is like for its user: how long, on which disks, with what."""

from __future__ import annotations

import base64
import time
import typing

from tempest.common import waiters
from tempest import config
from tempest.lib import decorators
from tempest.lib import exceptions

from nova_rescue_ext import microversion
from nova_rescue_ext.tempest_plugin.tests import base

CONF = config.CONF


class RescueSessionTest(base.TestCase):

    version = microversion.RESCUE_SESSION

    @decorators.idempotent_id('a8d3f6b1-7c49-4e25-9b0d-2f5e8c1a7d16')
    def test_shown(self) -> None:
        server_id = self.boot()
        self.assertIsNone(self.opted_in.show_rescue(server_id))
        self.rescue(server_id, self.rescue_image(), timeout=3600)
        rescue = self.opted_in.show_rescue(server_id)
        assert rescue is not None
        self.assertEqual(self.rescue_image(), rescue['image_id'])
        self.assertLess(rescue['since'], rescue['until'])
        roots = [disk['serial'] for disk in rescue['disks']
                 if disk['role'] == 'root']
        self.assertEqual(1, len(roots))
        self.unrescue(server_id)
        self.assertIsNone(self.opted_in.show_rescue(server_id))

    @decorators.idempotent_id('5e2b9c74-0f81-4d3a-a6e7-8b4c1d9f3a17')
    def test_root_volume_by_its_id(self) -> None:
        server_id = self.boot_from_volume()
        (volume,) = self.servers_client.list_volume_attachments(server_id)[
            'volumeAttachments']
        self.rescue(server_id, self.rescue_image())
        rescue = self.opted_in.show_rescue(server_id)
        assert rescue is not None
        self.assertEqual(
            [{'role': 'root', 'serial': volume['volumeId']}],
            rescue['disks'])
        self.unrescue(server_id)

    @decorators.idempotent_id('c7f10a5d-3b96-4e82-b4d8-6a2e9f7c5b18')
    def test_key_and_user_data(self) -> None:
        """For the rescue only: the server has its own key pair afterwards."""
        own, other = self.create_keypair(), self.create_keypair()
        server_id = self.boot(key_name=own['name'])
        self.rescue(
            server_id, self.rescue_image(), key_name=other['name'],
            user_data=base64.b64encode(b'#!/bin/sh').decode())
        rescue = self.opted_in.show_rescue(server_id)
        assert rescue is not None
        self.assertEqual(other['name'], rescue['key_name'])
        self.unrescue(server_id)
        self.assertEqual(own['name'], self.servers_client.show_server(
            server_id)['server']['key_name'])

    @decorators.idempotent_id('b27e9f40-5c13-4a86-9d7b-0e4f8a6c3d23')
    def test_port(self) -> None:
        """What is attached in rescue stays, what is detached is gone."""
        if not (CONF.service_available.neutron
                and CONF.compute_feature_enabled.interface_attach):
            raise self.skipException(
                '[compute-feature-enabled] interface_attach')
        server_id = self.boot()
        before = self._ports(server_id)
        self.rescue(server_id, self.rescue_image())
        network_id = self.get_tenant_network()['id']
        stays, goes = (self.opted_in.attach_network(server_id, network_id)
                       for _number in range(2))
        self.assertEqual({*before, stays, goes}, self._ports(server_id))
        self.opted_in.detach_port(server_id, goes)
        self._wait_until(lambda: goes not in self._ports(server_id))
        self.unrescue(server_id)
        self.assertEqual({*before, stays}, self._ports(server_id))

    def _ports(self, server_id: str) -> set[str]:
        return {port['port_id'] for port
                in self.interface_client.list_interfaces(server_id)[
                    'interfaceAttachments']}

    @decorators.attr(type='slow')
    @decorators.idempotent_id('1d84e6f3-9a27-4c5b-8e0f-7b3d2c6a9e19')
    def test_timeout(self) -> None:
        """Unrescued to its state before, within a minute after it."""
        server_id = self.boot()
        self.servers_client.stop_server(server_id)
        self.wait_for('SHUTOFF', server_id)
        self.rescue(server_id, self.rescue_image(), timeout=60)
        self.wait_for('SHUTOFF', server_id)

    @decorators.idempotent_id('e90c5b28-4d73-4f16-a1b9-3c8f6d0e7a20')
    def test_ready_line(self) -> None:
        line = CONF.compute_rescue.ready_line
        if not line:
            raise self.skipException('[compute_rescue] ready_line')
        image_id = self.rescue_image_with(os_rescue_ready_line=line)
        server_id = self.boot()
        self.rescue(server_id, image_id)
        self._wait_until(lambda: self._ready_line(server_id) != 'waiting')
        self.assertEqual('seen', self._ready_line(server_id))
        self.unrescue(server_id)

    @staticmethod
    def _wait_until(condition: typing.Callable[[], bool]) -> None:
        begun = time.monotonic()
        while not condition():
            if time.monotonic() - begun > CONF.compute.build_timeout:
                raise exceptions.TimeoutException('It is still waiting.')
            time.sleep(CONF.compute.build_interval)

    def _ready_line(self, server_id: str) -> str | None:
        rescue = self.opted_in.show_rescue(server_id)
        assert rescue is not None
        line: str | None = rescue['ready_line']
        return line

    @decorators.attr(type=['negative'])
    @decorators.idempotent_id('4b6a8d92-1e5f-4073-9c2e-5d7f0b3a8c21')
    def test_refused(self) -> None:
        """Before anything happens to the server."""
        server_id = self.boot()
        for parameters in ({'timeout': 1}, {'key_name': 'there-is-none'},
                           {'user_data': 'not base64'}):
            self.assertRaises(
                exceptions.BadRequest, self.opted_in.rescue_server,
                server_id, **parameters)
        self.wait_for('ACTIVE', server_id)

    @decorators.attr(type=['negative'])
    @decorators.idempotent_id('73f2c0e9-6b58-4a1d-8f47-9e1b5d3c7a22')
    def test_without_a_version(self) -> None:
        """Who does not opt in has the Nova underneath."""
        server_id = self.boot()
        self.assertRaises(
            exceptions.BadRequest, self.servers_client.rescue_server,
            server_id, timeout=3600)
        waiters.wait_for_server_status(self.servers_client, server_id,
                                       'ACTIVE')

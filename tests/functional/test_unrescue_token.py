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


"""Unrescue by a user, whose token the hard reboot gets to see.

With a token, Nova looks for the local disks and what they are based on, and
fetches what is missing. The doubles of Nova's functional tests leave that out;
here the image back end is Nova's own, on files without content.
"""

import hashlib
import os
import subprocess
from unittest import mock

import fixtures
from nova.compute import rpcapi
from nova import exception
from nova.tests.functional.api import client
from nova.virt.libvirt import driver as libvirt_driver
from nova.virt.libvirt import imagebackend
from nova.virt.libvirt import utils as libvirt_utils
from oslo_serialization import jsonutils
from oslo_utils import imageutils

from tests.functional import base
from tests.functional import test_unrescue

DRIVER = 'nova.virt.libvirt.driver.LibvirtDriver.'

# Before a fixture of Nova's tests puts its double there.
_real_backend = imagebackend.Backend.backend


def cached(image_id):
    """Where the image back end keeps an image for all servers."""
    return os.path.join(base.CONF.instances_path,
                        base.CONF.image_cache.subdirectory_name,
                        hashlib.sha1(image_id.encode()).hexdigest())


def touch(path):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, 'a'):
        pass


class TokenTestCase(test_unrescue.UnrescueTestCase):

    def setUp(self):
        super().setUp()
        self.patch('nova.virt.libvirt.imagebackend.Backend.backend',
                   _real_backend)
        self.patch('nova.virt.images.qemu_img_info', self._describe_disk)
        self.patch('nova.virt.libvirt.utils.fetch_image', self._fetch)
        self.patch('nova.privsep.path.utime', os.utime)
        libvirt_driver.LibvirtDriver._create_image.side_effect = (
            self._create_disks)
        self.kernel = self.create_image()
        self.ramdisk = self.create_image()
        self.image = self.create_image({'kernel_id': self.kernel,
                                        'ramdisk_id': self.ramdisk})
        self.fetched = []
        self.looked_at = None
        self._look = libvirt_driver.LibvirtDriver._create_images_and_backing
        self.patch(DRIVER + '_create_images_and_backing', self._look_at)

    def patch(self, name, replacement):
        self.useFixture(fixtures.MonkeyPatch(name, replacement))

    def create_server(self):
        self.server = self._create_server(image_uuid=self.image,
                                          networks='none')
        for path in (cached(self.image), self.path('kernel'),
                     self.path('ramdisk')):
            touch(path)

    def _create_disks(self, context, instance, mapping, **kwargs):
        for name in mapping:
            if name.startswith('disk'):
                touch(os.path.join(libvirt_utils.get_instance_path(instance),
                                   name))
        return mock.DEFAULT

    def _describe_disk(self, path, format=None):
        """As qemu-img does. The server's disk is based on its image."""
        if not os.path.exists(path):
            raise exception.DiskNotFound(location=path)
        info = {'filename': path, 'format': 'qcow2', 'virtual-size': 1,
                'actual-size': 0}
        if os.path.basename(path) == 'disk':
            info['backing-filename'] = cached(self.image)
        return imageutils.QemuImgInfo(jsonutils.dumps(info), format='json')

    def _fetch(self, context, target, image_id, trusted_certs=None):
        self.glance.show(context, image_id)
        self.fetched.append((image_id, target))
        touch(target)

    def _look_at(self, driver, context, instance, instance_dir, disks, *args,
                 **kwargs):
        self.looked_at = [(os.path.basename(disk['path']),
                           disk['backing_file']) for disk in disks]
        return self._look(driver, context, instance, instance_dir, disks,
                          *args, **kwargs)

    def delete_images(self):
        for image_id in (self.image, self.kernel, self.ramdisk):
            self.glance.delete(self.context, image_id)

    def unrescue(self, status='ACTIVE'):
        """With the token of the user, as Keystone's middleware sets it."""
        cast = rpcapi.ComputeAPI.unrescue_instance

        def cast_with_token(itself, context, instance):
            context.auth_token = 'token'
            return cast(itself, context, instance)

        with fixtures.MonkeyPatch(
                'nova.compute.rpcapi.ComputeAPI.unrescue_instance',
                cast_with_token):
            self.api.post_server_action(self.server['id'],
                                        {'unrescue': None})
        self._wait_for_state_change(self.server, status)


class TokenTest(TokenTestCase):

    def _test(self, **properties):
        self.create_server()
        before = self.domains.disks(self.server)
        self.rescue_now(**properties)
        self.assertIn('disk.rescue', self.names_of_disks())
        self.delete_images()
        base_file = os.path.basename(cached(self.image))
        self.unrescue()
        self.assertEqual([('disk', base_file)], self.looked_at)
        self.assertEqual(before, self.domains.disks(self.server))
        self.assertEqual([], self.fetched)

    def test_legacy(self):
        self._test()

    def test_stable_devices(self):
        self._test(hw_rescue_device='disk', hw_rescue_bus='virtio')

    def put_qcow2(self):
        """A disk of the server, based on its image."""
        subprocess.run(('qemu-img', 'create', '-q', '-f', 'qcow2', '-u', '-F',
                        'raw', '-b', cached(self.image), self.path('disk'),
                        '1M'), check=True)

    def rescue_whole_server(self):
        self.create_server()
        self.rescue_now()
        self.put_qcow2()
        self.delete_images()

    def test_whole_disks(self):
        """Nova need not look at them: it takes long, and the server waits."""
        self.rescue_whole_server()
        with mock.patch('nova.virt.images.qemu_img_info') as look:
            self.unrescue()
        look.assert_not_called()
        self.assertEqual([], self.looked_at)

    def test_no_base(self):
        """As after a migration (hazard: disks-without-a-base)."""
        self.create_server()
        self.rescue_now()
        subprocess.run(('qemu-img', 'create', '-q', '-f', 'qcow2',
                        self.path('disk'), '1M'), check=True)
        self.unrescue()
        self.assertEqual([], self.looked_at)

    def test_base_is_missing(self):
        self.create_server()
        self.rescue_now()
        self.put_qcow2()
        os.unlink(cached(self.image))
        self.unrescue()
        self.assertEqual([(self.image, cached(self.image))], self.fetched)

    def test_disk_is_missing(self):
        """Nova says so, as in a hard reboot."""
        self.rescue_whole_server()
        os.unlink(self.path('disk'))
        with mock.patch('nova.virt.images.qemu_img_info',
                        side_effect=exception.DiskNotFound(
                            location='disk')) as look:
            self.assertRaises(client.OpenStackApiException, self.unrescue)
        look.assert_called()

    def test_boot_from_volume(self):
        self.server = self.create_bfv_server()
        before = self.domains.disks(self.server)
        with self.opted_in():
            self.rescue_now()
            self.assertIn('disk.rescue', self.names_of_disks())
            self.delete_images()
            self.unrescue()
        self.assertEqual([], self.looked_at)
        self.assertEqual(before, self.domains.disks(self.server))
        self.assertEqual([], self.fetched)

    def test_files_are_missing(self):
        """They come from the server's images, not from the rescue's."""
        self.create_server()
        with self.opted_in():
            self.rescue_now(kernel_id=self.create_image())
        for path in (cached(self.image), self.path('kernel')):
            os.unlink(path)
        self.unrescue()
        self.assertEqual([(self.image, cached(self.image)),
                          (self.kernel, self.path('kernel'))], self.fetched)

    def test_of_a_stopped_server(self):
        self.create_server()
        self.api.post_server_action(self.server['id'], {'os-stop': None})
        self._wait_for_state_change(self.server, 'SHUTOFF')
        with self.opted_in():
            self.rescue_now()
            self.delete_images()
            self.unrescue('SHUTOFF')

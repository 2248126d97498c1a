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

"""Real qcow2 files, on bases in the image cache."""

import os
import subprocess

from nova.tests.fixtures import libvirt_imagebackend
from oslo_serialization import jsonutils

from tests.functional import base


class Qcow2Mixin:
    """For tests with two compute hosts, which have one image cache."""

    # Of any process that a test starts.
    run_program = staticmethod(subprocess.run)

    def show_qcow2_to_libvirt(self):
        """Have Nova's double of a disk say what format it has."""
        original = (libvirt_imagebackend.LibvirtImageBackendFixture.
                    _fake_libvirt_info)

        def libvirt_info(*args, **kwargs):
            info = original(*args, **kwargs)
            if 'config' not in info.source_path:
                info.driver_format = 'qcow2'
            return info

        self.patch('nova.tests.fixtures.libvirt_imagebackend.'
                   'LibvirtImageBackendFixture._fake_libvirt_info',
                   libvirt_info)

    def put_qcow2(self, name, base_name):
        """A qcow2 file on a base, which has bytes of its own."""
        cache = os.path.join(base.CONF.instances_path, '_base')
        os.makedirs(cache, exist_ok=True)
        base_path = os.path.join(cache, base_name)
        with open(base_path, 'wb') as file:
            file.write(self.content(name))
        path = self.path(self.server['id'], 'compute1', name)
        self.qemu_img('create', '-f', 'qcow2', '-F', 'raw', '-b', base_path,
                      path)

    def copy_disk(self, source, target):
        """As QEMU does: what is above the base on the source.

        A base that the destination fetched from Glance is the source's, as
        the hosts of these tests have one image cache.
        """
        if os.path.basename(source).startswith('disk.config'):
            super().copy_disk(source, target)
            return
        raw = source + '.content'
        self.qemu_img('convert', '-O', 'raw', source, raw)
        if not os.path.exists(target):
            self.qemu_img('create', '-f', 'qcow2', '-F', 'raw', '-b',
                          self.base_of(source), target)
        for extent in jsonutils.loads(self.qemu_img(
                'map', '--output', 'json', source)):
            if extent['depth'] == 0 and extent['data']:
                self.write(target, raw, extent['start'], extent['length'])
        os.unlink(raw)

    def base_of(self, path):
        return jsonutils.loads(self.qemu_img(
            'info', '--output', 'json', path)).get('full-backing-filename')

    def write(self, target, content, start, length):
        """Write a part of a file into a qcow2 disk."""
        with open(content, 'rb') as file:
            file.seek(start)
            part = file.read(length)
        with open(content + '.part', 'wb') as file:
            file.write(part)
        self.run_program(
            ('qemu-io', '-f', 'qcow2', '-c', 'write -q -s %s %d %d' % (
                content + '.part', start, length), target),
            check=True, capture_output=True)
        os.unlink(content + '.part')

    @staticmethod
    def content(name):
        return name.encode().ljust(65536)

    def qemu_img(self, *args):
        return self.run_program(('qemu-img', *args), check=True,
                                capture_output=True, text=True).stdout

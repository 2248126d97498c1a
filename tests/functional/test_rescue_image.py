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


"""Which image a server is rescued with, and whether it will do."""

import contextlib
import copy
import time
from unittest import mock

import fixtures
from glanceclient import exc as glance_exc
from keystoneauth1 import exceptions as ks_exc
from nova.api.metadata import base as metadata
from nova.compute import rpcapi as compute_rpcapi
from nova import exception
from nova.image import glance
from nova import objects
from oslo_serialization import jsonutils

from nova_rescue_ext import exception as ext_exception
from nova_rescue_ext import instance_metadata
from nova_rescue_ext import microversion
from tests.functional import base


class ChoiceTest(base.RescueTestCase):
    """In this order: asked for, offered by the operator, the server's own."""

    def _rescued_with(self, server, image_id=None):
        with self.opted_in():
            response = self.rescue(server, image_id)
        self.assert_rescued(server, response)
        instance = objects.Instance.get_by_uuid(self.context, server['id'])
        return instance.system_metadata['rescue_ext_image_id']

    def _create_image_backed(self):
        return self._create_server(image_uuid=self.IMAGE, networks='none')

    def test_asked_for(self):
        self.flags(default_rescue_image=self.create_image(),
                   group='rescue_ext')
        image = self.create_image()
        self.assertEqual(image, self._rescued_with(
            self._create_image_backed(), image))

    def test_offered(self):
        image = self.create_image()
        self.flags(default_rescue_image=image, group='rescue_ext')
        self.assertEqual(image, self._rescued_with(
            self._create_image_backed()))

    def test_offered_for_boot_from_volume(self):
        image = self.create_image()
        self.claim_image(self.create_image())
        self.flags(default_rescue_image=image, group='rescue_ext')
        self.assertEqual(image, self._rescued_with(self.create_bfv_server()))

    def test_offered_by_stocks_option(self):
        """Which has no effect in stock Nova."""
        image = self.create_image()
        self.flags(rescue_image_id=image, group='libvirt')
        self.assertEqual(image, self._rescued_with(
            self._create_image_backed()))

    def test_base_image(self):
        self.assertEqual(self.IMAGE, self._rescued_with(
            self._create_image_backed()))

    def test_not_opted_in(self):
        self.flags(default_rescue_image=self.create_image(),
                   group='rescue_ext')
        server = self._create_image_backed()
        self.assert_rescued(server, self.rescue(server))
        instance = objects.Instance.get_by_uuid(self.context, server['id'])
        self.assertEqual(self.IMAGE,
                         instance.system_metadata['rescue_ext_image_id'])


class PrivateOfferTest(base.RescueTestCase):
    """An offered image that the project cannot see is the operator's offer.

    Then, and only then, it is read with the operator's rights.
    """

    def setUp(self):
        super().setUp()
        self.private = self.create_image(is_public=False, owner='operator')
        self.readers = []
        get = self.glance.show

        def get_as(itself, context, image_id, *args, **kwargs):
            operator = context.user_auth_plugin == 'operator'
            if image_id == self.private:
                self.readers.append(operator)
                if not operator:
                    raise exception.ImageNotFound(image_id=image_id)
            return get(context, image_id)

        self.useFixture(fixtures.MonkeyPatch(
            'nova.image.glance.API.get', get_as))
        self.server = self._create_server(image_uuid=self.IMAGE,
                                          networks='none')

    def _have_credentials(self, auth):
        self.useFixture(fixtures.MonkeyPatch(
            'keystoneauth1.loading.load_auth_from_conf_options',
            lambda conf, group, **kwargs: auth))

    def test_offered(self):
        self._have_credentials('operator')
        self.flags(default_rescue_image=self.private, group='rescue_ext')
        with self.opted_in():
            self.assert_rescued(self.server, self.rescue(self.server))
        # As the user, and then only as the operator: in nova-api, by Nova's
        # own code, and in nova-compute.
        self.assertFalse(self.readers[0])
        self.assertEqual({True}, set(self.readers[1:]))

    def test_an_offer_is_of_one_image(self):
        """One of an earlier rescue gives nobody the operator's rights.

        A nova-api without the package takes any image, and leaves what ours
        has told nova-compute before.
        """
        self._have_credentials('operator')
        self.flags(default_rescue_image=self.private, group='rescue_ext')
        with self.opted_in():
            self.assert_rescued(self.server, self.rescue(self.server))
        self.api.post_server_action(self.server['id'], {'unrescue': None})
        self._wait_for_state_change(self.server, 'ACTIVE')
        self.private = self.create_image(is_public=False, owner='operator')
        self.readers.clear()
        instance = objects.Instance.get_by_uuid(self.context,
                                                self.server['id'])
        instance.task_state = 'rescuing'
        instance.save()
        manager = self.computes['compute1'].manager
        self.assertRaises(
            exception.ImageNotFound, manager.compute_rpcapi.rescue_instance,
            self.context, instance, 'password',
            rescue_image_ref=self.private)
        self.assertEqual([False], self.readers)

    def test_asked_for(self):
        """Naming the operator's image gives nobody the operator's rights."""
        self._have_credentials('operator')
        self.flags(default_rescue_image=self.private, group='rescue_ext')
        with self.opted_in():
            response = self.rescue(self.server, self.private)
        self.assert_refused(self.server, response,
                            'does not exist or you cannot see it')
        self.assertNotIn(True, self.readers)

    def test_host_without_the_package(self):
        self._have_credentials('operator')
        self.flags(default_rescue_image=self.private, group='rescue_ext')
        self.change_compute_node()
        with self.opted_in():
            response = self.rescue(self.server)
        self.assert_refused(self.server, response,
                            'only the package can read')

    def test_name_of_an_image(self):
        """It is refused, whoever reads it, and the server is not touched."""
        self._have_credentials('operator')
        self.flags(rescue_image_id='grml', group='libvirt')
        with self.opted_in():
            response = self.rescue(self.server)
        self.assert_refused(self.server, response, 'grml')

    def _refused_without_credentials(self):
        self.flags(default_rescue_image=self.private, group='rescue_ext')
        with self.opted_in():
            response = self.rescue(self.server)
        self.assert_refused(self.server, response,
                            'default rescue image of this cloud')
        self.assertIn('[service_user] has no credentials',
                      self.stdlog.logger.output)

    def test_no_credentials(self):
        self._have_credentials(None)
        self._refused_without_credentials()

    def test_some_credentials_are_missing(self):
        self.useFixture(fixtures.MockPatch(
            'keystoneauth1.loading.load_auth_from_conf_options',
            side_effect=ks_exc.MissingRequiredOptions([mock.Mock(
                dest='auth_url')])))
        self._refused_without_credentials()


class CheckTest(base.RescueTestCase):
    """Checked in nova-api: 400, the reason in words, the server untouched."""

    def setUp(self):
        super().setUp()
        self.server = self._create_server(image_uuid=self.IMAGE,
                                          networks='none')

    def _refused(self, words, properties=None, **attributes):
        image = self.create_image(properties, **attributes)
        with self.opted_in():
            response = self.rescue(self.server, image)
        self.assert_refused(self.server, response, image, words,
                            'Choose an image with rescue_image_ref')

    def test_refusals(self):
        refused = self._refused
        refused('is queued, not active', status='queued')
        refused('is deactivated, not active', status='deactivated')
        refused('is encrypted', {'cinder_encryption_key_id': 'key'})
        refused('is a snapshot of a volume',
                {'block_device_mapping': '[{"snapshot_id": "x"}]'})
        refused('has container format docker', container_format='docker')
        refused('has disk format aki', disk_format='aki')
        refused('has disk format None', disk_format=None)
        refused('needs 1000000 MiB of memory', min_ram=1000000)
        refused('warp', {'hw_rescue_bus': 'warp'})
        refused('warp', {'hw_rescue_device': 'warp'})
        refused('is for s390x', {'hw_architecture': 's390x'})
        refused('a rescue disk can be disk, cdrom, floppy',
                {'hw_rescue_device': 'lun'})
        refused('a cdrom can be on sata, scsi, ide, usb',
                {'hw_rescue_device': 'cdrom', 'hw_rescue_bus': 'virtio'})
        refused('a disk can be on virtio, scsi, sata, ide, usb',
                {'hw_rescue_bus': 'fdc'})
        refused('a floppy can be on fdc',
                {'hw_rescue_device': 'floppy', 'hw_rescue_bus': 'usb'})

    def test_not_refused(self):
        image = self.create_image(
            {'hw_architecture': 'x86_64', 'hw_rescue_device': 'cdrom',
             'hw_rescue_bus': 'sata'},
            min_ram=1, container_format='ova', disk_format='iso')
        with self.opted_in():
            self.assert_rescued(self.server, self.rescue(self.server, image))

    def test_compute_node_is_gone(self):
        self.useFixture(fixtures.MonkeyPatch(
            'nova.objects.ComputeNode.get_by_host_and_nodename',
            classmethod(self._no_compute_node)))
        with self.opted_in():
            response = self.rescue(self.server, self.create_image())
        self.assert_refused(self.server, response, 'is no longer known')

    @staticmethod
    def _no_compute_node(cls, context, host, nodename):
        raise exception.ComputeHostNotFound(host=host)

    def test_missing(self):
        with self.opted_in():
            response = self.rescue(self.server,
                                   'f3a3b6a5-6c3f-47a1-9e5e-b5a3b1f0f6d1')
        self.assert_refused(self.server, response,
                            'does not exist or you cannot see it')

    def test_base_image_is_gone(self):
        self.glance.delete(None, self.IMAGE)
        with self.opted_in():
            response = self.rescue(self.server)
        self.assert_refused(self.server, response,
                            'does not exist or you cannot see it')

    def test_bus_that_the_machine_type_has_not(self):
        """Known to the host only; refused before the guest is touched."""
        driver = self.computes['compute1'].driver
        domains = self.domains.disks(self.server)
        image = self.create_image({'hw_rescue_bus': 'ide'})
        error = self.assertRaises(exception.InstanceNotRescuable,
                                  self._rescue_by_rpc, image)
        self.assertIn('has no ide bus', str(error))
        self.assertIn('virtio, scsi, sata, usb', str(error))
        driver._create_image.assert_called_once()  # when it was created
        server = self.api.get_server(self.server['id'])
        self.assertEqual(('ACTIVE', None), (
            server['status'], server['OS-EXT-STS:task_state']))
        self.assertEqual(domains, self.domains.disks(self.server))

    def test_buses_of_other_machine_types(self):
        for machine, bus, words in (
                ('virt-6.2', 'ide', 'virtio, scsi, sata, usb'),
                ('pseries', 'ide', 'virtio, scsi, sata, usb'),
                ('s390-ccw-virtio', 'usb', 'virtio, scsi'),
                ('s390-ccw-virtio', 'sata', 'virtio, scsi')):
            error = self.assertRaises(
                exception.InstanceNotRescuable, self._rescue_by_rpc,
                self.create_image({'hw_rescue_bus': bus}), machine)
            self.assertIn('%s has no %s bus' % (machine, bus), str(error))
            self.assertIn('A disk can be on %s' % words, str(error))
        error = self.assertRaises(
            exception.InstanceNotRescuable, self._rescue_by_rpc,
            self.create_image({'hw_rescue_device': 'floppy'}), 'virt-6.2')
        self.assertIn('has no fdc bus', str(error))
        self.assertTrue(self._guest_runs())

    def _guest_runs(self):
        driver = self.computes['compute1'].driver
        return driver._host.get_guest(objects.Instance.get_by_uuid(
            self.context, self.server['id'])).is_active()

    def test_virt_types(self):
        """Known to the host only, too."""
        for virt_type, properties, words in (
                ('lxc', {'hw_rescue_device': 'disk'}, 'virt_type'),
                ('parallels', {'hw_rescue_bus': 'virtio'}, 'virtio')):
            self.flags(virt_type=virt_type, group='libvirt')
            error = self.assertRaises(
                exception.InstanceNotRescuable, self._rescue_by_rpc,
                self.create_image(properties), 'pc', opted_in=False)
            self.assertIn(words, str(error))
            self.assertTrue(self._guest_runs())
            self.assertEqual('ACTIVE', self.api.get_server(
                self.server['id'])['status'])

    def test_floppy_and_uefi(self):
        """It would boot its own disk without a word."""
        instance = objects.Instance.get_by_uuid(self.context,
                                                self.server['id'])
        instance.system_metadata['image_hw_firmware_type'] = 'uefi'
        instance.save()
        self._refused('UEFI firmware', {'hw_rescue_device': 'floppy'})

    def _rescue_by_rpc(self, image, machine='pc-q35-6.2', opted_in=True):
        instance = objects.Instance.get_by_uuid(self.context,
                                                self.server['id'])
        instance.system_metadata['image_hw_machine_type'] = machine
        if opted_in:
            instance_metadata.request_rescue(
                instance, microversion.RESCUE,
                request_id=self.context.request_id)
        instance.task_state = 'rescuing'
        instance.save()
        self.computes['compute1'].manager.compute_rpcapi.rescue_instance(
            self.context, instance, 'password', rescue_image_ref=image)


class ImageServiceFailsTest(base.RescueTestCase):
    """It, or Keystone, does not answer as it should: 400, not 500."""

    def setUp(self):
        super().setUp()
        self.server = self._create_server(image_uuid=self.IMAGE,
                                          networks='none')

    def _fail(self, error):
        """Let Nova's own client of Glance meet an error."""
        service = glance.GlanceImageServiceV2(
            client=mock.Mock(call=mock.Mock(side_effect=error)))
        self.useFixture(fixtures.MonkeyPatch(
            'nova.image.glance.API.get',
            lambda itself, context, image_id, **kwargs: service.show(
                context, image_id)))

    def _refused(self, error, line):
        self._fail(error)
        with self.opted_in():
            response = self.rescue(self.server, self.IMAGE)
        self.assert_refused(self.server, response,
                            'image service does not answer',
                            'Try again later')
        self.assertIn(line, self.stdlog.logger.output)

    def test_glance(self):
        for name in ('HTTPInternalServerError', 'HTTPBadGateway'):
            self._refused(getattr(glance_exc, name)(),
                          'cannot be read: %s' % name)

    def test_keystone(self):
        for name in ('ConnectFailure', 'DiscoveryFailure', 'BadGateway'):
            self._refused(getattr(ks_exc, name)(),
                          'cannot be read: %s' % name)

    def test_credentials(self):
        """Those in [service_user] are not told to anybody."""
        for error in (ks_exc.Unauthorized('Password: secret'),
                      ks_exc.MissingRequiredOptions([mock.Mock(
                          dest='secret')])):
            self._refused(error, 'credentials in [service_user]: %s.'
                          % type(error).__name__)
        self.assertNotIn('secret', self.stdlog.logger.output)

    def test_image_is_read_once(self):
        """Nova's own code is given what was read."""
        reads = []
        get = self.glance.show

        def get_once(itself, context, image_id, **kwargs):
            reads.append(image_id)
            if len(reads) > 1:
                raise glance_exc.HTTPBadGateway()
            return get(context, image_id)

        self.useFixture(fixtures.MonkeyPatch(
            'nova.image.glance.API.get', get_once))
        self.useFixture(fixtures.MockPatch(
            'nova.compute.rpcapi.ComputeAPI.rescue_instance'))
        with self.opted_in():
            response = self.rescue(self.server, self.IMAGE)
        self.assertEqual(200, response.status_code, response.text)
        self.assertEqual([self.IMAGE], reads)


class StableDevicesTest(base.RescueTestCase):
    """All disks where they were (spec: stable-device-rescue)."""

    SERVER = {}  # the properties of the server's image

    def _disks(self, properties=None):
        server = self._create_server(
            image_uuid=self.create_image(self.SERVER) if self.SERVER
            else self.IMAGE, networks='none')
        before = self.domains.disks(server)
        with self.opted_in():
            self.assert_rescued(server, self.rescue(
                server, self.create_image(properties)))
        return before, self.domains.disks(server)

    # Device, its bus, and what the guest calls it.
    VALUES = (
        ('disk', 'virtio', 'vdb'), ('disk', 'scsi', 'sda'),
        ('disk', 'sata', 'sda'), ('disk', 'usb', 'sda'),
        ('disk', 'ide', 'hda'), ('cdrom', 'sata', 'sda'),
        ('cdrom', 'scsi', 'sda'), ('cdrom', 'ide', 'hda'),
        ('cdrom', 'usb', 'sda'), ('floppy', 'fdc', 'fda'))

    def test_every_value(self):
        for device, bus, target in self.VALUES:
            before, disks = self._disks({'hw_rescue_device': device,
                                         'hw_rescue_bus': bus})
            self.assertEqual(before + [
                (target, bus, device, '1', 'disk.rescue')], disks)

    def test_every_disk(self):
        """Volumes, ephemeral disks, swap and config drive, where they were."""
        self.flags(force_config_drive=True)
        self.useFixture(fixtures.MockPatch(
            'nova.virt.configdrive.ConfigDriveBuilder.make_drive'))
        server = self._create_server(
            image_uuid=self.create_image(self.SERVER),
            flavor_id=self._create_flavor(disk=1, ephemeral=2, swap=512),
            networks='none')
        self.api.post_server_volume(server['id'], {
            'volumeAttachment': {'volumeId': self.VOLUME}})
        self._wait_for_volume_attach(server['id'], self.VOLUME)
        # As after any boot: an attached volume has an address by then.
        self._reboot_server(server, hard=True)
        before = self.domains.disks(server)
        self.assertEqual(
            {'disk', 'disk.config', 'disk.eph0', 'disk.swap', self.VOLUME},
            {disk[-1] for disk in before})
        with self.opted_in():
            self.assert_rescued(server, self.rescue(
                server, self.create_image({'hw_rescue_bus': 'usb'})))
        *others, rescue = self.domains.disks(server)
        self.assertEqual(('usb', 'disk', '1', 'disk.rescue'), rescue[1:])
        # Nova puts volumes in the order in which the database answers.
        self.assertEqual(
            {disk[:-1] + (disk[-1].replace('config', 'config.rescue'),)
             for disk in before}, set(others))

    def test_cdrom_alone_on_q35(self):
        """Which has no ide bus, whatever the rescue image is made for."""
        server = self._create_server(image_uuid=self.IMAGE, networks='none')
        instance = objects.Instance.get_by_uuid(self.context, server['id'])
        instance.system_metadata.update({
            'image_hw_machine_type': 'pc-q35-2.11',
            'image_hw_cdrom_bus': 'sata'})  # Nova records it at boot
        instance.save()
        with self.opted_in():
            self.assert_rescued(server, self.rescue(
                server, self.create_image({'hw_rescue_device': 'cdrom'})))
        self.assertEqual(('sda', 'sata', 'cdrom', '1', 'disk.rescue'),
                         self.domains.disks(server)[-1])

    def test_device_alone_takes_the_bus_of_the_server(self):
        """Not that of the rescue image's own hw_disk_bus."""
        self.assertEqual(
            ('vdb', 'virtio', 'disk', '1', 'disk.rescue'),
            self._disks({'hw_rescue_device': 'disk',
                         'hw_disk_bus': 'scsi'})[1][-1])

    def test_floppy_alone(self):
        self.assertEqual(
            ('fda', 'fdc', 'floppy', '1', 'disk.rescue'),
            self._disks({'hw_rescue_device': 'floppy'})[1][-1])

    def test_by_image(self):
        self.assertEqual(['disk.rescue', 'disk'], [
            disk[-1] for disk in self._disks()[1]])

    def test_always(self):
        self.flags(stable_devices='always', group='rescue_ext')
        self.assertEqual(('vdb', 'virtio', 'disk', '1', 'disk.rescue'),
                         self._disks()[1][-1])

    def test_always_not_opted_in(self):
        self.flags(stable_devices='always', group='rescue_ext')
        server = self._create_server(image_uuid=self.IMAGE, networks='none')
        self.assert_rescued(server, self.rescue(server, self.create_image()))
        self.assertEqual(['disk.rescue', 'disk'], [
            disk[-1] for disk in self.domains.disks(server)])


class Q35Test(StableDevicesTest):
    """The same with machine type q35, which has no ide bus."""

    SERVER = {'hw_machine_type': 'q35'}
    VALUES = [value for value in StableDevicesTest.VALUES
              if value[1] != 'ide']


class UEFITest(StableDevicesTest):
    """The same with UEFI, which boots from no floppy."""

    SERVER = {'hw_firmware_type': 'uefi'}
    VALUES = [value for value in StableDevicesTest.VALUES
              if value[0] != 'floppy']

    def test_floppy_alone(self):
        server = self._create_server(
            image_uuid=self.create_image(self.SERVER), networks='none')
        image = self.create_image({'hw_rescue_device': 'floppy'})
        with self.opted_in():
            self.assert_refused(server, self.rescue(server, image),
                                'UEFI firmware')


class UEFIOnQ35Test(UEFITest):
    """The same with both."""

    SERVER = {'hw_machine_type': 'q35', 'hw_firmware_type': 'uefi'}
    VALUES = [value for value in UEFITest.VALUES if value[1] != 'ide']


class KernelTestCase(base.RescueTestCase):

    MISSING = 'f3a3b6a5-6c3f-47a1-9e5e-b5a3b1f0f6d1'

    def setUp(self):
        super().setUp()
        self.project = self.api.project_id  # that of the servers
        self.shared = set()  # ids of images that the project may see
        self.useFixture(fixtures.MonkeyPatch(
            'nova.image.glance.API.get', self._get))
        self.support = copy.copy(self.admin_api)
        self.support.project_id = 'support'

    def _get(self, itself, context, image_id, **kwargs):
        """As Glance, which sees through a context that Nova elevated."""
        image = self.glance.show(context, image_id)
        if not (image['visibility'] == 'public' or image['id'] in self.shared
                or image.get('owner') == context.project_id
                or context.user_id in ('admin', None)):
            raise exception.ImageNotFound(image_id=image_id)
        return image

    def create_private(self, owner, properties=None, **attributes):
        return self.create_image(properties, owner=owner, is_public=False,
                                 visibility='private', **attributes)

    def create_server(self):
        server = self._create_server(image_uuid=self.IMAGE, networks='none')
        instance = objects.Instance.get_by_uuid(self.context, server['id'])
        instance.kernel_id, instance.ramdisk_id = 'own', 'own-ramdisk'
        instance.save()
        return server

    def kernel(self, image, api=None, opted_in=True, server=None):
        """Rescue a server; what with is returned."""
        server = server or self.create_server()
        before = self._own(server)
        with self.opted_in('1.1' if opted_in else '1.0', api=api):
            self.assert_rescued(server, self.rescue(server, image, api))
        self.assertEqual(before, self._own(server))
        return self.downloaded()

    def _own(self, server):
        instance = objects.Instance.get_by_uuid(self.context, server['id'])
        return instance.kernel_id, instance.ramdisk_id

    def downloaded(self):
        driver = self.computes['compute1'].driver
        images = driver._create_image.call_args[1]['disk_images']
        return images['kernel_id'], images['ramdisk_id']

    def refused(self, server, image, *words, api=None):
        """A rescue is refused; in which words is returned."""
        with self.opted_in(api=api):
            response = self.rescue(server, image, api)
        self.assert_refused(server, response, *words)
        return response.text


class KernelTest(KernelTestCase):
    """The rescue image's own kernel and ramdisk."""

    def test_of_the_image(self):
        kernel = self.create_private(self.project)
        ramdisk = self.create_image()
        self.assertEqual((kernel, ramdisk), self.kernel(self.create_image(
            {'kernel_id': kernel, 'ramdisk_id': ramdisk})))

    def test_shared_with_the_project(self):
        kernel = self.create_private('other')
        self.shared.add(kernel)
        self.assertEqual((kernel, ''), self.kernel(self.create_image(
            {'kernel_id': kernel})))

    def test_none(self):
        self.assertEqual(('', ''), self.kernel(self.create_image()))
        self.assertEqual(('', ''), self.kernel(self.create_image(
            {'kernel_id': 'nokernel', 'ramdisk_id': self.MISSING})))

    def test_not_opted_in(self):
        self.assertEqual(('own', 'own-ramdisk'), self.kernel(
            self.create_image({'kernel_id': self.MISSING}), opted_in=False))

    def test_of_the_servers_own_image(self):
        """It was checked when the server was created."""
        kernel = self.create_image()
        image = self.create_image({'kernel_id': kernel})
        server = self._create_server(image_uuid=image, networks='none')
        self.glance.delete(None, kernel)
        self.assertEqual(kernel, self.kernel(image, server=server)[0])

    def test_host_without_the_package(self):
        """It boots the kernel of the server."""
        server = self.create_server()
        self.change_compute_node()
        self.useFixture(fixtures.MockPatch(
            'nova.compute.rpcapi.ComputeAPI.rescue_instance'))
        with self.opted_in():
            response = self.rescue(server, self.create_image(
                {'kernel_id': self.MISSING}))
        self.assertEqual(200, response.status_code, response.text)

    def test_missing_or_not_visible(self):
        """The same words: nothing says whether it exists."""
        server = self.create_server()
        for name, what in (('kernel_id', 'kernel'),
                           ('ramdisk_id', 'ramdisk')):
            texts = []
            for part in (self.MISSING, self.create_private('other')):
                image = self.create_image({name: part})
                text = self.refused(
                    server, image, 'image %s cannot boot: %s %s does not '
                    'exist or you cannot see it' % (image, what, part),
                    'Choose an image with rescue_image_ref')
                texts.append(text.replace(part, '').replace(image, ''))
            self.assertEqual(*texts)

    def test_url(self):
        """Its Glance would be sent the token."""
        self.refused(
            self.create_server(), self.create_image(
                {'kernel_id': 'http://example.com/v2/images/' + self.IMAGE}),
            'does not exist or you cannot see it')

    def test_not_active(self):
        kernel = self.create_image(status='deactivated')
        self.refused(self.create_server(),
                     self.create_image({'kernel_id': kernel}),
                     'kernel %s' % kernel, 'is deactivated, not active')


class ClaimedKernelTest(KernelTestCase):
    """What an image boots with is a claim of its owner.

    Invariant: no-new-rights. An administrator must not be made to give
    somebody else's image to the user who owns the rescue image.
    """

    WORDS = 'is neither public nor one that project'

    def test_of_another_project(self):
        server = self.create_server()
        for api in (self.admin_api, self.support):
            for name in ('kernel_id', 'ramdisk_id'):
                victims = self.create_private('victim')
                image = self.create_private(self.project, {name: victims})
                self.refused(server, image, victims, self.WORDS,
                             'Choose an image with rescue_image_ref', api=api)
                self.assertIn('%s, which is not one of project %s'
                              % (victims, self.project),
                              self.stdlog.logger.output)

    def test_of_the_callers_project(self):
        """Nor one that only the administrator was to have."""
        self.refused(
            self.create_server(),
            self.create_private(self.project, {
                'kernel_id': self.create_private('support')}),
            self.WORDS, api=self.support)

    def test_public(self):
        kernel = self.create_image()
        self.assertEqual((kernel, ''), self.kernel(
            self.create_image({'kernel_id': kernel}), self.support))

    def test_of_the_servers_project(self):
        kernel = self.create_private(self.project)
        self.assertEqual((kernel, ''), self.kernel(
            self.create_private(self.project, {'kernel_id': kernel}),
            self.support))

    def test_of_the_owner_of_the_image(self):
        """Who names the image means to give it to the server."""
        kernel = self.create_private('support')
        self.assertEqual((kernel, ''), self.kernel(
            self.create_private('support', {'kernel_id': kernel}),
            self.support))

    def test_of_an_image_that_the_volume_claims(self):
        """Nobody has named it; who does may use it."""
        kernel = self.create_private('operator')
        image = self.create_image({'kernel_id': kernel}, owner='operator')
        self.claim_image(image)
        server = self.create_bfv_server()
        self.refused(server, None, kernel, self.WORDS, api=self.support)
        self.assertEqual((kernel, ''), self.kernel(
            image, self.support, server=server))

    def test_of_the_default_image(self):
        kernel = self.create_private('operator')
        self.flags(group='rescue_ext', default_rescue_image=(
            self.create_image({'kernel_id': kernel}, owner='operator')))
        self.assertEqual((kernel, ''), self.kernel(None, self.support))

    def test_of_a_default_image_that_is_private(self):
        """All that the operator can read, with his rights."""
        self.useFixture(fixtures.MonkeyPatch(
            'keystoneauth1.loading.load_auth_from_conf_options',
            lambda conf, group, **kwargs: 'operator'))
        kernel = self.create_private('another-of-the-operator')
        self.flags(group='rescue_ext', default_rescue_image=(
            self.create_private('operator', {'kernel_id': kernel})))
        self.assertEqual((kernel, ''), self.kernel(None))

    def test_missing_of_a_default_image_that_is_private(self):
        self.useFixture(fixtures.MonkeyPatch(
            'keystoneauth1.loading.load_auth_from_conf_options',
            lambda conf, group, **kwargs: 'operator'))
        self.flags(group='rescue_ext', default_rescue_image=(
            self.create_private('operator', {'kernel_id': self.MISSING})))
        self.refused(self.create_server(), None,
                     'does not exist or you cannot see it')


class KernelOnTheHostTest(KernelTestCase):
    """nova-compute trusts no nova-api with it."""

    def setUp(self):
        super().setUp()
        self.victims = self.create_private('victim')

    def _assert_as_before(self, server, downloads):
        after = self.api.get_server(server['id'])
        self.assertEqual(('ACTIVE', None), (
            after['status'], after['OS-EXT-STS:task_state']))
        driver = self.computes['compute1'].driver
        self.assertEqual(downloads, driver._create_image.call_count)

    def test_changed_after_it_was_checked(self):
        image = self.create_private(self.project, {
            'kernel_id': self.create_private(self.project)})
        server = self.create_server()
        send = compute_rpcapi.ComputeAPI.rescue_instance

        def change(*args, **kwargs):
            self.glance.images[image]['properties']['ramdisk_id'] = (
                self.victims)
            return send(*args, **kwargs)

        self.useFixture(fixtures.MonkeyPatch(
            'nova.compute.rpcapi.ComputeAPI.rescue_instance', change))
        with self.opted_in(api=self.support):
            self.rescue(server, image, self.support)
        self._wait_for_server_parameter(
            server, {'OS-EXT-STS:task_state': None})
        self._assert_as_before(server, 1)

    def _rescue_by_rpc(self, server, image, request_id=None):
        """As a nova-api does that has checked nothing."""
        instance = objects.Instance.get_by_uuid(self.context, server['id'])
        instance_metadata.request_rescue(
            instance, microversion.RESCUE,
            request_id=request_id or self.context.request_id)
        instance.task_state = 'rescuing'
        instance.save()
        self.computes['compute1'].manager.compute_rpcapi.rescue_instance(
            self.context, instance, 'password', rescue_image_ref=image)

    def test_never_checked(self):
        image = self.create_private(self.project,
                                    {'ramdisk_id': self.victims})
        server = self.create_server()
        error = self.assertRaises(exception.InstanceNotRescuable,
                                  self._rescue_by_rpc, server, image)
        self.assertIn(ClaimedKernelTest.WORDS, str(error))
        self._assert_as_before(server, 1)

    def test_stock_api(self):
        """What ours has requested before is not its request."""
        server = self.create_server()
        self._rescue_by_rpc(server, self.create_image(), 'req-of-before')
        self._wait_for_state_change(server, 'RESCUE')
        self.assertEqual([], [
            key for key in objects.Instance.get_by_uuid(
                self.context, server['id']).system_metadata
            if key in ('rescue_ext_version', 'rescue_ext_request')])

    def test_stock_api_names_no_image(self):
        """That is no rescue of ours: it boots with what the server has."""
        self.claim_image(self.create_image(
            {'kernel_id': self.create_private('operator')},
            owner='operator'))
        server = self.create_bfv_server()
        self._rescue_by_rpc(server, None, 'req-of-before')
        self._wait_for_state_change(server, 'RESCUE')
        self.assertEqual(('', ''), self.downloaded())


class PasswordTest(base.RescueTestCase):
    """The config drive of the rescue system has the rescue's password."""

    def _config_drive(self, properties):
        self.flags(force_config_drive=True)
        server = self._create_server(image_uuid=self.IMAGE, networks='none')
        normal = self.domains.disks(server)[-1]
        self.assertEqual('disk.config', normal[-1])
        with self.opted_in():
            self.assert_rescued(server, self.rescue(
                server, self.create_image(properties)))
        return normal, [disk for disk in self.domains.disks(server)
                        if 'config' in disk[-1]]

    def setUp(self):
        super().setUp()
        self.useFixture(fixtures.MockPatch(
            'nova.virt.configdrive.ConfigDriveBuilder.make_drive'))
        self.on_config_drive = []
        self.useFixture(fixtures.MonkeyPatch(
            'nova.virt.libvirt.driver.LibvirtDriver._create_configdrive',
            self._create_config_drive))

    def _create_config_drive(self, driver, context, instance, injection_info,
                             rescue=False):
        """Nova puts what is given to it into meta_data.json, as admin_pass."""
        self.on_config_drive.append((rescue, injection_info.admin_pass))

    def _password_works(self, properties):
        self.flags(force_config_drive=True)
        server = self._create_server(image_uuid=self.IMAGE, networks='none')
        with self.opted_in():
            response = self.rescue(server, self.create_image(properties))
        self.assert_rescued(server, response)
        password = jsonutils.loads(response.text)['adminPass']
        self.assertEqual((True, password), self.on_config_drive[-1])
        instance = objects.Instance.get_by_uuid(self.context, server['id'])
        self.assertNotIn(password, str(instance.system_metadata))

    def test_it_is_the_one_that_was_returned(self):
        self._password_works({})

    def test_it_is_the_one_that_was_returned_with_stable_devices(self):
        self._password_works({'hw_rescue_bus': 'usb'})

    def test_not_from_the_metadata_service(self):
        """Nova does not keep it, and the user guide says so."""
        server = self._create_server(image_uuid=self.IMAGE, networks='none')
        with self.opted_in():
            response = self.rescue(server, self.create_image())
        self.assert_rescued(server, response)
        instance = objects.Instance.get_by_uuid(
            self.context, server['id'], expected_attrs=[
                'ec2_ids', 'flavor', 'info_cache', 'metadata',
                'system_metadata', 'security_groups', 'keypairs',
                'device_metadata'])
        document = metadata.InstanceMetadata(instance).lookup(
            '/openstack/latest/meta_data.json')
        self.assertNotIn(jsonutils.loads(response.text)['adminPass'],
                         str(document))

    def test_stable_devices(self):
        normal, found = self._config_drive({'hw_rescue_bus': 'usb'})
        self.assertEqual([normal[:-1] + ('disk.config.rescue',)], found)

    def test_other_mode(self):
        _, found = self._config_drive({})
        self.assertEqual(['disk.config.rescue'], [disk[-1] for disk in found])


class RaceTest(base.RescueTestCase):
    """Two rescues of one server that both saw it without a task."""

    def setUp(self):
        super().setUp()
        self.server = self._create_server(image_uuid=self.IMAGE,
                                          networks='none')
        self.sent = []
        self.useFixture(fixtures.MonkeyPatch(
            'nova.compute.rpcapi.ComputeAPI.rescue_instance',
            lambda itself, context, instance, **kwargs: self.sent.append(
                kwargs['rescue_image_ref'])))

    def _race(self):
        """Two rescues; the second begins when the first is about to save.

        :returns: the responses of the one that wins and the one that loses
        """
        save = objects.Instance.save
        winner = []

        def save_late(itself, *args, **kwargs):
            if kwargs.get('expected_task_state') == [None] and not winner:
                winner.append(None)
                winner[0] = self.rescue(self.server, self.images[0])
            return save(itself, *args, **kwargs)

        self.images = self.create_image(), self.create_image()
        self.useFixture(fixtures.MonkeyPatch(
            'nova.objects.Instance.save', save_late))
        loser = self.rescue(self.server, self.images[1])
        return winner[0], loser

    def test_loser_is_refused(self):
        with self.opted_in():
            winner, loser = self._race()
        self.assertEqual(200, winner.status_code, winner.text)
        self.assertEqual(409, loser.status_code, loser.text)
        self.assertIn('task_state rescuing', loser.text)
        self.assertEqual([self.images[0]], self.sent)
        self.assertEqual('rescuing', objects.Instance.get_by_uuid(
            self.context, self.server['id']).task_state)

    def test_not_opted_in(self):
        """As in stock Nova."""
        winner, loser = self._race()
        self.assertEqual(200, winner.status_code, winner.text)
        self.assertEqual(500, loser.status_code, loser.text)
        self.assertEqual([self.images[0]], self.sent)


class WholeRescueTest(base.RescueTestCase):
    """A whole rescue comes between nova-api's look and its save."""

    def before_the_save(self, act):
        """Do something when the next rescue has been checked."""
        save, has_begun = objects.Instance.save, []

        def save_late(itself, *args, **kwargs):
            if kwargs.get('expected_task_state') == [None] and not has_begun:
                has_begun.append(True)
                act()
            return save(itself, *args, **kwargs)

        self.useFixture(fixtures.MonkeyPatch('nova.objects.Instance.save',
                                             save_late))

    def test_late_rescue(self):
        server = self._create_server(image_uuid=self.IMAGE, networks='none')
        images = [self.create_image(), self.create_image()]
        self.before_the_save(lambda: self.assert_rescued(
            server, self.rescue(server, images[0])))
        with self.opted_in():
            late = self.rescue(server, images[1])
        self.assertEqual(409, late.status_code, late.text)
        self.assertIn('vm_state rescued', late.text)
        instance = objects.Instance.get_by_uuid(self.context, server['id'])
        self.assertIsNone(instance.task_state)
        self.assertEqual(images[0],
                         instance_metadata.rescue_of(instance).image_id)

    def kept(self, server):
        """What is kept of the rescue that a server is in."""
        instance = objects.Instance.get_by_uuid(
            self.context, server['id'], expected_attrs=['system_metadata'])
        return {name: value for name, value
                in instance.system_metadata.items()
                if name.startswith('rescue_ext_')}

    def late_stock_rescue(self, server):
        """:returns: what is kept before and after it, and its answer"""
        images = [self.create_image(), self.create_image()]
        before = []

        def rescue():
            with self.opted_in('1.4'):
                self.assert_rescued(server, self.rescue(server, images[0]))
            before.append(self.kept(server))

        self.before_the_save(rescue)
        late = self.rescue(server, images[1])
        if late.status_code == 200:
            self.wait_for_the_event_of(server, late)
        self._wait_for_server_parameter(server, {
            'OS-EXT-STS:task_state': None, 'status': 'RESCUE'})
        self.assertIn('rescue_ext_version', before[0])
        return before[0], self.kept(server), late

    def wait_for_the_event_of(self, server, response):
        path = '/servers/%s/os-instance-actions/%s' % (
            server['id'], response.headers['x-compute-request-id'])
        for _ in range(100):
            events = self.admin_api.api_get(path).body[
                'instanceAction']['events']
            if events and events[0]['finish_time']:
                return
            time.sleep(0.1)
        self.fail('the event does not end')

    def test_late_rescue_without_opt_in(self):
        """It is refused by the host, as its guest is in rescue."""
        server = self._create_server(image_uuid=self.IMAGE, networks='none')
        before, after, _late = self.late_stock_rescue(server)
        self.assertEqual(before, after)

    def test_late_rescue_without_opt_in_finds_something_left(self):
        server = self._create_server(image_uuid=self.IMAGE, networks='none')
        instance = objects.Instance.get_by_uuid(
            self.context, server['id'], expected_attrs=['system_metadata'])
        instance_metadata.request_rescue(instance, '1.4',
                                         request_id='req-killed')
        instance.save()
        before, after, late = self.late_stock_rescue(server)
        self.assertEqual(before, after)
        self.assertEqual(409, late.status_code, late.text)

    def test_late_message(self):
        self.late_message(is_opted_in=True)

    def test_late_message_without_opt_in(self):
        self.late_message(is_opted_in=False)

    def late_message(self, is_opted_in):
        """The task is that of a newer request by then."""
        server = self._create_server(image_uuid=self.IMAGE, networks='none')
        images = [self.create_image(), self.create_image()]
        send, sent = compute_rpcapi.ComputeAPI.rescue_instance, []
        with fixtures.MonkeyPatch(
                'nova.compute.rpcapi.ComputeAPI.rescue_instance',
                lambda *args, **kwargs: sent.append((args, kwargs))):
            for image in images:
                with (self.opted_in() if is_opted_in or image == images[1]
                      else contextlib.nullcontext()):
                    response = self.rescue(server, image)
                self.assertEqual(200, response.status_code, response.text)
                if image == images[0]:
                    self.admin_api.post_server_action(
                        server['id'], {'os-resetState': {'state': 'active'}})
        for args, kwargs in sent:
            with contextlib.suppress(ext_exception.TaskEnded):
                send(*args, **kwargs)
        self._wait_for_state_change(server, 'RESCUE')
        self.assertEqual(images[1],
                         self.kept(server)['rescue_ext_image_id'])
        newer, older = [action for action
                        in self.api.get_instance_actions(server['id'])
                        if action['action'] == 'rescue']
        self.assertEqual((None, 'Error'),
                         (newer['message'], older['message']))


class LeftoverRecordTest(base.RescueTestCase):
    """What was left in the database, on a host without the package now."""

    def test_forgotten(self):
        server = self._create_server(image_uuid=self.IMAGE, networks='none')
        self.change_compute_node()
        instance = objects.Instance.get_by_uuid(self.context, server['id'])
        instance.system_metadata.update({
            'rescue_ext_version': '1.1', 'rescue_ext_offered_image': 'True',
            'rescue_ext_image_id': 'old', 'rescue_ext_mode': 'stable'})
        instance.save()
        seen = []
        self.useFixture(fixtures.MonkeyPatch(
            'nova.compute.rpcapi.ComputeAPI.rescue_instance',
            lambda itself, context, instance, **kwargs: seen.append(
                dict(instance.system_metadata))))
        self.rescue(server, self.create_image())
        self.assertEqual([], [key for key in seen[0]
                              if key.startswith('rescue_ext_')])

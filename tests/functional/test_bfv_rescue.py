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

from unittest import mock

from cinderclient import exceptions as cinder_exc
import fixtures
from keystoneauth1 import exceptions as ks_exc
from nova import exception
from nova import objects

from nova_rescue_ext import policies
from tests.functional import base

MISSING = 'f3a3b6a5-6c3f-47a1-9e5e-b5a3b1f0f6d1'
ELSEWHERE = 'http://example.com/v2/images/' + MISSING
ROOT = ('vda', 'virtio', 'disk', None, base.RescueTestCase.VOLUME)


class BFVRescueTest(base.RescueTestCase):
    """Spec: bfv-rescue, from compute 2.87 and compute-rescue 1.1."""

    def setUp(self):
        super().setUp()
        self.server = self.create_bfv_server()

    def _rescue_disk(self, image_id=None):
        with self.opted_in():
            response = self.rescue(self.server, image_id)
        self.assert_rescued(self.server, response)
        disks = self.domains.disks(self.server)
        self.assertIn(ROOT, disks[:-1])
        return disks[-1]

    def test_image_without_properties(self):
        self.assertEqual(('vdb', 'virtio', 'disk', '1', 'disk.rescue'),
                         self._rescue_disk(self.create_image()))

    def _set_disk_bus(self, bus):
        instance = objects.Instance.get_by_uuid(self.context,
                                                self.server['id'])
        instance.system_metadata['image_hw_disk_bus'] = bus
        instance.save()

    def test_image_with_device_only(self):
        self._set_disk_bus('virtio')
        image = self.create_image({'hw_rescue_device': 'cdrom'})
        target, bus, device, boot, name = self._rescue_disk(image)
        self.assertEqual(('cdrom', '1', 'disk.rescue'), (device, boot, name))
        self.assertNotEqual('virtio', bus)  # there is no such CD-ROM

    def test_image_with_bus_only(self):
        image = self.create_image({'hw_rescue_bus': 'usb'})
        self.assertEqual(('sda', 'usb', 'disk', '1', 'disk.rescue'),
                         self._rescue_disk(image))

    def test_image_with_both(self):
        image = self.create_image({'hw_rescue_bus': 'scsi',
                                   'hw_rescue_device': 'disk'})
        self.assertEqual(('sda', 'scsi', 'disk', '1', 'disk.rescue'),
                         self._rescue_disk(image))

    def test_bus_of_the_servers_disks(self):
        self._set_disk_bus('sata')
        self.assertEqual(('sda', 'sata', 'disk', '1', 'disk.rescue'),
                         self._rescue_disk(self.create_image()))

    def test_image_of_the_root_volume(self):
        image = self.create_image()
        self.claim_image(image)
        self._rescue_disk()
        start = self.notifier.wait_for_versioned_notifications(
            'instance.rescue.start')[0]
        self.assertEqual(image, start['payload']['nova_object.data'][
            'rescue_image_ref'])

    def test_private_image_of_the_project(self):
        image = self.create_image(is_public=False, visibility='private',
                                  owner=self.api.project_id)
        self.claim_image(image)
        self._rescue_disk()

    def test_unrescue_restores_the_domain(self):
        before = self.domains.disks(self.server)
        self._rescue_disk(self.create_image())
        self.api.post_server_action(self.server['id'], {'unrescue': None})
        self._wait_for_state_change(self.server, 'ACTIVE')
        after = self.domains.disks(self.server)
        # The fake libvirt forgets serials.
        self.assertEqual([disk[:4] for disk in before],
                         [disk[:4] for disk in after])

    def test_all_volumes_at_their_addresses(self):
        data_volume = 'f4a4fe4b-5c8d-4d0b-9c0f-7ab0fb1de1a7'
        self.api.post_server_volume(
            self.server['id'], {'volumeAttachment': {
                'volumeId': data_volume}})
        self._wait_for_volume_attach(self.server['id'], data_volume)
        self.assertEqual(('vdc', 'virtio', 'disk', '1', 'disk.rescue'),
                         self._rescue_disk(self.create_image()))
        # Nova puts them in the order in which the database answers.
        self.assertEqual(
            [ROOT, ('vdb', 'virtio', 'disk', None, data_volume)],
            sorted(self.domains.disks(self.server)[:-1]))

    def test_response_says_the_version(self):
        with self.opted_in():
            response = self.rescue(self.server, self.create_image())
        self.assertEqual('compute 2.87, compute-rescue 1.1',
                         response.headers['OpenStack-API-Version'])
        self.assertIn('OpenStack-API-Version', response.headers['Vary'])

    def test_server_with_an_image_is_rescued_as_in_stock(self):
        server = self._create_server(image_uuid=self.IMAGE, networks='none')
        image = self.create_image()
        with self.opted_in():
            response = self.rescue(server, image)
        self.assert_rescued(server, response)
        self.assertEqual(['disk.rescue', 'disk'], [
            disk[-1] for disk in self.domains.disks(server)])


class ComputeLookupTest(base.RescueTestCase):
    """nova-compute finds the image itself when a stock nova-api sends none."""

    def _rescue_by_rpc(self, server):
        instance = objects.Instance.get_by_uuid(self.context, server['id'])
        instance.task_state = 'rescuing'
        instance.save()
        self.computes['compute1'].manager.compute_rpcapi.rescue_instance(
            self.context, instance, 'password')

    def test_image_of_the_root_volume(self):
        self.claim_image(self.create_image())
        server = self.create_bfv_server()
        self._rescue_by_rpc(server)
        self._wait_for_state_change(server, 'RESCUE')
        self.assertEqual('disk.rescue', self.domains.disks(server)[-1][-1])

    def test_image_of_another_project(self):
        self.claim_image(self.create_image(
            is_public=False, visibility='private', owner='other'))
        server = self.create_bfv_server()
        self.assertRaises(exception.InstanceNotRescuable,
                          self._rescue_by_rpc, server)
        after = self.api.get_server(server['id'])
        self.assertEqual(('ACTIVE', None), (
            after['status'], after['OS-EXT-STS:task_state']))
        self.assertEqual(1, len(self.domains.disks(server)))

    def test_url(self):
        """Its Glance would be sent a token."""
        self.claim_image(ELSEWHERE)
        server = self.create_bfv_server()
        with mock.patch('nova.image.glance.API.get', side_effect=(
                exception.ImageNotFound(image_id=ELSEWHERE))) as get:
            self.assertRaises(exception.InstanceNotRescuable,
                              self._rescue_by_rpc, server)
        get.assert_not_called()


class RefusalTest(base.RescueTestCase):
    """Each refusal: 400 with the reason in words, the server untouched."""

    def setUp(self):
        super().setUp()
        self.server = self.create_bfv_server()

    def _refused(self, *words, image_id=None, status=400, api=None):
        with self.opted_in(api=api):
            response = self.rescue(self.server, image_id, api)
        self.assert_refused(self.server, response, *words, status=status)
        return response

    def test_volume_without_an_image(self):
        self.claim_image()
        self._refused('no record of an image', 'rescue_image_ref')

    def test_image_does_not_exist_or_is_not_visible(self):
        """The same words: nothing says whether it exists."""
        self.claim_image(MISSING)
        missing = self._refused('does not exist or you cannot see it')

        def forbidden(*args, **kwargs):
            raise exception.ImageNotAuthorized(image_id=MISSING)

        self.useFixture(fixtures.MonkeyPatch(
            'nova.image.glance.API.get', forbidden))
        invisible = self._refused('does not exist or you cannot see it')
        self.assertEqual(missing.text, invisible.text)

    def test_given_image_does_not_exist(self):
        self._refused('does not exist or you cannot see it',
                      image_id=MISSING)

    def test_image_of_another_project_in_volume_metadata(self):
        """The user's claim, and a caller who sees all images.

        Invariant: no-new-rights. An administrator must not be made to boot
        somebody else's image in the server of the user who claims it.
        """
        private = {'is_public': False, 'visibility': 'private'}
        self.claim_image(self.create_image(owner='other', **private))
        self._refused('does not exist, or is neither public nor one that '
                      'project %s' % self.api.project_id, api=self.admin_api)

    def test_url_in_volume_metadata(self):
        """Its Glance would be sent the token of the administrator."""
        self.claim_image(ELSEWHERE)
        with mock.patch('nova.image.glance.API.get', side_effect=(
                exception.ImageNotFound(image_id=ELSEWHERE))) as get:
            self._refused('does not exist, or is neither public nor',
                          api=self.admin_api)
        get.assert_not_called()

    def test_image_not_active(self):
        image = self.create_image(status='deactivated')
        self._refused('is deactivated', image_id=image)

    def test_image_with_invalid_property(self):
        image = self.create_image({'hw_rescue_bus': 'warp'})
        self._refused('warp', image_id=image)

    def test_volume_snapshot(self):
        image = self.create_image(
            {'img_block_device_mapping': [{'snapshot_id': 'x'}]})
        self._refused('is a snapshot of a volume', image_id=image)

    def _volume_raises(self, error):
        def get(*args, **kwargs):
            raise error
        self.useFixture(fixtures.MonkeyPatch(
            'nova.volume.cinder.API.get', get))

    def test_root_volume_cannot_be_read(self):
        self._volume_raises(exception.VolumeNotFound(volume_id=self.VOLUME))
        self._refused('cannot be read', self.VOLUME)

    def test_volume_service_does_not_answer(self):
        self._volume_raises(exception.CinderConnectionFailed(reason='gone'))
        self._refused('volume service', 'Try again later')

    def test_volume_service_fails(self):
        for error in (cinder_exc.ClientException(502),
                      ks_exc.DiscoveryFailure()):
            self._volume_raises(error)
            self._refused('volume service', 'Try again later')
            self.assertIn('Root volume %s cannot be read: %s. Check Cinder'
                          % (self.VOLUME, type(error).__name__),
                          self.stdlog.logger.output)

    def test_volume_service_and_wrong_credentials(self):
        self._volume_raises(ks_exc.Unauthorized('secret'))
        self._refused('volume service', 'Try again later')
        self.assertIn('credentials in [service_user]: Unauthorized.',
                      self.stdlog.logger.output)
        self.assertNotIn('secret', self.stdlog.logger.output)

    def test_image_service_does_not_answer(self):
        image = self.create_image()

        def get(*args, **kwargs):
            raise exception.GlanceConnectionFailed(server='x', reason='gone')

        self.useFixture(fixtures.MonkeyPatch(
            'nova.image.glance.API.get', get))
        self._refused('image service does not answer', image_id=image)

    def test_host_without_the_package(self):
        self.change_compute_node()
        self._refused('compute node does not serve', 'hw_rescue_bus',
                      image_id=self.create_image())

    def test_host_without_the_package_and_image_with_both(self):
        """What stock nova-compute can do is not refused."""
        self.change_compute_node()
        image = self.create_image({'hw_rescue_bus': 'scsi',
                                   'hw_rescue_device': 'disk'})
        with self.opted_in():
            response = self.rescue(self.server, image)
        self.assert_rescued(self.server, response)

    def test_host_without_trait(self):
        uuid = self.compute_rp_uuids['compute1']
        self._set_provider_traits(uuid, [])
        self._refused('Host unable to rescue a volume-backed instance',
                      image_id=self.create_image())

    def test_policy(self):
        self.policy.set_rules({policies.BOOT_FROM_VOLUME: '!'},
                              overwrite=False)
        self._refused(policies.BOOT_FROM_VOLUME,
                      image_id=self.create_image(), status=403)

    def test_locked(self):
        """Comes before all that is wrong with the image."""
        self.admin_api.post_server_action(self.server['id'], {'lock': None})
        self._refused('is locked', status=409, image_id=MISSING)

    def test_suspended(self):
        self.api.post_server_action(self.server['id'], {'suspend': None})
        self.server = self._wait_for_state_change(self.server, 'SUSPENDED')
        self._refused('vm_state suspended', status=409, image_id=MISSING)

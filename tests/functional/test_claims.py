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

"""What a user wrote, and an administrator acts on.

The claims module is tested by itself in tests/unit/claims. Here, whether the
features ask it.
"""

import copy

from oslo_utils import uuidutils

from tests.functional import base
from tests.functional import rebuild_base

PRIVATE = {'is_public': False, 'visibility': 'private'}
ELSEWHERE = 'http://192.0.2.1/v2/images/' + uuidutils.generate_uuid()


class RescueTestCase(base.RescueTestCase):

    def setUp(self):
        super().setUp()
        self.victims = self.create_image(owner='victim', **PRIVATE)
        self.support = copy.copy(self.admin_api)
        self.support.project_id = 'support'

    def create_with_base_image(self):
        """A server whose user has written the victim's image into theirs."""
        image = self.create_image({'base_image_ref': self.victims},
                                  owner=self.api.project_id, **PRIVATE)
        return self._create_server(image_uuid=image, networks='none')


class RescueTest(RescueTestCase):

    def test_base_image(self):
        """Any user can write that into an image of theirs."""
        server = self.create_with_base_image()
        for api in (self.support, self.admin_api):
            with self.opted_in(api=api):
                self.assert_refused(
                    server, self.rescue(server, api=api), self.victims,
                    'is neither public nor one that project')
        with self.opted_in(api=self.support):
            self.assert_rescued(server, self.rescue(server, self.victims,
                                                    self.support))

    def test_base_image_that_is_shared(self):
        server = self.create_with_base_image()
        self.glance.images[self.victims]['visibility'] = 'shared'
        self.owners.members[self.victims] = [self.api.project_id]
        with self.opted_in(api=self.support):
            self.assert_rescued(server, self.rescue(server, api=self.support))


class RebuildTestCase(rebuild_base.RebuildTestCase):

    def setUp(self):
        super().setUp()
        self.operator = self.admin_of('operator')

    def create_image(self, owner, **properties):
        image = dict(copy.deepcopy(self.glance.image2), owner=owner,
                     id=uuidutils.generate_uuid(), properties=properties,
                     **PRIVATE)
        self.glance.create(None, image)
        return image['id']

    def create_bfv(self, bdms=(), **metadata):
        """A failed server; the metadata is that of its volume's image."""
        server = self.create_failed(bdms=[
            {'boot_index': 0, 'uuid': self.VOLUME, 'source_type': 'volume',
             'destination_type': 'volume'}, *bdms])
        self.write(metadata)
        return server

    def write(self, metadata):
        """Write the image metadata of the volume, as its owner can."""
        get = self.cinder.fake_get

        def claim(itself, context, volume_id, microversion=None):
            return dict(get(context, volume_id, microversion),
                        volume_image_metadata=metadata)

        self.patch('nova.volume.cinder.API.get', claim)

    def refused(self, server, *words, status=409):
        """An administrator of either project is refused."""
        for api in (self.operator, self.admin_api):
            self.assert_refused(status, self.rebuild(server, api=api), *words)
        self.assert_untouched(server)


class RebuildTest(RebuildTestCase):

    def test_url_as_kernel(self):
        """Its Glance would get the operator's token."""
        asked = []
        self.patch('nova.image.glance.get_remote_image_service',
                   lambda context, href: asked.append(href))
        server = self.create_bfv()
        for name in ('kernel_id', 'ramdisk_id'):
            self.write({name: ELSEWHERE})
            self.refused(server, ELSEWHERE, 'does not exist')
        self.assertEqual([], [href for href in asked if '/' in href])

    def test_kernel_of_another_project(self):
        victims = self.create_image('victim')
        for name in ('kernel_id', 'ramdisk_id'):
            image = self.create_image(self.api.project_id)
            server = self.create_failed(imageRef=image)
            # The owner writes it after Nova has looked.
            self.glance.images[image]['properties'][name] = victims
            self.refused(server, victims, 'is neither public nor one that')
            self.api.delete_server(server['id'])

    def test_image_of_another_project(self):
        """It may have been shared only until the server was created."""
        image = self.create_image('victim')
        server = self.create_failed(imageRef=image)
        self.refused(server, image, 'Choose an image with imageRef',
                     status=400)

    def test_image_that_the_operator_names(self):
        server = self.create_failed()
        kernel = self.create_image('operator')
        self.add_capacity()
        after = self.rebuilt(server, api=self.operator, imageRef=(
            self.create_image('operator', kernel_id=kernel)))
        self.assertEqual('ACTIVE', after['status'])

    def test_transferred_volume(self):
        """Nova has dropped its attachment, and the owner given it away."""
        server = self.create_bfv()
        self.cinder.volume_to_attachment.clear()
        self.owners.volumes[self.VOLUME] = 'victim'
        self.refused(server, self.VOLUME, 'is neither public nor one that')
        self.assertEqual({}, self.attachments())

    def test_transferred_data_volume(self):
        data = uuidutils.generate_uuid()
        server = self.create_bfv(bdms=[{
            'boot_index': None, 'uuid': data, 'source_type': 'volume',
            'destination_type': 'volume'}])
        self.cinder.volume_to_attachment.clear()
        self.owners.volumes[data] = 'victim'
        self.refused(server, data, 'is neither public nor one that')
        self.assertNotIn(data, self.attachments())

    def attachments(self):
        return {volume: found for volume, found
                in self.cinder.volume_to_attachment.items() if found}

    def test_policy_of_networks(self):
        """Nova asks it when a server is created with a network."""
        server = self.create_failed()
        rule = 'os_compute_api:servers:create:attach_network'
        self.policy.set_rules({rule: '!'}, overwrite=False)
        self.assert_refused(403, self.rebuild(
            server, networks=[{'uuid': self.NETWORK}]), rule)
        self.assert_untouched(server)
        self.add_capacity()
        self.rebuilt(server, networks='none')

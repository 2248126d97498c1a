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

"""The audit catches what claims prevents, with claims taken out."""

from tests.functional import test_claims


class AuditMixin:
    """What should not have been done for a server is seen."""

    def assert_seen(self, what, *services):
        seen = {call.service for call in self.audit.violations
                if call.what == what}
        self.assertLessEqual(set(services), seen, self.audit.violations)
        self.audit.violations.clear()

    def take_out(self, name, value=None):
        self.stub_out('nova_rescue_ext.claims.' + name,
                      lambda *args, **kwargs: value)


class RescueTest(AuditMixin, test_claims.RescueTestCase):

    def test_base_image(self):
        self.take_out('images._may_read', True)
        server = self.create_with_base_image()
        with self.opted_in(api=self.support):
            self.rescue(server, api=self.support)
        self.assert_seen(self.victims, 'claims')

    def test_kernel(self):
        self.take_out('images._may_read', True)
        image = self.create_image({'kernel_id': self.victims},
                                  owner=self.api.project_id)
        server = self._create_server(image_uuid=self.IMAGE, networks='none')
        with self.opted_in(api=self.support):
            self.rescue(server, image, self.support)
        self.assert_seen(self.victims, 'claims')


class RebuildTest(AuditMixin, test_claims.RebuildTestCase):

    def test_url_as_kernel(self):
        server = self.create_bfv()
        self.write({'kernel_id': test_claims.ELSEWHERE})
        self.take_out('is_id', True)
        self.rebuild(server, api=self.operator)
        self.assert_seen(test_claims.ELSEWHERE, 'glance')

    def test_kernel_of_another_project(self):
        victims = self.create_image('victim')
        image = self.create_image(self.api.project_id)
        server = self.create_failed(imageRef=image)
        self.glance.images[image]['properties']['kernel_id'] = victims
        self.take_out('images._may_read', True)
        self.rebuild(server, api=self.operator)
        self.assert_seen(victims, 'claims')

    def test_transferred_volume(self):
        server = self.create_bfv()
        self.cinder.volume_to_attachment.clear()
        self.owners.volumes[self.VOLUME] = 'victim'
        self.take_out('volumes._check_owner')
        self.rebuild(server, api=self.operator)
        self.assert_seen(self.VOLUME, 'claims', 'cinder')

    def test_network_of_another_project(self):
        """Only when it is built does Nova make a port."""
        server = self.create_failed(networks=[{'uuid': self.NETWORK}])
        network = dict(self.neutron._networks[self.NETWORK],
                       tenant_id='victim', project_id='victim')
        self.neutron._networks = dict(self.neutron._networks,
                                      **{self.NETWORK: network})
        self.take_out('networks.check')
        self.add_capacity()
        self.rebuilt(server, api=self.operator)
        self.assert_seen(self.NETWORK, 'neutron')

    def test_not_through_claims(self):
        """New code that asks Glance by itself is seen, too."""
        image = self.create_image('victim')
        server = self.create_failed(imageRef=image)
        self.stub_out(
            'nova_rescue_ext.claims.images.read',
            lambda context, instance, image_api, image_id, origin:
            read_past_claims(context, instance, image_api, image_id))
        self.rebuild(server, api=self.operator)
        self.assert_seen(image, 'glance')


def read_past_claims(context, instance, image_api, image_id):
    return image_api.get(context, image_id)

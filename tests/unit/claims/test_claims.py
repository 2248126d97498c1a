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

"""What a server is given, and with whose rights."""

import itertools
import types
import unittest
from unittest import mock

from glanceclient import exc as glance_exc
from keystoneauth1 import exceptions as ks_exc
from neutronclient.common import exceptions as neutron_exc
from nova import context as nova_context
from nova import exception as nova_exception
from nova import objects
from oslo_utils.fixture import uuidsentinel as uuids

from nova_rescue_ext import claims
from nova_rescue_ext.claims import images
from nova_rescue_ext.claims import networks
from nova_rescue_ext.claims import volumes
from nova_rescue_ext import exception

SERVER, CALLER, OPERATOR = (
    claims.Origin.SERVER, claims.Origin.CALLER, claims.Origin.OPERATOR)
NO_IDS = ('', None, 7, ['x'], 'name', 'http://192.0.2.1/v2/images/%s'
          % uuids.image, '../' + uuids.image, uuids.image + '/file')


class ClaimsTestCase(unittest.TestCase):

    def setUp(self):
        objects.register_all()
        self.log = self.patch('nova_rescue_ext.claims.LOG')
        self.instance = objects.Instance(uuid=uuids.server,
                                         project_id='mine')
        # As nova-api makes it.
        self.user = self.context('mine', user_auth_plugin=object())
        self.strangers = [self.context('mine', is_admin=True),
                          self.context('other', is_admin=True),
                          self.context('other'),
                          self.context(None, is_admin=True),
                          self.user.elevated()]

    def context(self, project, **rights):
        return nova_context.RequestContext('me', project, overwrite=False,
                                           **dict({'is_admin': False},
                                                  **rights))

    def patch(self, name, *args, **kwargs):
        patch = mock.patch(name, *args, **kwargs)
        self.addCleanup(patch.stop)
        return patch.start()


class ImagesTest(ClaimsTestCase):

    def setUp(self):
        super().setUp()
        self.images = {}
        self.api = types.SimpleNamespace(get=self._get)
        self.asked = []
        self.members = {}
        self.call = self.patch('nova.image.glance.GlanceClientWrapper.call',
                               autospec=True, side_effect=self._call)

    def image(self, owner='victim', visibility='private', **properties):
        image = {'id': getattr(uuids, 'image%d' % len(self.images)),
                 'owner': owner, 'is_public': visibility == 'public',
                 'status': 'active', 'properties': properties}
        self.images[image['id']] = (image, visibility)
        return image

    def _get(self, context, image_id):
        self.asked.append(image_id)
        try:
            return self.images[image_id][0]
        except KeyError:
            raise nova_exception.ImageNotFound(image_id=image_id)

    def _call(self, itself, context, version, method, controller=None,
              args=None):
        if controller == 'image_members' and (
                self.members.get(args[0]) != args[1]):
            raise glance_exc.HTTPNotFound()
        return {'visibility': self.images[args[0]][1]}

    def read(self, image, context=None, origin=SERVER):
        return images.read(context or self.strangers[1], self.instance,
                           self.api, image, origin)

    def test_claimed(self):
        shared = self.image(visibility='shared')
        self.members[shared['id']] = 'mine'
        for image in (self.image('mine'), self.image(visibility='public'),
                      self.image(visibility='community'), shared):
            for context in (self.user, *self.strangers):
                self.assertIs(image, self.read(image['id'], context))

    def test_claimed_of_another_project(self):
        others = self.image(visibility='shared')
        self.members[others['id']] = 'a third'
        for image, context in itertools.product(
                (self.image(), self.image('other'), self.image(None), others),
                self.strangers):
            self.assertRaises(exception.NotOfProject, self.read, image['id'],
                              context)

    def test_what_a_user_sees_is_for_glance_to_say(self):
        image = self.image()
        self.assertIs(image, self.read(image['id'], self.user))
        self.call.assert_not_called()

    def test_named(self):
        image = self.image('other')
        for context in (self.user, *self.strangers):
            self.assertIs(image, self.read(image['id'], context, CALLER))

    def test_same_words_for_missing_and_for_somebody_elses(self):
        image = self.image()
        for context in self.strangers:
            texts = set()
            for image_id in (image['id'], uuids.missing):
                with self.assertRaises(exception.ClaimRefused) as caught:
                    self.read(image_id, context)
                texts.add(str(caught.exception).replace(image_id, ''))
            self.assertEqual(1, len(texts))

    def test_no_ids(self):
        for value, origin in itertools.product(NO_IDS, claims.Origin):
            self.assertRaises(exception.ClaimRefused, self.read, value,
                              origin=origin)
        self.assertEqual([], self.asked)
        self.call.assert_not_called()

    def test_failures(self):
        for error, expected in (
                (ks_exc.ConnectFailure(), exception.ImageServiceFails),
                (ks_exc.Unauthorized(), exception.ImageServiceFails),
                (glance_exc.HTTPInternalServerError(),
                 exception.ImageServiceFails),
                (nova_exception.GlanceConnectionFailed(server='', reason=''),
                 exception.ImageServiceFails),
                (nova_exception.ImageNotAuthorized(image_id=''),
                 exception.NotVisible),
                (ValueError('no JSON'), exception.ImageMalformed)):
            self.api.get = mock.Mock(side_effect=error)
            self.assertRaises(expected, self.read, uuids.image, self.user)

    def test_failures_when_members_are_asked(self):
        image = self.image()
        for error in (ks_exc.ConnectFailure(), glance_exc.HTTPBadGateway(),
                      nova_exception.GlanceConnectionFailed(server='',
                                                            reason='')):
            self.call.side_effect = error
            self.assertRaises(exception.ImageServiceFails, self.read,
                              image['id'])

    def parts(self, image, context=None, origin=SERVER):
        return images.check_kernel_and_ramdisk(
            context or self.strangers[1], self.instance, self.api, image,
            origin)

    def test_kernel_and_ramdisk(self):
        kernel, ramdisk = self.image('mine'), self.image(visibility='public')
        image = self.image(kernel_id=kernel['id'], ramdisk_id=ramdisk['id'])
        for origin in claims.Origin:
            self.assertEqual((kernel['id'], ramdisk['id']),
                             self.parts(image, origin=origin))

    def test_no_kernel(self):
        for properties in (
                {}, {'kernel_id': '', 'ramdisk_id': None},
                {'kernel_id': 'nokernel', 'ramdisk_id': NO_IDS[5]}):
            self.assertEqual(('', ''), self.parts(
                {'properties': properties}))
        self.assertEqual(('', ''), self.parts({}))

    def test_kernel_of_another_project(self):
        for name in ('kernel_id', 'ramdisk_id'):
            image = self.image('mine', **{name: self.image()['id']})
            for context, origin in itertools.product(
                    self.strangers, (SERVER, CALLER)):
                self.assertRaises(exception.NotOfProject, self.parts, image,
                                  context, origin)
            self.parts(image, self.user)

    def test_kernel_of_the_owner_of_the_image(self):
        image = self.image('other', kernel_id=self.image('other')['id'])
        self.parts(image, origin=CALLER)
        self.assertRaises(exception.NotOfProject, self.parts, image)
        ownerless = self.image(None, kernel_id=self.image(None)['id'])
        self.assertRaises(exception.NotOfProject, self.parts, ownerless,
                          origin=CALLER)

    def test_kernel_of_an_offer(self):
        image = self.image('other', kernel_id=self.image()['id'])
        self.parts(image, origin=OPERATOR)

    def test_kernel_that_is_no_id(self):
        for value in ('x', *NO_IDS[5:]):
            image = self.image('mine', kernel_id=value)
            for context in (self.user, *self.strangers):
                self.assertRaises(exception.ClaimRefused, self.parts, image,
                                  context)
        self.assertEqual([], self.asked)

    def test_kernel_that_is_not_active(self):
        kernel = self.image('mine')
        kernel['status'] = 'deactivated'
        self.assertRaises(exception.ImageNotActive, self.parts,
                          self.image('mine', kernel_id=kernel['id']))


class VolumesTest(ClaimsTestCase):

    def setUp(self):
        super().setUp()
        self.owner = {'os-vol-tenant-attr:tenant_id': 'mine'}
        self.api = mock.Mock()
        self.client = self.patch('nova.volume.cinder.cinderclient')
        self.client.return_value.volumes.get.side_effect = (
            lambda volume_id: types.SimpleNamespace(**self.owner))

    def read(self, context, volume_id=uuids.volume):
        return volumes.read(context, self.instance, self.api, volume_id)

    def test_of_the_project(self):
        for context in (self.user, *self.strangers):
            self.assertIs(self.api.get.return_value, self.read(context))

    def test_of_another_project(self):
        """Whoever calls: it may have been transferred."""
        self.owner['os-vol-tenant-attr:tenant_id'] = 'victim'
        self.assertRaises(exception.NotVisible, self.read, self.user)
        for context in self.strangers:
            self.assertRaises(exception.NotOfProject, self.read, context)

    def test_cinder_does_not_tell(self):
        self.owner.clear()
        self.read(self.user)
        for context in self.strangers:
            self.assertRaises(exception.NotOfProject, self.read, context)

    def test_no_ids(self):
        for value in NO_IDS:
            self.assertRaises(nova_exception.VolumeNotFound, self.read,
                              self.user, value)
            self.assertRaises(nova_exception.SnapshotNotFound,
                              volumes.read_snapshot, self.user, self.instance,
                              self.api, value)
        self.assertEqual([], self.api.mock_calls)

    def test_snapshot(self):
        for owner, context in itertools.product(
                ('mine', 'victim', None), (self.user, *self.strangers)):
            self.api.get_snapshot.return_value = {'project_id': owner}
            arguments = (context, self.instance, self.api, uuids.snapshot)
            if owner == 'mine' or (owner, context) == (None, self.user):
                volumes.read_snapshot(*arguments)
            else:
                self.assertRaises(exception.ClaimRefused,
                                  volumes.read_snapshot, *arguments)


class NetworksTest(ClaimsTestCase):

    def setUp(self):
        super().setUp()
        self.client = self.patch(
            'nova.network.neutron.get_client').return_value
        self.network = {'id': uuids.network, 'project_id': 'victim'}
        self.port = {'network_id': uuids.network, 'project_id': 'mine'}
        self.groups = {}
        self.policies = []
        self.client.list_networks.side_effect = (
            lambda **filters: {'networks': [self.network]})
        self.client.show_port.side_effect = lambda port: {'port': self.port}
        self.client.list_rbac_policies.side_effect = (
            lambda **filters: {'rbac_policies': self.policies})
        self.client.list_security_groups.side_effect = self._groups

    def _groups(self, tenant_id=None, **filters):
        return {'security_groups': [
            group for group in self.groups
            if tenant_id in (None, group['project_id'])
            and all(group[key] == value for key, value in filters.items()
                    if key in group)]}

    def check(self, context=None, origin=SERVER, **request):
        request = objects.NetworkRequestList(objects=[
            objects.NetworkRequest(**request)]) if request else None
        networks.check(context or self.strangers[1], self.instance, request,
                       origin)

    def refused(self, *args, **kwargs):
        self.assertRaises(exception.ClaimRefused, self.check, *args, **kwargs)

    def test_network(self):
        by_id = {'network_id': uuids.network}
        for context in self.strangers:
            self.refused(context, **by_id)
        self.check(self.user, **by_id)
        self.policies = [{'target_tenant': 'a third'}]
        self.refused(**by_id)
        self.policies.append({'target_tenant': 'mine'})
        self.check(**by_id)
        self.policies = []
        self.network['shared'] = True
        self.check(**by_id)

    def test_named(self):
        """In the project of the server it is the caller's own affair."""
        by_id = {'network_id': uuids.network, 'origin': CALLER}
        self.check(self.strangers[0], **by_id)
        self.refused(self.strangers[1], **by_id)

    def test_external(self):
        self.network.update({'router:external': True, 'project_id': 'mine'})
        for context in self.strangers:
            self.refused(context, network_id=uuids.network)
            self.refused(context, port_id=uuids.port)
            self.refused(context)
        self.check(network_id='none')

    def test_port(self):
        self.check(port_id=uuids.port)
        self.port['project_id'] = 'victim'
        for context in self.strangers:
            self.refused(context, port_id=uuids.port)
        self.refused(port_id='../networks')
        self.client.show_port.side_effect = neutron_exc.PortNotFoundClient()
        self.refused(port_id=uuids.port)

    def check_groups(self, context, *names):
        networks.check_security_groups(
            context, self.instance, objects.security_group.
            make_secgroup_list(names))

    def test_security_groups(self):
        self.groups = [
            {'id': uuids.own, 'name': 'own', 'project_id': 'mine'},
            {'id': uuids.other, 'name': 'other', 'project_id': 'victim'}]
        self.check_groups(self.strangers[1], 'own', uuids.own, 'default')
        for context, name in itertools.product(
                self.strangers, ('other', uuids.other, 'missing')):
            self.assertRaises(exception.ClaimRefused, self.check_groups,
                              context, name)
        self.check_groups(self.user, 'other')
        self.policies = [{'target_tenant': 'mine'}]
        self.check_groups(self.strangers[1], 'other', uuids.other)

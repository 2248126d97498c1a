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


"""What a rebuild request may say, and the server's disks."""

from nova import context as nova_context
from nova import exception
from nova import objects
from nova.tests import fixtures as nova_fixtures
from oslo_serialization import base64
from oslo_utils.fixture import uuidsentinel as uuids
from oslo_utils import uuidutils

from nova_rescue_ext.rebuild import api as rebuild_api
from nova_rescue_ext.rebuild import block_devices
from nova_rescue_ext.rebuild import database
from nova_rescue_ext.rebuild import recovery
from nova_rescue_ext.rebuild import spec_extras
from tests.functional import rebuild_base

ROOT = {'boot_index': 0, 'uuid': rebuild_base.RebuildTestCase.VOLUME,
        'source_type': 'volume', 'destination_type': 'volume'}
DATA = {'boot_index': -1, 'source_type': 'volume',
        'destination_type': 'volume',
        'uuid': nova_fixtures.CinderFixture.SWAP_NEW_VOL}
NEW_ROOT = {'boot_index': 0, 'source_type': 'image', 'volume_size': 1,
            'uuid': rebuild_base.RebuildTestCase.IMAGE,
            'destination_type': 'volume', 'delete_on_termination': True}
SNAPSHOT = uuids.snapshot
# From every source that Nova makes volumes from, in the order of the request.
TO_BE_MADE = [
    NEW_ROOT,
    {'boot_index': -1, 'source_type': 'snapshot', 'uuid': SNAPSHOT,
     'destination_type': 'volume', 'volume_size': 2, 'tag': 'data',
     'delete_on_termination': True},
    {'boot_index': -1, 'source_type': 'blank', 'destination_type': 'volume',
     'volume_size': 3, 'volume_type': 'lvm-1'},
    {'boot_index': -1, 'source_type': 'blank', 'destination_type': 'local',
     'guest_format': 'swap', 'volume_size': 1}]


class ParametersTest(rebuild_base.RebuildTestCase):
    """Absent is kept, present is applied."""

    def test_null_is_no_object(self):
        server = self.create_failed()
        response = self.api.api_request(
            '/servers/%s/action' % server['id'], method='POST',
            headers={'Content-Type': 'application/json'},
            body='{"rebuild": null}')
        self.assertEqual(400, response.status_code, response.text)
        self.assertEqual('ERROR', self.api.get_server(server['id'])['status'])

    def test_all(self):
        server = self.create_failed(metadata={'a': 'b'}, tags=['one'])
        self.add_capacity()
        after = self.rebuilt(
            server, imageRef=self.OTHER_IMAGE, name='renamed',
            description='other', metadata={'c': 'd'}, hostname='other',
            accessIPv4='192.0.2.7', preserve_ephemeral=True,
            adminPass='secret', user_data=base64.encode_as_text('script'),
            **{'OS-DCF:diskConfig': 'AUTO'})
        self.assertEqual(
            (self.OTHER_IMAGE, 'renamed', 'other', {'c': 'd'}, ['one'],
             '192.0.2.7', 'AUTO'),
            (after['image']['id'], after['name'], after['description'],
             after['metadata'], after['tags'], after['accessIPv4'],
             after['OS-DCF:diskConfig']))
        after = self.admin_api.get_server(server['id'])
        self.assertEqual(('other', base64.encode_as_text('script')), (
            after['OS-EXT-SRV-ATTR:hostname'],
            after['OS-EXT-SRV-ATTR:user_data']))
        spec = objects.RequestSpec.get_by_instance_uuid(
            self.context, server['id'])
        self.assertEqual(self.OTHER_IMAGE, spec.image.id)

    def test_new_image_needs_more_than_the_flavor_has(self):
        server = self.create_failed()
        image = self.image(min_ram=1 << 20)
        self.assert_refused(400, self.rebuild(server, imageRef=image),
                            'memory')
        self.assert_untouched(server)

    def test_unknown_image(self):
        server = self.create_failed()
        self.assert_refused(400, self.rebuild(
            server, imageRef=uuids.nowhere), 'image')
        self.assert_untouched(server)

    def test_own_image_is_gone(self):
        image = self.image()
        server = self.create_failed(imageRef=image)
        self.glance.delete(None, image)
        self.assert_refused(400, self.rebuild(server), 'imageRef')
        self.assert_untouched(server)

    def test_unknown_key(self):
        server = self.create_failed()
        self.assert_refused(400, self.rebuild(server, key_name='none'),
                            'key_name')
        self.assert_untouched(server)

    def test_image_that_the_caller_may_not_see(self):
        server = self.create_failed()

        def forbid(*args, **kwargs):
            raise exception.ImageNotAuthorized(image_id=self.IMAGE)

        self.patch('nova.image.glance.API.get', forbid)
        self.assert_refused(400, self.rebuild(server), 'imageRef')

    def test_more_metadata_and_files_than_allowed(self):
        server = self.create_failed()
        self.opt_in('2.56')
        self.flags(metadata_items=0, injected_files=0, group='quota')
        for wanted in ({'metadata': {'a': 'b'}}, {'personality': [
                {'path': '/a', 'contents': base64.encode_as_text('x')}]}):
            self.assert_refused(403, self.rebuild(server, **wanted))

    def test_certificates_changed(self):
        server = self.create_failed()
        self.add_capacity()
        after = self.rebuilt(server, trusted_image_certificates=['one'])
        self.assertEqual(['one'], after['trusted_image_certificates'])

    def test_key_changed(self):
        for name in ('old', 'new'):
            self.api.post_keypair({'keypair': {
                'name': name, 'type': 'ssh',
                'public_key': rebuild_base.PUBLIC_KEY}})
        server = self.create_failed(key_name='old')
        self.add_capacity()
        self.assertEqual('new', self.rebuilt(server, key_name='new')[
            'key_name'])

    def test_key_removed(self):
        self.api.post_keypair({'keypair': {
            'name': 'key', 'type': 'ssh',
            'public_key': rebuild_base.PUBLIC_KEY}})
        server = self.create_failed(key_name='key')
        self.add_capacity()
        self.assertIsNone(self.rebuilt(server, key_name=None)['key_name'])

    def test_personality_before_2_57(self):
        server = self.create_failed()
        self.opt_in('2.56')
        self.failed_again(server, personality=[
            {'path': '/a', 'contents': base64.encode_as_text('x')}])

    def test_other_project_may_not_use_its_own_key(self):
        server = self.create_failed()
        self.assert_refused(409, self.rebuild(
            server, api=self.admin_of('other'), key_name='key'), 'key_name')
        self.assert_untouched(server)

    def test_administrator_of_another_project(self):
        server = self.create_failed()
        self.add_capacity()
        after = self.rebuilt(server, api=self.admin_of('other'))
        self.assertEqual((server['tenant_id'], server['user_id']),
                         (after['tenant_id'], after['user_id']))

    def image(self, **attributes):
        image = dict(nova_fixtures.GlanceFixture.image1, **attributes)
        image['id'] = uuids.image
        self.glance.create(None, image)
        return image['id']


class VolumesTest(rebuild_base.RebuildTestCase):
    """Block devices of servers in cell0."""

    def test_existing_volumes(self):
        server = self.create_failed(bdms=[ROOT, DATA])
        before = self.attachments(server)
        self.assertEqual(2, len(before))
        self.add_capacity()
        after = self.rebuilt(server)
        self.assertEqual(before, self.attachments(server))
        self.assertEqual(
            {ROOT['uuid'], DATA['uuid']},
            {volume['id'] for volume
             in after['os-extended-volumes:volumes_attached']})
        self.assertEqual('', after['image'])

    def test_again_and_again(self):
        server = self.create_failed(bdms=[ROOT, DATA])
        before = self.attachments(server)
        for _round in range(2):
            self.failed_again(server)
            self.assertEqual(before, self.attachments(server))
        self.api.delete_server(server['id'])
        self._wait_until_deleted(server)
        self.assertEqual(set(), self.attachments(server))

    def test_lost_attachment(self):
        server = self.create_failed(bdms=[ROOT])
        lost, = self.attachments(server)
        self.forget(lost)
        self.add_capacity()
        self.rebuilt(server)
        found, = self.attachments(server)
        self.assertNotEqual(lost, found)

    def test_lost_attachment_and_refused(self):
        """The new one is in the row, and is used the next time."""
        server = self.create_failed(bdms=[ROOT])
        self.forget(*self.attachments(server))
        with self.killed('nova_rescue_ext.rebuild.api.Rebuild.destroy_row'):
            self.assertRaises(rebuild_base.Killed, self.rebuild, server)
        found = self.attachments(server)
        self.assertEqual(1, len(found))
        recovery.remedy(self.context, *recovery.find(self.context, 0))
        self.add_capacity()
        self.rebuilt(server)
        self.assertEqual(found, self.attachments(server))

    def test_lost_attachment_and_deleted(self):
        """nova-api is killed before the BuildRequest knows of the new one."""
        server = self.create_failed(bdms=[ROOT])
        self.forget(*self.attachments(server))
        with self.killed('nova.objects.BuildRequest.save'):
            self.assertRaises(rebuild_base.Killed, self.rebuild, server)
        self.api.delete_server(server['id'])
        self.assertEqual(1, len(self.attachments(server)))
        found, = recovery.find(self.context, 0)
        self.assertEqual(recovery.DELETE, found.remedy)
        recovery.remedy(self.context, found)
        self.assertEqual(set(), self.attachments(server))
        self.assertEqual(0, self.count_rows(server))

    def test_lost_attachment_and_deleted_while_cinder_is_down(self):
        """Only the row knows of it: it stays."""
        def fail(*args):
            raise exception.CinderConnectionFailed(reason='down')

        server = self.create_failed(bdms=[ROOT])
        self.forget(*self.attachments(server))
        with self.killed('nova.objects.BuildRequest.save'):
            self.assertRaises(rebuild_base.Killed, self.rebuild, server)
        self.api.delete_server(server['id'])
        found, = recovery.find(self.context, 0)
        down = self.patch('nova.volume.cinder.API.attachment_delete', fail)
        self.assertRaises(exception.CinderConnectionFailed, recovery.remedy,
                          self.context, found)
        down.stop()
        recovery.remedy(self.context, *recovery.find(self.context, 0))
        self.assertEqual((set(), 0), (
            self.attachments(server), self.count_rows(server)))

    def test_volume_of_the_loser(self):
        """Only the one that won reserves it."""
        server = self.create_failed(bdms=[ROOT])
        self.forget(*self.attachments(server))
        check_volumes = rebuild_api.Rebuild.check_volumes

        def be_overtaken(operation):
            patch.stop()
            check_volumes(operation)
            self.rebuilt(server)

        patch = self.patch('nova_rescue_ext.rebuild.api.Rebuild.'
                           'check_volumes', be_overtaken)
        self.add_capacity()
        self.assert_refused(409, self.rebuild(server), 'already')
        self.assertEqual('ACTIVE', self.api.get_server(server['id'])[
            'status'])
        self.assertEqual(1, len(self.attachments(server)))

    def test_volume_of_a_server_that_is_deleted_meanwhile(self):
        server = self.create_failed(bdms=[ROOT])
        self.forget(*self.attachments(server))
        reserve = block_devices.reserve

        def delete_and_reserve(*args):
            self.api.delete_server(server['id'])
            reserve(*args)

        self.patch('nova_rescue_ext.rebuild.block_devices.reserve',
                   delete_and_reserve)
        self.assert_refused(404, self.rebuild(server))
        self.assertEqual(set(), self.attachments(server))

    def test_volume_that_a_delete_does_not_see(self):
        """It has read the BuildRequest before the volume was reserved."""
        server = self.create_failed(bdms=[ROOT])
        self.forget(*self.attachments(server))
        reserve = rebuild_api.Rebuild.reserve_volumes

        def reserve_and_delete(operation):
            found = objects.BuildRequest.get_by_instance_uuid(
                self.context, server['id'])
            reserve(operation)
            late = self.patch('nova.objects.BuildRequest.'
                              'get_by_instance_uuid', lambda *args: found)
            self.api.delete_server(server['id'])
            late.stop()

        self.patch('nova_rescue_ext.rebuild.api.Rebuild.reserve_volumes',
                   reserve_and_delete)
        self.assert_refused(404, self.rebuild(server))
        self.assertEqual(set(), self.attachments(server))

    def test_image_of_existing_volume(self):
        """Clients of a Nova before 2.93 must send it."""
        server = self.create_failed(bdms=[ROOT])
        self.set_status('reserved', volume_image_metadata={
            'image_id': self.IMAGE})
        self.assert_refused(400, self.rebuild(
            server, imageRef=self.OTHER_IMAGE), 'volume-backed')
        self.add_capacity()
        self.rebuilt(server, imageRef=self.IMAGE)

    def test_volume_in_use(self):
        server = self.create_failed(bdms=[ROOT])
        self.forget(*self.attachments(server))
        self.set_status('in-use')
        self.assert_refused(409, self.rebuild(server), ROOT['uuid'], 'in-use')

    def test_attachment_that_nobody_knows(self):
        """Cinder has made it, and its answer was lost."""
        server = self.create_failed(bdms=[ROOT])
        self.forget(*self.attachments(server))
        create = self.cinder.fake_attachment_create

        def create_and_fail(itself, *args, **kwargs):
            create(*args, **kwargs)
            raise exception.CinderConnectionFailed(reason='504')

        patch = self.patch('nova.volume.cinder.API.attachment_create',
                           create_and_fail)
        self.assert_refused(409, self.rebuild(server))
        patch.stop()
        self.set_status('reserved')
        left = self.attachments(server)
        self.assertEqual(1, len(left))
        self.add_capacity()
        self.rebuilt(server)
        self.assertEqual(left, self.attachments(server))

    def test_reserved_for_another_server(self):
        server = self.create_failed(bdms=[ROOT])
        self.forget(*self.attachments(server))
        self.cinder.fake_attachment_create(None, ROOT['uuid'], uuids.other)
        self.set_status('reserved')
        self.assert_refused(409, self.rebuild(server), 'reserved')

    def test_deleted_when_one_of_two_is_reserved(self):
        server = self.create_failed(bdms=[ROOT, DATA])
        self.forget(*self.attachments(server))
        self.set_status('available')
        reserve = block_devices.reserve
        reserved = []

        def delete_and_fail(*args):
            if reserved:
                self.api.delete_server(server['id'])
                raise exception.VolumeNotFound(volume_id=DATA['uuid'])
            reserve(*args)
            reserved.append(args)

        self.patch('nova_rescue_ext.rebuild.block_devices.reserve',
                   delete_and_fail)
        self.assert_refused(400, self.rebuild(server))
        self.assertEqual(set(), self.attachments(server))

    def test_multiattach_volume_in_use(self):
        """By another server: it can be reserved for this one, too."""
        server = self.create_failed(bdms=[ROOT])
        self.forget(*self.attachments(server))
        self.set_status('in-use', multiattach=True)
        self.failed_again(server)
        self.assertEqual(1, len(self.attachments(server)))

    def test_cinder_does_not_answer(self):
        server = self.create_failed(bdms=[ROOT])

        def fail(*args, **kwargs):
            raise exception.CinderConnectionFailed(reason='none')

        self.patch('nova.volume.cinder.API.attachment_get', fail)
        self.assert_refused(409, self.rebuild(server), 'again later')
        self.assert_untouched(server)

    def test_boot_volume_forgotten(self):
        server = self.create_failed(bdms=[ROOT])
        self.patch('nova_rescue_ext.rebuild.block_devices.read',
                   lambda *args: [])
        self.assert_refused(409, self.rebuild(server), 'boot volume')

    def test_volume_deleted(self):
        server = self.create_failed(bdms=[ROOT])
        self.patch('nova.volume.cinder.API.get', self.no_volume)
        self.assert_refused(409, self.rebuild(server), ROOT['uuid'])

    def test_data_volume_deleted(self):
        server = self.create_failed(bdms=[ROOT, DATA])
        self.lose(DATA['uuid'])
        self.assert_refused(409, self.rebuild(server), DATA['uuid'],
                            'without_block_devices')
        self.assert_untouched(server)
        self.failed_again(server, without_block_devices=[
            DATA['uuid'].upper()])
        self.add_capacity()
        self.rebuilt(server)
        self.assertEqual([ROOT['uuid']], [
            device[-1] for device in self.block_devices(server)])

    def test_data_volume_deleted_with_its_row(self):
        """By the clean-up of a failed build."""
        server = self.create_failed(bdms=[
            ROOT, dict(DATA, delete_on_termination=True)])
        self.lose(DATA['uuid'])
        with nova_context.target_cell(
                self.context, self.cell_mappings['cell0']) as context:
            objects.BlockDeviceMapping.get_by_volume_and_instance(
                context, DATA['uuid'], server['id']).destroy()
        self.assert_refused(409, self.rebuild(server), DATA['uuid'])
        self.add_capacity()
        self.rebuilt(server, without_block_devices=[DATA['uuid']])
        self.assertEqual([ROOT['uuid']], [
            device[-1] for device in self.block_devices(server)])

    def test_data_volume_that_was_not_deleted_with_its_row(self):
        """Cinder has refused that, as the volume has snapshots."""
        data = dict(DATA, delete_on_termination=True)
        server = self.create_failed(bdms=[ROOT, data])
        with nova_context.target_cell(
                self.context, self.cell_mappings['cell0']) as context:
            row = objects.BlockDeviceMapping.get_by_volume_and_instance(
                context, DATA['uuid'], server['id'])
            row.destroy()
        self.forget(row.attachment_id)
        self.set_status('available')
        self.assert_refused(400, self.rebuild(
            server, without_block_devices=[DATA['uuid']]), 'exists')
        self.add_capacity()
        self.rebuilt(server)
        self.assertEqual({ROOT['uuid'], DATA['uuid']}, {
            device[-1] for device in self.block_devices(server)})

    def test_without_a_snapshot_whose_volume_is_there(self):
        server = self.create_failed_with_all_sources()
        self.change_block_device(server, 'snapshot', volume_id=DATA['uuid'])
        self.patch('nova.volume.cinder.API.get_snapshot', self.no_snapshot)
        self.assert_refused(400, self.rebuild(
            server, without_block_devices=[SNAPSHOT]), DATA['uuid'], 'exists')

    def test_snapshot_deleted(self):
        server = self.create_failed_with_all_sources()
        self.record_volumes()
        del self.cinder.volume_snapshots[SNAPSHOT]
        self.patch('nova.volume.cinder.API.get_snapshot', self.no_snapshot)
        self.assert_refused(400, self.rebuild(server), SNAPSHOT,
                            'without_block_devices')
        self.assert_untouched(server)
        self.add_capacity()
        self.rebuilt(server, without_block_devices=[SNAPSHOT])
        self.assertEqual([(1, None, self.IMAGE), (3, None, None)],
                         sorted(self.volume_requests))
        self.assertEqual(3, len(self.block_devices(server)))

    @staticmethod
    def no_snapshot(itself, context, snapshot_id):
        raise exception.SnapshotNotFound(snapshot_id=snapshot_id)

    def test_snapshot_of_boot_volume_deleted(self):
        server = self.create_failed_with_all_sources(
            [dict(TO_BE_MADE[1], boot_index=0)])
        self.patch('nova.volume.cinder.API.get_snapshot', self.no_snapshot)
        response = self.rebuild(server)
        self.assert_refused(400, response, SNAPSHOT, 'create another')
        self.assertNotIn('without_block_devices', response.text)
        self.assert_refused(400, self.rebuild(
            server, without_block_devices=[SNAPSHOT]), 'create another')
        self.assert_untouched(server)

    def test_without_what_is_there(self):
        server = self.create_failed(bdms=[ROOT, DATA])
        for ids, words in (
                ([DATA['uuid']], 'exists'),
                ([ROOT['uuid']], 'boot device'),
                ([uuids.another], uuids.another),
                (['x'], 'not a'), ([], 'without_block_devices'),
                ('x', 'without_block_devices'),
                ([DATA['uuid']] * 2, 'non-unique')):
            self.assert_refused(400, self.rebuild(
                server, without_block_devices=ids), words)
        self.assert_untouched(server)
        self.opt_in()
        self.add_capacity()
        booted = self.rebuilt(server)
        # Nova answers for itself.
        self.assert_refused(400, self.rebuild(
            booted, imageRef=self.IMAGE, without_block_devices=[
                DATA['uuid']]), 'without_block_devices')

    def test_without_while_cinder_is_down(self):
        server = self.create_failed(bdms=[ROOT, DATA])

        def fail(*args, **kwargs):
            raise exception.CinderConnectionFailed(reason='none')

        self.patch('nova.volume.cinder.API.get', fail)
        self.assert_refused(409, self.rebuild(
            server, without_block_devices=[DATA['uuid']]), 'again later')
        self.assert_untouched(server)

    def test_volume_to_be_made(self):
        server = self.create_failed(bdms=[NEW_ROOT])
        made = self.record_volumes()
        self.add_capacity()
        self.rebuilt(server)
        self.assertEqual([self.IMAGE], made)

    def test_snapshot_and_blank(self):
        made = self.record_volumes()
        server = self.create_failed_with_all_sources()
        before = self.block_devices(server)
        self.assertEqual(4, len(before))
        for _round in range(2):
            self.failed_again(server)
            self.assertEqual(before, self.block_devices(server))
        self.assertEqual([], made)
        self.add_capacity()
        self.rebuilt(server)
        self.assertEqual([(1, None, self.IMAGE), (2, SNAPSHOT, None),
                          (3, None, None)], sorted(self.volume_requests))
        after = self.block_devices(server)
        self.assertEqual([device[:-1] for device in before],
                         [device[:-1] for device in after])

    def test_snapshot_and_blank_are_not_made_with_the_operators_token(self):
        for devices in (TO_BE_MADE[1:2], TO_BE_MADE[2:3]):
            server = self.create_failed_with_all_sources([ROOT, *devices])
            self.assert_refused(409, self.rebuild(
                server, api=self.admin_of('other')), server['tenant_id'])
            self.api.delete_server(server['id'])
            self._wait_until_deleted(server)

    def create_failed_with_all_sources(self, devices=TO_BE_MADE):
        self.cinder.volume_snapshots[SNAPSHOT] = {
            'id': SNAPSHOT, 'volume_id': self.VOLUME, 'status': 'available',
            'size': 1}
        swap = self.admin_api.post_flavor({'flavor': {
            'id': 'swap', 'name': 'swap', 'vcpus': 1, 'ram': 512, 'disk': 1,
            'swap': 1024}}) if not self.has_flavor('swap') else {'id': 'swap'}
        return self.create_failed(bdms=devices, flavorRef=swap['id'])

    def has_flavor(self, flavor):
        return flavor in {found['id'] for found in self.api.get_flavors()}

    def block_devices(self, server):
        """What the rows of a server say, the volume that was made last."""
        rows = []
        for cell in self.cell_mappings.values():
            with nova_context.target_cell(self.context, cell) as context:
                rows.extend(
                    objects.BlockDeviceMappingList.get_by_instance_uuid(
                        context, server['id']))
        return sorted(((
            row.source_type, row.destination_type, row.boot_index,
            row.volume_size, row.image_id, row.snapshot_id, row.tag,
            row.guest_format, row.volume_type, row.delete_on_termination,
            row.volume_id) for row in rows), key=str)

    def test_new_image_for_volume_to_be_made(self):
        server = self.create_failed(bdms=[NEW_ROOT])
        self.opt_in('2.92')
        self.assert_refused(400, self.rebuild(
            server, imageRef=self.OTHER_IMAGE), 'volume-backed')
        self.opt_in('2.93')
        made = self.record_volumes()
        self.add_capacity()
        self.rebuilt(server, imageRef=self.OTHER_IMAGE)
        self.assertEqual([self.OTHER_IMAGE], made)

    def test_new_image_that_the_conductor_did_not_keep(self):
        """What nova-api has kept is not that of the old image."""
        server = self.create_failed(bdms=[NEW_ROOT])
        fail = self.patch('nova_rescue_ext.rebuild.database.take',
                          lambda context, attempts, keep: {
                              uuid: database.Taken({}, '')
                              for uuid in attempts})
        self.assertEqual(202, self.rebuild(
            server, imageRef=self.OTHER_IMAGE).status_code)
        self.await_true(lambda: self.api.get_server(
            server['id'])['status'] == 'ERROR')
        self._await_conductor()
        fail.stop()
        recovery.remedy(self.context, *recovery.find(self.context, 0))
        made = self.record_volumes()
        self.add_capacity()
        self.rebuilt(server)
        self.assertEqual([self.OTHER_IMAGE], made)

    def test_two_boot_devices(self):
        """By what was kept of them."""
        server = self.create_failed(bdms=[NEW_ROOT])
        kept = block_devices.from_kept(spec_extras.read(
            self.context, server['id'])['block_devices'])
        kept[0].image_id = self.OTHER_IMAGE
        rebuild_base.keep(self.context, server['id'],
                          block_devices=block_devices.kept_of(kept))
        self.assert_refused(409, self.rebuild(server), 'two records')
        self.assert_untouched(server)

    def test_new_image_for_existing_volume(self):
        server = self.create_failed(bdms=[ROOT])
        self.assert_refused(400, self.rebuild(
            server, imageRef=self.OTHER_IMAGE), 'volume-backed')

    def test_certificates_for_volume(self):
        server = self.create_failed(bdms=[ROOT])
        self.assert_refused(400, self.rebuild(
            server, trusted_image_certificates=['one']), 'volume-backed')

    def test_volume_is_not_made_with_the_operators_token(self):
        server = self.create_failed(bdms=[NEW_ROOT])
        self.assert_refused(409, self.rebuild(
            server, api=self.admin_of('other')), server['tenant_id'])

    def test_lost_volume_is_not_made_with_the_operators_token(self):
        """One that Nova had made, and that is gone without its row."""
        server = self.create_failed(bdms=[ROOT, TO_BE_MADE[2]])
        self.change_block_device(server, source_type='blank',
                                 volume_id=DATA['uuid'])
        self.lose(DATA['uuid'])
        self.assert_refused(409, self.rebuild(
            server, api=self.admin_of('other')), server['tenant_id'])
        made = self.record_volumes()
        self.add_capacity()
        self.rebuilt(server)
        self.assertEqual([None], made)

    def change_block_device(self, server, source_type, **values):
        cell = self.cell_mappings['cell0']
        with nova_context.target_cell(self.context, cell) as context:
            for row in objects.BlockDeviceMappingList.get_by_instance_uuid(
                    context, server['id']):
                if row.source_type == source_type:
                    row.update(values)
                    row.save()

    def attachments(self, server):
        return set(self.cinder.attachment_ids_for_instance(server['id']))

    def forget(self, *attachments):
        for volume, known in self.cinder.volume_to_attachment.items():
            for attachment in attachments:
                known.pop(attachment, None)

    def lose(self, lost):
        """Cinder does not know a volume any more."""
        get = self.cinder.fake_get

        def lose(itself, context, volume_id, microversion=None):
            if volume_id == lost:
                self.no_volume(itself, context, volume_id)
            return get(context, volume_id, microversion)

        self.patch('nova.volume.cinder.API.get', lose)

    def set_status(self, status, multiattach=False, **values):
        get = self.cinder.fake_get

        def change(itself, context, volume_id, microversion=None):
            return dict(get(context, volume_id, microversion),
                        status=status, multiattach=multiattach, **values)

        self.patch('nova.volume.cinder.API.get', change)

    @staticmethod
    def no_volume(itself, context, volume_id, microversion=None):
        raise exception.VolumeNotFound(volume_id=volume_id)

    def record_volumes(self):
        """The images that volumes are made from."""
        made = []
        self.volume_requests = []

        def create(itself, context, size, name, description, snapshot=None,
                   image_id=None, **kwargs):
            made.append(image_id)
            self.volume_requests.append(
                (size, snapshot and snapshot['id'], image_id))
            volume_id = (self.VOLUME if image_id
                         else uuidutils.generate_uuid())
            return {'id': volume_id, 'status': 'available',
                    'display_name': name, 'multiattach': False,
                    'attach_status': 'detached', 'volume_type': None}

        self.patch('nova.volume.cinder.API.create', create)
        return made

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

"""Rescue in nova-compute's manager."""

from unittest import mock

import fixtures
from nova import conf
from nova import context as nova_context
from nova import exception
from nova import objects
from oslo_config import fixture as config_fixture
from oslo_utils.fixture import uuidsentinel as uuids
import testtools

from nova_rescue_ext import conf as ext_conf
from nova_rescue_ext import instance_metadata
from nova_rescue_ext import microversion
from nova_rescue_ext.rescue import compute
from nova_rescue_ext.rescue import operation


class ComputeTestCase(testtools.TestCase):

    def setUp(self):
        super().setUp()
        objects.register_all()
        ext_conf.register_opts(conf.CONF)
        self.conf = self.useFixture(config_fixture.Config(conf.CONF))
        self.conf.config(virt_type='kvm', group='libvirt')
        self.context = nova_context.RequestContext('alice', 'project',
                                                   is_admin=False)
        self.manager = mock.Mock()
        self.instance = objects.Instance(
            mock.Mock(), uuid=uuids.instance, host='here', vm_state='active',
            task_state='rescuing', system_metadata={})

    def patch(self, name, new=None):
        new = new or mock.Mock()
        self.useFixture(fixtures.MonkeyPatch(name, new))
        return new


class ImageTest(ComputeTestCase):
    """With which image, with whose rights, and whether devices are stable."""

    def setUp(self):
        super().setUp()
        self.patch('nova.objects.BlockDeviceMappingList.get_by_instance_uuid',
                   lambda *args: 'bdms')
        self.patch('nova_rescue_ext.rescue.image.operator_context',
                   lambda instance: 'operator')
        self.root = self.patch(
            'nova_rescue_ext.rescue.image.of_root_volume',
            mock.Mock(return_value=(uuids.of_volume, 'metadata')))

    def get(self, image_id=uuids.image, volume_backed=False):
        self.patch('nova.compute.utils.is_volume_backed_instance',
                   lambda context, instance, bdms: volume_backed)
        original = mock.Mock(return_value=objects.ImageMeta(
            properties=objects.ImageMetaProps()))
        meta = compute.get_rescue_image(original, self.manager, self.context,
                                        self.instance, image_id)
        context, instance, self.image_id = original.call_args.args
        self.assertIs(self.instance, instance)
        self.rights = 'operator' if context == 'operator' else 'user'
        return meta.properties.get('hw_rescue_device') == 'disk'

    def opt_in(self, **kwargs):
        instance_metadata.request_rescue(self.instance, microversion.RESCUE,
                                         **kwargs, request_id='req')

    def test_named(self):
        self.opt_in()
        self.assertFalse(self.get())
        self.assertEqual((uuids.image, 'user'), (self.image_id, self.rights))
        self.assertTrue(instance_metadata.rescue_asks_for(
            self.instance, microversion.RESCUE))

    def test_offered(self):
        self.opt_in(offered_image=uuids.image)
        self.get()
        self.assertEqual('operator', self.rights)
        self.get(uuids.other)
        self.assertEqual('user', self.rights)

    def test_volume(self):
        self.assertTrue(self.get(volume_backed=True))
        self.assertEqual(uuids.image, self.image_id)
        self.root.assert_not_called()

    def test_volume_and_a_stock_api(self):
        self.assertTrue(self.get(None, volume_backed=True))
        self.assertEqual(uuids.of_volume, self.image_id)
        context, *arguments = self.root.call_args.args
        self.assertTrue(context.is_admin)
        self.assertEqual([self.instance, 'bdms', self.manager.volume_api,
                          self.manager.image_api], arguments)

    def test_always_stable(self):
        """If the caller opted in, and not for containers."""
        self.conf.config(stable_devices='always', group='rescue_ext')
        self.assertFalse(self.get())
        self.opt_in()
        self.assertTrue(self.get())
        self.conf.config(virt_type='lxc', group='libvirt')
        self.assertFalse(self.get())


class RescueTest(ComputeTestCase):

    def setUp(self):
        super().setUp()
        self.patch('nova_rescue_ext.task.stale_message.act_in_time',
                   lambda manager, instance, action, task, act, **_kwargs:
                   act())
        self.libvirt(True)
        self.remove = self.patch('nova_rescue_ext.host.rescue_files.'
                                 'try_to_remove_stock_domain')
        self.told = self.patch('nova_rescue_ext.rescue.operation.Rescue.'
                               'notify_of_end')
        self.settled = self.patch('nova_rescue_ext.rescue.operation.Rescue.'
                                  'settle')
        # It would wait for a database.
        self.ensured = self.patch('nova_rescue_ext.task.final_save.ensured',
                                  mock.MagicMock())
        # An exception goes on.
        self.ensured.return_value.__exit__.return_value = False
        self.seen = []

    def libvirt(self, found):
        self.patch('nova_rescue_ext.capabilities.is_libvirt',
                   lambda driver: found)

    def rescue(self, error=None, rescued=True):
        def original(context, instance, rescue_password, rescue_image_ref,
                     clean_shutdown):
            self.seen.append(operation.Rescue.of_this_thread(instance.uuid))
            if rescued:
                instance.vm_state = 'rescued'
                instance_metadata.record_rescue(
                    instance, uuids.image, '', '', instance_metadata.LEGACY,
                    True)
            if error:
                raise error

        compute.rescue_instance(
            original, self.manager, self.context, self.instance,
            'password', rescue_image_ref=uuids.image, clean_shutdown=True)

    def test_operation(self):
        self.rescue()
        [found] = self.seen
        self.assertIs(self.instance, found.instance)
        self.told.assert_not_called()

    def test_other_drivers(self):
        self.libvirt(False)
        self.rescue()
        self.ensured.assert_called_once_with(self.instance)
        self.assertEqual([None], self.seen)
        self.remove.assert_not_called()

    def test_saved_domain(self):
        """Our unrescue needs none, but the way back of a rescue does."""
        self.rescue(rescued=False)
        self.ensured.assert_called_once_with(self.instance)
        self.remove.assert_not_called()
        self.rescue()
        self.remove.assert_called_once_with(self.instance)

    def test_saved_domain_after_a_failure(self):
        self.assertRaises(OSError, self.rescue, OSError())
        self.remove.assert_called_once_with(self.instance)

    def test_failure(self):
        error = OSError()
        self.assertRaises(OSError, self.rescue, error)
        self.told.assert_called_once_with(uuids.image, error)
        self.settled.assert_not_called()

    def test_lost(self):
        """Nova's last save has failed: no guest may be left."""
        for error in (exception.InstanceNotFound(instance_id=uuids.instance),
                      exception.UnexpectedTaskStateError(
                          instance_uuid=uuids.instance, expected={},
                          actual={})):
            self.settled.reset_mock()
            self.assertRaises(type(error), self.rescue, error)
            self.settled.assert_called_once_with()


class RestartTest(ComputeTestCase):
    """What a restart of nova-compute looks at in each server."""

    def setUp(self):
        super().setUp()
        self.manager.host = 'here'
        self.is_libvirt = True
        self.patch('nova_rescue_ext.capabilities.is_libvirt',
                   lambda driver: self.is_libvirt)
        self.recover = self.patch('nova_rescue_ext.rescue.recovery.recover')

    def started(self, **values):
        """:returns: (whether it is recovered, whether Nova goes on)"""
        self.recover.reset_mock()
        instance = objects.Instance(uuid=uuids.instance, **dict({
            'host': 'here', 'vm_state': 'active',
            'task_state': 'rescuing'}, **values))
        original = mock.Mock()
        compute.init_instance(original, self.manager, 'context', instance)
        if self.recover.called:
            self.recover.assert_called_once_with(self.manager, 'context',
                                                 instance)
        if original.called:
            original.assert_called_once_with('context', instance)
        return self.recover.called, original.called

    def test_interrupted(self):
        for task_state in ('rescuing', 'unrescuing'):
            self.assertEqual((True, True),
                             self.started(task_state=task_state))

    def test_deleted_meanwhile(self):
        self.recover.return_value = False
        self.assertEqual((True, False), self.started())

    def test_others(self):
        for values in ({'task_state': None}, {'task_state': 'powering-off'},
                       {'host': 'there'}, {'vm_state': 'soft-delete'},
                       {'vm_state': 'deleted'}):
            self.assertEqual((False, True), self.started(**values))
        self.is_libvirt = False
        self.assertEqual((False, True), self.started())

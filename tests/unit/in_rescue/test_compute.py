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

"""Messages about servers in rescue, in nova-compute's manager."""

from unittest import mock

from nova import objects
from oslo_utils.fixture import uuidsentinel as uuids
import testtools

from nova_rescue_ext.in_rescue import compute


class OtherDriversTest(testtools.TestCase):
    """With a driver that is not libvirt's, Nova does what it does."""

    def test_original(self):
        objects.register_all()
        manager = mock.Mock(spec=[], driver=object())
        instance = objects.Instance(uuid=uuids.instance, vm_state='rescued')
        for function, before in (
                (compute.reboot_instance, ()), (compute.stop_instance, ()),
                (compute.start_instance, ()),
                (compute.detach_volume, (uuids.volume,)),
                (compute.attach_interface, ()),
                (compute.detach_interface, ())):
            original = mock.Mock()
            function(original, manager, 'context', *before, instance, 'more')
            original.assert_called_once_with('context', *before, instance,
                                             'more')

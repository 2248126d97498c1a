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


"""Actions on servers in rescue, in the libvirt driver."""

from __future__ import annotations

import typing

from nova import context as nova_context
from nova import objects

from nova_rescue_ext.in_rescue import operation
from nova_rescue_ext import nova_types

if typing.TYPE_CHECKING:
    from nova.virt.libvirt import driver as libvirt_driver


def reboot(original: nova_types.Original, self: libvirt_driver.LibvirtDriver,
           context: nova_context.RequestContext, instance: objects.Instance,
           *args: typing.Any, **kwargs: typing.Any) -> None:
    """Reboot a guest, in rescue only one that is the guest of the rescue.

    A soft reboot starts whatever domain is defined.
    """
    task = operation.Reboot.on(instance)
    if task is not None:
        task.check()
    return original(context, instance, *args, **kwargs)

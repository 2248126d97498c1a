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


"""What a server is rescued with, as far as others than the rescue must know.

Stock Nova forgets it: unrescue finds its way back by a file on the host, and a
live migration looks for the server's own image behind the rescue disk. The
record is kept with the server, in its system metadata, so that it goes where
the server goes. The keys must not start with ``image_``: those are the
properties of the server's image.
"""

import typing

from nova.compute import vm_states

LEGACY = 'legacy'
STABLE = 'stable'

_PREFIX = 'rescue_ext_'
MODE = _PREFIX + 'mode'  # no record is without it
_GOES_BACK = _PREFIX + 'goes_back'


class RescueRecord(typing.NamedTuple):
    """What a server was rescued with.

    ``image_id``, ``kernel_id`` and ``ramdisk_id`` are ids of images, the last
    two None if the rescue system boots from its disk; ``mode`` is LEGACY or
    STABLE (3-stable-device-rescue.rst); ``vm_state`` is the state before the
    rescue, None in a record that was written before there was this field.
    """

    image_id: typing.Optional[str]
    kernel_id: typing.Optional[str]
    ramdisk_id: typing.Optional[str]
    mode: str
    vm_state: typing.Optional[str] = None


def write(instance, image_id, kernel_id, ramdisk_id, mode):
    """Record a rescue. The caller saves the instance.

    :param instance: the Instance, in its state of before
    :param image_id: the id of the image of the rescue disk
    :param kernel_id: the id of the kernel's image, or None
    :param ramdisk_id: the id of the ramdisk's image, or None
    :param mode: LEGACY or STABLE
    """
    clear(instance)
    record = RescueRecord(image_id, kernel_id, ramdisk_id, mode,
                          instance.vm_state)
    for name, value in record._asdict().items():
        if value:
            instance.system_metadata[_PREFIX + name] = value


def read(instance):
    """The record of a server that is in rescue.

    None unless the server's state is RESCUED: what is left of a rescue whose
    server was reset or rebuilt since means nothing (hazard 36). None, too, if
    the server was rescued by a Nova without this package.

    :param instance: the Instance
    :returns: a RescueRecord or None
    """
    if instance.vm_state != vm_states.RESCUED:
        return None
    values = {name: instance.system_metadata.get(_PREFIX + name)
              for name in RescueRecord._fields}
    if not values['mode']:
        return None
    return RescueRecord(**values)


def clear(instance):
    """Forget the rescue. The caller saves the instance.

    :param instance: the Instance
    """
    for name in RescueRecord._fields:
        instance.system_metadata.pop(_PREFIX + name, None)
    instance.system_metadata.pop(_GOES_BACK, None)


def ask_to_go_back(instance, asked):
    """Tell nova-compute which state an unrescue is to end in.

    The RPC call has no room for it, and must be understood by a nova-compute
    without the package. The caller saves the instance.

    :param instance: the Instance
    :param asked: whether it is the state before the rescue, instead of ACTIVE
    """
    if asked:
        instance.system_metadata[_GOES_BACK] = 'True'
    elif _GOES_BACK in instance.system_metadata:
        del instance.system_metadata[_GOES_BACK]


def state_after_unrescue(instance):
    """The state that an unrescue ends in.

    :param instance: the Instance, in rescue
    :returns: vm_states.STOPPED if the server was stopped before its rescue
        and goes back to that, else vm_states.ACTIVE
    """
    record = read(instance)
    if (record and record.vm_state == vm_states.STOPPED
            and _GOES_BACK in instance.system_metadata):
        return vm_states.STOPPED
    return vm_states.ACTIVE

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


"""Whether the disks of a server are complete, without starting qemu-img.

A hard reboot recreates disks and backing images that are missing. To find
those, Nova starts qemu-img several times for each disk, while the server is
down. An unrescue looks for itself first.
"""

from __future__ import annotations

import os
import typing

from nova_rescue_ext.host import hard_reboot
from nova_rescue_ext.host import qcow2

if typing.TYPE_CHECKING:
    from nova.virt.libvirt import config as libvirt_config


def need_nothing(guest_config: libvirt_config.LibvirtConfigGuest) -> bool:
    """Whether the disks of a domain can be left alone.

    :param guest_config: a LibvirtConfigGuest
    :returns: True if the server is leaving its rescue and all disks are
        complete; False also if that is not known
    """
    return hard_reboot.HardReboot.is_run_by_this_thread() and all(
        _is_whole(disk) for disk in guest_config.devices
        if disk.root_name == 'disk' and disk.source_path
        and disk.source_type in ('file', 'block'))


def _is_whole(disk: libvirt_config.LibvirtConfigGuestDisk) -> bool:
    if not os.path.exists(disk.source_path):
        return False
    if disk.driver_format == 'raw':
        return True
    return disk.driver_format == 'qcow2' and _has_its_base(disk.source_path)


def _has_its_base(path: str) -> bool:
    try:
        base = qcow2.backing_file(path)
    except (OSError, ValueError):
        return False
    return base is None or os.path.exists(
        os.path.join(os.path.dirname(path), base))

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


"""Disks that need no repair, in a domain that is rebuilt.

A hard reboot makes what is missing of a server's disks and of the images that
they are based on. To find that out Nova starts qemu-img several times for each
disk, while the server is down. Unrescue looks for itself first.
"""

from __future__ import annotations

import os
import typing

from nova_rescue_ext.host import hard_reboot
from nova_rescue_ext.host import qcow2

if typing.TYPE_CHECKING:
    from nova.virt.libvirt import config as libvirt_config


def need_nothing(guest_config: libvirt_config.LibvirtConfigGuest) -> bool:
    """Whether to leave the disks of a domain alone.

    :param guest_config: a LibvirtConfigGuest
    :returns: True if a server leaves its rescue and all is there; False also
        if we cannot tell
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

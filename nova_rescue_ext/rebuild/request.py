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


"""What the caller of a rebuild asks for."""

from __future__ import annotations

import typing

from nova import objects

# Arguments of Nova's rebuild that are more than a field of the instance. For
# Ironic there is preserve_ephemeral: there is nothing to preserve yet.
_NOT_FIELDS = ('auto_disk_config', 'key_name', 'preserve_ephemeral',
               'trusted_certs')


class RebuildRequest:
    """What is to be changed; what the request does not name is kept.

    :param image_id: of the image, or None
    :param admin_password: the new one
    :param files: to be injected
    :param reimage_boot_volume: whether the caller knows that a boot volume
        can get another image (compute 2.93)
    :param networks: the NetworkRequestList to build with, or None
    :param security_groups: names or ids of those to build with, or None
    :param arguments: the keyword arguments of Nova's rebuild
    :param without: ids of volumes, snapshots and images that are gone, and
        whose block devices are left out
    """

    def __init__(self, image_id: str | None, admin_password: str,
                 files: list[typing.Any], reimage_boot_volume: bool,
                 networks: objects.NetworkRequestList | None,
                 security_groups: list[str] | None,
                 arguments: dict[str, typing.Any],
                 without: typing.Collection[str] = ()) -> None:
        self.image_id = image_id
        self.admin_password = admin_password
        self.files = files
        self.reimage_boot_volume = reimage_boot_volume
        self.networks = networks
        self.security_groups = security_groups
        self.without = without
        self.auto_disk_config = arguments.get('auto_disk_config')
        self.changes_key = 'key_name' in arguments
        self.key_name = arguments.get('key_name')
        self.changes_trusted_certs = 'trusted_certs' in arguments
        self.trusted_certs = arguments.get('trusted_certs')
        self.metadata = arguments.get('metadata', {})
        self.fields = {name: value for name, value in arguments.items()
                       if name not in _NOT_FIELDS}

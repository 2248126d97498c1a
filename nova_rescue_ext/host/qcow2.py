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


"""The header of a qcow2 disk, read without starting qemu-img.

For disks that Nova made. What a user has uploaded is for Nova's inspector.
"""

import os
import struct

# Magic, version, offset and length of the name of the backing file.
_HEADER = struct.Struct('>4sIQI')
_MAGIC = b'QFI\xfb'


def backing_file(path: str) -> str | None:
    """The backing file that the header of a qcow2 disk names.

    :param path: of the disk
    :returns: as it is written there, possibly relative to the directory of
        the disk; None if there is none
    :raises: OSError if the disk cannot be read; ValueError if it is not qcow2
    """
    with open(path, 'rb') as file:
        header = file.read(_HEADER.size)
        if len(header) < _HEADER.size:
            raise ValueError('%s has no header' % path)
        magic, _version, offset, length = _HEADER.unpack(header)
        if magic != _MAGIC:
            raise ValueError('%s is not qcow2' % path)
        if not offset:
            return None
        file.seek(offset)
        return os.fsdecode(file.read(length))

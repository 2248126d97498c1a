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

Only for disks that Nova made: user images are checked by Nova's inspector.
"""

import os
import struct
import typing

# Magic, version, offset and length of the name of the backing file, bits of a
# cluster, virtual size.
_HEADER = struct.Struct('>4sIQIIQ')
_MAGIC = b'QFI\xfb'

# The extensions follow the header, whose length is at byte 100 in version 3.
# Each is a type, a length, and data padded to 8 bytes.
_LENGTH_V2 = 72
_LENGTH = struct.Struct('>I')
_OFFSET_OF_LENGTH = 100
_EXTENSION = struct.Struct('>II')
_BACKING_FORMAT = 0xe2792aca


class Header(typing.NamedTuple):
    """What the header of a disk says.

    :ivar backing_file: its path, possibly relative to the directory of the
        disk; None if there is none
    :ivar backing_format: None if the header does not say
    :ivar virtual_size: in bytes
    """

    backing_file: str | None
    backing_format: str | None
    virtual_size: int


def read(path: str) -> Header:
    """Read the header of a qcow2 disk.

    :param path: the path of the disk
    :raises: OSError if the disk cannot be read; ValueError if it is not qcow2
    """
    with open(path, 'rb') as file:
        header = file.read(_HEADER.size)
        if len(header) < _HEADER.size:
            raise ValueError('%s has no header' % path)
        magic, version, offset, length, _bits, size = _HEADER.unpack(header)
        if magic != _MAGIC:
            raise ValueError('%s is not qcow2' % path)
        if not offset:
            return Header(None, None, size)
        backing_format = _read_backing_format(file, version, offset)
        file.seek(offset)
        return Header(os.fsdecode(file.read(length)), backing_format, size)


def _read_backing_format(file: typing.BinaryIO, version: int,
                         end: int) -> str | None:
    start = _LENGTH_V2
    if version > 2:
        file.seek(_OFFSET_OF_LENGTH)
        start, = _LENGTH.unpack(file.read(_LENGTH.size))
    while start + _EXTENSION.size <= end:
        file.seek(start)
        kind, length = _EXTENSION.unpack(file.read(_EXTENSION.size))
        if kind == _BACKING_FORMAT:
            return os.fsdecode(file.read(length))
        if not kind:
            break
        start += _EXTENSION.size + (length + 7) // 8 * 8
    return None


def backing_file(path: str) -> str | None:
    """Read which backing file a qcow2 disk has.

    :param path: the path of the disk
    :returns: its path, possibly relative to the directory of the disk; None
        if there is none
    :raises: OSError if the disk cannot be read; ValueError if it is not qcow2
    """
    return read(path).backing_file

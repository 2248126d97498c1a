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


"""Nova's file with the formats of a server's disks."""

import os

from oslo_serialization import jsonutils

NAME = 'disk.info'


def read(directory: str) -> dict[str, str]:
    """The formats of the disks in a server's directory, by their paths."""
    try:
        with open(os.path.join(directory, NAME), encoding='utf-8') as file:
            return jsonutils.loads(file.read() or '{}')
    except FileNotFoundError:
        return {}


def add(directory: str, formats: dict[str, str]) -> None:
    """Add the formats of disks in a server's directory, by their names."""
    if not formats:
        return
    known = read(directory)
    known.update({os.path.join(directory, name): disk_format
                  for name, disk_format in formats.items()})
    with open(os.path.join(directory, NAME), 'w', encoding='utf-8') as file:
        file.write(jsonutils.dumps(known) + '\n')

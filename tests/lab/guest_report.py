# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.

"""What a guest of the lab says on its console, as objects.

The other side of this is guest/init.
"""

import base64
import collections
import json
import re

Disk = collections.namedtuple(
    'Disk', 'name at scsi size serial label ro sum mark blocks',
    defaults=[None])


class Report:
    """The last boot that a console shows."""

    def __init__(self, console):
        # The guest may still be at its last line, and a serial line is slow.
        whole = console[:console.rfind('\n') + 1]
        lines = [line.strip() for line in whole.splitlines()]
        begin = max((number for number, line in enumerate(lines)
                     if line.startswith('LAB boot ')), default=len(lines))
        self.lines = [line for line in lines[begin:]
                      if line.startswith('LAB ')]
        self.boot = self._words('boot')
        self.role = self.boot.get('role')
        self.boot_id = self.boot.get('id')
        self.is_ready = any(line.startswith('LAB ready ')
                            for line in self.lines)
        self.disks = [self._disk(line) for line in self.lines
                      if line.startswith('LAB disk ')]
        self.ticks = self._last_number('tick')
        self.synced = self._last_number('synced')
        self.variable = self._words('uefi').get('variable')
        self.tpm = self._words('tpm').get('kept')
        self.config_drive = self._config_drive()
        self.user_data = self._user_data()

    @classmethod
    def after_move(cls, console):
        """What a guest says that goes on where the console is a new one."""
        return cls('LAB boot role=moved\n' + console)

    @property
    def cmdline(self):
        line = next(ln for ln in self.lines if ln.startswith('LAB boot '))
        return line.partition(' cmdline=')[2]

    @property
    def marks(self):
        """{mark: disk} of the disks that the base guest has marked."""
        return {disk.mark: disk for disk in self.disks
                if disk.mark != 'none'}

    @property
    def contents(self):
        """What is on the marked disks, wherever they are plugged."""
        return {disk.mark: (disk.size, disk.sum) for disk in self.disks
                if disk.mark != 'none'}

    @property
    def addresses(self):
        """Where each marked disk is plugged, and under which name."""
        return {disk.mark: (disk.at, disk.scsi, disk.name)
                for disk in self.disks if disk.mark != 'none'}

    @property
    def blocks(self):
        """{mark: (how many numbered blocks, the last number)}."""
        return {disk.mark: tuple(int(number) for number
                                 in disk.blocks.split('/'))
                for disk in self.disks if disk.blocks}

    def labelled(self, label):
        return [disk for disk in self.disks if disk.label == label]

    def numbered(self, serial):
        """The disk with a serial number, of which a bus may keep a part."""
        (disk,) = (disk for disk in self.disks
                   if len(disk.serial) >= 20 and serial.startswith(
                       disk.serial))
        return disk

    def _last_number(self, kind):
        return max((int(line.split()[2]) for line in self.lines
                    if re.match(rf'LAB {kind} \d+$', line)), default=0)

    def _words(self, kind):
        for line in self.lines:
            if line.startswith(f'LAB {kind} '):
                return dict(word.partition('=')[::2]
                            for word in line.split()[2:])
        return {}

    @staticmethod
    def _disk(line):
        words = dict(word.partition('=')[::2] for word in line.split()[2:])
        disk = Disk(**words)
        return disk._replace(size=int(disk.size), ro=disk.ro == '1')

    def _config_drive(self):
        """meta_data.json of the config drive, None without one."""
        for line in self.lines:
            if line.startswith('LAB config '):
                return json.loads(line.partition(' meta=')[2])
        return None

    def _user_data(self):
        """That of the config drive, None without any."""
        for line in self.lines:
            if line.startswith('LAB userdata '):
                return base64.b64decode(line.split()[2]).decode()
        return None

    def __str__(self):
        return '\n'.join(line for line in self.lines
                         if not line.startswith('LAB tick '))

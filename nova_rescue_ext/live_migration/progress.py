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


"""The progress of copies, where the API shows that of a migration's disks."""

from __future__ import annotations

from nova import context as nova_context
from nova import objects


class Progress:
    """The disk numbers of a migration while files are copied.

    QEMU's own replace them once the guest is migrated.

    :param context: a RequestContext
    :param attempt: the UUID of the migration
    :param total: how many bytes are to be copied; 0 is nothing to show
    """

    def __init__(self, context: nova_context.RequestContext, attempt: str,
                 total: int) -> None:
        self._migration = (objects.Migration.get_by_uuid(context, attempt)
                           if total else None)
        self._total = total
        self._copied = 0
        self._save()

    def add(self, size: int) -> None:
        """Add bytes that have been copied.

        :param size: how many
        """
        self._copied += size
        self._save()

    def _save(self) -> None:
        if self._migration is None:
            return
        # Nova's schema of the answer has null, and no 0, from 33 on.
        self._migration.disk_total = self._total
        self._migration.disk_processed = self._copied or None
        self._migration.disk_remaining = self._total - self._copied or None
        self._migration.save()

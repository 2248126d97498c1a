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


"""Live migration of rescued servers (spec: live-migrate-rescued).

``api``, ``conductor``, ``compute`` and ``libvirt`` hold the overrides, and are
named after the part of Nova that they run in. ``source`` and ``destination``
own the migration on each side. ``checks`` is what the source refuses,
``manifest`` lists the files that QEMU does not copy, and ``staging`` is the
folder on the source where they wait.
``recovery`` ends a migration that nobody runs, ``periodic`` looks for such
ones, and ``attachments`` is what Cinder has of their volumes.
"""

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

"""The key manager of the lab: a folder, where Barbican would be a service.

A secret is read with a token of the project that it was stored for, as
Barbican's policies have it, and by nobody else: not by an administrator, and
not by nova-compute for itself.
"""

import json
import os
import pathlib
import uuid

from castellan.common import exception
from castellan.common.objects import passphrase
from castellan.key_manager import key_manager


class FolderKeyManager(key_manager.KeyManager):
    """Passphrases only, which is what Nova makes for a TPM."""

    def __init__(self, configuration):
        super().__init__(configuration)
        self._folder = pathlib.Path(os.environ['LAB_SECRETS'])

    def store(self, context, managed_object, expiration=None, **kwargs):
        secret_id = str(uuid.uuid4())
        self._path(secret_id).write_text(json.dumps({
            'project': self._project(context),
            'passphrase': managed_object.get_encoded().decode('ascii')}))
        return secret_id

    def get(self, context, managed_object_id, metadata_only=False, **kwargs):
        return passphrase.Passphrase(
            self._read(context, managed_object_id)['passphrase'].encode(),
            id=managed_object_id)

    def delete(self, context, managed_object_id, **kwargs):
        self._read(context, managed_object_id)
        self._path(managed_object_id).unlink()

    def create_key(self, context, algorithm, length, **kwargs):
        raise NotImplementedError()

    create_key_pair = add_consumer = remove_consumer = create_key

    def _path(self, secret_id):
        return self._folder / f'{uuid.UUID(secret_id)}.json'

    def _read(self, context, secret_id):
        try:
            found = json.loads(self._path(secret_id).read_text())
        except FileNotFoundError:
            raise exception.ManagedObjectNotFoundError(uuid=secret_id)
        if found['project'] != self._project(context):
            raise exception.KeyManagerError(reason='Forbidden: secret')
        return found

    @staticmethod
    def _project(context):
        if not getattr(context, 'auth_token', None):
            raise exception.Forbidden()
        return context.project_id

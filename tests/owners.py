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

"""To whom images and volumes belong, which Nova's doubles do not know."""

import types

import fixtures
from glanceclient import exc as glance_exc
from nova.tests import fixtures as nova_fixtures


class Owners(fixtures.Fixture):
    """Below Nova's clients of Glance and Cinder, where it can be asked.

    :param glance: Nova's GlanceFixture
    :ivar volumes: who owns a volume, by its id, if not the usual project;
        None if Cinder does not tell
    :ivar members: the projects that an image is shared with, by its id
    :ivar cinder: Nova's CinderFixture, which knows attachments, or None
    :ivar is_complete: tells it of an attachment that the fixture has
    """

    def __init__(self, glance):
        super().__init__()
        self._glance = glance
        self.volumes = {}
        self.members = {}
        self.cinder = None
        self.is_complete = lambda attachment: bool(attachment['connector'])

    def _setUp(self):
        self.useFixture(fixtures.MonkeyPatch(
            'nova.volume.cinder.cinderclient', self._cinder))
        self.useFixture(fixtures.MonkeyPatch(
            'nova.image.glance.GlanceClientWrapper.call', self._call_glance))

    def owner_of_volume(self, volume_id):
        """The project that a volume belongs to."""
        return self.volumes.get(volume_id, nova_fixtures.PROJECT_ID)

    def _cinder(self, context, *args, **kwargs):
        return types.SimpleNamespace(volumes=types.SimpleNamespace(
            get=self._volume), attachments=types.SimpleNamespace(
                list=self._attachments))

    def _attachments(self, search_opts):
        return [types.SimpleNamespace(
            id=attachment['id'], instance=attachment['instance_uuid'],
            status=self._status(attachment))
            for attachment in self._attachments_of(search_opts['volume_id'])]

    def _attachments_of(self, volume_id):
        known = self.cinder.volume_to_attachment if self.cinder else {}
        return list(known.get(volume_id, {}).values())

    def _status(self, attachment):
        if self.is_complete(attachment):
            return 'attached'
        return 'attaching' if attachment['connector'] else 'reserved'

    def _volume(self, volume_id):
        owner = self.owner_of_volume(volume_id)
        attributes = {'os-vol-tenant-attr:tenant_id': owner} if owner else {}
        # Cinder shows those that are complete, and an administrator the host.
        attachments = [
            {'attachment_id': attachment['id'],
             'server_id': attachment['instance_uuid'],
             'host_name': (attachment['connector'] or {}).get('host')}
            for attachment in self._attachments_of(volume_id)
            if self._status(attachment) == 'attached']
        return types.SimpleNamespace(id=volume_id, attachments=attachments,
                                     **attributes)

    def _call_glance(self, itself, context, version, method, controller=None,
                     args=None, kwargs=None):
        image = self._glance.images.get(args[0])
        if controller == 'image_members' and (
                args[1] not in self.members.get(args[0], ())):
            image = None
        if image is None:
            raise glance_exc.HTTPNotFound()
        return image

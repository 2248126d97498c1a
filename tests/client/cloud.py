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

"""The embedded cloud, and those who use it at the command line."""

import contextlib
import io
import json
import os

from demo import stage
from demo import transcript


def environment(commands):
    """That of a process that finds the openstack command in a folder.

    None of the options of whoever runs the tests get there.
    """
    variables = {name: value for name, value in os.environ.items()
                 if not name.startswith('OS_')}
    return dict(variables, NO_PROXY='*', no_proxy='*', PYTHONWARNINGS='ignore',
                PATH='%s:%s' % (commands, os.environ['PATH']))


class Cloud:
    """A cloud of the demo, for the length of a ``with``."""

    def __enter__(self):
        self._log = stage.new_log('client')
        # What the stage tells its audience is of no interest here.
        with contextlib.redirect_stdout(io.StringIO()):
            self._stage = stage.Stage(transcript.Transcript(), self._log)
            self._stage.__enter__()
        return self

    def __exit__(self, *exc_info):
        self._stage.__exit__()
        os.unlink(self._log)

    def __getattr__(self, name):
        """What a method of demo.cloud.Backstage does."""
        return lambda **arguments: self._stage.backstage(name, **arguments)

    def upload_image(self, name):
        return self._stage.backstage('upload_image', name=name)

    def write_clouds(self, path, **users):
        """Write a clouds.yaml.

        :param users: name of a cloud -> who uses it there
        """
        with open(path, 'w') as clouds:
            json.dump({'clouds': {
                name: self.describe(user)
                for name, user in users.items()}}, clouds)

    def describe(self, user, **others):
        """A cloud in clouds.yaml.

        :param others: entries besides
        """
        return dict({
            'region_name': 'RegionOne', 'auth': {
                'auth_url': self._stage.auth_url, 'username': user,
                'password': 'any', 'project_name': 'demo',
                'user_domain_id': 'default', 'project_domain_id': 'default',
            }}, **others)

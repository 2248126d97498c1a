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


"""What the stories have in common: a user, a server, its disks."""

import json
import os
import shlex
import subprocess
import tempfile
import time

import openstack.exceptions

from demo import users


class Story:
    """What the steps share.

    :param stage: the demo.stage.Stage
    """

    def __init__(self, stage):
        self.stage = stage
        self.script = stage.transcript
        self.alice = stage.connect('token-of-alice')
        self.operator = stage.connect('token-of-the-operator')
        self.names = {}  # id of an image or volume -> how to call it
        self.server = None

    def upload_image(self, name, **arguments):
        """Upload an image.

        :returns: its id
        """
        image = self.stage.backstage('upload_image', name=name, **arguments)
        self.names[image] = name
        return image

    def disks(self, when):
        """Show the disks of the libvirt domain."""
        disks = self.stage.backstage('disks', server_id=self.server.id)
        self.script.table(
            'The disks of the libvirt domain %s:' % when,
            ['target', 'bus', 'device', 'boot order', 'what it is'],
            [[target, bus, device, order or '', self.names.get(what, what)]
             for target, bus, device, order, what in disks])
        return disks

    def ask(self, call, *args, status=400, **kwargs):
        """Make a request of openstacksdk that may be refused.

        :param status: the answer that a refusal has to have
        :returns: the words of the refusal, or None
        """
        try:
            call(*args, **kwargs)
        except openstack.exceptions.HttpException as exc:
            self.script.check(
                exc.status_code == status, 'It is a %d, %s.' % (
                    status, 'the fault of the request' if status == 400
                    else 'a matter of the state that the server is in'))
            return exc.details
        return None

    def create_server(self, **parameters):
        """Let Alice create a server, and wait for it."""
        with self.script.waiting('openstacksdk looks for a flavor'):
            flavor = next(self.alice.compute.flavors())
        self.server = self.alice.compute.create_server(
            name='web-1', flavor_id=flavor.id, networks='none', **parameters)
        self.wait('ACTIVE')

    def refused(self, words, **parameters):
        """Ask for a rescue that is refused, in these words."""
        details = self.ask(self.alice.compute.rescue_server, self.server,
                           **parameters)
        self.script.check(details is not None and words in details,
                          'It is refused, and says: "%s"' % words)
        with self.script.waiting('Is the server as it was?'):
            server = self.alice.compute.get_server(self.server)
        self.script.check(
            (server.status, server.task_state) == ('ACTIVE', None),
            'The server has not been touched: it is ACTIVE.')

    def manage(self, *arguments):
        """Run nova-rescue-ext-manage with the operator's token.

        :returns: its exit status and its output
        """
        command = ['nova-rescue-ext-manage', *arguments]
        self.script.say('The operator runs, with a clouds.yaml: %s'
                        % shlex.join(command))
        cloud = {'auth_type': 'admin_token', 'auth': {
            'endpoint': self.stage.url, 'token': users.OPERATOR}}
        with tempfile.NamedTemporaryFile('w', suffix='.yaml') as clouds:
            json.dump({'clouds': {'demo': cloud}}, clouds)
            clouds.flush()
            done = subprocess.run(
                command, stdout=subprocess.PIPE, text=True,
                env=dict(os.environ, NO_PROXY='*',
                         OS_CLIENT_CONFIG_FILE=clouds.name))
        print(done.stdout)
        return done.returncode, done.stdout

    def unrescue(self, before):
        """End the rescue."""
        self.alice.compute.unrescue_server(self.server)
        self.wait('ACTIVE')
        after = self.disks('after the rescue')
        self.script.check(sorted(after) == sorted(before),
                          'The disks are what they were before.')

    def wait(self, status):
        """Wait for a status of the server."""
        with self.script.waiting('openstacksdk waits for status %s' % status):
            self.server = self.alice.compute.wait_for_server(
                self.server, status=status, interval=0.2, wait=60)
        self.script.check(self.server.task_state is None,
                          'The server is %s.' % status)

    def settle(self):
        """Wait until nothing is being done to the server."""
        with self.script.waiting('openstacksdk asks until the task is over'):
            for _ in range(300):
                self.server = self.alice.compute.get_server(self.server)
                if self.server.task_state is None:
                    break
                time.sleep(0.2)
        self.script.check(self.server.task_state is None,
                          'The server is %s.' % self.server.status)

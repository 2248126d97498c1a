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

"""A rescue that lets its user in (compute-rescue 1.4)

With a key pair and user data of its own, disks that can be told apart, and an
end. Alice is told when the rescue system has come up, and attaches a port.
"""

import base64
import time

from demo import stage as demo_stage
from demo import story

VERSION = '1.4'
LINE = 'rescue system is ready'

_KEY = ('ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFhLkWqWZ1o2xq0pY3m8s0mC2b1vT8Ch'
        'k0h3mP6oYc1t %s')


def tell(stage):
    """The story: steps in the order of a user's day."""
    plot = SessionStory(stage)
    plot.script.step('Alice creates a server, and opts in')
    for name in ('web', 'alice'):
        plot.alice.compute.create_keypair(name=name, public_key=_KEY % name)
    plot.create_server(image_id=plot.upload_image('debian-12'),
                       key_name='web', user_data=_base64(plot.own[1]))
    demo_stage.opt_in(plot.alice, VERSION)
    rescue(plot)
    disks(plot)
    plot.script.step('What cloud-init in the rescue system gets')
    plot.gets(plot.of_rescue, 'the key pair and the user data of the rescue')
    comes_up(plot)
    works(plot)
    ends(plot)


class SessionStory(story.Story):
    """The story of one rescue."""

    own = ['web'], '#!/bin/sh\n# installs a web server'
    of_rescue = ['alice'], '#!/bin/sh\n# mounts disks'

    def session(self):
        """What nova-api shows of the rescue."""
        return self.alice.compute.get('/servers/' + self.server.id).json()[
            'server']['rescue_session']

    def gets(self, wanted, what):
        """Check what the metadata service gives to the server."""
        found = self.stage.backstage('metadata', server_id=self.server.id)
        self.script.check(found == list(wanted),
                          'The metadata service gives %s.' % what)

    def has_port(self, words):
        """Check that the guest has the only port that was attached."""
        self.script.check(
            len(self.stage.backstage('addresses',
                                     server_id=self.server.id)) == 1, words)


def rescue(plot):
    plot.script.step('She rescues it with a key pair, user data, and an end')
    image = plot.upload_image('grml', properties={
        'os_rescue_ready_line': LINE, 'hw_rescue_bus': 'virtio'})
    plot.alice.compute.post('/servers/%s/action' % plot.server.id, json={
        'rescue': {'rescue_image_ref': image, 'key_name': 'alice',
                   'user_data': _base64(plot.of_rescue[1]),
                   'timeout': 7200}})
    plot.wait('RESCUE')


def disks(plot):
    plot.script.step('Until when, and which disk is which?')
    session = plot.session()
    plot.script.check(session['until'] is not None
                      and session['key_name'] == 'alice',
                      'The server says when its rescue ends.')
    serials = plot.stage.backstage('serials', server_id=plot.server.id)
    plot.script.table('The serial numbers in the libvirt domain:',
                      ['target', 'serial'], sorted(serials.items()))
    (root,) = [disk['serial'] for disk in session['disks']
               if disk['role'] == 'root']
    plot.script.check(
        serials['vda'] == root,
        'In the rescue system, /dev/disk/by-id/virtio-%s is the root disk of '
        'the server.' % root[:20])


def comes_up(plot):
    plot.script.step('Has it come up?')
    plot.script.check(plot.session()['ready_line'] == 'waiting',
                      'nova-compute looks for the line that the image names.')
    plot.script.say('The rescue system prints on its console: "%s"' % LINE)
    plot.stage.backstage('print_on_console', server_id=plot.server.id,
                         text='[    4.2] %s\r\n' % LINE)
    with plot.script.waiting('Alice asks until it is known'):
        for _ in range(300):
            if plot.session()['ready_line'] != 'waiting':
                break
            time.sleep(0.2)
        session = plot.session()
    plot.script.check(session['ready_line'] == 'seen',
                      'It has: ready_line is "seen".')


def works(plot):
    plot.script.step('She needs a network')
    plot.alice.compute.post('/servers/%s/os-interface' % plot.server.id, json={
        'interfaceAttachment': {'port_id': plot.stage.backstage('port')}})
    plot.wait('RESCUE')
    plot.has_port('The rescue system has the port.')


def ends(plot):
    plot.script.step('Two hours later')
    plot.stage.backstage('pass_time_in_rescue', server_id=plot.server.id,
                         seconds=7201)
    plot.wait('ACTIVE')
    plot.script.check(plot.session() is None, 'The rescue is over.')
    plot.gets(plot.own, 'what the server was created with, again')
    plot.script.check(
        not any(plot.stage.backstage('serials',
                                     server_id=plot.server.id).values()),
        'Its disks are what they were.')
    plot.has_port('It keeps the port.')


def _base64(text):
    return base64.b64encode(text.encode()).decode()

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

"""Rescue of a boot-from-volume server (compute-rescue 1.1)

Alice's server boots from a volume. Stock Nova rescues it only with an image
that was prepared for that, and never without naming one.
"""

import openstack.exceptions

from demo import stage as demo_stage
from demo import users

VERSION = '1.1'


class Story:
    """What the steps share.

    :param stage: the demo.stage.Stage
    """

    def __init__(self, stage):
        self.stage = stage
        self.script = stage.transcript
        self.alice = stage.connect('token-of-alice')
        self.operator = stage.connect('token-of-the-operator')
        self.image = stage.backstage('upload_image', name='debian-12')
        self.rescue_image = stage.backstage('upload_image', name='grml')
        self.root = stage.backstage('create_volume', name='root',
                                    image_id=self.image)
        self.data = stage.backstage('create_volume', name='data')
        self.names = {self.root: 'volume "root"', self.data: 'volume "data"',
                      self.image: 'debian-12', self.rescue_image: 'grml'}
        self.server = None

    def disks(self, when):
        """Show the disks of the libvirt domain."""
        disks = self.stage.backstage('disks', server_id=self.server.id)
        self.script.table(
            'The disks of the libvirt domain %s:' % when,
            ['target', 'bus', 'device', 'boot order', 'what it is'],
            [[target, bus, device, order or '', self.names.get(what, what)]
             for target, bus, device, order, what in disks])
        return disks

    def ask(self, call, *args, **kwargs):
        """Make a request of openstacksdk that may be refused.

        :returns: the words of the refusal, or None
        """
        try:
            call(*args, **kwargs)
        except openstack.exceptions.HttpException as exc:
            self.script.check(exc.status_code == 400,
                              'It is a 400, the fault of the request.')
            return exc.details
        return None

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

    def rescued(self, made_from, **parameters):
        """Ask for a rescue that is accepted.

        :param made_from: the image that the rescue disk has to be made from
        """
        before = self.stage.backstage('disks', server_id=self.server.id)
        self.alice.compute.rescue_server(self.server, **parameters)
        self.wait('RESCUE')
        image = self.stage.backstage('image_of_rescue_disk')
        self.names['disk.rescue'] = 'rescue disk, made from image %s' % (
            self.names[image])
        during = self.disks('during the rescue')
        self.script.check(during[:-1] == [disk[:3] + [None] + disk[4:]
                                          for disk in before],
                          'Every volume is where it was, none of them first '
                          'to boot from.')
        target, bus, device, order, what = during[-1]
        self.script.check(
            (bus, device, order, what) == (
                'virtio', 'disk', '1', 'disk.rescue'),
            'The rescue disk is the last one, on the bus of the others, and '
            'booted from.')
        self.script.check(image == made_from, 'It is made from image %s.'
                          % self.names[made_from])

    def unrescue(self, before):
        """End the rescue."""
        self.alice.compute.unrescue_server(self.server)
        self.wait('ACTIVE')
        self.script.check(self.disks('after the rescue') == before,
                          'The disks are what they were before.')

    def wait(self, status):
        """Wait for a status of the server."""
        with self.script.waiting('openstacksdk waits for status %s' % status):
            self.server = self.alice.compute.wait_for_server(
                self.server, status=status, interval=0.2, wait=60)
        self.script.check(self.server.task_state is None,
                          'The server is %s.' % status)


def tell(stage):
    """The story: steps in the order of a user's day."""
    story = Story(stage)
    discover(story)
    create(story)
    stock(story)
    story.script.step('Alice opts in, and may use any image')
    story.script.say(
        'Image grml, %s, has neither hw_rescue_device nor hw_rescue_bus. '
        'Alice adds a header to her connection, conn.compute.'
        'additional_headers["OpenStack-API-Version"] = "compute %s, '
        'compute-rescue %s", and goes on as before.' % (
            story.rescue_image, demo_stage.COMPUTE_VERSION, VERSION))
    before = story.disks('before the rescue')
    demo_stage.opt_in(story.alice, VERSION)
    story.rescued(story.rescue_image, image=story.rescue_image)

    story.script.step('Unrescue')
    story.unrescue(before)

    story.script.step('Without an image: that of the root volume')
    story.rescued(story.image)
    story.unrescue(before)

    claim_of_another_image(story)
    host_without_package(story)


def discover(story):
    story.script.step('Is it there? The version document, asked with no '
                      'client')
    document = story.stage.get('/v2.1/')
    story.script.check(
        document['version'].get('compute_rescue') == {
            'min_version': '1.0', 'version': VERSION},
        'The cloud has compute-rescue 1.0 to %s.' % VERSION)


def create(story):
    story.script.step('Alice creates a server that boots from a volume')
    story.script.say(
        'Volume "root" is made from image debian-12, %s. Volume "data" is '
        'empty.' % story.image)
    with story.script.waiting('openstacksdk looks for a flavor'):
        flavor = next(story.alice.compute.flavors())
    story.server = story.alice.compute.create_server(
        name='web-1', flavor_id=flavor.id, networks='none',
        block_device_mapping=[
            {'uuid': story.root, 'source_type': 'volume', 'boot_index': 0,
             'destination_type': 'volume'},
            {'uuid': story.data, 'source_type': 'volume', 'boot_index': -1,
             'destination_type': 'volume'}])
    story.wait('ACTIVE')


def stock(story):
    story.script.step('Who does not opt in has the Nova of before')
    story.refused('Cannot rescue a volume-backed instance',
                  image=story.rescue_image)


def claim_of_another_image(story):
    story.script.step('An image that Alice may not see')
    secret = story.stage.backstage('upload_image', name='secret',
                                   private_to=users.OTHER_PROJECT)
    story.stage.backstage('claim_image', volume_id=story.root,
                          image_id=secret)
    story.script.say(
        'What a volume says of its image can be set by its owner. Alice sets '
        'it to %s, an image of another project, and asks for a rescue '
        'without naming one.' % secret)
    story.refused('does not exist or you cannot see it')
    story.stage.backstage('claim_image', volume_id=story.root,
                          image_id=story.image)


def host_without_package(story):
    story.script.step('A compute host without the package')
    with story.script.waiting('Which host is the server on?'):
        host = story.operator.compute.get_server(story.server).compute_host
    story.stage.backstage('remove_package', host=host)
    story.script.say(
        'The operator has taken the package off %s, where the server is. '
        'Nova there would fail after it has powered the server off, so it is '
        'not even asked.' % host)
    story.refused('compute node %s does not serve compute-rescue' % host,
                  image=story.rescue_image)

    story.script.step('As the refusal said: an image that has both properties')
    prepared = story.stage.backstage(
        'upload_image', name='prepared', properties={
            'hw_rescue_device': 'disk', 'hw_rescue_bus': 'virtio'})
    story.names[prepared] = 'prepared'
    before = story.disks('before the rescue')
    story.rescued(prepared, image=prepared)
    story.unrescue(before)

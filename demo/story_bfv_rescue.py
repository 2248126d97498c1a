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

from demo import stage as demo_stage
from demo import story
from demo import users

VERSION = '1.1'


class BFVStory(story.Story):
    """The story of a server that boots from a volume."""

    def __init__(self, stage):
        super().__init__(stage)
        self.image = self.upload_image('debian-12')
        self.rescue_image = self.upload_image('grml')
        self.root = stage.backstage('create_volume', name='root',
                                    image_id=self.image)
        self.data = stage.backstage('create_volume', name='data')
        self.names.update({self.root: 'volume "root"',
                           self.data: 'volume "data"'})

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
        # In the order of the domain, which Nova makes as the database answers.
        self.script.check(sorted(during[:-1]) == sorted(
            disk[:3] + [None] + disk[4:] for disk in before),
            'Every volume is where it was, none of them first to boot from.')
        target, bus, device, order, what = during[-1]
        self.script.check(
            (bus, device, order, what) == (
                'virtio', 'disk', '1', 'disk.rescue'),
            'The rescue disk is the last one, on the bus of the others, and '
            'booted from.')
        self.script.check(image == made_from, 'It is made from image %s.'
                          % self.names[made_from])


def tell(stage):
    """The story: steps in the order of a user's day."""
    plot = BFVStory(stage)
    discover(plot)
    create(plot)
    stock(plot)
    plot.script.step('Alice opts in, and may use any image')
    plot.script.say(
        'Image grml, %s, has neither hw_rescue_device nor hw_rescue_bus. '
        'Alice adds a header to her connection, conn.compute.'
        'additional_headers["OpenStack-API-Version"] = "compute %s, '
        'compute-rescue %s", and goes on as before.' % (
            plot.rescue_image, demo_stage.COMPUTE_VERSION, VERSION))
    before = plot.disks('before the rescue')
    demo_stage.opt_in(plot.alice, VERSION)
    plot.rescued(plot.rescue_image, image=plot.rescue_image)

    plot.script.step('Unrescue')
    plot.unrescue(before)

    plot.script.step('Without an image: that of the root volume')
    plot.rescued(plot.image)
    plot.unrescue(before)

    claim_of_another_image(plot)
    host_without_package(plot)


def discover(plot):
    plot.script.step('Is it there? The version document, asked with no '
                     'client')
    document = plot.stage.get('/v2.1/')
    offered = document['version'].get('compute_rescue', {})
    plot.script.check(
        offered.get('min_version') == '1.0'
        and offered.get('version', '') >= VERSION,
        'The cloud has compute-rescue %s.' % VERSION)


def create(plot):
    plot.script.step('Alice creates a server that boots from a volume')
    plot.script.say(
        'Volume "root" is made from image debian-12, %s. Volume "data" is '
        'empty.' % plot.image)
    plot.create_server(block_device_mapping=[
        {'uuid': plot.root, 'source_type': 'volume', 'boot_index': 0,
         'destination_type': 'volume'},
        {'uuid': plot.data, 'source_type': 'volume', 'boot_index': -1,
         'destination_type': 'volume'}])


def stock(plot):
    plot.script.step('Who does not opt in has the Nova of before')
    plot.refused('Cannot rescue a volume-backed instance',
                 image=plot.rescue_image)


def claim_of_another_image(plot):
    plot.script.step('An image that Alice may not see')
    secret = plot.stage.backstage('upload_image', name='secret',
                                  private_to=users.OTHER_PROJECT)
    plot.stage.backstage('claim_image', volume_id=plot.root,
                         image_id=secret)
    plot.script.say(
        'What a volume says of its image can be set by its owner. Alice sets '
        'it to %s, an image of another project, and asks for a rescue '
        'without naming one.' % secret)
    plot.refused('does not exist or you cannot see it')
    plot.stage.backstage('claim_image', volume_id=plot.root,
                         image_id=plot.image)


def host_without_package(plot):
    plot.script.step('A compute host without the package')
    with plot.script.waiting('Which host is the server on?'):
        host = plot.operator.compute.get_server(plot.server).compute_host
    plot.stage.backstage('remove_package', host=host)
    plot.script.say(
        'The operator has taken the package off %s, where the server is. '
        'Nova there would fail after it has powered the server off, so it is '
        'not even asked.' % host)
    plot.refused('its compute node does not serve compute-rescue',
                 image=plot.rescue_image)

    plot.script.step('As the refusal said: an image that has both properties')
    prepared = plot.stage.backstage(
        'upload_image', name='prepared', properties={
            'hw_rescue_device': 'disk', 'hw_rescue_bus': 'virtio'})
    plot.names[prepared] = 'prepared'
    before = plot.disks('before the rescue')
    plot.rescued(prepared, image=prepared)
    plot.unrescue(before)

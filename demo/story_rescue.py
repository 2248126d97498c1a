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


"""Rescue done right (compute-rescue 1.1)

The image is chosen and checked before anything happens, a rescue that fails
costs nothing, every disk stays where it was, and a server that was stopped is
stopped again.
"""

from demo import stage as demo_stage
from demo import story

VERSION = '1.1'


def tell(stage):
    """The story: steps in the order of a user's day."""
    plot = story.Story(stage)
    image = plot.upload_image('debian-12')
    plot.script.step('Alice creates a server, and opts in')
    plot.create_server(image_id=image)
    demo_stage.opt_in(plot.alice, VERSION)
    before = plot.disks('before')
    refusals(plot)
    offer(plot, before)
    failure(plot, before)
    stable_devices(plot, before)
    stopped(plot, before)


def refusals(plot):
    plot.script.step('Images that will not do, checked before anything '
                     'happens')
    for words, arguments in (
            ('is deactivated, not active', {'status': 'deactivated'}),
            ('needs 65536 MiB of memory', {'min_ram': 65536}),
            ('is encrypted',
             {'properties': {'cinder_encryption_key_id': 'a-key'}}),
            ('a cdrom can be on sata, scsi, ide, usb',
             {'properties': {'hw_rescue_device': 'cdrom',
                             'hw_rescue_bus': 'virtio'}})):
        plot.refused(words, image=plot.upload_image('grml', **arguments))


def offer(plot, before):
    plot.script.step('The cloud offers a rescue system')
    image = plot.upload_image('rescue system of the cloud')
    plot.stage.backstage('set_option', name='default_rescue_image',
                         value=image)
    plot.script.say(
        'The operator has set [rescue_ext] default_rescue_image. Alice names '
        'no image, and does not boot her own broken disk by its UUIDs.')
    rescue(plot)
    plot.script.check(
        plot.stage.backstage('image_of_rescue_disk') == image,
        'The rescue disk is made from the rescue system of the cloud.')
    plot.unrescue(before)


def failure(plot, before):
    plot.script.step('A rescue that fails on the host')
    plot.stage.backstage('fail_next_start')
    plot.script.say('libvirt will not start the rescue guest.')
    plot.alice.compute.rescue_server(plot.server)
    plot.settle()
    plot.script.check(plot.server.status == 'ACTIVE',
                      'It is not in ERROR.')
    plot.script.check(plot.disks('after the failure') == before
                      and plot.stage.backstage('is_running',
                                               server_id=plot.server.id),
                      'The server runs from its own disks, as before.')
    with plot.script.waiting('What does the action say?'):
        action = next(
            action for action in plot.alice.compute.server_actions(
                plot.server) if action.action == 'rescue')
        action = plot.alice.compute.get_server_action(
            action.request_id, plot.server)
    plot.script.check(
        [event['result'] for event in action.events] == ['Error'],
        'The action of the server says that the rescue has failed.')


def stable_devices(plot, before):
    plot.script.step('All disks stay at their addresses')
    image = plot.upload_image('grml on a USB stick', properties={
        'hw_rescue_bus': 'usb'})
    rescue(plot, image=image)
    during = plot.disks('during the rescue')
    plot.script.check(during[:-1] == before,
                      'The disk of the server is where it was.')
    plot.script.check(
        during[-1] == ['sda', 'usb', 'disk', '1', 'disk.rescue'],
        'The rescue disk is the last one, on the bus that its image names, '
        'and booted from.')
    plot.unrescue(before)


def stopped(plot, before):
    plot.script.step('A server that was stopped before its rescue')
    plot.alice.compute.stop_server(plot.server)
    plot.wait('SHUTOFF')
    rescue(plot)
    plot.script.say('Alice has not repaired all of it yet. She ends the '
                    'rescue, and the server must not run until she is done.')
    plot.alice.compute.unrescue_server(plot.server)
    plot.wait('SHUTOFF')
    plot.script.check(plot.disks('after the rescue') == before
                      and not plot.stage.backstage('is_running',
                                                   server_id=plot.server.id),
                      'It has its own disks, and is off as it was before.')


def rescue(plot, **parameters):
    """Ask for a rescue that is accepted."""
    plot.alice.compute.rescue_server(plot.server, **parameters)
    plot.wait('RESCUE')

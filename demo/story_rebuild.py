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


"""A server that never booted is built again (compute-rescue 1.2)

There is no room for a server, and it fails. When there is room it is built
under its own UUID, with its port and its address, at its owner's request or
by the operator for everybody.
"""

from demo import stage as demo_stage
from demo import story

VERSION = '1.2'


def tell(stage):
    """The story: steps in the order of a user's day."""
    plot = story.Story(stage)
    image = plot.upload_image('debian-12')
    no_room(plot, image)
    stock(plot, image)
    failed_again(plot)
    room(plot)
    operator(plot, image)


def no_room(plot, image):
    plot.script.step('There is no room')
    set_hosts(plot, 'disable_service')
    create(plot, image, port=plot.stage.backstage('port'))
    plot.script.check(
        'No valid host' in plot.server.fault['message'],
        'It says why: "%s"' % plot.server.fault['message'].strip())


def create(plot, image, port=None):
    """Let Alice create a server that fails."""
    with plot.script.waiting('openstacksdk looks for a flavor'):
        flavor = next(plot.alice.compute.flavors())
    plot.server = plot.alice.compute.create_server(
        name='web-1', flavor_id=flavor.id, image_id=image,
        networks=[{'port': port}] if port else 'none',
        metadata={'role': 'web'}, description='the shop')
    wait_for_error(plot)


def wait_for_error(plot):
    plot.settle()
    plot.script.check(plot.server.status == 'ERROR',
                      'No host was found: the server is in ERROR.')


def set_hosts(plot, call):
    with plot.script.waiting('The operator does it: %s' % call):
        for service in plot.operator.compute.services(
                binary='nova-compute'):
            getattr(plot.operator.compute, call)(service)


def stock(plot, image):
    plot.script.step('Who does not opt in has the Nova of before')
    for body, status in (({}, 400), ({'imageRef': image}, 409)):
        plot.script.check(rebuild(plot, body).status_code == status,
                          'It is refused.')


def rebuild(plot, body):
    return plot.alice.compute.post(
        '/servers/%s/action' % plot.server.id, json={'rebuild': body})


def failed_again(plot):
    plot.script.step('Alice opts in, and is too early')
    demo_stage.opt_in(plot.alice, VERSION)
    plot.script.check(rebuild(plot, {}).status_code == 202,
                      'It is accepted, without naming anything anew.')
    wait_for_error(plot)


def room(plot):
    plot.script.step('There is room')
    set_hosts(plot, 'enable_service')
    before = plot.server
    plot.script.check(rebuild(plot, {}).status_code == 202,
                      'It is accepted.')
    plot.wait('ACTIVE')
    for name in ('id', 'name', 'description', 'created_at', 'metadata',
                 'image', 'flavor'):
        plot.script.check(
            getattr(plot.server, name) == getattr(before, name),
            'It has kept its %s.' % name)
    addresses = [address['addr'] for network
                 in plot.server.addresses.values() for address in network]
    plot.script.check(addresses == ['192.168.1.3'],
                      'It has the address of its port, 192.168.1.3.')
    with plot.script.waiting('What does its history say?'):
        actions = [action.action for action
                   in plot.alice.compute.server_actions(plot.server)]
    plot.script.check(actions == ['create'] * 3,
                      'All three attempts are in its history.')


def operator(plot, image):
    plot.script.step('The operator does it for everybody')
    set_hosts(plot, 'disable_service')
    failed = []
    for _number in range(2):
        create(plot, image)
        failed.append(plot.server)
    set_hosts(plot, 'enable_service')
    status, output = plot.manage(
        'rebuild-failed', '--os-cloud', 'demo', '--reason', 'No valid host',
        '--rate', '120', '--failed-before', '2100-01-01T00:00:00')
    plot.script.check(status == 0 and '2 ACTIVE' in output,
                      'Both are ACTIVE.')
    for plot.server in failed:
        plot.wait('ACTIVE')

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


"""Live migration of a server in rescue (compute-rescue 1.3)

Alice's server is in rescue, and the operator must empty its host. Stock Nova
answers: wait until it is unrescued.
"""

import time

from demo import stage as demo_stage
from demo import story

VERSION = '1.3'


class MigrationStory(story.Story):
    """The story of a server that is in rescue while its host is drained."""

    def __init__(self, stage):
        super().__init__(stage)
        self.image = self.upload_image('debian-12')
        self.rescue_image = self.upload_image('grml')

    def host(self):
        """The host that the server is on."""
        with self.script.waiting('Which host is the server on?'):
            return self.operator.compute.get_server(self.server).compute_host

    def files(self, host):
        """Show what is in the server's directory on a host."""
        files = self.stage.backstage('files', server_id=self.server.id,
                                     host=host)
        self.script.table(
            'The disks of the server in the directory of %s:' % host,
            ['file', 'SHA-256'], [[name, digest] for name, digest
                                  in (files or {}).items()])
        return files

    def migrate(self):
        """Ask for the migration, as the operator."""
        return self.operator.compute.live_migrate_server(
            self.server, host=None, block_migration='auto')

    def wait_for_migration(self):
        """Wait until the migration has ended."""
        with self.script.waiting('The operator asks until it has ended'):
            for _ in range(300):
                status = next((
                    migration.status for migration
                    in self.operator.compute.migrations(
                        instance_uuid=self.server.id)), 'not made yet')
                if status in ('completed', 'error', 'failed', 'cancelled'):
                    break
                time.sleep(0.2)
        self.script.check(status == 'completed',
                          'The migration is %s.' % status)


def tell(stage):
    """The story: steps in the order of an operator's day."""
    plot = MigrationStory(stage)
    plot.script.step('Alice has a server with a config drive, and rescues it')
    plot.create_server(image_id=plot.image, config_drive=True)
    before = plot.disks('before the rescue')
    demo_stage.opt_in(plot.alice, VERSION)
    plot.alice.compute.rescue_server(plot.server, image=plot.rescue_image)
    plot.wait('RESCUE')
    during = plot.disks('during the rescue')
    plot.script.check(
        'disk.config' not in {disk[-1] for disk in during},
        'The rescue system does not show the config drive of the server.')
    source = plot.host()
    plot.stage.backstage('write_disks', server_id=plot.server.id, host=source)
    files = plot.files(source)

    plot.script.step('Who does not opt in has the Nova of before')
    refused(plot)
    migrate(plot, source, files)

    plot.script.step('Alice unrescues it where it is now')
    plot.unrescue(before)
    plot.script.check(
        {name: digest for name, digest in files.items()
         if not name.endswith('.rescue')} ==
        plot.files(plot.host()),
        'Its disks have the bytes that they had on %s.' % source)

    drain(plot)
    no_other_host(plot)


def refused(plot):
    details = plot.ask(plot.migrate, status=409)
    plot.script.check(
        details is not None and 'vm_state rescued' in details,
        'It is refused: not while it is rescued.')


def migrate(plot, source, files):
    plot.script.step('The operator opts in, and empties the host')
    demo_stage.opt_in(plot.operator, VERSION)
    plot.migrate()
    plot.wait_for_migration()
    plot.wait('RESCUE')
    destination = plot.host()
    plot.script.check(destination != source,
                      'The server is on %s, and in rescue.' % destination)
    arrived = plot.files(destination)
    plot.script.check(
        {'disk', 'disk.rescue', 'disk.config'} <= set(arrived)
        and arrived == {name: files[name] for name in arrived},
        'Every disk of the server has the bytes that it had.')
    plot.script.say(
        'QEMU, a double that copies what it is told to, was told %s. The '
        'config drive of the server is not in the rescue system: nova-compute '
        'has copied it.'
        % ' and '.join(plot.stage.backstage('copied_by_qemu')))
    plot.script.check(
        plot.stage.backstage('files', server_id=plot.server.id,
                             host=source) is None,
        'Nothing is left on %s.' % source)


def drain(plot):
    plot.script.step('The operator empties a host of all servers in rescue')
    plot.alice.compute.rescue_server(plot.server, image=plot.rescue_image)
    plot.wait('RESCUE')
    source = plot.host()
    status, output = plot.manage('migrate-rescued', source, '--os-cloud',
                                 'demo')
    plot.script.check(status == 0 and '1 moved' in output,
                      'The one that there was has moved.')
    plot.wait('RESCUE')
    plot.script.check(plot.host() != source,
                      'It is on %s, and in rescue.' % plot.host())


def no_other_host(plot):
    plot.script.step('When no other host can take it')
    source = plot.host()
    other = {'compute1': 'compute2', 'compute2': 'compute1'}[source]
    plot.stage.backstage('remove_package', host=other)
    plot.script.say('The operator has taken the package off %s, and names it '
                    'as the destination.' % other)
    details = plot.ask(plot.operator.compute.live_migrate_server,
                       plot.server, host=other, block_migration='auto')
    plot.script.check(
        details is not None and
        'destination compute node %s does not support' % other in details,
        'It is refused, and says which node.')
    plot.settle()
    plot.script.check(plot.host() == source and
                      plot.server.status == 'RESCUE',
                      'The server is in rescue on %s, as it was.' % source)

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

"""The vocabulary of the lab's stories.

A story is told through the public APIs: somebody (alice, who is no
administrator) boots a server, rescues it, and looks at its console.
"""

import contextlib
import functools
import os
import time
import unittest

from tests.lab.cloud import hypervisor
from tests.lab.cloud import images
from tests.lab.cloud import keystone
from tests.lab.cloud import logs
from tests.lab.cloud import process
from tests.lab.cloud import resources
from tests.lab.cloud import settings
from tests.lab.guest_report import Report

STOCK = 'compute 2.95'
RESCUE = 'compute 2.95, compute-rescue 1.1'
MIGRATE = 'compute 2.95, compute-rescue 1.3'
REBUILD = 'compute 2.95, compute-rescue 1.2'
SESSION = 'compute 2.95, compute-rescue 1.4'

# As the destination of a live migration: whichever the scheduler chooses.
ANY_HOST = 'any host'

# Emulated processors, two cores, and perhaps others at work on them.
PATIENCE = int(os.environ.get('LAB_PATIENCE', '300'))

LIVE_MIGRATION = ('Unrescue from the database, and live migration of '
                  'rescued servers')


class Refused(AssertionError):
    """The API said no."""

    def __init__(self, response):
        self.status = response.status_code
        try:
            self.body = response.json()
            self.words = next(iter(self.body.values()))['message']
        except (ValueError, AttributeError, KeyError, TypeError,
                StopIteration):
            self.body = None
            self.words = response.text
        super().__init__(f'{self.status}: {self.words}')


class WentWrong(AssertionError):
    """A server did not become what the story says."""


def awaits(subject):
    """The test of a feature that an open issue is to build.

    Until then the test must fail, and says what it awaits; when it
    succeeds, it says that this mark has to go.
    """
    def decorate(test):
        @functools.wraps(test)
        def wrapper(self, *args, **kwargs):
            try:
                test(self, *args, **kwargs)
            except unittest.SkipTest:
                raise
            except Exception as exc:
                first = (str(exc).splitlines() or [''])[0]
                raise unittest.SkipTest(
                    f'awaits "{subject}": {type(exc).__name__} {first}')
            self.fail(f'"{subject}" is there for this: remove @awaits')
        return wrapper
    return decorate


def with_package(test):
    """A story that only a cloud with the package can tell."""
    @functools.wraps(test)
    def wrapper(self, *args, **kwargs):
        if not settings.Shape.current().ext:
            self.skipTest('the lab is up without the package (EXT=0)')
        test(self, *args, **kwargs)
    return wrapper


def with_version(version):
    """A story that only a cloud that serves this version can tell."""
    def decorate(test):
        @functools.wraps(test)
        def wrapper(self, *args, **kwargs):
            if (not self.is_with_package() or
                    self.ask('GET', '/servers', version).status_code == 406):
                self.skipTest(f'the lab does not serve {version}')
            test(self, *args, **kwargs)
        return wrapper
    return decorate


def with_network(test):
    """A story whose servers have ports."""
    @functools.wraps(test)
    def wrapper(self, *args, **kwargs):
        if settings.Shape.current().net == 'none':
            self.skipTest('the lab is up without networks (NET=none)')
        test(self, *args, **kwargs)
    return wrapper


def in_profiles(*profiles):
    """A story that only some kinds of storage can tell."""
    def decorate(test):
        @functools.wraps(test)
        def wrapper(self, *args, **kwargs):
            profile = settings.Shape.current().profile
            if profile not in profiles:
                self.skipTest(f'not with PROFILE={profile}')
            test(self, *args, **kwargs)
        return wrapper
    return decorate


class Server:
    """A server and what its owner, or the operator, can do with it."""

    def __init__(self, story, resource_id):
        self.story = story
        self.id = resource_id

    # -- asking

    def show(self, version=STOCK):
        return self.story.get(f'/servers/{self.id}', version)['server']

    def show_as_admin(self):
        return self.story.get(f'/servers/{self.id}', STOCK,
                              who=self.story.admin)['server']

    @property
    def status(self):
        return self.show()['status']

    @property
    def host(self):
        return self.show_as_admin()['OS-EXT-SRV-ATTR:host']

    @property
    def other_host(self):
        return next(h for h in settings.HYPERVISORS if h != self.host)

    @property
    def domain(self):
        return self.show_as_admin()['OS-EXT-SRV-ATTR:instance_name']

    @property
    def folder(self):
        """Where its host keeps its local disks."""
        base = ('shared-source' if settings.Shape.current().profile
                == 'shared' else f'{self.host}/instances')
        return settings.DATA / base / self.id

    def action(self, name, arguments=None, version=STOCK, who=None):
        return self.story.post(f'/servers/{self.id}/action',
                               {name: arguments}, version, who)

    def console(self):
        return self.action('os-getConsoleOutput', {})['output']

    def report(self):
        return Report(self.console())

    def report_after_move(self):
        """The console begins afresh on the host that the server came to."""
        return Report.after_move(self.console())

    def domain_xml(self):
        return hypervisor.virsh(self.host, 'dumpxml', self.domain)

    # -- waiting

    def wait_for(self, status, host=None, patience=PATIENCE):
        """Wait until the server is in a state and at rest there.

        :param status: the status, or several
        :param host: where it is to be then
        """
        wanted = [status] if isinstance(status, str) else status
        seen = []
        for _ in process.wait_steps(patience, self.story.step):
            server = self.show_as_admin()
            now = (server['status'], server['OS-EXT-STS:task_state'],
                   server['OS-EXT-SRV-ATTR:host'])
            if seen[-1:] != [now]:
                seen.append(now)
            if (now[0] in wanted and now[1] is None and
                    (host is None or now[2] == host)):
                return server
            if now[:2] == ('ERROR', None) and 'ERROR' not in wanted:
                raise WentWrong(f'{self.id} went to ERROR: '
                                f'{server.get("fault")} after {seen}')
        raise WentWrong(f'{self.id} never became {" or ".join(wanted)}'
                        f'{" on " + host if host else ""}: {seen}')

    def wait_for_guest(self, role, after=None):
        """Wait until a guest of this role has said all it has to say."""
        def said():
            report = self.report()
            return (report.is_ready and report.role == role and
                    report.boot_id != after and report)
        try:
            return process.wait_for(said, 'the guest', PATIENCE, 1)
        except process.LabError:
            said = [line for line in self.console().splitlines()
                    if not line.startswith('LAB tick ')]
            raise WentWrong(f'No {role} guest on the console of {self.id}:'
                            + '\n'.join(['', *said[-20:]]))

    # -- doing

    def rescue(self, image=None, version=STOCK, password=None,
               role='rescue'):
        """Rescue and wait; return what the rescue guest reports."""
        before = self.last_boot()
        self.ask_rescue(image, version, password)
        self.wait_for('RESCUE')
        return self.wait_for_guest(role, after=before)

    def last_boot(self):
        """Which boot the console tells of, if the server is not off."""
        try:
            return self.report().boot_id
        except Refused:
            return None

    def ask_rescue(self, image=None, version=STOCK, password=None):
        arguments = {}
        if image:
            arguments['rescue_image_ref'] = self.story.image(image)
        if password:
            arguments['adminPass'] = password
        return self.action('rescue', arguments or None, version)

    def unrescue(self, version=STOCK):
        before = self.last_boot()
        self.action('unrescue', None, version)
        self.wait_for('ACTIVE')
        return self.wait_for_guest('base', after=before)

    def stop(self):
        self.action('os-stop')
        self.wait_for('SHUTOFF')

    def start(self):
        self.action('os-start')
        self.wait_for('ACTIVE')
        return self.wait_for_guest('base')

    def live_migrate(self, version=STOCK, host=None, block='auto',
                     status='ACTIVE'):
        """Move to the other host, as the operator."""
        host = host or self.other_host
        self.ask_live_migrate(version, host, block)
        # The status is the final one from the beginning.
        self.wait_for_migration()
        return self.wait_for(status, host=host)

    def _migrations(self):
        """The newest first."""
        return self.story.get(f'/os-migrations?instance_uuid={self.id}',
                              STOCK, who=self.story.admin)['migrations']

    def note_migrations(self):
        """Those that are waited for are asked for after this."""
        self._earlier = {each['id'] for each in self._migrations()}

    def ask_live_migrate(self, version=STOCK, host=None, block='auto'):
        self.note_migrations()
        host = None if host == ANY_HOST else host or self.other_host
        self.action('os-migrateLive', {'host': host,
                                       'block_migration': block},
                    version, who=self.story.admin)

    def wait_for_migration_to_be(self, *statuses):
        """Wait until the migration asked for last has one; return it."""
        def reached():
            found = [each for each in self._migrations()
                     if each['id'] not in self._earlier]
            return found and found[0]['status'] in statuses and found[0]

        return process.wait_for(
            reached, f'the migration of {self.id} to be one of {statuses}',
            PATIENCE, self.story.step)

    def wait_for_migration(self):
        migration = self.wait_for_migration_to_be(
            'completed', 'failed', 'error', 'cancelled')
        if migration['status'] != 'completed':
            raise WentWrong(f'Migration of {self.id} {migration["status"]}'
                            f' {self.last_fault()}')

    def last_fault(self):
        """Why the last action failed, for the operator's eyes."""
        actions = self.story.get(f'/servers/{self.id}/os-instance-actions',
                                 STOCK, who=self.story.admin)
        last = actions['instanceActions'][0]
        detail = self.story.get(
            f'/servers/{self.id}/os-instance-actions/{last["request_id"]}',
            STOCK, who=self.story.admin)['instanceAction']
        bad = [f'{event["event"]}: {event.get("details")}'
               for event in detail['events'] if event['result'] != 'Success']
        return f'{last["action"]}: {last["message"]} {bad}'

    def attach(self, volume):
        self.story.post(f'/servers/{self.id}/os-volume_attachments',
                        {'volumeAttachment': {'volumeId': volume}}, STOCK)
        self.story.wait_for_volume(volume, 'in-use')

    def ask_delete(self):
        return self.story.delete(f'/servers/{self.id}')

    def delete(self):
        """Delete and wait until it is gone, as disks and volumes then are."""
        compute = self.story.admin.compute
        compute.delete_server(self.id, ignore_missing=True)

        def gone():
            try:
                self.show_as_admin()
            except Refused as refused:
                return refused.status == 404

        process.wait_for(gone, f'the end of {self.id}', PATIENCE, 0.5)


class LabTest(unittest.TestCase):
    """A story; everything that it makes is taken away after it.

    :cvar step: how often a state is asked for, in seconds
    """

    step = 0.5

    @classmethod
    def setUpClass(cls):
        cls.admin = keystone.connect()
        cls.alice = keystone.connect(resources.USER, resources.PROJECT)
        cls._images = {image.name: image.id
                       for image in cls.admin.image.images()}
        cls._flavors = {flavor.name: flavor.id
                        for flavor in cls.admin.compute.flavors()}

    def setUp(self):
        self._log_positions = logs.positions()
        self._servers, self._volumes, self._made_images = [], [], []
        self.addCleanup(self._take_away)

    def _take_away(self):
        """Delete the servers first: they hold the volumes."""
        while self._servers:
            self._servers.pop().delete()
        while self._volumes:
            volume = self._volumes.pop()
            self.wait_for_volume(volume, 'available')
            self.alice.block_storage.delete_volume(volume)
        while self._made_images:
            self.admin.image.delete_image(self._made_images.pop(),
                                          ignore_missing=True)

    def _callTestMethod(self, method):
        """Say with a failure what the services said meanwhile."""
        try:
            method()
        except unittest.SkipTest:
            raise
        except Exception as exc:
            exc.add_note(logs.errors_since(self._log_positions))
            raise

    @staticmethod
    def is_with_package():
        return settings.Shape.current().ext

    # -- talking to Nova

    def get(self, path, version=STOCK, who=None):
        return self._request('GET', path, version, who)

    def post(self, path, body, version=STOCK, who=None):
        return self._request('POST', path, version, who, json=body)

    def delete(self, path, version=STOCK, who=None):
        return self._request('DELETE', path, version, who)

    def ask(self, method, path, version=STOCK, who=None, **kwargs):
        """One request to Nova with exactly this version header."""
        return (who or self.alice).compute.request(
            path, method, headers={'OpenStack-API-Version': version},
            raise_exc=False, **kwargs)

    def _request(self, method, path, version, who, **kwargs):
        response = self.ask(method, path, version, who, **kwargs)
        if response.status_code >= 400:
            raise Refused(response)
        try:
            return response.json()
        except ValueError:
            return None

    def assertRefused(self, status, words, call, *args, **kwargs):
        """The API must say no, with this status and in these words."""
        with self.assertRaises(Refused) as caught:
            call(*args, **kwargs)
        self.assertEqual(status, caught.exception.status,
                         caught.exception.words)
        self.assertRegex(caught.exception.words, words)
        return caught.exception

    # -- what a story begins with

    def switch_hosts(self, status, host=None):
        """Let no server, or servers again, come to a host, or to any."""
        for service in self.admin.compute.services(binary='nova-compute'):
            if host not in (None, service.host):
                continue
            self.ask('PUT', f'/os-services/{service.id}', STOCK, self.admin,
                     json={'status': status})

    @contextlib.contextmanager
    def only_on(self, host):
        """Servers that are made meanwhile come to this host."""
        other = next(h for h in settings.HYPERVISORS if h != host)
        self.switch_hosts('disabled', other)
        try:
            yield
        finally:
            self.switch_hosts('enabled', other)

    def image(self, name):
        return self._images.get(name, name)

    def make_image(self, data=b'', like=None, who=None, **more):
        """An image that exists for one story only."""
        if like:
            file, disk_format, _ = images.CATALOGUE[like]
            data = (settings.IMAGES / file).read_bytes()
            more = {'disk_format': disk_format, **more}
        made = (who or self.alice).image.create_image(
            name=f'story-{len(self._made_images)}', data=data,
            container_format='bare', validate_checksum=False, **more)
        self._made_images.append(made.id)
        return made.id

    def boot(self, image='base', flavor='lab', **more):
        """A running server whose guest has told what it sees."""
        server = self.ask_boot(image, flavor, **more)
        server.wait_for('ACTIVE')
        return server, server.wait_for_guest('base')

    def ask_boot(self, image='base', flavor='lab', **more):
        body = {
            'name': self.id().rpartition('.')[2][:60],
            'flavorRef': self._flavors[flavor],
            'networks': 'none',
            **more,
        }
        if image:
            body['imageRef'] = self.image(image)
        made = self.post('/servers', {'server': body})['server']
        server = Server(self, made['id'])
        self._servers.append(server)
        return server

    def boot_from_volume(self, image='base', volume=None, **more):
        """A server whose root disk is a volume, new or existing."""
        root = {'destination_type': 'volume', 'boot_index': 0,
                'delete_on_termination': volume is None}
        if volume:
            root.update(source_type='volume', uuid=volume)
        else:
            root.update(source_type='image', uuid=self.image(image),
                        volume_size=1)
        return self.boot(image=None, flavor='lab-bfv',
                         block_device_mapping_v2=[root], **more)

    def root_volume(self, server):
        return server.show()['os-extended-volumes:volumes_attached'][0]['id']

    def volume_action(self, volume, name, arguments):
        response = self.alice.block_storage.post(
            f'/volumes/{volume}/action', json={name: arguments},
            microversion='3.50')
        self.assertLess(response.status_code, 300, response.text)

    def volume(self, size=1, **more):
        """A volume of alice's, empty unless image_id is given."""
        made = self.alice.block_storage.create_volume(size=size, **more)
        self._volumes.append(made.id)
        self.wait_for_volume(made.id, 'available')
        return made.id

    def wait_for_volume(self, volume, status):
        def reached():
            now = self.alice.block_storage.get_volume(volume).status
            if now.startswith('error') and not status.startswith('error'):
                raise WentWrong(f'volume {volume}: {now}')
            return now == status
        process.wait_for(reached, f'volume {volume} to be {status}',
                         PATIENCE, 0.5)

    # -- what a story ends with

    def assertDisksKept(self, before, after):
        """Every disk that was marked is there, with the same bytes."""
        self.assertTrue(before.contents, 'no disk was marked')
        self.assertEqual(before.contents, {
            mark: content for mark, content in after.contents.items()
            if mark in before.contents},
            f'before:\n{before}\nafter:\n{after}')

    def assertDisksInPlace(self, before, after):
        """... and plugged where it was, under the name that it had."""
        self.assertDisksKept(before, after)
        self.assertEqual(before.addresses, {
            mark: address for mark, address in after.addresses.items()
            if mark in before.addresses},
            f'before:\n{before}\nafter:\n{after}')


def seconds(call, *args, **kwargs):
    """How long a call takes, and what it returns."""
    begin = time.monotonic()
    result = call(*args, **kwargs)
    return time.monotonic() - begin, result

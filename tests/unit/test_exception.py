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


"""What the package raises: in one place, translated when it is raised."""

import ast
import os
import pkgutil
from unittest import mock

from nova import exception as nova_exception
from nova.objects import instance as instance_obj
from nova.objects import migrate_data
from nova import rpc
from oslo_messaging._drivers import common as rpc_common
import testtools

import nova_rescue_ext
from nova_rescue_ext import exception
from nova_rescue_ext.live_migration import destination
from nova_rescue_ext.live_migration import manifest

HOME = 'nova_rescue_ext.exception'

# Of modules that a process without Nova, or before Nova, imports.
ELSEWHERE = {
    'nova_rescue_ext.activation.exception',
    'nova_rescue_ext.cmd.compute_api',
    'nova_rescue_ext.cmd.rebuild_failed',
    'nova_rescue_ext.cmd.settle_migration',
    'nova_rescue_ext.microversion',
}


def modules():
    """Yield (name, syntax tree) of each module of the package."""
    root = os.path.dirname(nova_rescue_ext.__file__)
    for info in pkgutil.walk_packages([root], 'nova_rescue_ext.'):
        path = os.path.join(root, *info.name.split('.')[1:])
        path += '/__init__.py' if info.ispkg else '.py'
        with open(path, encoding='utf-8') as source:
            yield info.name, ast.parse(source.read())


class HomeTest(testtools.TestCase):

    def test_no_class_elsewhere(self):
        found = [
            '%s:%s' % (name, node.name) for name, tree in modules()
            if name not in ELSEWHERE | {HOME} for node in ast.walk(tree)
            if isinstance(node, ast.ClassDef) and not node.name.startswith('_')
            and any('exception' in ast.unparse(base).lower()
                    for base in node.bases)]
        self.assertEqual([], found)


class TranslationTest(testtools.TestCase):

    def _called_at_import(self, body):
        """Yield what runs when a module is imported."""
        for node in body:
            if isinstance(node, ast.ClassDef):
                yield from self._called_at_import(node.body)
            elif not isinstance(node, (ast.FunctionDef, ast.Lambda)):
                yield from ast.walk(node)

    def test_nothing_is_translated_at_import(self):
        found = ['%s: %s' % (name, ast.unparse(node))
                 for name, tree in modules()
                 for node in self._called_at_import(tree.body)
                 if isinstance(node, ast.Call)
                 and isinstance(node.func, ast.Name) and node.func.id == '_']
        self.assertEqual([], found)

    def test_own_domain(self):
        """Nova has no translations of our sentences."""
        found = [name for name, tree in modules() for node in ast.walk(tree)
                 if isinstance(node, ast.ImportFrom)
                 and node.module == 'nova.i18n']
        self.assertEqual([], found)

    def test_when_raised(self):
        with mock.patch.object(
                exception, '_',
                lambda sentence: 'TRANSLATED %(action)s'):
            error = exception.TaskEnded(action='rescue')
        self.assertIn('TRANSLATED rescue', str(error))


class LengthTest(testtools.TestCase):
    """A fault and the details of an event are cut after 255 characters."""

    UUID = '6f70656e-7374-6163-6b2d-6e6f76612121'
    HOST = 'compute-%s.example.org' % ('x' * 41)
    PATH = '/var/lib/nova/instances/%s' % UUID
    NUMBER = 64 * 1024 ** 3
    # What stands for each name in the formats, as long as in practice.
    VALUES = {
        'action': 'unrescue', 'arch': 'aarch64', 'base': PATH, 'bus': 'virtio',
        'buses': 'virtio, scsi, sata, usb', 'device': 'cdrom', 'error': PATH,
        'expected': 4, 'file': 'disk.info', 'found': NUMBER, 'free': NUMBER,
        'destination': 'qcow2', 'group': UUID, 'host': ' ' + HOST, 'id': UUID,
        'ids': '%s, %s' % (UUID, UUID), 'image': UUID, 'instance_uuid': UUID,
        'known': 'aarch64, armv7l, i686, x86_64', 'libvirt': '9.0.0',
        'limit': 64, 'longest': 255, 'mac': 'fa:16:3e:00:00:00',
        'machine': 'pc-i440fx-rhel7.6.0', 'max_ver': '1.3', 'memory': 131072,
        'min_ram': 131072, 'min_ver': '1.0', 'name': 'disk.rescue',
        'needed': NUMBER, 'network': UUID, 'node': ' ' + HOST, 'own': 'bios',
        'path': PATH + '/disk.rescue', 'ports': '%s, %s' % (UUID, UUID),
        'project': UUID.replace('-', ''), 'req_ver': '1.9',
        'role': 'destination', 'seconds': 600,
        'service': 'Keystone, Neutron, Placement, ...', 'size': NUMBER,
        'snapshot': UUID, 'source': 'qcow2', 'state': 'suspended',
        'status': 'deactivated', 'type': 'LibvirtLiveMigrateException',
        'version': '1.3', 'video_ram': 65536, 'volume': UUID,
        'volumes': '%s, %s' % (UUID, UUID), 'wanted': 'uefi',
        'zone': 'availability-zone-1', 'count': 64, 'what': 'security group'}
    OBJECTION = 'image %s %%s. Choose an image with rescue_image_ref.' % UUID

    def _formats(self):
        """Yield (module, function, what is translated)."""
        for name, tree in modules():
            if name == 'nova_rescue_ext.rescue.api':
                continue  # is answered, and never a fault
            for owner in ast.walk(tree):
                if isinstance(owner, (ast.FunctionDef, ast.ClassDef)):
                    for node in ast.walk(owner):
                        if (isinstance(node, ast.Call) and node.args
                                and isinstance(node.func, ast.Name)
                                and node.func.id in ('_', 'N_')
                                and isinstance(node.args[0], ast.Constant)):
                            yield (name.partition('.')[2], owner.name,
                                   node.args[0].value)

    def _said(self, module, function, text):
        """What the owner of a server reads, as long as in practice."""
        claim = str(exception.NotOfProject(
            what='image', id=self.UUID, project=self.VALUES['project']))
        values = dict(self.VALUES, claim=claim, reason='r' * 80,
                      why='only the package can read the default rescue '
                          'image ' + self.UUID, objection='o' * 90)
        unnamed = (self.PATH if module.startswith('live_migration.')
                   else self.UUID)
        said = text % values if '%(' in text else text.replace('%s', unnamed)
        if 'objections' in function:
            said = self.OBJECTION % said
        if module.startswith('rescue.'):
            return str(nova_exception.InstanceNotRescuable(
                instance_id=self.UUID, reason=said))
        if module.startswith('live_migration.'):
            return str(nova_exception.MigrationPreCheckError(reason=said))
        return said

    def test_everything_said_fits(self):
        found = {}
        for place in self._formats():
            said = self._said(*place)
            if len(said) > 255:
                found[said] = len(said)
        self.assertEqual({}, found)

    def test_all_are_seen(self):
        places = {place[:2] for place in self._formats()}
        self.assertIn(('exception', 'TaskEnded'), places)
        self.assertIn(('rescue.operation', '_refuse_second_rescue'), places)
        self.assertIn(('live_migration.checks', '_check_vifs'), places)


class AnswerTest(testtools.TestCase):

    def test_codes(self):
        for error, code, words in (
                (exception.InvalidVersion(version='x'), 400, "version 'x'"),
                (exception.LeftToNova(), 400, 'never booted'),
                (exception.HostHasServer(host=' h'), 409,
                 'is still assigned to host h'),
                (exception.ImageUnavailable(claim='It is gone'), 400,
                 'It is gone. Choose'),
                (exception.NodeCannotMigrateRescued(
                    role='source', node=' n', version='1.3'), 400,
                 'source compute node n'),
                (exception.RescuedServerMigrates(instance_uuid='u'), 400,
                 'Server u is in rescue'),
                (exception.TaskEnded(action='rescue'), 500, 'not rescue'),
                (exception.UnsupportedVersion(
                    req_ver='9.9', min_ver='1.0', max_ver='1.3'), 400,
                 'Minimum is 1.0 and maximum is 1.3')):
            self.assertEqual(code, error.code, error)
            self.assertIn(words, error.format_message())
            self.assertEqual(code, error.kwargs['code'])


class OverRpcTest(testtools.TestCase):
    """A refusal of the destination, as the conductor gets it."""

    def test_refusal_stays_a_refusal(self):
        data = migrate_data.LibvirtLiveMigrateData(instance_relative_path='x')
        error = self.assertRaises(
            nova_exception.MigrationPreCheckError, self._check, data)
        wire = rpc_common.serialize_remote_exception(
            (type(error), error, error.__traceback__))
        received = rpc_common.deserialize_remote_exception(
            wire, rpc.get_allowed_exmods())
        self.assertIsInstance(received, nova_exception.MigrationPreCheckError)
        self.assertIn('exists on the destination', str(received))

    def _check(self, data):
        with mock.patch('os.path.exists', return_value=True):
            destination.check(
                instance_obj.Instance(uuid='u', host='h'), data,
                manifest.Manifest('a', 'h', '/directory', 0, []))

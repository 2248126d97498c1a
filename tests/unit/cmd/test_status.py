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


import contextlib
import io
import os
import subprocess
import sys
import tempfile
import unittest

import fixtures
import testtools

from nova_rescue_ext.activation import exception
from nova_rescue_ext.activation import verification
from nova_rescue_ext.cmd import status
from nova_rescue_ext import microversion

ON = ('[DEFAULT]\nconfig_source = rescue_ext\n'
      '[rescue_ext]\ndriver = nova_rescue_ext\n')


class StatusTestCase(testtools.TestCase):

    def setUp(self):
        super().setUp()
        self.addCleanup(microversion.set_default_version, '1.0')

    def run_command(self, conf, *command):
        """:returns: (exit code, output)"""
        with tempfile.NamedTemporaryFile('w', suffix='.conf') as file:
            file.write(conf)
            file.flush()
            output = io.StringIO()
            with contextlib.redirect_stdout(output):
                code = status.main(['--config-file', file.name, *command])
        return code, ' '.join(output.getvalue().replace('|', ' ').split())

    def change_nova(self, name, text):
        """Let the source of a callable be another."""
        original = verification.source_of

        def source_of(wanted):
            return text if wanted == name else original(wanted)

        source_of.cache_clear = original.cache_clear
        self.useFixture(fixtures.MonkeyPatch(
            'nova_rescue_ext.activation.verification.source_of', source_of))


class UpgradeCheckTest(StatusTestCase):

    def assert_check(self, code, conf, *words):
        found, output = self.run_command(conf, 'upgrade', 'check')
        self.assertEqual(code, found, output)
        for word in words:
            self.assertIn(word, output)

    def test_success(self):
        self.assert_check(0, ON, 'Nova %s' % verification.nova_release())

    def test_not_switched_on(self):
        # Servers that are left in rescue (hazard: package-removed).
        self.assert_check(1, '', 'does not switch it on',
                          'cannot unrescue the servers', 'hard reboot them')

    def test_another_source_first(self):
        conf = ON.replace('= rescue_ext', '= other, rescue_ext')
        self.assert_check(0, conf)

    def test_wrong_driver(self):
        """oslo.config takes offence, and so may services."""
        self.assert_check(2, ON.replace('nova_rescue_ext', 'nova_rescue'),
                          'may not start')

    def test_conf_directory(self):
        """nova.conf.d is read as services do."""
        with tempfile.TemporaryDirectory() as folder:
            with open(os.path.join(folder, 'x.conf'), 'w') as file:
                file.write(ON + 'alow_unverified = true\n')
            output = io.StringIO()
            with contextlib.redirect_stdout(output):
                code = status.main(['--config-dir', folder,
                                    'upgrade', 'check'])
        self.assertEqual(2, code)
        self.assertIn('alow_unverified', output.getvalue())
        self.assertNotIn('does not switch', output.getvalue())

    def test_unknown_option(self):
        self.assert_check(2, ON + 'alow_unverified = true\n',
                          'no such option', 'alow_unverified')

    def test_bad_values(self):
        for line in ('default_api_version = 8.1',
                     'allow_unverified = perhaps'):
            self.assert_check(2, ON + line + '\n', line.split()[0])

    def test_names_of_images(self):
        """Nova takes only ids."""
        for option in ('rescue_image_id', 'rescue_kernel_id',
                       'rescue_ramdisk_id'):
            self.assert_check(1, ON + '[libvirt]\n%s = grml\n' % option,
                              '[libvirt] %s is "grml"' % option, 'not the ID')
        self.assert_check(
            0, ON + '[libvirt]\nrescue_image_id = '
            '7d2d1b6a-6f0c-4a51-8b8b-2f7b8f0e9c11\n')

    def test_name_of_an_unused_image(self):
        self.assert_check(
            0, ON + 'default_rescue_image = '
            '7d2d1b6a-6f0c-4a51-8b8b-2f7b8f0e9c11\n'
            '[libvirt]\nrescue_image_id = grml\n')

    def test_patched_nova(self):
        name = 'nova.virt.hardware:check_hw_rescue_props'
        self.change_nova(name, 'def check_hw_rescue_props(x): pass\n')
        self.assert_check(2, ON, name, 'will run as stock Nova')
        self.assert_check(1, ON + 'allow_unverified = true\n', name)

    def test_unfit_nova(self):
        """Not even allow_unverified helps."""
        self.change_nova('nova.compute.api:API.rescue',
                         'def rescue(self, image): pass\n')
        self.assert_check(2, ON + 'allow_unverified = true\n',
                          'does not fit')

    def test_unknown_series(self):
        self.useFixture(fixtures.MonkeyPatch(
            'nova_rescue_ext.activation.verification.nova_release',
            lambda: '35.0.0'))
        self.assert_check(2, ON, 'Nova 35.0.0', 'supports the Nova series')

    def test_no_nova(self):
        def release():
            raise exception.SourceNotFound('Nova is not installed')
        self.useFixture(fixtures.MonkeyPatch(
            'nova_rescue_ext.activation.verification.nova_release', release))
        self.assert_check(2, ON, 'Nova is not installed')


class UnreadableTest(StatusTestCase):
    """Who may not read something is told so, and not what follows from it."""

    def run_unreadable(self, *arguments):
        """:returns: (exit code, standard output, standard error)"""
        output, errors = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(output), (
                contextlib.redirect_stderr(errors)):
            code = status.main([*arguments, 'upgrade', 'check'])
        return code, output.getvalue(), errors.getvalue()

    def assert_said(self, result, *words):
        code, output, errors = result
        self.assertEqual((255, ''), (code, output))
        for word in words + ('cannot be read', 'as root or as the user'):
            self.assertIn(word, errors)

    def test_no_such_file(self):
        self.assert_said(self.run_unreadable('--config-file', '/nowhere'),
                         '/nowhere')

    def test_file(self):
        with tempfile.NamedTemporaryFile('w', suffix='.conf') as file:
            def refuse(*args, **kwargs):
                raise PermissionError(13, 'Permission denied', file.name)
            self.useFixture(fixtures.MonkeyPatch(
                'oslo_config.cfg.ConfigParser.parse', refuse))
            self.assert_said(
                self.run_unreadable('--config-file', file.name), file.name)

    def test_not_a_configuration(self):
        with tempfile.NamedTemporaryFile('w', suffix='.conf') as file:
            file.write('nonsense')
            file.flush()
            self.assert_said(
                self.run_unreadable('--config-file', file.name), file.name)

    def test_folder(self):
        folder = self.useFixture(fixtures.TempDir()).path
        access = os.access
        self.useFixture(fixtures.MonkeyPatch(
            'nova_rescue_ext.cmd.status.NOVA_FOLDER', folder))
        self.useFixture(fixtures.MonkeyPatch(
            'oslo_config.cfg.find_config_files', lambda **kwargs: []))
        self.useFixture(fixtures.MonkeyPatch(
            'os.access', lambda path, mode:
            path != folder and access(path, mode)))
        self.assert_said(self.run_unreadable(), folder)

    def test_damaged_digests(self):
        folder = self.useFixture(fixtures.TempDir()).path
        self.useFixture(fixtures.MonkeyPatch(
            'nova_rescue_ext.activation.verification.DIGESTS', folder))
        self.addCleanup(verification.forget_sources)
        verification.forget_sources()
        for command in (('upgrade', 'check'), ('overrides',)):
            code, output = self.run_command(ON, *command)
            self.assertEqual(2, code)
            self.assertIn('cannot be used', output)
            self.assertNotIn('Traceback', output)


@unittest.skipUnless(os.getuid() == 0, 'only root can ask as another user')
class ServiceUserTest(StatusTestCase):
    """The package, as the user that the services run as sees it."""

    def check(self, user):
        code, output = self.run_command(
            ON, '--service-user', user, 'upgrade', 'check')
        return code, output

    def setUp(self):
        super().setUp()
        self.file = os.path.join(
            self.useFixture(fixtures.TempDir()).path, 'file.py')
        with open(self.file, 'w'):
            pass
        os.chmod(os.path.dirname(self.file), 0o755)
        self.useFixture(fixtures.MonkeyPatch(
            'nova_rescue_ext.cmd.readability._files', lambda: [self.file]))

    def test_readable(self):
        os.chmod(self.file, 0o644)
        self.assertEqual(0, self.check('nobody')[0])

    def test_umask_027(self):
        os.chmod(self.file, 0o640)
        code, output = self.check('nobody')
        self.assertEqual(2, code)
        self.assertIn('User nobody cannot', output)
        self.assertIn('Valid values are [remote_file, castellan]', output)
        self.assertEqual(0, self.check('root')[0])

    def test_no_such_user(self):
        os.chmod(self.file, 0o640)
        self.assertEqual(0, self.check('nowhere-to-be-found')[0])


class OverridesTest(StatusTestCase):

    def test_table(self):
        code, output = self.run_command(ON, 'overrides')
        self.assertEqual(0, code)
        self.assertIn('nova.compute.api:API.rescue '
                      'nova_rescue_ext.rescue.api:rescue verified', output)
        self.assertIn('(relied on)', output)

    def test_differs_and_missing(self):
        self.change_nova('nova.compute.api:API.rescue',
                         'def rescue(self, image): pass\n')
        code, output = self.run_command(ON, 'overrides')
        self.assertEqual(2, code)
        self.assertIn('nova_rescue_ext.rescue.api:rescue differs', output)

    def test_missing(self):
        original = verification.source_of

        def source_of(name):
            if 'check_hw_rescue_props' in name:
                raise exception.SourceNotFound('gone')
            return original(name)

        source_of.cache_clear = original.cache_clear
        self.useFixture(fixtures.MonkeyPatch(
            'nova_rescue_ext.activation.verification.source_of', source_of))
        code, output = self.run_command(ON, 'overrides')
        self.assertEqual(2, code)
        self.assertIn('check_hw_rescue_props (relied on) missing: gone',
                      output)


class CommandTest(testtools.TestCase):
    """The installed command, as a deployer calls it."""

    def test_from_any_folder(self):
        path = os.path.join(os.path.dirname(sys.executable),
                            'nova-rescue-ext-status')
        with tempfile.TemporaryDirectory() as folder:
            conf = os.path.join(folder, 'nova.conf')
            with open(conf, 'w') as file:
                file.write(ON)
            process = subprocess.run(
                [path, '--config-file', 'nova.conf', 'upgrade', 'check'],
                cwd=folder, capture_output=True, text=True)
        self.assertEqual(0, process.returncode,
                         process.stdout + process.stderr)

    def test_no_command(self):
        process = subprocess.run(
            [sys.executable, '-m', 'nova_rescue_ext.cmd.status'],
            capture_output=True, text=True)
        self.assertEqual(2, process.returncode)
        self.assertIn('usage:', process.stderr)

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

"""tools/make_venv.sh, on systems whose commands are doubles."""

import pathlib
import shutil
import subprocess

import fixtures
import testtools

ROOT = pathlib.Path(__file__).parents[2]

# A Python: "-c" asks for its venv module or its version, "-m venv" makes an
# environment, whose pip and bindep are doubles as well.
PYTHON = '''
case "$1 $2" in
    "-c import ensurepip, venv") {venv} ;;
    "-c import sys"*) echo python{version}-venv ;;
    --version*) echo "Python {version}.0" ;;
    "-m venv")
        for last; do :; done
        mkdir -p "$last/bin"
        cp {bin}/pip {bin}/bindep "$last/bin" ;;
esac
'''
# Installs a Python that can make environments.
INSTALL = '''
echo "{name} $*" >> {log}
case "$*" in
    *install*python*) cp {bin}/later {bin}/python{version} ;;
esac
'''


class MakeVenvTestCase(testtools.TestCase):

    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        self.bin = self.folder / 'bin'
        self.log = self.folder / 'log'
        self.bin.mkdir()
        self.log.touch()
        for name in ('bash', 'basename', 'cp', 'env', 'mkdir'):
            (self.bin / name).symlink_to(shutil.which(name))
        self.command('pip', f'echo "pip $*" >> {self.log}')
        self.command('bindep', 'exit 0')
        self.command('id', 'echo 0')

    def command(self, name, body):
        path = self.bin / name
        path.write_text(f'#!{shutil.which("bash")}\n{body}\n')
        path.chmod(0o755)

    def python(self, version, venv='true', name=None):
        self.command(name or f'python{version}', PYTHON.format(
            version=version, venv=venv, bin=self.bin))

    def apt(self, candidates, version='3.11'):
        self.command('apt-get', INSTALL.format(
            name='apt-get', log=self.log, bin=self.bin, version=version))
        self.command('apt-cache', 'case $2 in\n%s\nesac' % '\n'.join(
            f'{package}) echo "Candidate: {candidate}" ;;'
            for package, candidate in candidates.items()))
        self.python(version, name='later')

    def make(self, *python, nova=33, **environment):
        """Run the script.

        :returns: its return code and all that it printed
        """
        done = subprocess.run(
            [ROOT / 'tools/make_venv.sh', str(self.folder / 'venv'),
             f'constraints/nova-{nova}.txt', *python],
            env={'PATH': str(self.bin), **environment}, cwd=ROOT, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT)
        return done.returncode, done.stdout

    def installed(self):
        return [line for line in self.log.read_text().splitlines()
                if ' install ' in f'{line} ' and not line.startswith('pip')]

    def test_newest(self):
        for version in ('3.9', '3.10', '3.12', '3.14'):
            self.python(version)
        result, output = self.make()
        self.assertIn('with Python 3.12.0', output)
        self.assertEqual(0, result, output)
        self.assertIn('--editable', self.log.read_text())

    def test_that_nova_supports(self):
        for version in ('3.10', '3.11', '3.13'):
            self.python(version)
        self.assertIn('with Python 3.11.0', self.make(nova=29)[1])
        self.assertIn('with Python 3.13.0', self.make(nova=34)[1])

    def test_the_one_that_is_named(self):
        self.python('3.12')
        self.python('3.10')
        self.assertIn('with Python 3.10.0', self.make('python3.10')[1])
        result, output = self.make('python3.11')
        self.assertEqual(1, result)
        self.assertIn('python3.11 is not installed', output)

    def test_without_a_venv_module(self):
        self.python('3.12', venv='false')
        self.python('3.10')
        self.assertIn('with Python 3.10.0', self.make()[1])

    def test_install_a_venv_module(self):
        self.python('3.12', venv='false')
        self.apt({}, version='3.12')
        result, output = self.make()
        self.assertEqual(0, result, output)
        self.assertIn('make: the module venv of python3.12 is missing: '
                      'apt-get install python3.12-venv\n', output)

    def test_install_python(self):
        self.apt({'python3': '3.11.2-1+b1'})
        result, output = self.make()
        self.assertEqual(0, result, output)
        self.assertIn('make: Python is missing: apt-get install python3 '
                      'python3-venv\n', output)
        self.assertIn('with Python 3.11.0', output)

    def test_install_a_python_that_nova_supports(self):
        self.apt({'python3': '3.14.2-1', 'python3.13': '3.13.9-1'}, '3.13')
        result, output = self.make()
        self.assertEqual(0, result, output)
        self.assertIn('apt-get install python3.13 python3.13-venv\n', output)

    def test_no_python_to_install(self):
        self.apt({'python3': '3.9.2-3'})
        result, output = self.make()
        self.assertEqual(1, result)
        self.assertIn('3.13 3.12 3.11 3.10', output)
        self.assertIn('PYTHON=', output)

    def test_install_with_dnf(self):
        self.python('3.12', name='later')
        self.command('dnf', '[ "$2 $3" != "list python3.13" ] || exit 1\n' +
                     INSTALL.format(name='dnf', log=self.log, bin=self.bin,
                                    version='3.12'))
        self.command('bindep', 'echo qemu-img; exit 1')
        result, output = self.make()
        self.assertEqual(0, result, output)
        self.assertIn('make: Python is missing: dnf install python3.12\n',
                      output)
        self.assertIn('make: system packages are missing: dnf install '
                      'qemu-img\n', output)
        self.assertEqual(2, len(self.installed()), self.log.read_text())

    def test_install_what_dnf_calls_python3(self):
        """The package of the default version has no number in its name."""
        self.command('dnf', 'case "$2 $3" in "list "*) exit 1 ;; esac\n' +
                     INSTALL.format(name='dnf', log=self.log, bin=self.bin,
                                    version='3.13'))
        self.python('3.13', name='later')
        result, output = self.make()
        self.assertEqual(0, result, output)
        self.assertIn('dnf install python3\n', output)
        self.assertIn('with Python 3.13.0', output)

    def test_dnf_has_only_another_python(self):
        self.command('dnf', '[ "$2" != list ]')
        result, output = self.make()
        self.assertEqual(1, result)
        self.assertIn('no Python that the Nova of', output)
        self.assertIn('PYTHON=', output)

    def test_only_tell(self):
        """NO_INSTALL, and where nobody may install."""
        self.python('3.11')
        self.apt({})
        self.command('bindep', 'echo procps qemu-utils; exit 1')
        result, output = self.make(NO_INSTALL='1')
        self.assertEqual(1, result)
        self.assertIn('make: system packages are missing. Install it as root:'
                      '\n    apt-get install procps qemu-utils\n', output)
        self.command('id', 'echo 1000')
        self.assertEqual((1, output), self.make())
        self.assertEqual([], self.installed())

    def test_sudo(self):
        self.python('3.11')
        self.apt({})
        self.command('id', 'echo 1000')
        self.command('sudo', '[ "$1" = -n ] || "$@"')
        self.command('bindep', 'echo procps; exit 1')
        result, output = self.make()
        self.assertEqual(0, result, output)
        self.assertIn('missing: sudo apt-get install procps\n', output)
        self.assertIn('install', ''.join(self.installed()))

    def test_another_system(self):
        """No package manager that the script knows, and none of bindep's."""
        result, output = self.make()
        self.assertEqual(1, result)
        self.assertIn('PYTHON=', output)
        self.python('3.11')
        self.command('bindep', 'exit 2')
        result, output = self.make()
        self.assertEqual(0, result, output)
        self.assertIn('bindep.txt names the packages', output)

    def test_compiler_for_old_novas(self):
        self.python('3.11')
        self.command('bindep', f'echo "bindep $*" >> {self.log}')
        self.make(nova=30)
        self.assertIn('bindep.txt compile', self.log.read_text())

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

"""On what there is to test: a place is a Nova, a Python and a kind of threads.
"""

import pathlib
import re
import shutil
import subprocess
import typing

from nova_rescue_ext.activation import verification
from tests.nova_suite import runner
from tests.records import store

# Of Nova's series: the oldest and the newest Python that the package supports,
# too.
PYTHONS = {'29': (10, 11), '30': (10, 11), '31': (10, 12), '32': (10, 12),
           '33': (10, 12), '34': (11, 13)}
# The first series that runs on native threads.
NATIVE = 33


class Missing(Exception):
    """This machine cannot make the environment of a place."""


class Place(typing.NamedTuple):
    """Where the tests run."""

    series: str
    python: str
    native: bool

    def __str__(self):
        return 'Nova %s, Python %s, %s' % (
            self.series, self.python, self.threads)

    @property
    def threads(self):
        return runner.threads(self)

    @property
    def release(self):
        """The point release of Nova, by the constraints."""
        return re.search('^nova==(.*)$', self._constraints.read_text(),
                         re.MULTILINE)[1]

    @property
    def _constraints(self):
        return store.ROOT / 'constraints' / ('nova-%s.txt' % self.series)

    def make(self, folder):
        """Make the environment, unless it is there.

        :param folder: for the environments of all places
        :returns: the path of its Python
        :raises: Missing
        """
        venv = folder / ('nova-%s-python-%s' % (self.series, self.python))
        made = venv / 'installed'
        wanted = self._constraints.read_text()
        if not made.exists() or made.read_text() != wanted:
            subprocess.run(
                [store.ROOT / 'tools' / 'make_venv.sh', venv,
                 self._constraints, find_python(self.python)],
                cwd=store.ROOT, check=True)
            made.write_text(wanted)
        python = venv / 'bin' / 'python'
        # The overrides are read from the installed metadata.
        subprocess.run(
            [python, '-m', 'pip', 'install', '--quiet', '--no-deps',
             '--no-build-isolation', '--editable', '.'],
            cwd=store.ROOT, check=True)
        return python


def places():
    """All places, the newest Nova first."""
    return [Place(series, '3.%d' % minor, native)
            for series in reversed(verification.SERIES)
            for minor in range(PYTHONS[series][0], PYTHONS[series][1] + 1)
            for native in ((False, True) if int(series) >= NATIVE
                           else (False,))]


def find_python(version, home=None):
    """An interpreter, of the system or of pyenv.

    :param version: for example "3.10"
    :param home: in which pyenv keeps its versions
    :raises: Missing
    """
    home = home or pathlib.Path.home() / '.pyenv'
    paths = [shutil.which('python' + version)] + sorted(
        map(str, home.glob('versions/%s.*/bin/python%s' % (version, version))))
    for path in filter(None, paths):
        # pyenv has a command of that name also if the version is not chosen.
        if subprocess.run([path, '-c', ''], capture_output=True
                          ).returncode == 0:
            return path
    raise Missing('there is no Python %s' % version)

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

"""A copy of the checkout, in which changes are made.

Whatever happens to the run, the checkout is as it was.
"""

import compileall
import contextlib
import fcntl
import importlib.metadata
import importlib.util
import os
import pathlib
import shutil
import subprocess

import nova_rescue_ext

ROOT = pathlib.Path(__file__).parents[2]
DIRECTORY = ROOT / '.mutants'
PACKAGE = 'nova_rescue_ext'
# Names of callables, each of which is compared with the digests at start.
_TABLE = 'nova_rescue_ext/activation/relied_on.py'


class Tree:
    """A copy that nobody else uses; the first that is free.

    :ivar path: where it is
    """

    def __init__(self):
        DIRECTORY.mkdir(exist_ok=True)
        for number in range(100):
            self._lock = open(DIRECTORY / ('tree-%d.lock' % number), 'w')
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                self._lock.close()
        self.path = DIRECTORY / ('tree-%d' % number)
        shutil.rmtree(self.path, ignore_errors=True)
        names = subprocess.run(
            ['git', 'ls-files', '--cached', '--others', '--exclude-standard'],
            cwd=ROOT, check=True, stdout=subprocess.PIPE,
            text=True).stdout.splitlines()
        for name in names:
            if (ROOT / name).is_file():
                (self.path / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, self.path / name)
        self._copy_metadata()
        compileall.compile_dir(self.path / PACKAGE, quiet=2)
        compileall.compile_dir(self.path / 'tests', quiet=2)

    def _copy_metadata(self):
        """That of the checkout may become that of other code meanwhile."""
        files = importlib.metadata.files(nova_rescue_ext.DISTRIBUTION)
        metadata = next(file.locate().parent for file in files
                        if file.name == 'entry_points.txt')
        shutil.copytree(metadata, self.path / metadata.name)

    def environ(self):
        """The variables of a process that runs tests of the copy."""
        return dict(os.environ, PYTHONPATH=str(self.path),
                    PYTHONDONTWRITEBYTECODE='1', PYTHONWARNINGS='ignore',
                    OS_STDOUT_CAPTURE='1', OS_STDERR_CAPTURE='1',
                    OS_TEST_TIMEOUT='300')

    @contextlib.contextmanager
    def changed(self, mutant):
        """One change is made, for a while."""
        path = self.path / mutant.file
        # Without bytecode that could be taken for that of the change.
        bytecode = pathlib.Path(importlib.util.cache_from_source(str(path)))
        with contextlib.suppress(FileNotFoundError):
            bytecode.unlink()
        source = path.read_bytes()
        path.write_bytes(mutant.apply(source))
        try:
            yield
        finally:
            path.write_bytes(source)


def sources(area=None):
    """The files of the package, from the top of the checkout.

    :param area: of which folder, or all
    """
    folder = ROOT / PACKAGE / (area or '')
    return sorted(str(path.relative_to(ROOT))
                  for path in folder.rglob('*.py')
                  if not path.match(_TABLE))

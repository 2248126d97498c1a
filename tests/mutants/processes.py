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

"""The processes that run tests of a copy."""

import json
import os
import subprocess
import sys
import tempfile

from tests.mutants import hits
from tests.mutants import tree


class Worker:
    """A process that runs tests; see ``worker``.

    :param copy: the tree.Tree
    :param kind: ``unit`` or ``functional``
    :param hits: whether it is asked what is executed
    """

    def __init__(self, copy, kind, hits=False):
        self._copy = copy
        self._kind = kind
        self._hits = hits

    def __enter__(self):
        self._folder = tempfile.TemporaryDirectory(prefix='mutants-')
        # Tests start processes of other users.
        os.chmod(self._folder.name, 0o777)
        environ = self._copy.environ()
        if self._hits:
            environ[hits.VARIABLE] = self._folder.name
        reader, writer = os.pipe()
        with open(tree.DIRECTORY / ('%s.%s.log' % (
                self._copy.path.name, self._kind)), 'w') as log:
            self._process = subprocess.Popen(
                [sys.executable, '-m', 'tests.mutants.worker', self._kind,
                 str(writer)], cwd=self._copy.path, env=environ,
                stdin=subprocess.PIPE, stdout=log, stderr=log, text=True,
                pass_fds=[writer])
        os.close(writer)
        self._answers = os.fdopen(reader)
        self._answer()
        return self

    def __exit__(self, *exc_info):
        self._process.stdin.close()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._answers.close()
        self._folder.cleanup()

    def ask(self, **job):
        """Let it do a job.

        :returns: the answer
        """
        self._process.stdin.write(json.dumps(job) + '\n')
        self._process.stdin.flush()
        return self._answer()

    def _answer(self):
        line = self._answers.readline()
        if not line:
            raise RuntimeError('the worker has ended: see %s' % tree.DIRECTORY)
        return json.loads(line)


class Workers:
    """A Worker of each kind, from when it is needed first."""

    def __init__(self, copy):
        self._copy = copy
        self._workers = {}

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        for process in self._workers.values():
            process.__exit__(*exc_info)

    def ask(self, kind, **job):
        """Let the worker of a kind do a job.

        :returns: the answer
        """
        if kind not in self._workers:
            self._workers[kind] = Worker(self._copy, kind).__enter__()
        return self._workers[kind].ask(**job)

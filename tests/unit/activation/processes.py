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


"""Run code in a process of its own that has not imported Nova.

What is patched cannot be un-imported, so each test needs a new process. Most
of its time would be spent importing Nova's libraries: one process imports them
and is forked for each test.
"""

import atexit
import json
import os
import subprocess
import sys
import tempfile
import textwrap

# Nothing of Nova and nothing of ours.
_LIBRARIES = ('alembic', 'cinderclient', 'eventlet', 'glanceclient.v2.client',
              'jsonschema', 'lxml.etree', 'neutronclient.v2_0.client',
              'openstack', 'os_brick.initiator.connector', 'oslo_cache.core',
              'oslo_db.sqlalchemy.enginefacade', 'oslo_messaging', 'routes',
              'paste.deploy', 'sqlalchemy.orm', 'webob')

_FORKED = textwrap.dedent('''\
    import importlib, json, os, sys, traceback

    def run(code, arguments):
        sys.argv = ['-c', *arguments]
        try:
            exec(compile(code, '<test>', 'exec'), {'__name__': '__main__'})
        except SystemExit as exc:
            return exc.code or 0
        except BaseException:
            traceback.print_exc()
            return 1
        return 0

    for name in json.loads(sys.argv[1]):
        try:
            importlib.import_module(name)
        except ImportError:
            pass  # not in every Nova's environment, and only for speed
    for line in sys.stdin:
        code, arguments, path = json.loads(line)
        child = os.fork()
        if not child:
            output = os.open(path, os.O_WRONLY)
            os.dup2(output, 1)
            os.dup2(output, 2)
            result = run(code, arguments)
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(result if isinstance(result, int) else 1)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(status, flush=True)
    ''')

_parent = None


def _start():
    global _parent
    _parent = subprocess.Popen(
        [sys.executable, '-c', _FORKED, json.dumps(_LIBRARIES)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True,
        env=dict(os.environ, PYTHONWARNINGS='ignore'))
    atexit.register(_parent.communicate)


def run(code, *arguments):
    """Run code, and return what it prints and logs.

    :param code: Python source; it may be indented
    :param arguments: what it finds in sys.argv
    :raises: AssertionError with the output if it fails
    """
    if _parent is None:
        _start()
    with tempfile.NamedTemporaryFile('r') as output:
        _parent.stdin.write(json.dumps(
            [textwrap.dedent(code), arguments, output.name]) + '\n')
        _parent.stdin.flush()
        status = int(_parent.stdout.readline())
        text = output.read()
    if status:
        raise AssertionError(text)
    return text

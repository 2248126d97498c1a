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

"""What of the package this process has executed; see ``coverage``.

The sources of the copy call :func:`hit` before each statement. Processes that
a test starts write what they execute to a folder.
"""

import glob
import os

VARIABLE = 'MUTANTS_HITS'

_seen = set()
_collector = None


def hit(statement):
    """Note that a statement is executed.

    :param statement: its operators.key()
    """
    if statement not in _seen:
        _seen.add(statement)
        if os.getpid() != _collector and VARIABLE in os.environ:
            # At once: who is forked does not live to the end of its process.
            with open(os.path.join(os.environ[VARIABLE],
                                   str(os.getpid())), 'a') as file:
                file.write(statement + '\n')


def collect():
    """Collect here what this process and those that it starts execute."""
    global _collector
    _collector = os.getpid()
    take()


def take():
    """What was executed since this was called last.

    :returns: a set of operators.key()
    """
    seen = set(_seen)
    _seen.clear()
    for path in glob.glob(os.path.join(os.environ[VARIABLE], '*')):
        with open(path) as file:
            seen.update(file.read().split())
        os.unlink(path)
    return seen

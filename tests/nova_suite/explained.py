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

"""The differences that there have to be, each with its reason."""

import os
import typing

from tests.nova_suite import selection

_PATH = os.path.join(os.path.dirname(__file__), 'explained.txt')


class Explained(typing.NamedTuple):
    """A line of ``explained.txt``."""

    entry: selection.Entry
    reason: str


def read(path=_PATH):
    """Read a file with ``name: reason`` in each line.

    :param path: by default ``explained.txt``
    :returns: list of Explained
    """
    with open(path) as lines:
        return parse(lines)


def parse(lines):
    """Parse the file; lines that start with ``#`` are comments."""
    found = []
    for line in lines:
        if line.strip() and not line.startswith('#'):
            name, _, reason = line.partition(': ')
            found.append(Explained(selection.Entry(name), reason.strip()))
    return found


def reason(test, table):
    """Why a test's result differs, or None if nothing explains it.

    :param table: list of Explained
    """
    for explained in table:
        if explained.entry.names(test):
            return explained.reason

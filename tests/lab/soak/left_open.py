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

"""Violations that are known and left as they are, each with the reason."""

import re
import typing


class Entry(typing.NamedTuple):
    """Violations that one reason explains.

    :ivar happened: a regular expression that matches a part of the plan
    :ivar violation: a regular expression that matches a part of the violation
    :ivar reason: why it is left, in a sentence
    """

    happened: str
    violation: str
    reason: str


ALL = (
    Entry(r'\bqemu\w* at', r'^(ACTIVE, but no guest runs|'
          r'RESCUE, but the guests are \[\])',
          'The guest was killed. The owner starts it again.'),
    Entry(r'\breset_(active|error) at',
          '^(ACTIVE|RESCUE|SHUTOFF), but|^files of a rescue are left',
          'An administrator resets the state, which changes what the API '
          'says, not the guest. The owner reboots it hard.'),
)


def reason_of(happened, violation):
    """Why a violation is left open; None if it is not.

    :param happened: the plan of a server, and the fault, as text
    :param violation: the text
    """
    return next((entry.reason for entry in ALL
                 if re.search(entry.happened, happened)
                 and re.search(entry.violation, violation)), None)

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


"""What the package raises, where Nova has been imported.

Before that, see :mod:`nova_rescue_ext.activation`.
"""

import typing

from nova import exception as nova_exception

from nova_rescue_ext.i18n import _
from nova_rescue_ext.i18n import N_


class RescueExtException(nova_exception.NovaException):
    """Base of all.

    Subclasses have a message format, which is translated when one is raised,
    and the HTTP status code with which nova-api answers it.

    :param values: of the message format
    """

    msg_fmt = N_('An unknown error occurred in nova-rescue-ext.')
    code = 500

    def __init__(self, **values: typing.Any) -> None:
        super().__init__(_(self.msg_fmt) % values, **values)


class TaskEnded(RescueExtException):
    """A message to nova-compute came when its task had ended."""

    msg_fmt = N_('nova-compute did not %(action)s the server: a restart of '
                 'nova-compute, or somebody who reset the state of the '
                 'server, had ended the task before.')

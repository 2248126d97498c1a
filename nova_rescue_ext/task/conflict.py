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


"""Two requests for one server at the same moment."""

from __future__ import annotations

import contextlib
import typing

from nova import exception
from nova import objects


@contextlib.contextmanager
def loser_is_refused(instance: objects.Instance, method: str,
                     *winners: str) -> typing.Iterator[None]:
    """Who comes second is refused with 409, as a moment later.

    Nova answers 500 to a request whose server another request takes between
    its look at the state and its save.

    :param instance: the Instance
    :param method: the name of the action
    :param winners: task states of the other for which this is so; all if none
        is named
    :raises: InstanceInvalidState
    """
    try:
        yield
    except exception.UnexpectedTaskStateError as exc:
        state = (exc.kwargs.get('actual') or {}).get('task_state')
        if winners and state not in winners:
            raise
        raise exception.InstanceInvalidState(
            attr='task_state', instance_uuid=instance.uuid, state=state,
            method=method)

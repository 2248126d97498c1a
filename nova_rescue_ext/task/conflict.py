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

from nova.compute import task_states
from nova import exception
from nova import objects


@contextlib.contextmanager
def loser_is_refused(instance: objects.Instance,
                     method: str) -> typing.Iterator[None]:
    """Answer 409 if another request gets the server first.

    Nova answers 500 if the other request, or the end of a DELETE, comes
    between its check of the state and its save.

    :param instance: the Instance
    :param method: the name of the action
    :raises: InstanceInvalidState
    """
    try:
        yield
    except exception.InstanceUpdateConflict as exc:
        actual = exc.kwargs.get('actual') or {}
        attribute = 'task_state' if 'task_state' in actual else 'vm_state'
        _refuse(instance, method, attribute, actual.get(attribute))
    except exception.InstanceNotFound:
        _refuse(instance, method, 'task_state', task_states.DELETING)


def _refuse(instance: objects.Instance, method: str, attribute: str,
            state: str | None) -> typing.NoReturn:
    raise exception.InstanceInvalidState(
        attr=attribute, instance_uuid=instance.uuid, state=state,
        method=method)

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


"""Save the end of a task once the database can be reached again.

Nova tries only once to clear the task of the server. If that fails, too, the
server keeps its task until nova-compute is restarted.
"""

from __future__ import annotations

import contextlib
import time
import typing

from nova import exception
from nova import objects
from oslo_log import log as logging
from oslo_utils import excutils

LOG = logging.getLogger(__name__)

# The server was deleted meanwhile, or has lost its task.
_OVERTAKEN = (exception.InstanceNotFound, exception.UnexpectedTaskStateError)

# In seconds: how long to try, and the pause after each attempt. The thread
# that waits is one of many that serve RPC calls.
TIMEOUT = 600
SECONDS = 5


@contextlib.contextmanager
def ensured(instance: objects.Instance) -> typing.Iterator[None]:
    """Save the end of a task, even if the block fails to save it.

    What the block would have saved is still set on the Instance.

    :param instance: the Instance that the block saves
    :raises: what the block raises; InstanceNotFound or
        UnexpectedTaskStateError if the server has lost its task by the time
        that its end can be saved
    """
    task_state = instance.task_state
    try:
        yield
    except _OVERTAKEN:
        raise
    except Exception:
        with excutils.save_and_reraise_exception():
            # If the server lost the task, only its state is unsaved, and it
            # is not ours to save.
            if 'task_state' in instance.obj_what_changed():
                _save(instance, task_state)


def _save(instance: objects.Instance, task_state: str | None) -> None:
    LOG.warning('The end of task %(task)s could not be saved. Trying again '
                'every %(seconds)d s for %(timeout)d s. Check the database, '
                'the message bus and nova-conductor.',
                {'task': task_state, 'timeout': TIMEOUT, 'seconds': SECONDS},
                instance=instance)
    for _ in _attempts():
        try:
            instance.save(expected_task_state=[task_state])
        except _OVERTAKEN as exc:
            LOG.info('The end of task %(task)s no longer needs to be saved: '
                     '%(reason)s', {'task': task_state, 'reason': exc},
                     instance=instance)
            raise
        except Exception as exc:
            LOG.debug('Not saved yet: %s', exc, instance=instance)
        else:
            LOG.info('The end of task %s has been saved.', task_state,
                     instance=instance)
            return
    LOG.error('The end of task %s could not be saved. Restart nova-compute on '
              'this host once the database can be reached.', task_state,
              instance=instance)


def _attempts() -> typing.Iterator[None]:
    """Yield after each pause, until TIMEOUT."""
    end = time.monotonic() + TIMEOUT
    while time.monotonic() < end:
        time.sleep(SECONDS)
        yield


def read(instance: objects.Instance) -> objects.Instance | None:
    """Read an instance again, waiting for the database if need be.

    :param instance: the Instance
    :returns: another Instance, or None if the database cannot be reached for
        TIMEOUT seconds
    :raises: InstanceNotFound
    """
    end = time.monotonic() + TIMEOUT
    while True:
        try:
            return objects.Instance.get_by_uuid(
                instance._context, instance.uuid,
                expected_attrs=['info_cache', 'system_metadata'])
        except exception.InstanceNotFound:
            raise
        except Exception as exc:
            LOG.debug('Waiting for the database: %s', exc, instance=instance)
        if time.monotonic() >= end:
            return None
        time.sleep(SECONDS)


def wait_for_database(instance: objects.Instance) -> None:
    """Return as soon as an instance can be read, or after TIMEOUT seconds.

    :param instance: the Instance, about to be saved
    """
    with contextlib.suppress(exception.InstanceNotFound):
        read(instance)

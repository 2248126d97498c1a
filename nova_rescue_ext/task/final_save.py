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


"""The end of a task that nova-compute could not save.

The database, or the way to it, may be away for a while. Nova tries once to
take the task from the server; if that fails, too, the server stays in it until
nova-compute is restarted.
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

# Somebody else has deleted the server, or taken the task from it.
_OVERTAKEN = (exception.InstanceNotFound, exception.UnexpectedTaskStateError)

# How long is tried, in seconds, and the pause after each time, as what fails
# may take long itself. A thread that serves RPC calls waits, of which there
# are many.
TIMEOUT = 600
SECONDS = 5


@contextlib.contextmanager
def ensured(instance: objects.Instance) -> typing.Iterator[None]:
    """Save the end of the task in this block, also if it fails to.

    Whatever Nova would have saved is still to be seen in the object.

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
            # The state without the task is unsaved if the server has lost the
            # task: it is not ours to save then.
            if 'task_state' in instance.obj_what_changed():
                _save(instance, task_state)


def _save(instance: objects.Instance, task_state: str | None) -> None:
    LOG.warning('The end of %(task)s could not be saved. Trying again for '
                '%(timeout)d s, every %(seconds)d s. Look at the database, '
                'the message bus and nova-conductor.',
                {'task': task_state, 'timeout': TIMEOUT, 'seconds': SECONDS},
                instance=instance)
    for _ in _attempts():
        try:
            instance.save(expected_task_state=[task_state])
        except _OVERTAKEN as exc:
            LOG.info('The end of %(task)s needs not be saved any more: '
                     '%(reason)s', {'task': task_state, 'reason': exc},
                     instance=instance)
            raise
        except Exception as exc:
            LOG.debug('Not saved yet: %s', exc, instance=instance)
        else:
            LOG.info('The end of %s is saved.', task_state, instance=instance)
            return
    LOG.error('The end of %s could not be saved: restart nova-compute on this '
              'host when its database can be reached.', task_state,
              instance=instance)


def _attempts() -> typing.Iterator[None]:
    """Go round after each pause, until the time is over."""
    end = time.monotonic() + TIMEOUT
    while time.monotonic() < end:
        time.sleep(SECONDS)
        yield


def read(instance: objects.Instance) -> objects.Instance | None:
    """The instance as the database has it by now.

    :param instance: the Instance
    :returns: another Instance, or None if there is no database for ten minutes
    :raises: InstanceNotFound
    """
    end = time.monotonic() + TIMEOUT
    while True:
        try:
            return objects.Instance.get_by_uuid(instance._context,
                                                instance.uuid)
        except exception.InstanceNotFound:
            raise
        except Exception as exc:
            LOG.debug('Waiting for the database: %s', exc, instance=instance)
        if time.monotonic() >= end:
            return None
        time.sleep(SECONDS)


def wait_for_database(instance: objects.Instance) -> None:
    """Return when an instance can be read, or not after ten minutes.

    :param instance: the Instance, about to be saved
    """
    with contextlib.suppress(exception.InstanceNotFound):
        read(instance)

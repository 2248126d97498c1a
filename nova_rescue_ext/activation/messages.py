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


"""Log lines of the activation, in services and commands.

Services parse their configuration, and so open the driver, before they set up
logging: a line that is logged then never reaches the service's log, so it is
held back. Commands may have no log but the standard output, which is for their
result.
"""

import collections.abc
import functools
import logging as python_logging
import sys
import typing

from oslo_log import log as logging

LOG = logging.getLogger('nova_rescue_ext.activation')

_kept: list[collections.abc.Callable[[], object]] | None = None
_command = False


def say(level: int, text: str, *args: object,
        error: BaseException | None = None,
        services_only: bool = False) -> None:
    """Log a line, or hold it back until the service has set up logging.

    A command prints it on the standard error if it is at least a warning.

    :param level: as in logging
    :param text: with the format of args
    :param error: whose traceback is wanted
    :param services_only: whether commands never say it
    """
    if _command:
        if level > python_logging.INFO and not services_only:
            print(text % args, file=sys.stderr)
        return
    exc_info: typing.Any = error and (type(error), error, error.__traceback__)
    line = functools.partial(LOG.log, level, text, *args, exc_info=exc_info)
    if _kept is None:
        line()
    else:
        _kept.append(line)


def hold(command: bool = False) -> None:
    """Hold lines back until oslo.log is set up.

    :param command: whether this is a command and not a service: it logs
        nothing, and prints warnings and errors on the standard error
    """
    global _kept, _command
    _command = command
    if _kept is not None:
        return
    _kept = []
    setup = logging.setup

    @functools.wraps(setup)
    def setup_and_go_on(*args: typing.Any, **kwargs: typing.Any) -> None:
        global _kept
        logging.setup = setup
        setup(*args, **kwargs)
        calls, _kept = _kept or [], None
        for call in calls:
            call()

    logging.setup = setup_and_go_on


def when_logging_is_set_up(
        call: collections.abc.Callable[[], object]) -> None:
    """Call a function when lines are no longer held back.

    :param call: takes nothing; what it returns is not used
    """
    if _kept is None:
        call()
    else:
        _kept.append(call)

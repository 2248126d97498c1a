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


"""The API version ``compute-rescue``: how a caller opts in.

1.0 is the behaviour of the Nova underneath.
"""

import re

import microversion_parse

SERVICE_TYPE = 'compute-rescue'
MIN_VERSION = microversion_parse.Version(1, 0)

# Rescue of boot-from-volume servers with any image, or with none given.
RESCUE = microversion_parse.Version(1, 1)

# Rebuild of servers that never booted.
REBUILD_NEVER_BOOTED = microversion_parse.Version(1, 2)

# Live migration of rescued servers.
LIVE_MIGRATE_RESCUED = microversion_parse.Version(1, 3)

# What a rescue is like for its user: how long, on which disks.
RESCUE_SESSION = microversion_parse.Version(1, 4)

MAX_VERSION = RESCUE_SESSION

_default = MIN_VERSION

# Of a number in a version. Python makes no number of thousands of digits.
_DIGITS = 9


class Malformed(ValueError):
    """Not a version, as text."""


class OutOfRange(ValueError):
    """A version that this package does not have."""


def parse(text: str) -> microversion_parse.Version:
    """Parse a version.

    :param text: 'X.Y' or 'latest'
    :returns: a version that compares like a tuple
    :raises: Malformed, OutOfRange
    """
    text = text.strip()
    if text.lower() == 'latest':
        return MAX_VERSION
    match = re.fullmatch(r'([1-9][0-9]*)\.(0|[1-9][0-9]*)', text)
    if not match:
        raise Malformed(text)
    if any(len(number) > _DIGITS for number in match.groups()):
        raise OutOfRange(text)
    version = microversion_parse.Version(int(match[1]), int(match[2]))
    if not MIN_VERSION <= version <= MAX_VERSION:
        raise OutOfRange(text)
    return version


def default_version() -> microversion_parse.Version:
    """The version of a request that names none."""
    return _default


def set_default_version(text: str) -> None:
    """Set the version of a request that names none.

    :param text: as in ``[rescue_ext] default_api_version``
    :raises: ValueError
    """
    global _default
    _default = check_default_version(text)


def check_default_version(text: str) -> microversion_parse.Version:
    """Parse a default version.

    :param text: as in ``[rescue_ext] default_api_version``
    :raises: ValueError
    """
    try:
        return parse(text)
    except (Malformed, OutOfRange):
        raise ValueError('"%s" is no version from %s to %s, and not "latest"'
                         % (text, MIN_VERSION, MAX_VERSION))


def is_requested(context: object,
                 version: microversion_parse.Version) -> bool:
    """Whether the caller opted in to a version.

    :param context: the RequestContext of an API request
    :param version: one of the versions above, for example RESCUE
    """
    return getattr(context, 'compute_rescue', MIN_VERSION) >= version


def is_named(context: object,
             version: microversion_parse.Version) -> bool:
    """Whether the caller named a version, rather than got the default.

    The request of a client that does not know the package has to end in the
    same state as in Nova, and its answer has no other fields.

    :param context: the RequestContext of an API request
    :param version: the lowest version that counts
    """
    return (is_requested(context, version)
            and getattr(context, 'compute_rescue_is_named', False))

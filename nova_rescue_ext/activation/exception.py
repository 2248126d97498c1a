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


"""Reasons not to activate the package.

Raised and caught before a service imports Nova, so this module imports nothing
of it.
"""


class ActivationError(Exception):
    """Base of all.

    The text is a sentence without its full stop, for the log of a service and
    for ``nova-rescue-ext-status``.
    """


class Refused(ActivationError):
    """This Nova or this nova.conf is not supported."""


class SourceNotFound(ActivationError):
    """The source of a callable cannot be found."""


class DigestsUnusable(ActivationError):
    """The digests of what the package was tested on cannot be read."""


class Misfit(ActivationError):
    """An override does not take the arguments that Nova's callable takes."""

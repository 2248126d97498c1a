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


"""The package in this process: activate it, ask about it, take it off.

Services of Nova activate it through ``driver``. ``examination``,
``verification`` and ``overrides`` decide whether they may, and ``process``
does it.
"""

from oslo_config import cfg

from nova_rescue_ext.activation import distribution
from nova_rescue_ext.activation import examination
from nova_rescue_ext.activation import guru_meditation
from nova_rescue_ext.activation import process

APPLIED = process.APPLIED
NOT_LOADED = process.NOT_LOADED

_ACTIVATION = process.Activation()


def activate(conf: cfg.ConfigOpts = cfg.CONF) -> bool:
    """Verify the installed Nova and override it. Idempotent.

    Refuses, with one ERROR line, when anything is not as the package expects
    it; then nothing of Nova is touched.

    :param conf: the configuration that holds group ``[rescue_ext]``
    :returns: whether the package is active
    """
    guru_meditation.register(summary, override_states)
    return _ACTIVATION.activate(conf)


def deactivate() -> None:
    """Take every override off and forget the activation. Idempotent."""
    _ACTIVATION.deactivate()


def is_active() -> bool:
    """Whether the overrides are in force in this process."""
    return _ACTIVATION.active


def summary() -> str:
    """The state of the package in this process, in one line."""
    return _ACTIVATION.summary()


def override_states() -> dict[str, str]:
    """The state of each override in this process.

    :returns: dict, Nova callable -> APPLIED or NOT_LOADED
    """
    return _ACTIVATION.override_states()


def examine() -> examination.Examination:
    """Compare the installed Nova with what the package was tested on.

    Imports nothing of Nova and changes nothing.

    :raises: SourceNotFound if there is no Nova; DigestsUnusable
    """
    return examination.examine()


def version() -> str:
    """The version of the package."""
    return distribution.version()

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


"""The activation of the package in this process."""

import logging as python_logging
import sys
import threading
import types

from oslo_config import cfg
import wrapt

from nova_rescue_ext.activation import distribution
from nova_rescue_ext.activation import examination
from nova_rescue_ext.activation import exception
from nova_rescue_ext.activation import messages
from nova_rescue_ext.activation import overrides
from nova_rescue_ext.activation import verification
from nova_rescue_ext import conf as ext_conf
from nova_rescue_ext import microversion

NOT_LOADED = 'not imported by this service yet'
APPLIED = 'applied'

# How long a thread that imports a module of Nova waits for another to apply
# its overrides, in seconds. The other may in turn wait for the import.
_PATIENCE = 5


class Activation:
    """The state of the package: stock, refused or active.

    :ivar active: whether the overrides are in force
    """

    def __init__(self) -> None:
        self.active = False
        self._refusal: str | None = None
        self._nova_release: str | None = None
        # Module of Nova -> overrides that are applied when it is imported.
        self._waiting: dict[str, list[overrides.Override]] = {}
        self._applied: list[overrides.Applied | overrides.Added] = []
        self._hooked: set[str] = set()  # wrapt does not forget hooks
        self._lock = threading.RLock()
        self._due = _DueModules()

    def activate(self, conf: cfg.ConfigOpts) -> bool:
        """As activation.activate()."""
        with self._lock:
            if self.active:
                return True
            self._forget()
            try:
                allowed = self._prepare(conf)
            except Exception as exc:
                self._refuse(exc)
                return False
            self.active = True
            for module in list(self._waiting):
                self._watch_import(module)
            if not self.active:
                return False
        if allowed:
            messages.say(
                python_logging.WARNING,
                'nova-rescue-ext is active on code that it was not tested on, '
                'because [rescue_ext] allow_unverified is set: %s. Run '
                '"nova-rescue-ext-status overrides" for all of it.', allowed)
        for fault in ext_conf.find_names_of_images(conf):
            messages.say(python_logging.WARNING, '%s.', fault,
                         services_only=True)
        messages.say(python_logging.INFO, '%s', self.summary())
        return True

    def deactivate(self) -> None:
        """As activation.deactivate()."""
        with self._lock:
            self._forget()

    def summary(self) -> str:
        """As activation.summary()."""
        if self._refusal:
            return self._refusal
        version = distribution.version()
        if not self.active:
            return 'nova-rescue-ext %s is not active' % version
        count = len(self._applied) + sum(map(len, self._waiting.values()))
        return ('nova-rescue-ext %s is active on Nova %s: %d overrides, API '
                'compute-rescue %s to %s (default %s)' % (
                    version, self._nova_release, count,
                    microversion.MIN_VERSION, microversion.MAX_VERSION,
                    microversion.default_version()))

    def override_states(self) -> dict[str, str]:
        """As activation.override_states()."""
        states = {override.target: NOT_LOADED
                  for waiting in list(self._waiting.values())
                  for override in waiting}
        states.update((applied.override.target, APPLIED)
                      for applied in self._applied)
        return states

    def _forget(self) -> None:
        """Take all overrides off and reset the state."""
        self.active = False
        self._waiting = {}
        applied, self._applied = self._applied, []
        for override in reversed(applied):
            override.remove()
        self._refusal = self._nova_release = None

    def _refuse(self, reason: Exception) -> None:
        """Keep or make this process stock Nova, and say why."""
        release = self._nova_release or 'unknown'
        self._forget()
        self._nova_release = release
        self._refusal = (
            'nova-rescue-ext %s is NOT active, Nova %s runs as stock: %s.' % (
                distribution.version(), release,
                str(reason) or type(reason).__name__))
        expected = isinstance(reason, exception.ActivationError)
        messages.say(python_logging.ERROR, '%s', self._refusal,
                     error=None if expected else reason)

    def _prepare(self, conf: cfg.ConfigOpts) -> str:
        """Make every check that may refuse, before anything is touched.

        :returns: the objections that allow_unverified overrode, in words
        """
        self._nova_release = verification.nova_release()
        ext_conf.register_opts(conf)
        try:
            ext_conf.check_values(conf)
        except ValueError as exc:
            raise exception.Refused(
                '%s. Correct group [rescue_ext] of nova.conf and restart the '
                'service' % exc)
        microversion.set_default_version(conf.rescue_ext.default_api_version)
        severe, mild = examination.examine().objections()
        if severe or (mild and not conf.rescue_ext.allow_unverified):
            raise exception.Refused(
                '%s. Run "nova-rescue-ext-status overrides", then install a '
                'nova-rescue-ext that supports this Nova and restart the '
                'service' % _in_words(severe + mild))
        for override in overrides.declared():
            self._waiting.setdefault(override.module, []).append(override)
        for addition in overrides.additions():
            self._waiting.setdefault(addition.module, []).append(addition)
        return _in_words(mild)

    def _watch_import(self, module: str) -> None:
        """Apply the module's overrides when it is imported, or now."""
        if module in self._hooked:
            if module in sys.modules:
                self._on_import(sys.modules[module])
            return
        self._hooked.add(module)
        wrapt.register_post_import_hook(self._on_import, module)

    def _on_import(self, module: types.ModuleType) -> None:
        """Apply the overrides of a module that has just been imported.

        Raises nothing, as that would fail the import of Nova's module.
        """
        if not self._due.add(module):
            return
        try:
            while (due := self._due.take()) is not None:
                for override in self._waiting.pop(due.__name__, []):
                    self._applied.append(overrides.apply(override, due))
        except Exception as exc:
            self._refuse(exc)
            self._due.clear()


class _DueModules:
    """Imported modules of Nova, whose overrides one thread applies in turn.

    A module of ours may import the module of Nova that it overrides, and has
    to be complete first. So a thread completes one module before it begins
    with the next, and other threads leave theirs to it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._modules: list[tuple[types.ModuleType, threading.Event]] = []
        self._current: threading.Event | None = None
        self._thread: int | None = None  # the one that is applying

    def add(self, module: types.ModuleType) -> bool:
        """Add a module.

        :returns: whether the caller has to apply what take() returns, until
            that is None. If not, another thread has done so or takes
            unusually long, or the caller is in the middle of it.
        """
        done = threading.Event()
        with self._lock:
            self._modules.append((module, done))
            if self._thread is None:
                self._thread = threading.get_ident()
                return True
            if self._thread == threading.get_ident():
                return False
        done.wait(_PATIENCE)
        return False

    def take(self) -> types.ModuleType | None:
        """Mark the current module as done and return the next, or None."""
        with self._lock:
            if self._current is not None:
                self._current.set()
            if not self._modules:
                self._current = self._thread = None
                return None
            module, self._current = self._modules.pop()
            return module

    def clear(self) -> None:
        """Drop all modules, and let threads that wait for them go on."""
        with self._lock:
            for _, done in self._modules:
                done.set()
            self._modules.clear()
            if self._current is not None:
                self._current.set()
            self._current = self._thread = None


def _in_words(objections: list[str], most: int = 3) -> str:
    words = '; '.join(objections[:most])
    if len(objections) > most:
        words += '; and %d more' % (len(objections) - most)
    return words

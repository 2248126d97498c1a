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


"""The way in: a configuration source driver that activates the package.

oslo.config opens configuration sources when a service parses its
configuration: after any monkey patching, before managers and controllers
exist. Ours has no option values to offer; opening it activates the overrides,
all of them or none.
"""

import functools
import importlib.metadata
import sys
import typing

from oslo_config import cfg
from oslo_config import sources
from oslo_log import log as logging
from oslo_reports import guru_meditation_report as gmr
from oslo_reports.models import with_default_views
import wrapt

import nova_rescue_ext
from nova_rescue_ext.activation import exception
from nova_rescue_ext.activation import overrides
from nova_rescue_ext.activation import verification
from nova_rescue_ext import conf as ext_conf
from nova_rescue_ext import microversion

LOG = logging.getLogger(__name__)

NOT_LOADED = 'not imported by this service yet'
APPLIED = 'applied'


class Driver(sources.ConfigurationSourceDriver):
    """The oslo.config driver ``nova_rescue_ext``."""

    def list_options_for_discovery(self):
        return ext_conf.OPTS

    def open_source_from_opt_group(self, conf, group_name):
        """Activate the package in a service of Nova.

        Never raises: oslo.config would hide it in a line about sources.
        """
        # Nova's privsep daemons and our own commands parse nova.conf, too.
        if conf.project == 'nova':
            _keep_lines()
            activate(conf)
        return _NoValues()


class _NoValues(sources.ConfigurationSource):

    def get(self, group_name, option_name, opt):
        return (sources._NoValue, None)


class _State:
    """What the package does in this process."""

    def __init__(self):
        self.active = False
        self.refusal = None
        self.nova_release = None
        self.waiting = {}  # module of Nova -> overrides not applied yet
        self.imported = []  # modules of Nova whose overrides are due
        self.applying = False
        self.applied = []


_state = _State()
_hooked = set()
_reporting = False
_kept_lines = None  # a list while logging is not set up


def activate(conf=cfg.CONF):
    """Verify the installed Nova and override it. Idempotent.

    Refuses, with one ERROR line, when anything is not as the package expects
    it; then nothing of Nova is touched.

    :param conf: the configuration that holds group ``[rescue_ext]``
    :returns: whether the package is active
    """
    global _state
    if _state.active:
        return True
    _state = _State()
    _report_in_guru_meditation()
    try:
        unverified = _prepare(_state, conf)
    except Exception as exc:
        _refuse(exc)
        return False
    _state.active = True
    for module in list(_state.waiting):
        _watch_import(module)
    if not _state.active:
        return False
    if unverified:
        _say(LOG.warning,
             'nova-rescue-ext is active on code that it was not tested on, '
             'because [rescue_ext] allow_unverified is set: %s. Run '
             '"nova-rescue-ext-status overrides" for all of it.', unverified)
    _say(LOG.info, '%s', summary())
    return True


def deactivate():
    """Take every override off and forget the activation. Idempotent."""
    global _state
    for applied in reversed(_state.applied):
        applied.remove()
    _state = _State()


def is_active():
    """Whether the overrides are in force in this process."""
    return _state.active


def summary():
    """The state of the package in this process, in one line."""
    if _state.refusal:
        return _state.refusal
    if not _state.active:
        return 'nova-rescue-ext %s is not active' % version()
    count = len(_state.applied) + sum(map(len, _state.waiting.values()))
    return ('nova-rescue-ext %s is active on Nova %s: %d overrides, API '
            'compute-rescue %s to %s (default %s)' % (
                version(), _state.nova_release, count,
                microversion.MIN_VERSION, microversion.MAX_VERSION,
                microversion.default_version()))


def override_states():
    """The state of each override in this process.

    :returns: dict, Nova callable -> APPLIED or NOT_LOADED
    """
    states = {override.target: NOT_LOADED
              for waiting in _state.waiting.values() for override in waiting}
    states.update((applied.override.target, APPLIED)
                  for applied in _state.applied)
    return states


def version():
    """The version of the package."""
    return importlib.metadata.version(nova_rescue_ext.DISTRIBUTION)


class Examination(typing.NamedTuple):
    """The installed Nova, compared with what the package was tested on."""

    nova_release: str
    supported: bool
    findings: typing.List[verification.Finding]
    misfits: typing.List[str]

    def objections(self):
        """What speaks against activation, in words, worst first.

        :returns: (list of what can never be allowed, list of what
            ``allow_unverified`` allows)
        """
        severe = ['%s is missing (%s)' % (finding.callable, finding.detail)
                  for finding in self.findings
                  if finding.state == verification.MISSING] + self.misfits
        mild = [] if self.supported else [
            'the package supports the Nova series %s' % ', '.join(
                verification.supported_series())]
        mild += ['%s differs from the Nova releases that it was tested on'
                 % finding.callable for finding in self.findings
                 if finding.state in (verification.DIFFERS,
                                      verification.UNKNOWN)]
        return severe, mild


def examine():
    """Compare the installed Nova with what the package was tested on.

    Imports nothing of Nova and changes nothing.

    :returns: an Examination
    :raises: SourceNotFound if there is no Nova
    """
    verification.forget_sources()
    release = verification.nova_release()
    supported = (verification.series_of(release)
                 in verification.supported_series())
    findings = verification.verify(release) if supported else []
    states = {finding.callable: finding.state for finding in findings}
    misfits = []
    for override in overrides.declared():
        if override.target not in states:
            findings.append(verification.Finding(
                override.target, verification.UNKNOWN,
                'not tested on this Nova series'))
        if states.get(override.target) == verification.MISSING:
            continue
        try:
            overrides.check_fit(override)
        except (exception.Misfit, exception.SourceNotFound) as exc:
            misfits.append(str(exc))
    verification.forget_sources()
    return Examination(release, supported, findings, misfits)


def _prepare(state, conf):
    """Everything that may refuse, before anything is touched.

    :returns: objections that [rescue_ext] allow_unverified overrode, in words
    """
    state.nova_release = verification.nova_release()
    ext_conf.register_opts(conf)
    try:
        ext_conf.check_values(conf)
        microversion.set_default_version(conf.rescue_ext.default_api_version)
    except ValueError as exc:
        raise exception.Refused(
            '%s. Correct group [rescue_ext] of nova.conf and restart the '
            'service' % exc)
    examination = examine()
    severe, mild = examination.objections()
    if severe or (mild and not conf.rescue_ext.allow_unverified):
        raise exception.Refused(
            '%s. Run "nova-rescue-ext-status overrides", then install a '
            'nova-rescue-ext that supports this Nova and restart the service'
            % _in_words(severe + mild))
    for override in overrides.declared():
        state.waiting.setdefault(override.module, []).append(override)
    return _in_words(mild)


def _in_words(objections, most=3):
    words = '; '.join(objections[:most])
    if len(objections) > most:
        words += '; and %d more' % (len(objections) - most)
    return words


def _refuse(reason):
    """Keep or make this process stock Nova, and say why."""
    global _state
    release = _state.nova_release or 'unknown'
    for applied in reversed(_state.applied):
        applied.remove()
    _state = _State()
    _state.nova_release = release
    _state.refusal = (
        'nova-rescue-ext %s is NOT active, Nova %s runs as stock: %s.' % (
            version(), release, str(reason) or type(reason).__name__))
    unexpected = not isinstance(reason, exception.ActivationError)
    _say(LOG.error, '%s', _state.refusal,
         exc_info=(type(reason), reason, reason.__traceback__)
         if unexpected else None)


def _watch_import(module):
    """Apply the module's overrides when it is imported, or now if it was."""
    if module in _hooked:  # wrapt does not forget hooks
        if module in sys.modules:
            _on_import(sys.modules[module])
        return
    _hooked.add(module)
    wrapt.register_post_import_hook(_on_import, module)


def _on_import(module):
    """Apply the overrides of a module that has just been imported.

    Contained: what is raised here would fail the import of Nova's module.
    """
    _state.imported.append(module)
    if _state.applying:
        # Ours is being imported and has imported this module. What overrides
        # it may be what is being imported: it has to be complete first.
        return
    _state.applying = True
    try:
        while _state.imported:
            _apply(_state.imported.pop())
    except Exception as exc:
        _refuse(exc)
    _state.applying = False


def _apply(module):
    for override in _state.waiting.pop(module.__name__, []):
        _state.applied.append(overrides.Applied(override, module))


def _say(log, *args, **kwargs):
    """Log, or keep the line until the service has set up logging."""
    if _kept_lines is None:
        log(*args, **kwargs)
    else:
        _kept_lines.append(functools.partial(log, *args, **kwargs))


def _keep_lines():
    """Keep log lines back until oslo.log is set up.

    Services parse their configuration, and so open the driver, before that: a
    line that is logged then never reaches the service's log.
    """
    global _kept_lines
    if _kept_lines is not None:
        return
    _kept_lines = []
    setup = logging.setup

    @functools.wraps(setup)
    def setup_and_log(*args, **kwargs):
        global _kept_lines
        logging.setup = setup
        setup(*args, **kwargs)
        lines, _kept_lines = _kept_lines, None
        for line in lines:
            line()

    logging.setup = setup_and_log


def _report_in_guru_meditation():
    global _reporting
    if not _reporting:
        _reporting = True
        gmr.TextGuruMeditation.register_section('nova-rescue-ext', _report)


def _report():
    return with_default_views.ModelWithDefaultViews(
        {'state': summary(), 'overrides': override_states()})

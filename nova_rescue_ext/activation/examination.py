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


"""May the package be activated on the installed Nova?"""

import typing

from nova_rescue_ext.activation import distribution
from nova_rescue_ext.activation import exception
from nova_rescue_ext.activation import overrides
from nova_rescue_ext.activation import verification


class Examination(typing.NamedTuple):
    """The installed Nova, compared with what the package was tested on.

    ``misfits`` is what is wrong with the package itself, in words.
    """

    nova_release: str
    supported: bool
    findings: list[verification.Finding]
    misfits: list[str]

    def objections(self) -> tuple[list[str], list[str]]:
        """What speaks against activation, in words, worst first.

        :returns: (list of what can never be allowed, list of what
            ``allow_unverified`` allows)
        """
        severe = ['%s is missing (%s)' % (finding.callable, finding.detail)
                  for finding in self.findings
                  if finding.state == verification.MISSING] + self.misfits
        mild = [] if self.supported else [
            'the package supports the Nova series %s' % ', '.join(
                verification.SERIES)]
        mild += ['%s differs from the Nova releases that it was tested on'
                 % finding.callable for finding in self.findings
                 if finding.state in (verification.DIFFERS,
                                      verification.UNKNOWN)]
        return severe, mild


def examine() -> Examination:
    """Compare the installed Nova with what the package was tested on.

    :raises: SourceNotFound if there is no Nova; DigestsUnusable
    """
    verification.forget_sources()
    release = verification.nova_release()
    series = verification.series_of(release)
    declared = overrides.declared()
    # The newest stands for a series that the package does not know.
    misfits = _foreign_metadata(
        {override.target for override in declared},
        series if series in verification.SERIES else verification.SERIES[-1])
    findings = (verification.verify(release)
                if series in verification.SERIES else [])
    states = {finding.callable: finding.state for finding in findings}
    for override in declared:
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
    return Examination(release, series in verification.SERIES, findings,
                       misfits)


def _foreign_metadata(declared: set[str], series: str) -> list[str]:
    """Whether what is declared belongs to the code that was imported.

    The overrides are in the metadata of the distribution, which may be left
    over from another version.
    """
    tested = set(verification.load_digests(series))
    added = {addition.target for addition in overrides.additions()}
    differences = sorted(
        ['%s is not declared' % target for target
         in (verification.overridden(series) - declared)
         | (overrides.CALLED - added)]
        + ['%s is not known' % target for target
           in (declared - tested) | (added - overrides.CALLED)])
    if not differences:
        return []
    return ['the metadata of nova-rescue-ext is not that of its code, as %s. '
            'Found: %s. Uninstall nova-rescue-ext until none is left, then '
            'install it once' % (
                _first(differences), ', '.join(distribution.all_in_words()))]


def _first(differences: list[str]) -> str:
    rest = len(differences) - 1
    return differences[0] + (' (and %d more)' % rest if rest else '')

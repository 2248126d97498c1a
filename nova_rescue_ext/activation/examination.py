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


"""Whether the package may be activated on the installed Nova."""

import typing

from nova_rescue_ext.activation import distribution
from nova_rescue_ext.activation import exception
from nova_rescue_ext.activation import overrides
from nova_rescue_ext.activation import verification


class Examination(typing.NamedTuple):
    """The installed Nova, compared with what the package was tested on.

    :ivar misfits: what does not fit Nova or is wrong with the package, in
        words
    """

    nova_release: str
    supported: bool
    findings: list[verification.Finding]
    misfits: list[str]

    def objections(self) -> tuple[list[str], list[str]]:
        """The objections to an activation, in words.

        :returns: (those that always hold, those that ``allow_unverified``
            overrides)
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
    # For an unknown series, those of the newest are compared.
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
    """Compare the declared overrides with those of the imported code.

    They are declared in the metadata of the distribution, which may be left
    over from another version.

    :returns: what is wrong, in words; empty if nothing is
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

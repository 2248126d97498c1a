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


"""The section of the package in Nova's Guru Meditation Report."""

import collections.abc

from oslo_reports import guru_meditation_report as gmr
from oslo_reports.models import with_default_views

_registered = False


def register(summary: collections.abc.Callable[[], str],
             states: collections.abc.Callable[[], dict[str, str]]) -> None:
    """Add the section to the reports of this process. Idempotent.

    :param summary: returns the state of the package in one line
    :param states: returns the state of each override
    """
    global _registered
    if not _registered:
        _registered = True
        gmr.TextGuruMeditation.register_section(
            'nova-rescue-ext',
            lambda: with_default_views.ModelWithDefaultViews(
                {'state': summary(), 'overrides': states()}))

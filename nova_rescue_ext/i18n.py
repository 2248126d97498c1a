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


"""Translation of what users read, in a domain of the package's own.

``_`` translates when it is called, so call it when a sentence is needed and
not at import. ``N_`` only marks a sentence for the translators.
"""

import oslo_i18n

DOMAIN = 'nova_rescue_ext'

_translators = oslo_i18n.TranslatorFactory(domain=DOMAIN)

_ = _translators.primary


def N_(sentence: str) -> str:
    """Mark a sentence that is translated later.

    :param sentence: in English
    """
    return sentence

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


"""The installed distribution of the package, and others of the same name."""

import importlib.metadata

import nova_rescue_ext


def current() -> importlib.metadata.Distribution:
    """The first on the path, as Python imports the package."""
    return importlib.metadata.distribution(nova_rescue_ext.DISTRIBUTION)


def version() -> str:
    """The version of the package."""
    return current().version


def all_in_words() -> list[str]:
    """The version and the folder of each that is on the path."""
    found = importlib.metadata.distributions(
        name=nova_rescue_ext.DISTRIBUTION)
    return list(dict.fromkeys(
        '%s in %s' % (distribution.version, distribution.locate_file(''))
        for distribution in found))

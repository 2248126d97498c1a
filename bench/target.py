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

"""A method and an override that does nothing, for bench.calls."""


class Target:
    """Stands for a class of Nova."""

    def method(self, argument):
        """What Nova would do."""
        return argument


def pass_on(original, self, argument):
    """An override that calls the original and adds nothing."""
    return original(argument)

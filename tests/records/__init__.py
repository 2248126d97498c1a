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

"""What was run on which Nova, and the page of the contributor guide about it.

Whole suites take hours, so they are run in slices, in many short runs. Each
adds what it found to a file in ``data``, which is committed: counts and
differences, not the names of all tests. :mod:`~tests.records.page` makes
``doc/source/contributor/tested-on.rst`` of them.
"""

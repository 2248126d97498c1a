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

"""Whether the tests would notice: faults that are put in, one at a time.

``make mutants`` picks places at random, changes one, runs the tests that cover
it, quickest first, and keeps what came of it. Modules:

* ``operators``: what can be changed in a source;
* ``coverage``: which tests execute which statement;
* ``tree``: a copy of the checkout, in which the changes are made;
* ``worker`` and ``processes``: a process that has imported Nova, forked for
  each change;
* ``results``: what came of it, and the page.

mutmut and cosmic-ray start the tests anew for each change. Here that is to
import Nova, which takes longer than most of the tests.
"""

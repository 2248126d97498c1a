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


# Nova's services run on eventlet here as in Nova's own functional tests: it
# must be patched before anything else of Nova is imported. Nova 32 does so in
# nova.test only, when our own imports have bound what is not patched.
from nova import monkey_patch

if hasattr(monkey_patch, 'patch'):  # up to Nova 31 the import patches
    monkey_patch.patch()

from tests.functional import eager  # noqa: E402
from tests.functional import transactions  # noqa: E402

eager.use()
transactions.keep_whole()

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

"""Whatever happens, at whatever moment: a program looks for what is lost.

An operation runs in a cloud of the functional tests. At each boundary at which
it calls out, the process is forked; in the child something happens: the call
fails, its answer is lost, the service crashes, or somebody else acts on the
server. The child goes on until the cloud is at rest, and checks what must stay
true. doc/source/contributor/explorer.rst has the guide.
"""

# It patches with eventlet, which has to come before anything else.
from tests import functional  # noqa: F401

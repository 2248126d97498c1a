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

"""Nova's own tests with the package active and nothing opted in.

Their results must be the same as without the package::

    python -m tests.nova_suite [--select quick|full] [--list] [--stock-only]
    python -m tests.nova_suite --select full --slice 3/12

:mod:`~tests.nova_suite.selection` knows which tests, in files such as
``quick.txt``. :mod:`~tests.nova_suite.runner` feeds them to two
:mod:`~tests.nova_suite.worker` processes. :mod:`~tests.nova_suite.verdict`
runs what did not pass again, stock and active, and judges;
:mod:`~tests.nova_suite.explained` has the differences that there have to be.
:mod:`~tests.nova_suite.recorded` runs slices and keeps what they find.
"""

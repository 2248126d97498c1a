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

"""``make demo``: the package in an embedded cloud, driven over HTTP.

``python -m demo`` tells all stories (``story_*.py``), ``python -m demo NAME``
one of them. A story is a module with a docstring and ``tell(stage)``; it plays
on :class:`demo.stage.Stage`, which has the cloud of :mod:`demo.cloud`, users
with an openstacksdk connection each, and the transcript. What a story shows it
also checks: the first check that fails ends it, and the exit status is 1.
"""

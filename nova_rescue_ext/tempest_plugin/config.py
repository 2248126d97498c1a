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

"""Options in tempest.conf."""

from oslo_config import cfg

GROUP = cfg.OptGroup('compute_rescue', title='Options of nova-rescue-ext')

OPTS: list[cfg.Opt] = [
    cfg.StrOpt(
        'max_version', default='1.4',
        help='The highest version of compute-rescue to test. Tests that need '
             'a higher one are skipped. If it is empty, all are.'),
    cfg.StrOpt(
        'rescue_image_ref', default='',
        help='The ID of a rescue image that has neither hw_rescue_device nor '
             'hw_rescue_bus. Default: [compute] image_ref.'),
    cfg.StrOpt(
        'stable_rescue_image_ref', default='',
        help='The ID of a rescue image that has hw_rescue_device or '
             'hw_rescue_bus. Default: a snapshot of a server, with both '
             'properties added.'),
    cfg.StrOpt(
        'ready_line', default='',
        help='A line that the console shows when a rescue system from the '
             'image of the servers, [compute] image_ref, is ready. Default: '
             'it is not tested.'),
]

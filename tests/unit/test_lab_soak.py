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

"""The plans of the lab's soak."""

import unittest

from tests.lab import faults
from tests.lab.soak import calls
from tests.lab.soak import left_open
from tests.lab.soak import plans

_ROUNDS = [plans.choose('seed', number) for number in range(500)]


class PlansTest(unittest.TestCase):

    def test_seed_and_number_replay_a_round(self):
        self.assertEqual(_ROUNDS[7], plans.choose('seed', 7))
        self.assertNotEqual(_ROUNDS[7], plans.choose('other', 7))

    def test_rounds_differ(self):
        self.assertLess(400, len(set(_ROUNDS)))

    def test_all_that_there_is_happens(self):
        names = {name for each in _ROUNDS for act in each.acts
                 for name in act.names}
        self.assertEqual(set(calls.ALL), names)
        self.assertLess({each.fault.name for each in _ROUNDS if each.fault},
                        set(faults.ALL))

    def test_two_servers_that_differ(self):
        for each in _ROUNDS:
            self.assertEqual(2, len({act.server for act in each.acts}))

    def test_no_failure_in_what_is_stock(self):
        for each in _ROUNDS:
            for act in each.acts:
                self.assertFalse(
                    each.fault and 'migrate_active' in act.names, each)

    def test_no_reset_into_a_migration(self):
        for each in _ROUNDS:
            for act in each.acts:
                self.assertFalse(
                    {'migrate', 'migrate_active'} & act.names
                    and {'reset_active', 'reset_error'} & act.names, each)


class LeftOpenTest(unittest.TestCase):

    def test_only_what_happened_explains_it(self):
        violation = 'ACTIVE, but no guest runs'
        self.assertIsNotNone(left_open.reason_of(
            'plain ACTIVE: rescue_stable at 0.0 | qemu at 1.0', violation))
        self.assertIsNone(left_open.reason_of(
            'plain ACTIVE: rescue_stable at 0.0 | network at 1.0', violation))

    def test_never_two_guests(self):
        for happened in ('qemu at 1.0', 'reset_error at 1.0'):
            self.assertIsNone(left_open.reason_of(
                happened, 'two guests of one server run'))

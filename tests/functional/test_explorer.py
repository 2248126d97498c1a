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

"""What would make the explorer find nothing without anybody noticing."""

import collections
import contextlib
import unittest

from oslo_messaging.rpc import client as rpc_client

from tests import fixtures as tests_fixtures

tests_fixtures.need_eventlet()

from tests.explorer import actors
from tests.explorer import boundaries
from tests.explorer import failures
from tests.explorer import mutations
from tests.explorer import schedules


class MutationsTest(unittest.TestCase):

    def test_the_remedies_are_where_they_are_taken_out(self):
        for name in mutations.ALL:
            with self.subTest(name):
                self.assertTrue(all(
                    callable(getattr(*place))
                    for place in mutations.places_of(name)))


class SchedulesTest(unittest.TestCase):

    def test_text_is_read_as_it_is_written(self):
        text = 'rescue-legacy@compute1/Domain.destroy#1=delete+5=switch+2=fail'
        self.assertEqual(text, str(schedules.parse(text)))

    def test_text_without_a_happening_is_refused(self):
        self.assertRaises(ValueError, schedules.parse, 'rescue@api/x#1')


class ActorsTest(unittest.TestCase):

    def test_who_has_not_begun_is_at_work(self):
        # Or an intruder is not waited for.
        found = actors.Actors.__new__(actors.Actors)  # it patches Nova
        found._of, found._lives = {}, collections.Counter()
        found._at_work = collections.Counter()
        thread = found.spawn(found.actor(actors.API, 'delete'), lambda: None)
        self.assertEqual(1, found.at_work('delete'))
        thread.wait()
        self.assertEqual(0, found.at_work('delete'))


class MessagesTest(unittest.TestCase):
    """What becomes of a message that is late, delayed or doubled."""

    def send(self, happening):
        """Cast with a happening; returns (how often now, how often later)."""
        sent, spawned = [], []
        outcome = failures.Outcome(
            happening, lambda: TimeoutError(),
            lambda function, args, kwargs: spawned.append(
                (function, args, kwargs)))

        class Explorer:
            @staticmethod
            @contextlib.contextmanager
            def at(kind, label, error, only_reads):
                outcome.before()
                yield outcome
                outcome.after()

        cast, call = (rpc_client._BaseCallContext.cast,
                      rpc_client._BaseCallContext.call)
        self.addCleanup(setattr, rpc_client._BaseCallContext, 'cast', cast)
        self.addCleanup(setattr, rpc_client._BaseCallContext, 'call', call)
        rpc_client._BaseCallContext.cast = (
            lambda itself, context, method, **kwargs: sent.append(method))
        boundaries._install_rpc(Explorer)
        with contextlib.suppress(TimeoutError):
            rpc_client._BaseCallContext.cast(None, None, 'rescue_instance')
        return len(sent), len(spawned)

    def test_as_ever(self):
        self.assertEqual((1, 0), self.send(failures.NONE))

    def test_fails(self):
        self.assertEqual((0, 0), self.send(failures.FAIL))

    def test_late(self):
        self.assertEqual((0, 1), self.send(failures.LATE))

    def test_delayed(self):
        self.assertEqual((0, 1), self.send(failures.DELAYED))

    def test_doubled(self):
        self.assertEqual((1, 1), self.send(failures.DOUBLED))

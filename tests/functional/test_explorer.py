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
import json
import os
import tempfile
import types
import unittest
from unittest import mock

from oslo_messaging.rpc import client as rpc_client

from tests import fixtures as tests_fixtures

tests_fixtures.need_eventlet()

from tests.explorer import actors
from tests.explorer import boundaries
from tests.explorer import explored
from tests.explorer import failures
from tests.explorer import left_open
from tests.explorer import mutations
from tests.explorer import proof
from tests.explorer import schedules


class MutationsTest(unittest.TestCase):

    def test_the_remedies_are_where_they_are_taken_out(self):
        for name in mutations.ALL:
            with self.subTest(name):
                self.assertTrue(all(
                    callable(getattr(*place))
                    for place in mutations.places_of(name)))


class ProofTest(unittest.TestCase):

    FOUND = 'rescue-legacy@compute1/Domain.destroy#1=delete'

    def answer(self, name, **changes):
        return dict(dict(
            schedule=self.FOUND, number=7, seconds=9, violation='lost',
            date='2026-11-28', commit='abcdef0',
            definition=proof.definition(name)), **changes)

    def test_the_table_is_that_of_the_results(self):
        with open(proof.TABLE) as file:
            self.assertEqual(proof.table(proof.read()), file.read())

    def test_it_goes_on_with_what_was_not_found(self):
        never, missed, changed, *found = mutations.ALL
        answers = {name: self.answer(name) for name in found}
        answers[missed] = self.answer(missed, schedule=None)
        answers[changed] = self.answer(changed, definition='another')
        self.assertEqual([never, missed, changed],
                         proof.chosen([], answers))
        self.assertEqual(list(mutations.ALL), proof.chosen(['all'], answers))
        self.assertEqual([found[0]], proof.chosen([found[0]], answers))

    def test_parts_are_disjoint_and_all(self):
        parts = [proof.chosen(['%d/3' % part], {}) for part in (1, 2, 3)]
        self.assertEqual(sorted(mutations.ALL), sorted(sum(parts, [])))

    def test_violated_with_the_remedy_is_not_found(self):
        name = next(iter(mutations.ALL))
        mutation = mutations.ALL[name]._replace(violation='lost')
        result = types.SimpleNamespace(schedule=self.FOUND, happened=(),
                                       violations=['it is lost'])
        for with_remedy, expected in (
                ([], (self.FOUND, 'it is lost')),
                ([result], (None, None))):
            self.assertEqual(expected, proof.confirmed(
                lambda *args, **kwargs: (with_remedy, True, 1), mutation,
                [result]))

    def test_another_definition_for_another_remedy(self):
        definitions = {proof.definition(name) for name in mutations.ALL}
        self.assertEqual(len(mutations.ALL), len(definitions))


class SchedulesTest(unittest.TestCase):

    def test_text_is_read_as_it_is_written(self):
        text = 'rescue-legacy@compute1/Domain.destroy#1=delete+5=switch+2=fail'
        self.assertEqual(text, str(schedules.parse(text)))

    def test_text_without_a_happening_is_refused(self):
        self.assertRaises(ValueError, schedules.parse, 'rescue@api/x#1')

    def several(self, only=(), number=400):
        often = [boundaries.Boundary('compute1', 'db.save', 'database',
                                     number, False) for number in range(99)]
        once = boundaries.Boundary('compute1', 'Domain.destroy', 'libvirt', 1,
                                   False)
        return schedules.several('rescue', often + [once], ('delete',), '1',
                                 number, only)

    def test_one_seed_one_choice(self):
        self.assertEqual(self.several(), self.several())

    def test_what_is_called_often_is_not_chosen_more_often(self):
        labels = collections.Counter(each.key.partition('#')[0]
                                     for each in self.several())
        self.assertLess(100, labels['compute1/Domain.destroy'])

    def test_after_a_failure_nobody_is_waited_for(self):
        """Nobody else is there."""
        for each in self.several(only=(failures.FAIL,)):
            self.assertEqual({failures.FAIL},
                             {step.happening for step in each.steps})


class ExploredTest(unittest.TestCase):
    """What is kept of several runs."""

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.data = os.path.join(self.folder.name, 'explored.json')
        self.patch('_DATA', new=self.data)
        self.commit = self.patch('_commit', return_value='one')

    def patch(self, name, **what):
        patch = mock.patch.object(explored, name, **what)
        self.addCleanup(patch.stop)
        return patch.start()

    def add(self, *schedules, violations=(), seed='1'):
        path = os.path.join(self.folder.name, 'unrescue')
        with open(path, 'w') as file:
            for schedule in schedules:
                file.write(json.dumps(dict(
                    schedule=schedule, violations=list(violations),
                    seed=seed, end={'status': 'ACTIVE'})) + '\n')
        with open(path + '.seen', 'w') as file:
            json.dump([dict(service='api', label='db.x', kind='database',
                            number=1, only_reads=True)], file)
        explored.add('unrescue', path)

    def kept(self):
        with open(self.data) as file:
            return json.load(file)['unrescue']

    def test_seeds_add_up(self):
        self.add('unrescue@api/db.x#1=fail+1=fail', seed='1')
        self.add('unrescue@api/db.x#1=fail+2=fail', seed='2')
        self.add('unrescue@api/db.x#1=fail')
        self.assertEqual({'1': 1, '2': 1, 'singles': 1}, {
            each: summary['ran'] for each, summary in self.kept().items()})

    def test_fewer_do_not_stand_for_more(self):
        self.add('unrescue@api/db.x#1=fail', 'unrescue@api/db.x#1=lost')
        self.commit.return_value = 'two'
        self.add('unrescue@api/db.x#1=fail')
        self.assertEqual((2, 'one'), (self.kept()['singles']['ran'],
                                      self.kept()['singles']['commit']))

    def test_what_ran_twice_counts_once(self):
        self.add('unrescue@api/db.x#1=fail', 'unrescue@api/db.x#1=fail')
        self.assertEqual(1, self.kept()['singles']['ran'])

    def test_page_tells_what_is_violated(self):
        self.add('unrescue@api/db.x#1=fail', violations=['a task is *odd*'])
        text = explored.page({'unrescue': self.kept()})
        self.assertIn('1 of 1 schedules with one happening ran', text)
        self.assertIn(r'a task is \*odd\* (1 schedules)', text)


class LeftOpenTest(unittest.TestCase):

    def test_no_entry_excuses_lost_data(self):
        for violation in ('two guests of one server: []',
                          'after the unrescue: a guest on compute1, the '
                          'server is on compute2',
                          'the disk disk is gone from compute2',
                          'deleted, but there is a domain: []'):
            for first in ('rescue-legacy@api/rpc.cast.x#1=fail',
                          'migrate@compute1/db.x#1=crash+3=lost',
                          'migrate@compute1/db.x#1=reset_error',
                          'rebuild-bfv@conductor/db.x#1=reset_active'):
                with self.subTest(violation, schedule=first):
                    self.assertIsNone(left_open.reason_of(
                        first, [violation], [violation]))


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

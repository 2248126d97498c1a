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


"""What a rebuild writes by hand, on the databases that clouds have.

MariaDB and PostgreSQL enforce foreign keys, SQLite does not; both isolate
transactions otherwise.
"""

import datetime
import threading
import types

from nova import context as nova_context
from nova.db.api import api as api_db_api
from nova.db.api import models as api_models
from nova.db.main import api as main_db_api
from nova.db.main import models as main_models
from nova import exception
from nova.network import security_group_api
from nova import objects
from nova import test
from oslo_db import exception as db_exc
from oslo_db.sqlalchemy import enginefacade
from oslo_serialization import jsonutils
from oslo_utils.fixture import uuidsentinel as uuids
import sqlalchemy as sa
from sqlalchemy import orm

from nova_rescue_ext import exception as ext_exception
from nova_rescue_ext.rebuild import building
from nova_rescue_ext.rebuild import database
from nova_rescue_ext.rebuild import recovery
from nova_rescue_ext.rebuild import spec_extras as extras
from tests.functional import base
from tests.functional import database_servers
from tests.functional import rebuild_base

CREATED_AT = datetime.datetime(2026, 1, 2, 3, 4, 5,
                               tzinfo=datetime.timezone.utc)


class _DatabaseTests:
    """The tests; SERVER is one of database_servers."""

    USES_DB_SELF = True
    IS_CONCURRENT = True

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.server = database_servers.start(cls.SERVER)
        cls.addClassCleanup(cls.server.stop)
        cls.urls = {}
        for name, models in (('api', api_models), ('main', main_models)):
            cls.urls[name] = cls.server.create('nova_' + name)
            models.BASE.metadata.create_all(cls.server.engine('nova_' + name))

    def setUp(self):
        super().setUp()
        self.useFixture(base.Activation())
        objects.register_all()
        self._use(api_db_api, 'context_manager', 'api')
        self._use(main_db_api, 'context_manager', 'main')
        self.context = nova_context.get_admin_context()
        self.addCleanup(self._empty)
        self.cell = self.make_cell()
        self.make_server()

    def make_cell(self):
        cell = objects.CellMapping(
            self.context, uuid=objects.CellMapping.CELL0_UUID, name='cell0',
            transport_url='none:///', database_connection=self.urls['main'])
        cell.create()
        return cell

    def _use(self, module, name, which):
        """Have Nova use our database in place of its own."""
        manager = getattr(module, name)
        factory = enginefacade.transaction_context()
        factory.configure(connection=self.urls[which], max_retries=1)
        self.addCleanup(manager.patch_factory(factory))
        self.addCleanup(factory.writer.get_engine().dispose)

    def _empty(self):
        for name, models in (('api', api_models), ('main', main_models)):
            with self.server.engine('nova_' + name).begin() as connection:
                for table in reversed(models.BASE.metadata.sorted_tables):
                    connection.execute(table.delete())

    def make_server(self):
        """A server in cell0 with a row in every table that knows it."""
        uuid = uuids.server
        with main_db_api.context_manager.writer.using(self.context):
            session = self.context.session
            session.add(main_models.Instance(
                uuid=uuid, project_id='p', user_id='u', vm_state='error',
                created_at=CREATED_AT.replace(tzinfo=None)))
            session.flush()
            session.add_all([
                main_models.InstanceExtra(instance_uuid=uuid),
                main_models.InstanceInfoCache(instance_uuid=uuid),
                main_models.InstanceMetadata(
                    instance_uuid=uuid, key='a', value='b'),
                main_models.InstanceSystemMetadata(
                    instance_uuid=uuid, key='a', value='b'),
                main_models.InstanceFault(instance_uuid=uuid, code=500),
                main_models.BlockDeviceMapping(instance_uuid=uuid, deleted=9),
                main_models.Tag(resource_id=uuid, tag='one'),
                main_models.InstanceIdMapping(uuid=uuid),
            ])
            action = main_models.InstanceAction(
                instance_uuid=uuid, action='create', request_id='req-1',
                start_time=CREATED_AT.replace(tzinfo=None))
            session.add(action)
            session.flush()
            session.add(main_models.InstanceActionEvent(
                action_id=action.id, event='build', result='Error'))
        objects.InstanceMapping(
            self.context, instance_uuid=uuid, cell_mapping=self.cell,
            project_id='p', user_id='u').create()
        self.spec = objects.RequestSpec(
            self.context, instance_uuid=uuid, num_instances=1,
            flavor=objects.Flavor(name='f'))
        self.spec.create()

    def begin(self, older=(), found=None, found_attempt=None, **keep):
        self.spec.num_instances += 1
        self.attempt = extras.new_attempt(self.cell, older)
        build = self.build(self.context, self.spec)
        _build_request, text, self.is_replaced = database.begin(
            self.context, build, self.cell, found or self.find(),
            dict(keep, rebuild=self.attempt), found_attempt)
        return text

    def build(self, context, spec):
        """A NewBuild, as far as it is written."""
        return types.SimpleNamespace(
            spec=spec, bdms=objects.BlockDeviceMappingList(objects=[]),
            tags=objects.TagList(objects=[]), instance=objects.Instance(
                context, uuid=uuids.server, vm_state='building',
                project_id='p'))

    def find(self, context=None):
        return objects.Instance.get_by_uuid(context or self.context,
                                            uuids.server)

    def mapped_cell(self):
        return objects.InstanceMapping.get_by_instance_uuid(
            self.context, uuids.server).cell_mapping

    def is_building(self):
        return database.is_wanted(self.context, uuids.server)

    def test_begin(self):
        self.begin()
        self.assertIsNone(self.mapped_cell())
        self.assertEqual({'rebuild': self.attempt}, extras.read(
            self.context, uuids.server))
        found = objects.BuildRequest.get_by_instance_uuid(
            self.context, uuids.server)
        self.assertEqual((CREATED_AT, CREATED_AT), (
            found.created_at, found.instance.created_at))

    def test_begin_twice(self):
        self.begin()
        self.assertRaises(db_exc.DBDuplicateEntry, self.begin)
        self.assertTrue(self.is_building())

    def test_begin_of_a_server_that_moved(self):
        self.change_mapping(cell_id=None)
        self.assertRaises(ext_exception.AlreadyRebuilding, self.begin)
        self.assertFalse(self.is_building())
        self.assertEqual({}, extras.read(self.context, uuids.server))

    def test_begin_of_a_server_that_is_in_another_cell(self):
        other = objects.CellMapping(
            self.context, uuid=uuids.cell, name='other',
            transport_url='none:///', database_connection=self.urls['main'])
        other.create()
        self.change_mapping(cell_id=other.id)
        self.assertRaises(ext_exception.AlreadyRebuilding, self.begin)
        self.assertFalse(self.is_building())
        self.assertEqual(uuids.cell, self.mapped_cell().uuid)

    def test_begin_of_a_server_that_changed(self):
        """After it was found and before the lock, it was rebuilt, or so."""
        found = self.find()
        for values in ({'id': found.id + 1}, {'host': 'host1'},
                       {'vm_state': 'active'}):
            self.change_row(**values)
            self.assertRaises(ext_exception.ServerChanged, self.begin,
                              found=found)
            self.change_row(id=found.id, host=None, vm_state='error',
                            updated_at=None)
        self.assertFalse(self.is_building())
        self.assertEqual(self.cell.uuid, self.mapped_cell().uuid)
        self.assertEqual({}, extras.read(self.context, uuids.server))
        self.begin(found=found)

    def test_begin_of_a_server_that_was_never_deleted(self):
        """Both are in the column of servers that are not."""
        for value in (None, False):
            self.change_mapping(queued_for_delete=value)
            self.begin()
            self.assertTrue(self.undo())

    def test_deadlocks_are_retried(self):
        """A cluster aborts one of two transactions that meet."""
        self.abort(3)
        self.begin()
        self.abort(3)
        self.assertTrue(self.undo())
        self.assertNotIn('rebuild', extras.read(self.context, uuids.server))
        self.begin()
        self.abort(3)
        database.destroy_row(self.context, self.find())
        self.abort(3)
        self.assertTrue(database.mark_sent(
            self.context, uuids.server, self.attempt, None))

    def abort(self, times):
        """Have the next transactions be aborted when they end."""
        left = [times]

        def fail(session):
            if left and (session.new or session.dirty or session.deleted
                         or session.in_transaction()):
                left[0] -= 1
                if left[0] == 0:
                    left.clear()
                    sa.event.remove(orm.Session, 'before_commit', fail)
                raise db_exc.DBDeadlock()

        sa.event.listen(orm.Session, 'before_commit', fail)

    def test_begin_of_a_server_that_is_deleted(self):
        self.change_mapping(queued_for_delete=True)
        self.assertRaises(ext_exception.AlreadyRebuilding, self.begin)
        self.assertFalse(self.is_building())
        self.assertIsNotNone(self.mapped_cell())

    def change_mapping(self, **values):
        with api_db_api.context_manager.writer.using(self.context):
            self.context.session.query(api_models.InstanceMapping).update(
                values)

    def test_undo_begin(self):
        self.begin()
        self.assertTrue(self.undo())
        self.assertFalse(self.is_building())
        self.assertEqual(self.cell.uuid, self.mapped_cell().uuid)
        self.assertEqual({}, extras.read(self.context, uuids.server))
        self.assertRaises(ext_exception.Overtaken, self.undo)

    def undo(self, attempt=None):
        return database.undo_begin(self.context, uuids.server, self.cell,
                                   attempt or self.attempt)

    def test_undo_begin_of_a_server_that_is_deleted(self):
        self.begin()
        self.delete_build_request()
        self.assertFalse(self.undo())
        self.assertIsNone(self.mapped_cell())

    def test_undo_begin_of_an_attempt_that_was_overtaken(self):
        """It was undone already, and there is another."""
        self.begin()
        slow = self.attempt
        self.undo()
        self.begin()
        self.assertRaises(ext_exception.Overtaken, self.undo, slow)
        self.assertTrue(self.is_building())
        self.assertIsNone(self.mapped_cell())
        self.assertRaises(ext_exception.Overtaken, database.mark_sent,
                          self.context, uuids.server, slow, None)
        self.assertNotIn('sent', extras.read(self.context, uuids.server))
        self.assertTrue(self.undo())
        self.assertRaises(ext_exception.Overtaken, database.mark_sent,
                          self.context, uuids.server, slow, None)

    def test_undo_begin_when_the_message_was_sent(self):
        self.begin()
        database.mark_sent(self.context, uuids.server, self.attempt, None)
        self.assertRaises(ext_exception.Overtaken, self.undo)
        self.assertTrue(self.is_building())

    def test_touched_row(self):
        """Whoever has read it before cannot remove it."""
        instance = self.find()
        for _round in range(2):
            self.assertTrue(database.touch_row(self.context, uuids.server))
            self.assertRaises(exception.ConstraintNotMet,
                              database.destroy_row, self.context, instance)
            instance = self.find()
        database.destroy_row(self.context, instance)
        self.assertFalse(database.touch_row(self.context, uuids.server))

    def test_undo_begin_puts_security_groups_back(self):
        self.spec.security_groups = (
            security_group_api.populate_security_groups(['one']))
        before = extras.security_groups_to_primitive(self.spec)
        self.spec.save()
        self.spec.security_groups = (
            security_group_api.populate_security_groups(['other']))
        self.begin(before=before)
        self.undo()
        text = extras.read_texts(self.context, [uuids.server])[uuids.server]
        found = jsonutils.loads(text)['nova_object.data']['security_groups']
        self.assertEqual(before['security_groups'], found)
        self.assertEqual('one', found['nova_object.data']['objects'][0][
            'nova_object.data']['name'])
        self.assertEqual({}, extras.read(self.context, uuids.server))

    def test_undo_begin_with_actions_of_an_earlier_attempt(self):
        self.begin(['older'], history=['older', 'of the row'])
        self.undo()
        self.assertEqual({'history': ['older']},
                         extras.read(self.context, uuids.server))

    def test_end_attempt(self):
        self.begin(history=['one'])
        another = extras.new_attempt(self.cell, ())
        self.assertFalse(extras.is_attempt(
            self.context, uuids.server, another))
        extras.end_attempt(self.context, uuids.server, another)
        self.assertTrue(extras.is_attempt(
            self.context, uuids.server, self.attempt))
        extras.end_attempt(self.context, uuids.server, self.attempt)
        self.assertEqual({}, extras.read(self.context, uuids.server))

    def test_mark_sent(self):
        self.begin()
        self.assertTrue(database.mark_sent(
            self.context, uuids.server, self.attempt, None))
        self.assertEqual(
            {'rebuild': self.attempt, 'sent': True,
             'requested': {'networks': None}},
            extras.read(self.context, uuids.server))

    def test_mark_sent_of_a_text_that_is_known(self):
        text = self.begin(before={'security_groups': None})
        self.assertTrue(self.mark_sent(text))
        self.assertEqual(
            {'rebuild': self.attempt, 'sent': True,
             'requested': {'networks': None}},
            extras.read(self.context, uuids.server))
        self.assertRaises(ext_exception.Overtaken, self.mark_sent, text)

    def mark_sent(self, text=None):
        return database.mark_sent(self.context, uuids.server, self.attempt,
                                  None, spec_text=text)

    def test_mark_sent_of_a_text_that_changed(self):
        text = self.begin()
        rebuild_base.keep(self.context, uuids.server, devices=[])
        self.assertTrue(self.mark_sent(text))
        self.assertEqual([], extras.read(self.context, uuids.server)[
            'devices'])

    def test_mark_sent_of_a_known_text_whose_server_is_deleted(self):
        text = self.begin()
        self.delete_build_request()
        self.assertFalse(self.mark_sent(text))
        self.assertNotIn('sent', extras.read(self.context, uuids.server))

    def take(self, attempt, **keep):
        return database.take(self.context, {uuids.server: attempt},
                             {uuids.server: keep}).get(uuids.server)

    def test_take(self):
        self.begin()
        attempt = self.attempt['attempt']
        self.assertIsNone(self.take(attempt))  # it was not sent
        self.mark_sent()
        self.assertIsNone(self.take(None))
        self.assertIsNone(self.take(uuids.another))
        taken = self.take(attempt, devices=['one'])
        self.assertEqual(
            {'rebuild': self.attempt, 'sent': extras.TAKEN,
             'requested': {'networks': None}, 'devices': ['one']},
            taken.extras)
        self.assertEqual(taken.extras, extras.read(
            self.context, uuids.server))
        self.assertIsNone(self.take(attempt))
        self.assertIsNone(self.take(None))

    def test_take_a_create(self):
        self.assertIsNone(self.take(None))  # it is in a cell
        self.change_mapping(cell_id=None)
        for _twice in range(2):
            self.assertEqual({'devices': ['one']}, self.take(
                None, devices=['one']).extras)
        self.spec.destroy()
        self.assertEqual({}, self.take(None).extras)

    def test_build_that_was_reclaimed(self):
        self.begin()
        self.mark_sent()
        taken = self.take(self.attempt['attempt'])
        build = building.Build(uuids.server, self.attempt, taken.text)
        for _twice in range(2):
            build.go_on(self.context)
            build.check(self.context)
        self.assertTrue(database.reclaim_from_conductor(
            self.context, uuids.server))
        self.assertRaises(ext_exception.Overtaken, build.go_on, self.context)
        self.assertRaises(ext_exception.Overtaken, build.check, self.context)
        self.assertIsNone(self.take(self.attempt['attempt']))

    def test_message_that_was_reclaimed(self):
        self.begin()
        self.mark_sent()
        self.assertTrue(database.reclaim_from_conductor(
            self.context, uuids.server))
        self.assertIsNone(self.take(self.attempt['attempt']))

    def test_build_that_goes_on_is_young(self):
        """The operator's command leaves it alone again."""
        self.begin()
        self.mark_sent()
        taken = self.take(self.attempt['attempt'])
        with api_db_api.context_manager.writer.using(self.context):
            self.context.session.query(api_models.RequestSpec).update(
                {'updated_at': CREATED_AT.replace(tzinfo=None)})
        self.assertEqual(1, len(recovery.find(self.context, 3600)))
        building.Build(uuids.server, self.attempt, taken.text).go_on(
            self.context)
        self.assertEqual([], recovery.find(self.context, 3600))

    def test_two_conductors_at_once(self):
        if not self.IS_CONCURRENT:
            self.skipTest('SQLite has one writer at a time')
        self.begin()
        self.mark_sent()
        barrier, taken = threading.Barrier(2), []

        def take():
            context = nova_context.get_admin_context()
            barrier.wait()
            taken.append(bool(database.take(
                context, {uuids.server: self.attempt['attempt']},
                {uuids.server: {}})))

        threads = [threading.Thread(target=take) for _thread in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual([False, True], sorted(taken))

    def test_nothing_begins_while_an_attempt_ends(self):
        """What is freed would be that of the next."""
        if not self.IS_CONCURRENT:
            self.skipTest('SQLite has one writer at a time')
        self.begin()
        self.mark_sent()
        self.delete_build_request()
        self.change_mapping(cell_id=self.cell.id)
        done = []

        def begin():
            context = nova_context.get_admin_context()
            spec = objects.RequestSpec.get_by_instance_uuid(
                context, uuids.server)
            spec.num_instances = 1
            database.begin(context, self.build(context, spec), self.cell,
                           self.find(context), {'rebuild': {}})
            done.append('begun')

        thread = threading.Thread(target=begin)

        def free():
            thread.start()
            thread.join(1)  # long enough for one that does not wait
            done.append('freed')

        extras.end_attempt(self.context, uuids.server, self.attempt, free)
        thread.join()
        self.assertEqual(['freed', 'begun'], done)

    def test_attempt_that_is_replaced(self):
        self.begin()
        self.assertFalse(self.is_replaced)
        for is_over in (False, True):
            before = self.attempt
            if is_over:
                extras.end_attempt(self.context, uuids.server, before)
            self.delete_build_request()
            self.change_mapping(cell_id=self.cell.id)
            self.begin(found_attempt=before)
            self.assertEqual(not is_over, self.is_replaced)

    def test_what_is_freed_at_the_end(self):
        self.begin()
        freed = []
        another = extras.new_attempt(self.cell, ())
        for attempt in (another, self.attempt, self.attempt):
            extras.end_attempt(self.context, uuids.server, attempt,
                               lambda: freed.append(attempt))
        self.assertEqual([self.attempt], freed)

    def test_mark_sent_of_a_server_that_is_deleted(self):
        self.begin()
        self.delete_build_request()
        self.assertFalse(database.mark_sent(
            self.context, uuids.server, self.attempt, None))
        self.assertNotIn('sent', extras.read(self.context, uuids.server))

    def delete_build_request(self):
        with api_db_api.context_manager.writer.using(self.context):
            self.context.session.query(api_models.BuildRequest).delete()

    def test_reclaim(self):
        self.begin()
        self.change_mapping(cell_id=self.cell.id)
        for _twice in range(2):
            self.assertTrue(database.reclaim_from_conductor(
                self.context, uuids.server))
            self.assertIsNone(self.mapped_cell())
            self.assertTrue(extras.read(self.context, uuids.server)['sent'])

    def test_reclaim_of_a_server_that_was_built_or_deleted(self):
        self.begin()
        self.change_mapping(cell_id=self.cell.id, queued_for_delete=True)
        self.assertFalse(database.reclaim_from_conductor(
            self.context, uuids.server))
        self.change_mapping(queued_for_delete=False)
        self.delete_build_request()
        self.assertFalse(database.reclaim_from_conductor(
            self.context, uuids.server))
        self.assertEqual(self.cell.uuid, self.mapped_cell().uuid)
        self.assertNotIn('sent', extras.read(self.context, uuids.server))

    def test_forget_reclaim(self):
        rebuild_base.keep(self.context, uuids.server, sent=extras.reclaimed())
        extras.forget_reclaim(self.context, uuids.server)
        self.assertEqual({}, extras.read(self.context, uuids.server))
        self.begin()  # by its owner, who was quick
        self.mark_sent()
        extras.forget_reclaim(self.context, uuids.server)
        self.assertIs(True, extras.read(self.context, uuids.server)['sent'])

    def test_find_interrupted(self):
        """By a condition on text."""
        self.assertEqual([], recovery.find(self.context, 0))
        self.begin()
        found, = recovery.find(self.context, 0)
        self.assertEqual(uuids.server, found.instance_uuid)
        self.assertEqual(recovery.UNDO, found.remedy)
        extras.end_attempt(self.context, uuids.server, self.attempt)
        self.assertEqual([], recovery.find(self.context, 0))

    def test_find_interrupted_reads_few_texts(self):
        """Those of servers that may be interrupted, one by one."""
        for number in range(5):
            self.make_another(getattr(uuids, 'other%d' % number))
        self.begin()
        texts = []

        def record(connection, cursor, statement, *args):
            if 'request_specs.spec AS' in statement:
                texts.append(statement)

        sa.event.listen(sa.engine.Engine, 'before_cursor_execute', record)
        found = recovery.find(self.context, 0)
        sa.event.remove(sa.engine.Engine, 'before_cursor_execute', record)
        self.assertEqual([uuids.server],
                         [one.instance_uuid for one in found])
        self.assertEqual(1, len(texts), texts)
        self.assertNotIn('LIKE', texts[0])

    def test_find_while_a_conductor_goes_on(self):
        """It was only slow. Taken for deleted, the server would be lost."""
        transactions = number = 0
        while transactions >= number:
            number += 1
            self._empty()
            self.cell = self.make_cell()
            self.make_server()
            self.begin()
            self.mark_sent()
            transactions = self.go_on_after(number)
        self.assertGreater(number, 2)

    def go_on_after(self, number):
        """Have a server be built after so many transactions of find().

        :returns: how many there are
        """
        ended, asking = [], self.context
        self.context = nova_context.get_admin_context()

        def go_on(session, transaction):
            if transaction.parent is None and not is_at_work:
                ended.append(transaction)
                if len(ended) == number:
                    is_at_work.append(True)
                    self.change_mapping(cell_id=self.cell.id)
                    self.change_row(vm_state='building',
                                    task_state='scheduling')
                    self.delete_build_request()
                    del is_at_work[:]

        is_at_work = []
        sa.event.listen(orm.Session, 'after_transaction_end', go_on)
        found = recovery.find(asking, 0)
        sa.event.remove(orm.Session, 'after_transaction_end', go_on)
        for one in found:
            self.assertIn(one.remedy, (recovery.BURY, recovery.FAIL))
        return len(ended)

    def make_another(self, uuid):
        """A server that is in its cell, and nothing else."""
        objects.InstanceMapping(
            self.context, instance_uuid=uuid, cell_mapping=self.cell,
            project_id='p', user_id='u').create()
        objects.RequestSpec(
            self.context, instance_uuid=uuid, num_instances=1,
            flavor=objects.Flavor(name='f')).create()

    def test_two_at_once(self):
        """Transactions that overlap: one wins."""
        if not self.IS_CONCURRENT:
            self.skipTest('SQLite has one writer at a time')
        results = []
        barrier = threading.Barrier(2)

        def run():
            context = nova_context.get_admin_context()
            spec = objects.RequestSpec.get_by_instance_uuid(
                context, uuids.server)
            spec.num_instances = 1
            barrier.wait()
            try:
                database.begin(context, self.build(context, spec), self.cell,
                               self.find(context), {'rebuild': {}})
                results.append('won')
            except (db_exc.DBDuplicateEntry, ext_exception.AlreadyRebuilding):
                results.append('lost')

        threads = [threading.Thread(target=run) for _thread in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(['lost', 'won'], sorted(results))
        self.assertIsNone(self.mapped_cell())

    def test_destroy_row(self):
        database.destroy_row(self.context, self.find())
        for model in (main_models.Instance, main_models.InstanceExtra,
                      main_models.InstanceFault, main_models.Tag,
                      main_models.BlockDeviceMapping,
                      main_models.InstanceAction,
                      main_models.InstanceActionEvent):
            self.assertEqual(0, self.count(model), model)

    def test_destroy_row_that_changed(self):
        then = CREATED_AT.replace(tzinfo=None)
        for locked in (False, True):
            as_found = {'host': None, 'task_state': None, 'vm_state': 'error',
                        'launched_at': None, 'locked': locked,
                        'updated_at': then}
            self.change_row(**as_found)
            found = self.find()
            for change in ({'host': 'h'}, {'task_state': 'deleting'},
                           {'vm_state': 'active'}, {'launched_at': then},
                           {'locked': not locked}, {'updated_at': None}):
                self.change_row(**dict(as_found, **change))
                self.assertRaises(
                    exception.ConstraintNotMet, database.destroy_row,
                    self.context, found)
                self.assertEqual(
                    1, self.count(main_models.InstanceActionEvent))
        self.change_row(**as_found)
        database.destroy_row(self.context, found)

    def test_destroy_row_that_is_another(self):
        """Of the same server, which was rebuilt and has failed since."""
        found = self.find()
        # All else is as it was found: the times are kept in seconds.
        self.change_row(id=found.id + 1, updated_at=found.updated_at)
        self.assertRaises(exception.ConstraintNotMet, database.destroy_row,
                          self.context, found)
        self.assertEqual(1, self.count(main_models.InstanceActionEvent))

    def test_destroy_row_that_was_never_locked(self):
        """Nothing is in the column then."""
        self.change_row(locked=None)
        database.destroy_row(self.context, self.find())

    def test_destroy_unfinished_row(self):
        for change in ({'host': 'h'},
                       {'launched_at': CREATED_AT.replace(tzinfo=None)}):
            self.change_row(**change)
            self.assertRaises(exception.ConstraintNotMet,
                              database.destroy_unfinished_row, self.context,
                              uuids.server)
            self.change_row(host=None, launched_at=None)
        self.change_row(vm_state='building', task_state='scheduling')
        row_id = self.find().id
        self.assertRaises(exception.ConstraintNotMet,
                          database.destroy_unfinished_row, self.context,
                          uuids.server, row_id + 1)
        for _twice in range(2):
            database.destroy_unfinished_row(self.context, uuids.server)
            self.assertEqual(0, self.count(main_models.Instance))

    def test_destroy_row_that_is_gone(self):
        found = self.find()
        database.destroy_row(self.context, found)
        self.assertRaises(exception.InstanceNotFound, database.destroy_row,
                          self.context, found)

    def change_row(self, **values):
        with main_db_api.context_manager.writer.using(self.context):
            self.context.session.query(main_models.Instance).update(values)

    def count(self, model):
        with main_db_api.context_manager.reader.using(self.context):
            return self.context.session.query(model).count()

    def test_has_row(self):
        self.assertTrue(database.has_row(self.context, uuids.server))
        database.destroy_row(self.context, self.find())
        self.assertFalse(database.has_row(self.context, uuids.server))

    def test_has_row_while_it_is_removed(self):
        """As by a transaction whose answer was lost."""
        if not self.IS_CONCURRENT:
            return
        found, answers = self.find(), []
        thread = threading.Thread(target=lambda: answers.append(
            database.has_row(nova_context.get_admin_context(), uuids.server)))
        with main_db_api.context_manager.writer.using(self.context):
            database.destroy_row(self.context, found)
            self.context.session.flush()
            thread.start()
            thread.join(1)  # long enough for an answer that does not wait
        thread.join()
        self.assertEqual([False], answers)

    def test_history(self):
        history = database.read_history(self.context, uuids.server)
        self.assertEqual(['req-1'], [past['request_id'] for past in history])
        for _twice in range(2):
            database.write_history(self.context, uuids.server, history)
            self.assertEqual(1, self.count(main_models.InstanceAction))
        with main_db_api.context_manager.writer.using(self.context):
            for model in (main_models.InstanceActionEvent,
                          main_models.InstanceAction):
                self.context.session.query(model).delete()
        database.write_history(self.context, uuids.server, history)
        self.assertEqual(history, database.read_history(
            self.context, uuids.server))

    def test_kept_survives_save(self):
        rebuild_base.keep(self.context, uuids.server,
                          requested={'networks': None})
        self.spec.num_instances = 5
        self.spec.save()
        self.assertEqual({'requested': {'networks': None}}, extras.read(
            self.context, uuids.server))
        self.assertEqual(5, objects.RequestSpec.get_by_instance_uuid(
            self.context, uuids.server).num_instances)

    def test_restore_rows(self):
        rows = extras.read_texts(self.context, [uuids.server, uuids.other])
        extras.restore_texts(self.context, rows)
        self.spec.destroy()
        extras.restore_texts(self.context, rows)
        self.assertEqual(rows, extras.read_texts(self.context, [uuids.server]))

    def test_remove_traces(self):
        self.begin()
        database.remove_traces(self.context, uuids.server)
        self.assertRaises(exception.InstanceMappingNotFound, self.mapped_cell)
        self.assertRaises(exception.RequestSpecNotFound, extras.read,
                          self.context, uuids.server)

    def test_remove_traces_leaves_a_server_that_is_in_a_cell(self):
        database.remove_traces(self.context, uuids.server)
        self.assertEqual(self.cell.uuid, self.mapped_cell().uuid)
        self.assertEqual({}, extras.read(self.context, uuids.server))


class SQLiteTest(_DatabaseTests, test.NoDBTestCase):
    """Everywhere: each condition is seen to matter."""

    SERVER = database_servers.SQLite
    IS_CONCURRENT = False


class MariaDBTest(_DatabaseTests, test.NoDBTestCase):

    SERVER = database_servers.MariaDB


class PostgreSQLTest(_DatabaseTests, test.NoDBTestCase):

    SERVER = database_servers.PostgreSQL

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


"""A functional cloud whose databases are where other processes see them."""

from unittest import mock

from nova.db.api import api as api_db_api
from nova.db.api import models as api_models
from nova.db.main import api as main_db_api
from nova.db.main import models as main_models
from nova.db import migration
from oslo_config import cfg
from oslo_db.sqlalchemy import provision
from oslo_utils import uuidutils
from placement import db_api as placement_db
from placement.tests import fixtures as placement_fixtures
import sqlalchemy as sa

from tests.functional import database_servers


class OwnDatabases:
    """To be mixed into a test class: Nova's databases are on SERVER.

    They have the schema of Nova's migrations. Placement's is a file of SQLite.
    """

    SERVER = database_servers.MariaDB

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.server = database_servers.start(cls.SERVER)
        cls.addClassCleanup(cls.server.stop)
        cls.models = {'api': api_models, 'cell0': main_models}
        for number in range(cls.NUMBER_OF_CELLS):
            cls.models['cell%d' % (number + 1)] = main_models
        cls.urls = {name: cls.server.create('nova_' + name)
                    for name in cls.models}
        for name in cls.models:
            engine = cls.server.engine('nova_' + name)
            with mock.patch('nova.db.migration._get_engine',
                            return_value=engine):
                migration.db_sync(
                    database='api' if name == 'api' else 'main')

    def setUp(self):
        self.addCleanup(self._empty)
        self.patch('nova.tests.fixtures.Database._apply_schema',
                   lambda fixture: None)
        self.patch('nova.db.api.api.configure', self._configure_api)
        self.patch('nova.tests.fixtures.CellDatabases.add_cell_database',
                   self._cell_adder())
        self.patch('placement.tests.fixtures.Database.__init__',
                   self._placement_initializer())
        super().setUp()

    @staticmethod
    def api_engine():
        return api_db_api.context_manager.writer.get_engine()

    def disconnect(self):
        """After a fork: leave the connections to the parent."""
        cells = [manager.writer.get_engine()
                 for manager in self.cell_managers.values()]
        for engine in (self.api_engine(), *cells,
                       placement_db.get_placement_engine()):
            engine.dispose(close=False)

    def _configure_api(self, conf):
        api_db_api.context_manager.configure(connection=self.urls['api'])

    def _placement_initializer(self):
        initialize = placement_fixtures.Database.__init__
        url = 'sqlite:///%s/placement-%s' % (self.server.folder, self.id())

        def initialize_with_file(fixture, conf_fixture, set_config=False):
            try:
                conf_fixture.register_opt(cfg.StrOpt('connection'),
                                          group='placement_database')
            except cfg.DuplicateOptError:
                pass
            conf_fixture.config(connection=url, group='placement_database')
            initialize(fixture, conf_fixture)
            # Older placement takes no URL.
            fixture._generate_database_resource = lambda facade: (
                provision.DatabaseResource(
                    'sqlite', facade, ad_hoc_url=sa.engine.make_url(url),
                    provision_new_database=False))

        return initialize_with_file

    def _cell_adder(self):
        self.cell_managers = {}

        def add(fixture, connection, default=False):
            name, = (cell.name for cell in self.cell_mappings.values()
                     if cell.database_connection == connection)
            manager = main_db_api.create_context_manager(self.urls[name])
            self.cell_managers[name] = manager
            fixture._ctxt_mgrs[connection] = manager
            fixture._last_ctxt_mgr = manager
            if fixture._default_ctxt_mgr is None or default:
                fixture._default_ctxt_mgr = manager

        return add

    def add_crowd(self, number):
        """Add servers of another project to cell0, which failed, too."""
        uuids = [uuidutils.generate_uuid() for _number in range(number)]
        if not uuids:
            return
        with self.server.engine('nova_cell0').begin() as cell0:
            for model, values in (
                    (main_models.Instance, {
                        'project_id': 'other', 'user_id': 'other',
                        'vm_state': 'error'}),
                    (main_models.InstanceExtra, {}),
                    (main_models.InstanceInfoCache, {'network_info': '[]'}),
                    (main_models.InstanceMetadata, {'key': 'a', 'value': 'b'}),
                    (main_models.InstanceSystemMetadata, {
                        'key': 'a', 'value': 'b'}),
                    (main_models.InstanceFault, {'code': 500}),
                    (main_models.BlockDeviceMapping, {'boot_index': 0}),
                    (main_models.InstanceAction, {'action': 'create'})):
                key = ('uuid' if model is main_models.Instance
                       else 'instance_uuid')
                cell0.execute(model.__table__.insert(), [
                    dict(values, **{key: uuid}, deleted=0)
                    for uuid in uuids])
        with self.server.engine('nova_api').begin() as api:
            cell = api.execute(sa.select(api_models.CellMapping.id).filter_by(
                name='cell0')).scalar()
            for model, values in (
                    (api_models.InstanceMapping, {
                        'cell_id': cell, 'project_id': 'other',
                        'queued_for_delete': False}),
                    (api_models.RequestSpec, {'spec': '{}'})):
                api.execute(model.__table__.insert(), [
                    dict(values, instance_uuid=uuid) for uuid in uuids])

    def _empty(self):
        for name, models in self.models.items():
            with self.server.engine('nova_' + name).begin() as connection:
                for table in reversed(models.BASE.metadata.sorted_tables):
                    connection.execute(table.delete())

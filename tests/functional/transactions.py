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


"""Transactions that a rollback of somebody else leaves whole in the tests."""

import threading

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy import event

# Connection of SQLite -> the thread that has written and not committed.
_writers = {}


def keep_whole():
    """Let nobody roll back what another green thread is writing.

    All green threads of a test share one connection to each database of
    SQLite, and whoever has only read rolls it back, too. That is in the middle
    of another's transaction if that one lets others run: for a lock of Nova's
    fixtures, or as oslo.db does whenever a connection is given back.
    """
    event.listen(sa.engine.Engine, 'after_cursor_execute', _follow)
    dialect = sqlite.dialect
    roll_back, commit = dialect.do_rollback, dialect.do_commit

    def roll_back_own(itself, connection):
        raw = _raw(connection)
        if _writers.get(raw) in (None, threading.get_ident()):
            _writers.pop(raw, None)
            roll_back(itself, connection)
        else:
            # For oslo.db, which has just removed it: no BEGIN is due.
            connection.info['in_transaction'] = True

    def commit_all(itself, connection):
        _writers.pop(_raw(connection), None)
        commit(itself, connection)

    dialect.do_rollback, dialect.do_commit = roll_back_own, commit_all


def _follow(connection, cursor, statement, *_args):
    """Remember who has begun to write."""
    if (connection.dialect.name == 'sqlite'
            and statement.startswith(('INSERT', 'UPDATE', 'DELETE'))):
        _writers.setdefault(cursor.connection, threading.get_ident())


def _raw(connection):
    """The connection of the driver, that others may share."""
    return getattr(connection, 'dbapi_connection', connection)

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

"""A server is not stuck when the database was gone at the end of a task."""

import threading
import time
from unittest import mock

from nova.compute import rpcapi
from nova.compute import utils as compute_utils
from nova.db.main import api as main_api
from nova import exception
from nova import objects
from oslo_db import exception as db_exc

from nova_rescue_ext import instance_metadata
from nova_rescue_ext.rescue import compute
from nova_rescue_ext.task import final_save
from tests.functional import test_rescue_failure

DRIVER = test_rescue_failure.DRIVER


class DatabaseGoneTest(test_rescue_failure.RestartTestCase):

    def setUp(self):
        super().setUp()
        self.gone = threading.Event()
        self.saved = threading.Event()
        for name in ('instance_update_and_get_original',
                     'instance_get_by_uuid', 'instance_fault_create',
                     'action_event_finish'):
            self._let_fail(name)
        self.waits = self.now = 0
        self.meanwhile = self._come_back_later
        self.patch('nova_rescue_ext.task.final_save.time', mock.Mock(
            sleep=self._sleep, monotonic=lambda: self.now))
        self._watch_end()

    def _sleep(self, seconds):
        self.now += seconds
        self.meanwhile()

    def _let_fail(self, name):
        function = getattr(main_api, name)

        def fail(*args, **kwargs):
            if self.gone.is_set():
                raise db_exc.DBConnectionError('gone')
            return function(*args, **kwargs)

        self.patch(f'nova.db.main.api.{name}', fail)

    def _watch_end(self):
        save = final_save._save

        def watched(*args):
            try:
                save(*args)
            finally:
                self.gone.clear()
                self.saved.set()

        self.patch('nova_rescue_ext.task.final_save._save', watched)

    def _come_back_later(self):
        """The first attempt fails."""
        self.waits += 1
        if self.waits > 1:
            self.gone.clear()

    def _go_after(self, name, argument=None):
        """Let the database be gone when a function of Nova has returned.

        :param name: its dotted name
        :param argument: one that it must have, or None
        """
        function = test_rescue_failure.resolve(name)

        def end(*args, **kwargs):
            result = function(*args, **kwargs)
            if argument is None or argument in args:
                self.gone.set()
            return result

        self.patch(name, end)

    def _rescue_without_end(self):
        server = self.create_server()
        self._go_after(DRIVER + 'rescue')
        self.rescue_opted_in(server)
        return server

    def _assert_rest(self, server, status):
        self.assertTrue(self.saved.wait(60), 'nothing was saved')
        self._wait_for_server_parameter(
            server, {'OS-EXT-STS:task_state': None, 'status': status})

    def _assert_leaves_rescue(self, server):
        self.api.post_server_action(server['id'], {'unrescue': None})
        self._wait_for_server_parameter(
            server, {'OS-EXT-STS:task_state': None, 'status': 'ACTIVE'})
        self.assertEqual([], self.rescue_files(server))

    def test_after_the_rescue(self):
        server = self._rescue_without_end()
        self._assert_rest(server, 'RESCUE')
        self.assertEqual(2, self.waits)
        self._assert_leaves_rescue(server)

    def test_before_the_rescue(self):
        server = self.create_server()
        self._go_after('nova.compute.manager.ComputeManager.'
                       '_get_rescue_image')
        self.rescue_opted_in(server)
        self._assert_rest(server, 'ACTIVE')
        self.assertTrue(self.is_running(server))
        self.assertEqual([], self.rescue_files(server))

    def test_when_the_message_comes(self):
        """The rescue waits: its task is looked up first."""
        server = self.create_server()
        cast = rpcapi.ComputeAPI.rescue_instance

        def cast_and_go(*args, **kwargs):
            self.gone.set()
            cast(*args, **kwargs)

        self.patch('nova.compute.rpcapi.ComputeAPI.rescue_instance',
                   cast_and_go)
        self.rescue_opted_in(server)
        while self.gone.is_set():  # the time-out of the test ends it
            time.sleep(0.1)
        self._wait_for_state_change(server, 'RESCUE')
        self.assertEqual(2, self.waits)

    def test_after_the_unrescue(self):
        server = self.create_server()
        self.rescue_opted_in(server)
        self._wait_for_state_change(server, 'RESCUE')
        self._go_after(DRIVER + 'unrescue')
        self.api.post_server_action(server['id'], {'unrescue': None})
        self._assert_rest(server, 'ACTIVE')
        self.assertEqual(2, self.waits)
        self.assertEqual([], self.rescue_files(server))

    def test_after_the_unrescue_of_a_stopped_server(self):
        server = self.create_server()
        self.api.post_server_action(server['id'], {'os-stop': None})
        self._wait_for_state_change(server, 'SHUTOFF')
        self.rescue_opted_in(server)
        self._wait_for_state_change(server, 'RESCUE')
        self._go_after(DRIVER + 'unrescue')
        with self.opted_in():
            self.api.post_server_action(server['id'], {'unrescue': None})
        self._assert_rest(server, 'SHUTOFF')
        self.assertFalse(self.is_running(server))

    def test_somebody_else_was_first(self):
        """What an operator has reset meanwhile is not overwritten."""
        def reset():
            self.gone.clear()
            self.set(server, vm_state='active', task_state=None)

        self.meanwhile = reset
        server = self._rescue_without_end()
        self._assert_rest(server, 'ACTIVE')
        # Not the rescue guest.
        test_rescue_failure.wait_until(
            lambda: ['disk'] == self._disks(server))
        self.assertEqual([], self.rescue_files(server))

    def _disks(self, server):
        try:
            return self.disk_names(server)
        except exception.InstanceNotFound:
            return None  # between two domains

    def test_only_the_answer_was_lost(self):
        """The server is in rescue, and nothing is undone."""
        server = self.create_server()
        save = objects.Instance.save
        rescue = compute._rescue
        lost, done = threading.Event(), threading.Event()

        def save_without_answer(instance, *args, **kwargs):
            if lost.is_set() or instance.vm_state != 'rescued':
                return save(instance, *args, **kwargs)
            lost.set()
            save(instance.obj_clone(), *args, **kwargs)
            raise db_exc.DBConnectionError('gone')

        def watched(*args, **kwargs):
            try:
                return rescue(*args, **kwargs)
            finally:
                done.set()

        self.patch('nova.objects.Instance.save', save_without_answer)
        self.patch('nova_rescue_ext.rescue.compute._rescue', watched)
        self.rescue_opted_in(server)
        self.assertTrue(done.wait(60))
        self.assertEqual(['start', 'end'], self.phases())
        self._assert_rest(server, 'RESCUE')
        self.assertIn('disk.rescue', self.disk_names(server))
        self.assertIsNotNone(instance_metadata.rescue_of(
            self.instance(server)))
        self._assert_leaves_rescue(server)

    def _assert_told_once(self):
        rescue = compute._rescue
        done = threading.Event()

        def watched(*args, **kwargs):
            try:
                return rescue(*args, **kwargs)
            finally:
                self.gone.clear()
                done.set()

        server = self.create_server()
        self.patch('nova_rescue_ext.rescue.compute._rescue', watched)
        self.rescue_opted_in(server)
        self.assertTrue(done.wait(60))
        self._wait_for_server_parameter(
            server, {'OS-EXT-STS:task_state': None, 'status': 'RESCUE'})
        self.assertEqual(['start', 'end'], self.phases())

    def test_after_all_was_told(self):
        """Only the end of the event is not written."""
        self._go_after('nova.compute.manager.ComputeManager.'
                       '_notify_about_instance_usage', 'rescue.end')
        self._assert_told_once()

    def test_while_it_is_told(self):
        notify = compute_utils.notify_about_instance_rescue_action
        failed = []

        def fail_first(*args, phase, **kwargs):
            if phase == 'end' and not failed:
                failed.append(phase)
                raise db_exc.DBConnectionError('gone')
            return notify(*args, phase=phase, **kwargs)

        self.patch('nova.compute.utils.notify_about_instance_rescue_action',
                   fail_first)
        self._assert_told_once()

    def test_never_comes_back(self):
        self.patch('nova_rescue_ext.task.final_save.TIMEOUT', 15)
        self.meanwhile = lambda: None
        server = self._rescue_without_end()
        self.assertTrue(self.saved.wait(60), 'nothing was saved')
        self.assertEqual('rescuing', self.instance(server).task_state)
        self.restart()
        self._assert_rest(server, 'RESCUE')

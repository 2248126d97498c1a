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

"""Rescue of servers with a TPM, which nothing may cost them (1.4)."""

import unittest

import ddt
from nova import context as nova_context
from nova import objects
from nova.tests.fixtures import libvirt
from oslo_serialization import jsonutils

from nova_rescue_ext import activation
from nova_rescue_ext import instance_metadata
from tests.functional import test_rescue_failure
from tests.functional import test_rescue_recovery
from tests.functional import tpms

DRIVER = test_rescue_failure.DRIVER
GUEST = test_rescue_failure.GUEST
MANAGER = test_rescue_failure.MANAGER
HOST = 'nova.virt.libvirt.host.Host.'
DOMAIN = 'nova.tests.fixtures.libvirt.Domain.'
STABLE = {'hw_rescue_bus': 'virtio', 'hw_rescue_device': 'disk'}

KEEPS_TPMS = tpms.KEEPS_TPMS
HAS_SECURITY = tpms.HAS_SECURITY


class TPMTestCase(test_rescue_recovery.RecoveryTestCase):

    SECURITY = 'user'
    PROPERTIES = {}  # of the rescue image

    def setUp(self):
        self.tpms = self.useFixture(tpms.TPMs())
        super().setUp()

    def start_compute(self, *args, **kwargs):
        tpms.configure(self.flags, self.SECURITY)
        return super().start_compute(*args, **kwargs)

    def create_server(self):
        self.image = self.create_image(self.PROPERTIES)
        server = self._create_server(
            image_uuid=self.IMAGE, networks='none',
            flavor_id=self._create_flavor(
                ephemeral=0, extra_spec=tpms.extra_specs(self.SECURITY)))
        self.before = self.tpms.states[server['id']]
        return server

    def rescue_with(self, server, version='1.4', api=None, **parameters):
        """Ask for a rescue; the response is returned, whatever it is."""
        api = api or self.api
        with self.opted_in(version, api=api):
            return api.api_request(
                '/servers/%s/action' % server['id'], method='POST',
                headers={'Content-Type': 'application/json'},
                body=jsonutils.dumps({'rescue': dict(
                    parameters, rescue_image_ref=self.image)}))

    def rescue_opted_in(self, server):
        response = self.rescue_with(server)
        self.assertEqual(200, response.status_code, response.text)

    def act(self, server, action, api=None, **parameters):
        api = api or self.api
        with self.opted_in('1.4', api=api):
            api.post_server_action(server['id'], {action: parameters or None})

    def has_tpm(self, server):
        return bool(self.domains.find(server, 'devices/tpm'))

    def secrets_in_libvirt(self):
        return list(self.driver._host.get_connection()._secrets)

    def assert_in_rescue(self, server):
        """It runs without the TPM, whose state is there."""
        server = self._wait_for_server_parameter(server, {
            'status': 'RESCUE', 'OS-EXT-STS:task_state': None})
        self.assertTrue(self.is_running(server))
        self.assertIn('disk.rescue', self.disk_names(server))
        self.assertFalse(self.has_tpm(server))
        self.assertEqual({server['id']: self.before}, self.tpms.states)
        return server

    def assert_whole(self, server, status='ACTIVE'):
        """It is as before its rescue, with its TPM."""
        server = self._wait_for_server_parameter(server, {
            'status': status, 'OS-EXT-STS:task_state': None})
        self.assertEqual(status == 'ACTIVE', self.is_running(server))
        self.assertEqual(['disk'], self.disk_names(server))
        self.assertTrue(self.has_tpm(server))
        self.assertEqual([], self.rescue_files(server))
        self.assertEqual({server['id']: self.before}, self.tpms.states)
        return server

    def start(self, server):
        self.act(server, 'os-start')
        return self.assert_whole(server)


@ddt.ddt
class RefusedTest(TPMTestCase):
    """Early, and in words."""

    def test_below_1_4(self):
        """Nova's own words."""
        server = self.create_server()
        for version in ('1.0', '1.3'):
            self.assert_refused(
                server, self.rescue_with(server, version),
                'not supported for vTPM-enabled instance')

    def test_host(self):
        server = self.create_server()
        node = objects.ComputeNode.get_first_node_by_host_for_old_compat(
            self.context, 'compute1')
        for stats in ({'compute_rescue': '1.4'},
                      {'compute_rescue': '1.4', 'compute_rescue_tpms': '1.3'},
                      {}):
            node.stats = stats
            node.save()
            self.assert_refused(server, self.rescue_with(server),
                                'has a TPM', 'upgrade')

    @unittest.skipUnless(KEEPS_TPMS, 'this Nova loses TPMs')
    def test_host_was_downgraded(self):
        server = self.create_server()
        self.driver._may_keep_vtpm = False
        self.assertEqual(200, self.rescue_with(server).status_code)
        self._wait_for_action_fail_completion(server, 'rescue',
                                              'compute_rescue_instance')
        self.assert_whole(server)
        self.assertIn('which this host could lose', self.fault(server))

    @unittest.skipIf(KEEPS_TPMS, 'this Nova keeps TPMs')
    def test_nova_that_loses_tpms(self):
        server = self.create_server()
        self.assert_refused(server, self.rescue_with(server), 'has a TPM',
                            '31.3.0')

    @unittest.skipUnless(KEEPS_TPMS, 'this Nova loses TPMs')
    def test_timeout(self):
        server = self.create_server()
        self.assert_refused(server, self.rescue_with(server, timeout=600),
                            'Leave timeout out')

    @ddt.data(False, True)
    @unittest.skipUnless(KEEPS_TPMS, 'this Nova loses TPMs')
    def test_without_the_rights_to_the_secret(self, has_shares):
        """There would be no way back."""
        server = self.create_server()
        before = self.guest_id(server)
        self.patch('nova_rescue_ext.host.guests.has_shares',
                   lambda instance: has_shares)
        response = self.rescue_with(server, api=self.admin_api)
        self.assertEqual(200, response.status_code, response.text)
        self._wait_for_action_fail_completion(server, 'rescue',
                                              'compute_rescue_instance')
        self.assert_whole(server)
        self.assertEqual(before, self.guest_id(server))
        self.assertIn('secret of the TPM', self.fault(server))

    @unittest.skipUnless(KEEPS_TPMS, 'this Nova loses TPMs')
    def test_live_migration(self):
        server = self.create_server()
        self.rescue_opted_in(server)
        self.assert_in_rescue(server)
        with self.opted_in('1.4', api=self.admin_api):
            response = self.admin_api.api_request(
                '/servers/%s/action' % server['id'], method='POST',
                headers={'Content-Type': 'application/json'},
                body=jsonutils.dumps({'os-migrateLive': {
                    'host': None, 'block_migration': 'auto'}}))
        self.assertEqual(400, response.status_code, response.text)
        self.assertIn('state stays on its host', response.text)
        self.assert_in_rescue(server)


@ddt.ddt
@unittest.skipUnless(KEEPS_TPMS, 'this Nova loses TPMs')
class RescueTest(TPMTestCase):

    def rescued(self):
        server = self.create_server()
        self.rescue_opted_in(server)
        return self.assert_in_rescue(server)

    def test_there_and_back(self):
        server = self.rescued()
        self.assertEqual([], self.secrets_in_libvirt())
        self.act(server, 'unrescue')
        self.assert_whole(server)
        self.assertEqual([], self.secrets_in_libvirt())

    def test_tpm_of_the_image(self):
        """Not of the flavor."""
        self.image = self.create_image(self.PROPERTIES)
        server = self._create_server(networks='none', image_uuid=(
            self.create_image({'hw_tpm_version': '2.0',
                               'hw_tpm_model': 'tpm-tis'})),
            flavor_id=self._create_flavor(ephemeral=0))
        self.before = self.tpms.states[server['id']]
        self.rescue_opted_in(server)
        self.assert_in_rescue(server)
        self.act(server, 'unrescue')
        self.assert_whole(server)

    def test_again(self):
        server = self.rescued()
        for _number in range(2):
            self.act(server, 'unrescue')
            self.assert_whole(server)
            self.rescue_opted_in(server)
            self.assert_in_rescue(server)

    def test_stopped(self):
        """It needs no secret to stay off, so anybody may do it."""
        server = self.create_server()
        self._stop_server(server)
        self.rescue_opted_in(server)
        self.assert_in_rescue(server)
        self.act(server, 'unrescue', api=self.admin_api)
        self.assert_whole(server, 'SHUTOFF')
        self.start(server)

    def test_unrescue_without_opt_in(self):
        server = self.rescued()
        self.api.post_server_action(server['id'], {'unrescue': None})
        self.assert_whole(server)

    def test_unrescue_without_the_rights_to_the_secret(self):
        """The rescue goes on as if nothing had been asked."""
        server = self.rescued()
        before = self.guest_id(server)
        self.act(server, 'unrescue', api=self.admin_api)
        self._wait_for_action_fail_completion(server, 'unrescue',
                                              'compute_unrescue_instance')
        self.assert_in_rescue(server)
        self.assertEqual(before, self.guest_id(server))
        self.assertIn('secret of the TPM', self.fault(server))
        self.act(server, 'unrescue')
        self.assert_whole(server)

    @ddt.data('HARD', 'SOFT')
    def test_reboot(self, kind):
        """Nobody needs the secret of what the guest does not have."""
        server = self.rescued()
        self.patch(GUEST + 'shutdown', lambda guest: guest.poweroff())
        self.act(server, 'reboot', api=self.admin_api, type=kind)
        self._wait_for_instance_action_event(
            server, 'reboot', 'compute_reboot_instance', 'success')
        self.assert_in_rescue(server)
        self.act(server, 'unrescue')
        self.assert_whole(server)

    def test_stop_and_start(self):
        server = self.rescued()
        self.act(server, 'os-stop', api=self.admin_api)
        self.wait_for_event_of(server, 'stop')
        self.assertFalse(self.is_running(server))
        self.act(server, 'os-start', api=self.admin_api)
        self.wait_for_event_of(server, 'start')
        self.assert_in_rescue(server)
        self.act(server, 'unrescue')
        self.assert_whole(server)

    def wait_for_event_of(self, server, action):
        self._wait_for_instance_action_event(
            server, action, 'compute_%s_instance' % action, 'success')

    def test_host_was_rebooted(self):
        server = self.rescued()
        self.flags(resume_guests_state_on_host_boot=True)
        self.driver._host.get_guest(self.instance(server)).poweroff()
        self.restart()
        self.assert_in_rescue(server)
        self.act(server, 'unrescue')
        self.assert_whole(server)

    def test_delete(self):
        """No TPM is left on the host."""
        server = self.rescued()
        self._delete_server(server)
        self.assertEqual({}, self.tpms.states)

    def test_delete_of_one_that_is_not_in_rescue(self):
        server = self.rescued()
        self.act(server, 'unrescue')
        self.assert_whole(server)
        self._delete_server(server)
        self.assertEqual({}, self.tpms.states)

    def test_delete_fails_to_delete_the_tpm(self):
        server = self.rescued()
        with self.failing(HOST + 'write_instance_config'):
            self._delete_server(server)
        self.assertIn('/var/lib/libvirt/swtpm/%s by hand' % server['id'],
                      self.stdlog.logger.output)

    def test_hard_reboot_after_a_reset(self):
        server = self.rescued()
        self.set(server, vm_state='error')
        self.act(server, 'reboot', type='HARD')
        self.assert_whole(server)

    def test_hard_reboot_after_the_removal_of_the_package(self):
        server = self.rescued()
        self.set(server, vm_state='error')
        activation.deactivate()
        self.api.post_server_action(server['id'], {'reboot': {'type': 'HARD'}})
        server = self._wait_for_state_change(server, 'ACTIVE')
        self.assertTrue(self.has_tpm(server))
        self.assertEqual({server['id']: self.before}, self.tpms.states)

    def test_rescue_timeout(self):
        """nova-compute has nobody's token."""
        server = self.rescued()
        self.flags(rescue_timeout=1)
        instance = self.instance(server)
        instance.launched_at = instance.created_at.replace(year=2000)
        instance_metadata.complete_record(instance)
        instance.save()
        self.computes['compute1'].manager._poll_rescued_instances(
            self.context)
        self.assert_in_rescue(server)
        self.assertIn('not unrescued after rescue_timeout',
                      self.stdlog.logger.output)
        self.assertNotIn('unrescue', [
            action['action'] for action
            in self.api.get_instance_actions(server['id'])])

    def test_undefine_that_fails_at_first(self):
        """Nova would try again in a way that deletes the TPM."""
        server = self.create_server()
        undefine = libvirt.Domain.undefineFlags
        calls = []

        def fail_once(domain, flags):
            calls.append(flags)
            if len(calls) == 1:
                raise libvirt.make_libvirtError(
                    libvirt.libvirtError, 'cannot acquire state change lock',
                    error_code=libvirt.VIR_ERR_OPERATION_TIMEOUT)
            return undefine(domain, flags)

        # Then the way back is a hard reboot.
        self.patch('nova_rescue_ext.host.guests.has_shares',
                   lambda instance: True)
        self.patch(DOMAIN + 'undefineFlags', fail_once)
        with test_rescue_failure.FailureTestCase.failing(
                self, DRIVER + '_create_image'):
            self.rescue_opted_in(server)
            self._wait_for_state_change(server, 'ERROR')
        self.assertEqual({server['id']: self.before}, self.tpms.states)
        self.act(server, 'reboot', type='HARD')
        self.assert_whole(server)


@unittest.skipUnless(KEEPS_TPMS, 'this Nova loses TPMs')
class StableRescueTest(RescueTest):

    PROPERTIES = STABLE


@ddt.ddt
@unittest.skipUnless(KEEPS_TPMS, 'this Nova loses TPMs')
class FailureTest(TPMTestCase):
    """Whatever fails, the server is as it was."""

    failing = test_rescue_failure.FailureTestCase.failing

    @ddt.data(DRIVER + '_get_existing_domain_xml', DRIVER + '_create_image',
              DRIVER + '_get_guest_xml', DRIVER + '_clean_shutdown',
              GUEST + 'poweroff', HOST + 'write_instance_config',
              DRIVER + '_create_configdrive', GUEST + 'launch',
              MANAGER + '_get_power_state')
    def test_rescue(self, name):
        for stopped in (False, True):
            server = self.create_server()
            if stopped:
                self._stop_server(server)
            if stopped and name in (DRIVER + '_clean_shutdown',
                                    GUEST + 'poweroff'):
                continue
            with self.failing(name):
                self.rescue_opted_in(server)
                self._wait_for_action_fail_completion(
                    server, 'rescue', 'compute_rescue_instance')
            self.assert_whole(server, 'SHUTOFF' if stopped else 'ACTIVE')
            self._delete_server(server)

    @ddt.data(DRIVER + '_get_guest_xml', GUEST + 'poweroff',
              GUEST + 'delete_configuration',
              HOST + 'write_instance_config', GUEST + 'launch')
    def test_unrescue(self, name):
        """It is ERROR, as without a TPM, and a hard reboot mends it."""
        server = self.create_server()
        self.rescue_opted_in(server)
        self.assert_in_rescue(server)
        with self.failing(name):
            self.act(server, 'unrescue')
            self._wait_for_action_fail_completion(
                server, 'unrescue', 'compute_unrescue_instance')
        self._wait_for_server_parameter(server, {
            'status': 'ERROR', 'OS-EXT-STS:task_state': None})
        self.assertEqual({server['id']: self.before}, self.tpms.states)
        self.act(server, 'reboot', type='HARD')
        self.assert_whole(server)


@ddt.ddt
@unittest.skipUnless(KEEPS_TPMS, 'this Nova loses TPMs')
class KilledTest(TPMTestCase):
    """nova-compute is killed, and has nobody's token when it starts again."""

    RESCUE = (DRIVER + '_get_existing_domain_xml', DRIVER + '_create_image',
              DRIVER + '_get_guest_xml', GUEST + 'poweroff',
              HOST + 'write_instance_config', DRIVER + '_create_configdrive',
              GUEST + 'launch', MANAGER + '_get_power_state')
    # By then the guest is down, or has shut down.
    DOWN = RESCUE[3:7]

    @ddt.data(*RESCUE)
    def test_rescue(self, name):
        server = self.create_server()
        self.kill_in('rescue', server, name)
        self.restart()
        if name == MANAGER + '_get_power_state':
            self.assert_in_rescue(server)
            self.act(server, 'unrescue')
            self.assert_whole(server)
        elif name in self.DOWN:
            self.assert_down(server)
        else:
            self.assert_whole(server)
        self.rescue_opted_in(server)
        self.assert_in_rescue(server)

    def assert_down(self, server):
        """Its user, who has a token, starts it."""
        self.assert_whole(server, 'SHUTOFF')
        self.assertIn('start it', self.fault(server))
        self.start(server)

    @ddt.data(*RESCUE)
    def test_rescue_of_a_stopped_server(self, name):
        server = self.create_server()
        self._stop_server(server)
        if name == GUEST + 'poweroff':
            return
        self.kill_in('rescue', server, name)
        self.restart()
        if name == MANAGER + '_get_power_state':
            self.assert_in_rescue(server)
            self.act(server, 'unrescue')
        self.assert_whole(server, 'SHUTOFF')
        self.assertNotIn('cannot be defined', self.stdlog.logger.output)
        self.start(server)

    UNRESCUE = (DRIVER + '_hard_reboot', GUEST + 'poweroff',
                GUEST + 'delete_configuration', DRIVER + '_get_guest_xml',
                HOST + 'write_instance_config', GUEST + 'launch',
                MANAGER + '_get_power_state')

    @ddt.data(*UNRESCUE)
    def test_unrescue(self, name):
        server = self.create_server()
        self.rescue_opted_in(server)
        self.assert_in_rescue(server)
        self.kill_in('unrescue', server, name)
        self.restart()
        if name == MANAGER + '_get_power_state':
            self.assert_whole(server)
            return
        self.assert_unrescue_again(server)

    def assert_unrescue_again(self, server):
        """Its user, who has a token, unrescues it once more."""
        self._wait_for_server_parameter(server, {
            'status': 'RESCUE', 'OS-EXT-STS:task_state': None})
        self.assertEqual({server['id']: self.before}, self.tpms.states)
        self.act(server, 'unrescue')
        self.assert_whole(server)

    def test_host_was_rebooted(self):
        server = self.create_server()
        self.kill_in('rescue', server, GUEST + 'launch')
        self.patch('nova_rescue_ext.rescue.recovery._was_host_rebooted',
                   lambda instance: True)
        self.restart()
        self.wait_for_status(server, 'ACTIVE')
        self.assertFalse(self.is_running(server))
        self.assertEqual({server['id']: self.before}, self.tpms.states)
        self.act(server, 'reboot', type='HARD')
        self.assert_whole(server)


@unittest.skipUnless(KEEPS_TPMS and HAS_SECURITY, 'before Nova 33')
class KilledWithSecretOfHostTest(KilledTest):
    """libvirt keeps the secret, so that nova-compute does without a token."""

    SECURITY = 'host'

    def assert_down(self, server):
        self.assert_whole(server)

    def assert_unrescue_again(self, server):
        self.assert_whole(server)


@unittest.skipUnless(KEEPS_TPMS and HAS_SECURITY, 'before Nova 33')
class SecretOfHostTest(TPMTestCase):

    SECURITY = 'host'

    def rescued(self, **parameters):
        server = self.create_server()
        response = self.rescue_with(server, **parameters)
        self.assertEqual(200, response.status_code, response.text)
        return self.assert_in_rescue(server)

    def test_rescue_timeout(self):
        server = self.rescued(timeout=600)
        self.flags(rescue_timeout=1)
        instance = self.instance(server)
        instance.launched_at = instance.created_at.replace(year=2000)
        instance_metadata.complete_record(instance)
        instance.save()
        self.computes['compute1'].manager._poll_rescued_instances(
            self.context)
        self.assert_whole(server)

    def test_unrescue_by_others(self):
        server = self.rescued()
        self.act(server, 'unrescue', api=self.admin_api)
        self.assert_whole(server)

    def test_secret_is_gone_from_libvirt(self):
        """As after a start that failed. Nova makes it anew."""
        server = self.rescued()
        self.driver._host.delete_secret('vtpm', server['id'])
        self.act(server, 'unrescue', api=self.admin_api)
        self._wait_for_action_fail_completion(server, 'unrescue',
                                              'compute_unrescue_instance')
        self.assert_in_rescue(server)
        self.act(server, 'unrescue')
        self.assert_whole(server)


@unittest.skipUnless(KEEPS_TPMS and HAS_SECURITY, 'before Nova 33')
class SecretOfDeploymentTest(TPMTestCase):
    """It is Nova's own."""

    SECURITY = 'deployment'

    def setUp(self):
        super().setUp()
        # Of the project, as the audit does not know what is the operator's.
        self.patch('nova.context.get_nova_service_user_context',
                   lambda: nova_context.RequestContext(
                       user_id='nova', project_id=self.api.project_id))

    def test_everybody(self):
        server = self.create_server()
        response = self.rescue_with(server, api=self.admin_api, timeout=600)
        self.assertEqual(200, response.status_code, response.text)
        self.assert_in_rescue(server)
        self.act(server, 'unrescue', api=self.admin_api)
        self.assert_whole(server)

    def test_killed(self):
        server = self.create_server()
        self.kill_in('rescue', server, GUEST + 'launch')
        self.restart()
        self.assert_whole(server)

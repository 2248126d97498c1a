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


"""Which answer a failure in the middle of a request gets."""

import unittest

from cinderclient import exceptions as cinder_exc
from keystoneauth1 import exceptions as ks_exc
from nova import exception

from nova_rescue_ext import exception as ext_exception
from nova_rescue_ext.rebuild import refusals


class TranslatedTest(unittest.TestCase):

    def answer_to(self, error):
        try:
            with refusals.in_novas_words():
                raise error
        except Exception as answer:
            return answer

    def test_a_service_is_away(self):
        for error in (
                cinder_exc.ClientException(503),
                ks_exc.ConnectFailure('no keystone'),
                exception.PlacementAPIConnectFailure(),
                exception.DeviceProfileError(name='p', msg='no cyborg'),
                exception.AcceleratorRequestOpFailed(op='o', msg='no cyborg'),
                exception.KeystoneConnectionFailed(reason='no keystone'),
                exception.UsagesRetrievalFailed(
                    project_id='p', user_id='u', error='no placement'),
                exception.ConsumerAllocationRetrievalFailed(
                    consumer_uuid='c', error='no placement')):
            answer = self.answer_to(error)
            self.assertIsInstance(answer, ext_exception.RebuildRefused)
            self.assertEqual(409, answer.code)
            self.assertIn('Try again later', answer.format_message())
            self.assertNotIn('no ', answer.format_message())

    def test_addresses_are_for_the_log(self):
        with self.assertLogs(refusals.__name__, 'WARNING') as log:
            answer = self.answer_to(exception.CinderConnectionFailed(
                reason='http://cinder.internal:8776'))
        self.assertNotIn('internal', answer.format_message())
        self.assertIn('Cinder', answer.format_message())
        self.assertIn('cinder.internal', log.output[0])

    def test_deleted_meanwhile(self):
        for error in (exception.InstanceMappingNotFound(uuid='u'),
                      exception.RequestSpecNotFound(instance_uuid='u'),
                      exception.BuildRequestNotFound(uuid='u')):
            self.assertEqual(404, self.answer_to(error).code)

    def test_what_novas_controller_answers(self):
        for error in (exception.InstanceNotFound(instance_id='u'),
                      exception.PortLimitExceeded()):
            self.assertIs(error, self.answer_to(error))

    def test_bad_request(self):
        answer = self.answer_to(exception.NetworkNotFound(network_id='n'))
        self.assertEqual((400, 'Network n could not be found.'), (
            answer.code, answer.format_message()))

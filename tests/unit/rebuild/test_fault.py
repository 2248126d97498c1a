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


"""Why a build failed, from what Nova records."""

import sys
import unittest

from nova.compute import utils as compute_utils
from nova import exception
from nova import objects
from oslo_messaging._drivers import common as rpc_common

from nova_rescue_ext import exception as our_exception
from nova_rescue_ext.rebuild import fault


def fault_of(*failures):
    """The fault that Nova records of an exception.

    :param failures: exceptions, each raised while that before it was handled
    """
    try:
        _raise(list(failures))
    except Exception as error:
        values = compute_utils.exception_to_dict(error)
        return objects.InstanceFault(
            message=values['message'], code=values['code'],
            details=compute_utils._get_fault_details(sys.exc_info(),
                                                     values['code']))


def _raise(failures):
    last = failures.pop()
    if not failures:
        raise last
    try:
        _raise(failures)
    except Exception:
        raise last


def remote(error):
    """An exception that came in the answer to a message."""
    try:
        raise error
    except Exception:
        sent = rpc_common.serialize_remote_exception(sys.exc_info())
    return rpc_common.deserialize_remote_exception(sent, ['nova.exception'])


class ReasonTest(unittest.TestCase):

    def setUp(self):
        objects.register_all()

    def assert_reason(self, reason, *failures):
        self.assertEqual(reason, fault.reason_of(fault_of(*failures)))

    def test_the_exception_itself(self):
        for reason, error in {
                'no_host': exception.NoValidHost(reason='full'),
                'retries_exhausted': exception.MaxRetriesExceeded(reason='x'),
                'quota': exception.TooManyInstances(
                    overs='instances', req=1, used=1, allowed=1),
                'port': exception.VirtualInterfaceCreateException(),
                'image': exception.FlavorMemoryTooSmall(),
                'volume': exception.VolumeSmallerThanMinDisk(
                    volume_size=1, image_min_disk=2),
                'interrupted': our_exception.RebuildInterrupted()}.items():
            self.assert_reason(reason, error)

    def test_in_an_abort(self):
        self.assert_reason(
            'image', exception.ImageUnacceptable(image_id='x', reason='y'),
            exception.BuildAbortException(instance_uuid='x', reason='y'))

    def test_in_two(self):
        self.assert_reason(
            'port', exception.PortNotFound(port_id='x'),
            exception.BuildAbortException(instance_uuid='x', reason='y'),
            exception.RescheduledException(instance_uuid='x', reason='y'))

    def test_nothing_behind_another_exception(self):
        self.assert_reason(
            None, exception.PortNotFound(port_id='x'), RuntimeError('x'),
            exception.BuildAbortException(instance_uuid='x', reason='y'))

    def test_that_says_nothing(self):
        self.assert_reason(None, RuntimeError('NoValidHost: no'))
        self.assert_reason(None, exception.BuildAbortException(
            instance_uuid='x', reason='Traceback (most recent call last):'))

    def test_of_another_module_with_the_same_name(self):
        class NoValidHost(Exception):
            pass

        self.assert_reason(None, NoValidHost())

    def test_of_a_message(self):
        error = remote(exception.NoValidHost(reason='full'))
        self.assertNotEqual(exception.NoValidHost, type(error))
        self.assert_reason('no_host', error)

    def test_of_a_library(self):
        for reason, name in (
                ('quota', 'oslo_limit.exception.ProjectOverLimit'),
                ('image', 'cursive.exception.SignatureVerificationError')):
            self.assertEqual(reason, fault.reason_of(objects.InstanceFault(
                code=500, message='x',
                details='Traceback (most recent call last):\n'
                '  File "x.py", line 1, in x\n    raise x\n%s: no' % name)))

    def test_without_a_traceback(self):
        """As nova-conductor records that no alternate host is left."""
        error = exception.MaxRetriesExceeded(reason='Exhausted all hosts')
        self.assertEqual('retries_exhausted', fault.reason_of(
            objects.InstanceFault(
                code=500, message=error.format_message(),
                details=compute_utils._get_fault_details(
                    (None, None, None), 500))))
        self.assertIsNone(fault.reason_of(objects.InstanceFault(
            code=500, message=None, details=None)))

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


"""How long a server is down for its rescue, with the image not on its host.

From the moment the server's guest is told to shut down to the moment the
rescue guest has been started. Nova's services run in this process on Nova's
own fixtures. The download and the conversion of the image are a sleep of its
size by RATE; libvirt is Nova's double, whose guests shut down and start at
once. So the figures are the part of the down time that Nova decides about.
"""

import contextlib
import json
import statistics
import sys
import time
import unittest

from nova import monkey_patch
monkey_patch.patch()

from nova.tests.functional.libvirt import base as nova_base  # noqa: F401
from nova.virt.libvirt import driver
from nova.virt.libvirt import guest

from bench import report
from nova_rescue_ext import activation
from tests.functional import base

ROUNDS = 7
RATE = 100  # MB/s
SIZES = {'64 MB': 64, '1 GB': 1000}  # MB
GOAL = 0.05  # of what the download adds in stock Nova


class Run(base.RescueTestCase):
    """A rescue with an image of each size, in a cloud of its own.

    :param with_package: whether it is active
    :param seconds: a dict; gets the seconds of down time by size
    """

    def __init__(self, with_package, seconds):
        super().__init__('measure')
        self._with_package = with_package
        self._seconds = seconds

    def measure(self):
        if not self._with_package:
            activation.deactivate()
        driver.LibvirtDriver._create_image.side_effect = self._download
        for label, megabytes in SIZES.items():
            self._megabytes = megabytes
            server = self._create_server(networks='none')
            image_id = self.create_image(size=megabytes * 10 ** 6)
            with _down_time() as times:
                response = self.rescue(server, image_id)
            self.assert_rescued(server, response)
            self._seconds[label] = times['started'] - times['stopped']

    def _download(self, *args, **kwargs):
        time.sleep(self._megabytes / RATE if kwargs.get('suffix') else 0)
        return False, False


@contextlib.contextmanager
def _down_time():
    """When a guest was stopped first, and when one was started last."""
    times = {}
    calls = {name: getattr(guest.Guest, name)
             for name in ('shutdown', 'poweroff', 'launch')}

    def stop(name):
        def call(*args, **kwargs):
            times.setdefault('stopped', time.monotonic())
            return calls[name](*args, **kwargs)
        return call

    def launch(*args, **kwargs):
        result = calls['launch'](*args, **kwargs)
        times['started'] = time.monotonic()
        return result

    guest.Guest.shutdown = stop('shutdown')
    guest.Guest.poweroff = stop('poweroff')
    guest.Guest.launch = launch
    try:
        yield times
    finally:
        for name, call in calls.items():
            setattr(guest.Guest, name, call)


def _run(with_package):
    seconds = {}
    run = Run(with_package, seconds)
    result = unittest.TestResult()
    run.run(result)
    if not result.wasSuccessful():
        sys.exit((result.errors + result.failures)[0][1])
    return seconds


def _pair(number):
    if number % 2:
        without = _run(False)
        return without, _run(True)
    with_package = _run(True)
    return _run(False), with_package


def _result(label, pairs):
    without, with_package = report.medians(pairs)
    ratio = report.median_ratio(pairs)
    return report.Result(
        'Down time, image of %s' % label, '%.2f s' % without,
        '%.2f s' % with_package, 'ratio %.3f' % ratio,
        '< 1', with_package < without, len(pairs),
        (without, with_package, ratio))


def _growth(pairs):
    """What the bigger image adds to the down time."""
    small, big = SIZES
    added = [tuple(seconds[big] - seconds[small] for seconds in pair)
             for pair in pairs]
    without, with_package = report.medians(added)
    share = statistics.median(ours / stock for stock, ours in added)
    return report.Result(
        'What %s instead of %s adds' % (big, small), '%+.2f s' % without,
        '%+.2f s' % with_package, 'ratio %.3f' % share, '< %.2f' % GOAL,
        share < GOAL, len(pairs), (without, with_package, share / GOAL))


def main():
    rounds = max(1, int(ROUNDS * float(sys.argv[1])))
    pairs = [_pair(number) for number in range(rounds)]
    results = [_result(label, [tuple(seconds[label] for seconds in pair)
                               for pair in pairs]) for label in SIZES]
    print(json.dumps([*results, _growth(pairs)]))


if __name__ == '__main__':
    main()

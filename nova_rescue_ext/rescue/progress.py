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


"""What nova-compute's manager and the libvirt driver share during a rescue."""

import contextlib


class Progress:
    """How far a rescue has come.

    :ivar context: the RequestContext of the caller, before Nova elevates it
    :ivar was_running: whether the guest was up before the rescue
    :ivar has_shares: whether the manager has powered the guest off at once,
        and unmounted its shares
    :ivar power_off: powers the guest off cleanly, as the manager would have
        done before the rescue disk was ready; None if nothing is put off
    :ivar driver_called: whether the driver has taken over, the way back
        included
    :ivar guest_touched: whether the guest may be down already
    :ivar rescue_guest_runs: whether the driver has done its part
    :ivar rolled_back: whether a failed rescue has left the server as it was
    """

    def __init__(self):
        self.context = None
        self.was_running = False
        self.has_shares = False
        self.power_off = None
        self.driver_called = False
        self.guest_touched = False
        self.rescue_guest_runs = False
        self.rolled_back = False


_running = {}  # uuid of an instance -> Progress


@contextlib.contextmanager
def track(instance):
    """Track the rescue of an instance in this block.

    :param instance: the Instance
    """
    _running[instance.uuid] = Progress()
    try:
        yield _running[instance.uuid]
    finally:
        del _running[instance.uuid]


def of(instance):
    """The Progress of an instance's rescue, or None outside of one."""
    return _running.get(instance.uuid) if _running else None

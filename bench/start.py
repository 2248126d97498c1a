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

"""The start of nova-compute, with the package off and on."""

import os
import subprocess
import sys
import tempfile

from bench import report

PAIRS = 25

OFF = '[DEFAULT]\n'
ON = """\
[DEFAULT]
config_source = rescue_ext

[rescue_ext]
driver = nova_rescue_ext
"""

# In the order of nova.cmd.compute.main(); the driver and the manager are
# imported when the service is created.
_SERVICE = """
import sys
import time
from nova import monkey_patch
monkey_patch.patch(backend='threading')
from nova.cmd import compute
from nova import config
config.parse_args(['nova-compute', '--config-file', sys.argv[1]],
                  configure_db=False, init_rpc=False)
from nova.compute import manager
from nova.virt.libvirt import driver
active = False
if 'nova_rescue_ext' in sys.modules:
    from nova_rescue_ext import activation
    active = activation.is_active()
print(active, time.process_time())
"""


def measure(scale):
    """Start a process that imports what nova-compute imports.

    :param scale: how many of the rounds to run, 1 for all
    :returns: a list of report.Result
    """
    with tempfile.TemporaryDirectory() as folder:
        off = _write(folder, 'off.conf', OFF)
        on = _write(folder, 'on.conf', ON)
        _start(on, True)  # compiles the modules
        pairs = []
        for number in range(max(2, int(PAIRS * scale))):
            if number % 2:
                pairs.append((_start(off, False), _start(on, True)))
            else:
                pairs.append(tuple(reversed(
                    (_start(on, True), _start(off, False)))))
    without, with_package = report.medians(pairs)
    cost = (report.median_ratio(pairs) - 1) * 100
    return [report.Result(
        'Start of nova-compute: imports and configuration',
        '%.2f s' % without, '%.2f s' % with_package, '%+.1f %%' % cost,
        '< 5 %', cost < 5, len(pairs), (without, with_package, cost / 5))]


def _write(folder, name, text):
    path = os.path.join(folder, name)
    with open(path, 'w') as conf:
        conf.write(text)
    return path


def _start(conf, active):
    """Start the process.

    :returns: its CPU time in seconds
    """
    output = subprocess.run(
        [sys.executable, '-c', _SERVICE, conf], check=True,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        env=dict(os.environ, PYTHONWARNINGS='ignore',
                 PYTHONHASHSEED='0')).stdout
    was_active, seconds = output.split()
    if was_active != str(active):
        raise RuntimeError('the package was active: %s' % was_active)
    return float(seconds)

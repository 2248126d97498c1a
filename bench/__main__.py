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

"""Run the measures and write the table."""

import argparse
import json
import os
import subprocess
import sys

from bench import history
from bench import report
from bench import start


def main():
    parser = argparse.ArgumentParser(
        prog='python -m bench',
        description='Measure what nova-rescue-ext costs.')
    parser.add_argument('--quick', action='store_true',
                        help='a tenth of the rounds: is it still running?')
    parser.add_argument('--output', default=report.PATH,
                        help='the file to write (%(default)s)')
    arguments = parser.parse_args()
    scale = 0.1 if arguments.quick else 1
    costs = [result for measure in (
        start.measure, _in_process('bench.restart'),
        _in_process('bench.calls'), _in_process('bench.requests'))
        for result in _print(measure(scale))]
    down_times = _print(_in_process('bench.rescue')(scale))
    report.write(arguments.output, costs, down_times)
    print('Written: %s' % arguments.output)
    if not arguments.quick:
        history.add(history.PATH, costs + down_times)
        history.plot(history.PLOT, history.read(history.PATH))
        print('Written: %s and %s' % (history.PATH, history.PLOT))


def _print(results):
    for result in results:
        print(report.line(result), flush=True)
    return results


def _in_process(module):
    """A measure in a process of its own, which prints results as JSON."""

    def measure(scale):
        output = subprocess.run(
            [sys.executable, '-m', module, str(scale)], check=True,
            stdout=subprocess.PIPE, text=True, env=dict(
                os.environ, PYTHONWARNINGS='ignore',
                OS_NOVA_DISABLE_EVENTLET_PATCHING='1')).stdout
        return [report.Result(*result)
                for result in json.loads(output.splitlines()[-1])]

    return measure


if __name__ == '__main__':
    sys.exit(main())

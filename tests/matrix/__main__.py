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

"""The command ``python -m tests.matrix``.

Exit status: 0 if no test failed, 1 if one did, 2 if there is no Python for a
place.
"""

import argparse
import os
import pathlib
import sys
import tempfile
import time

from tests.matrix import places
from tests.matrix import recorded
from tests.nova_suite import slices


def main():
    arguments = parse_arguments()
    chosen = [place for place in places.places()
              if place.series in (arguments.series or [place.series])
              and place.python in (arguments.python or [place.python])
              and (place.native or not arguments.native)]
    if arguments.list:
        for place in chosen:
            print(place)
        return 0
    place, part = recorded.find_next(chosen, arguments.slice)
    if place is None:
        print('All slices have been run with this package and these tests')
        return 0
    with tempfile.NamedTemporaryFile(
            'w', prefix='matrix-', suffix='.log', delete=False) as log:
        print('%s: slice %s; what the tests print is in %s' % (
            place, part, log.name), flush=True)
        started = time.monotonic()
        try:
            result = recorded.run(place, part, arguments.folder.absolute(),
                                  arguments.workers, log)
        except places.Missing as exc:
            print(exc)
            return 2
    print('%d passed, %d failed, %d skipped in %.0f seconds' % (
        result['passed'], len(result['failed']),
        sum(result['skipped'].values()), time.monotonic() - started))
    for name in result['failed']:
        print('FAILED: %s' % name)
    for name in result['unsteady']:
        print('failed at first: %s' % name)
    for name, reason in result['broken'].items():
        print('cannot be imported: %s: %s' % (name, reason))
    return int(bool(result['failed'] or result['broken']))


def parse_arguments():
    parser = argparse.ArgumentParser(
        prog='python -m tests.matrix',
        description='Run functional tests of ours on each Nova.')
    parser.add_argument('--series', nargs='*', help='of Nova; all if none')
    parser.add_argument('--python', nargs='*', help='versions; all if none')
    parser.add_argument('--native', action='store_true',
                        help='only on native threads')
    parser.add_argument('--slice', type=slices.parse, default='next/12',
                        help='3/12, or next/12, which is the default')
    parser.add_argument('--folder', default='.venv-matrix',
                        type=pathlib.Path, help='for the environments')
    parser.add_argument('--workers', type=int,
                        default=(os.cpu_count() or 1) * 3 // 2)
    parser.add_argument('--list', action='store_true',
                        help='show the places and run nothing')
    return parser.parse_args()


if __name__ == '__main__':
    sys.exit(main())

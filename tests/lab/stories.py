# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.

"""Stories, several at a time: ``python -m tests.lab.stories``.

A story waits for guests and services more than it works. Those that let
something fail, or take hosts out of use, are told alone, after the others.
"""

import argparse
import concurrent.futures
import subprocess
import sys
import time


def tell(name):
    """Tell the stories of a module, class or method, in their own process.

    :returns: (name, whether all went well, how many seconds it took)
    """
    begin = time.monotonic()
    done = subprocess.run(
        [sys.executable, '-m', 'unittest', '-v', name],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    # At once, or the lines of several stories would be mixed.
    print(done.stdout, flush=True)
    return name, done.returncode == 0, time.monotonic() - begin


def _tell_all(names, jobs):
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(tell, names))


def main():
    parser = argparse.ArgumentParser(prog='python -m tests.lab.stories')
    parser.add_argument('--jobs', type=int, default=2,
                        help='how many at a time')
    parser.add_argument('--alone', nargs='*', default=[], metavar='STORY')
    parser.add_argument('stories', nargs='*', metavar='STORY')
    arguments = parser.parse_args()
    begin = time.monotonic()
    results = (_tell_all(arguments.stories, arguments.jobs)
               + _tell_all(arguments.alone, 1))
    for name, is_good, seconds in sorted(results, key=lambda row: row[2]):
        print(f'{seconds:7.0f} s  {"ok  " if is_good else "FAIL"}  {name}')
    print(f'{time.monotonic() - begin:7.0f} s  all')
    sys.exit(not all(is_good for _, is_good, _ in results))


if __name__ == '__main__':
    main()

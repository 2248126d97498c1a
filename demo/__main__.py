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

"""Tell the stories; the exit status is 0 if every check held."""

import argparse
import importlib
import os
import pkgutil
import sys
import time

import demo
from demo import stage
from demo import transcript


def stories():
    """The names of all stories."""
    return sorted(module.name[len('story_'):]
                  for module in pkgutil.iter_modules(demo.__path__)
                  if module.name.startswith('story_'))


def main():
    parser = argparse.ArgumentParser(
        prog='python -m demo',
        description='Show nova-rescue-ext in an embedded cloud.')
    parser.add_argument('story', nargs='*', metavar='STORY',
                        help='one of: %s (default: all)' % ', '.join(
                            stories()))
    arguments = parser.parse_args()
    unknown = set(arguments.story) - set(stories())
    if unknown:
        parser.error('no such story: %s' % ', '.join(sorted(unknown)))
    started = time.monotonic()
    # A cloud of its own for each: no story has to tidy up for the next.
    failed = [name for name in arguments.story or stories()
              if not tell(name)]
    print()
    print('%s in %.0f seconds' % (
        'FAILED: %s' % ', '.join(failed) if failed else 'All checks held',
        time.monotonic() - started))
    return 1 if failed else 0


def tell(name):
    """Tell a story.

    :returns: whether every check held
    """
    story = importlib.import_module('demo.story_' + name)
    script = transcript.Transcript()
    script.title(story.__doc__)
    log = stage.new_log(name)
    try:
        with stage.Stage(script, log) as played:
            story.tell(played)
    except Exception as exc:
        script.failure(exc)
        script.say('The log of the cloud: %s' % log)
        return False
    os.unlink(log)
    return True


if __name__ == '__main__':
    sys.exit(main())

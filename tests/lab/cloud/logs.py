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

"""Which service's log to read, and the lines of it that matter."""

import re

from tests.lab.cloud import settings

_BAD = re.compile(r' (ERROR|CRITICAL) |Traceback \(most recent|'
                  r'^\S*(Error|Exception): |\berror\b: ')
# The parts of a traceback that say nothing, and what healthy services say.
_NOISE = re.compile(r'ERROR \S+\s*(\[instance: \S+\])?[\s^~]*$|'
                    r'Failed to update inventory|DeprecationWarning|'
                    # Services print their options, some of which are named so.
                    r' log_opt_values ')


def positions():
    """How long each log is now; give it to errors_since() later."""
    return {path.name: path.stat().st_size
            for path in settings.LOG.glob('*.log')}


def errors_since(begin, each=6, width=200):
    """The last bad lines of each service's log, fit for one screen."""
    text = []
    for path in sorted(settings.LOG.glob('*.log')):
        with open(path, errors='replace') as log:
            log.seek(begin.get(path.name, 0))
            bad = [line.rstrip() for line in log
                   if _BAD.search(line) and not _NOISE.search(line)]
        if not bad:
            continue
        text.append(f'--- {path} ({len(bad)} lines)')
        text += [_shorten(line, width) for line in bad[-each:]]
    return '\n'.join(text) or 'No service has logged an error.'


def lines_since(begin, name):
    """The lines that a service has logged.

    :param begin: what positions() has returned
    :param name: the name of the service
    """
    path = settings.LOG / f'{name}.log'
    with open(path, errors='replace') as log:
        log.seek(begin.get(path.name, 0))
        return log.readlines()


def _shorten(line, width):
    """Leave out the date and all of the context but the request id."""
    line = re.sub(r'^\d{4}-\d\d-\d\d (\S+) \d+ ', r'\1 ', line)
    line = re.sub(r'\[(?:\S+ )?(req-[0-9a-f-]{36}) [^]]*\]', r'[\1]', line)
    return line if len(line) <= width else line[:width - 3] + '...'

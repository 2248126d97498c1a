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

"""What was asked, what was answered, and what it means, readable."""

import contextlib
import json
import sys
import textwrap
import traceback

import prettytable

_WIDTH = 79
# Other headers say nothing about the package.
_SHOWN_HEADERS = ('X-Auth-Token', 'OpenStack-API-Version', 'Vary')


class CheckFailed(Exception):
    """What a story shows is not what it says."""


class Transcript:
    """Prints a story as it goes on."""

    def __init__(self):
        self._steps = 0
        self._unseen = None  # requests that are counted, not shown

    def title(self, docstring):
        """Begin a story, with the docstring of its module."""
        headline, _, text = docstring.strip().partition('\n')
        print('\n%s\n%s\n%s' % ('=' * _WIDTH, headline, '=' * _WIDTH))
        if text.strip():
            print(text.strip())

    def step(self, headline):
        """Begin a step."""
        self._steps += 1
        headline = '%d. %s' % (self._steps, headline)
        print('\n%s\n%s' % (headline, '-' * len(headline)), flush=True)

    def say(self, text):
        """Explain something."""
        print(textwrap.fill(text, _WIDTH), flush=True)

    def check(self, holds, text):
        """State what has been shown.

        :raises: CheckFailed if it does not hold
        """
        print(textwrap.fill(text, _WIDTH,
                            initial_indent='  ok  ' if holds else '  NO  ',
                            subsequent_indent='      '), flush=True)
        if not holds:
            raise CheckFailed(text)

    def table(self, title, columns, rows):
        """Show a table."""
        table = prettytable.PrettyTable(columns)
        table.align = 'l'
        table.add_rows(rows)
        print(title)
        print(table, flush=True)

    def exchange(self, response, **kwargs):
        """Show a request and its answer; a response hook of requests."""
        if self._unseen is not None:
            self._unseen.append(response)
            return
        request = response.request
        print('> %s %s' % (request.method, request.path_url))
        _show('>', request.headers, request.body)
        print('< %d %s' % (response.status_code, response.reason))
        _show('<', response.headers, response.text)
        print(flush=True)

    @contextlib.contextmanager
    def waiting(self, text):
        """Only count what is asked, while a client waits."""
        self._unseen = []
        try:
            yield
        finally:
            count = len(self._unseen)
            print('  ... %s (%d request%s)' % (
                text, count, '' if count == 1 else 's'), flush=True)
            self._unseen = None

    def failure(self, exc):
        """Say what ended a story."""
        if not isinstance(exc, CheckFailed):
            traceback.print_exception(exc, file=sys.stdout)
        print('\nFAILED at step %d: %s' % (self._steps, exc), flush=True)


def _show(mark, headers, body):
    for name in _SHOWN_HEADERS:
        if name in headers:
            print('%s %s: %s' % (mark, name, headers[name]))
    if body:
        try:
            body = json.dumps(json.loads(body), indent=2, ensure_ascii=False)
        except ValueError:
            body = body if isinstance(body, str) else body.decode()
        print(textwrap.indent(body, mark + ' '))

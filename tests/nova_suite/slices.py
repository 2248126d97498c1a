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

"""Parts of a selection, each of which is run at one go."""

import typing


class Slice(typing.NamedTuple):
    """A part of the tests; ``number`` is None for the first that is due."""

    number: int | None
    count: int

    def __str__(self):
        return '%s/%d' % (self.number or 'next', self.count)


def parse(text):
    """Parse ``3/12`` or ``next/12``.

    :raises: ValueError if there is no such slice
    """
    number, _, count = text.partition('/')
    if not count.isdigit() or int(count) < 1:
        raise ValueError('write a slice as 3/12 or next/12, not %s' % text)
    if number == 'next':
        return Slice(None, int(count))
    if not number.isdigit() or not 1 <= int(number) <= int(count):
        raise ValueError('%s is none of the slices 1/%s to %s/%s' % (
            text, count, count, count))
    return Slice(int(number), int(count))


def cut(tests, number, count):
    """The tests of a slice: neighbours, which share modules and fixtures.

    :param tests: dict, module -> ids of its tests
    :returns: the same of the slice
    """
    names = [(module, name) for module in sorted(tests)
             for name in tests[module]]
    first, last = (len(names) * position // count
                   for position in (number - 1, number))
    part = {}
    for module, name in names[first:last]:
        part.setdefault(module, []).append(name)
    return part

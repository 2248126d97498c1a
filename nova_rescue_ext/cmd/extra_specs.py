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

"""Extra specs of flavors, as Nova's scheduler reads them, without Nova."""

from __future__ import annotations

import operator
import typing

_NUMERIC: dict[str, typing.Callable[[float, float], bool]] = {
    '=': operator.ge, '==': operator.eq, '!=': operator.ne,
    '>=': operator.ge, '<=': operator.le}
_TEXTUAL: dict[str, typing.Callable[[str, str], bool]] = {
    's==': operator.eq, 's!=': operator.ne, 's<': operator.lt,
    's<=': operator.le, 's>': operator.gt, 's>=': operator.ge,
    '<in>': operator.contains}


def match(value: str, extra_spec: str) -> bool:
    """Whether the metadata of a host aggregate meets an extra spec.

    :param value: of the metadata, a text
    :param extra_spec: a text to be equal to, or one with an operator such as
        '>= 5', '<in> ssd' or '<or> one <or> two'
    """
    name, *words = extra_spec.split() or ['']
    if name == '<or>':
        return value in words[::2]
    if name == '<all-in>':
        return bool(words) and all(word in value for word in words)
    if name in _TEXTUAL:
        return bool(words) and _TEXTUAL[name](value, words[0])
    if name not in _NUMERIC:
        return value == extra_spec
    try:
        return _NUMERIC[name](float(value), float(words[0]))
    except (ValueError, IndexError):
        return False

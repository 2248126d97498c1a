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


"""Whether the installed Nova is code that the package was tested on.

For every supported Nova series ``digests/nova-<series>.json`` holds the
digests of the source of each callable that the package overrides or relies
on, made from every point release by ``tools/make_digests.py``;
``digests/distributors.json`` holds those of distributors' patches. They are
compared with the installed files before anything is applied, and without
importing a module of Nova.
"""

import functools
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import re
import typing

from nova_rescue_ext.activation import exception
from nova_rescue_ext.activation import relied_on

VERIFIED = 'verified'
DIFFERS = 'differs'
MISSING = 'missing'
UNKNOWN = 'unknown'

# Nova series that the package supports, oldest first.
SERIES = ('29', '30', '31', '32', '33', '34')

DIGESTS = os.path.join(os.path.dirname(__file__), 'digests')

# What distributors have changed and the package was tested on:
# series -> callable -> {digest: package that has it}.
DISTRIBUTORS = 'distributors.json'


class Finding(typing.NamedTuple):
    """The result of the comparison of one callable."""

    callable: str
    state: str
    detail: str


def nova_release() -> str:
    """The version of the installed Nova, for example '34.0.0'.

    :raises: SourceNotFound if Nova is not installed as a distribution
    """
    try:
        return importlib.metadata.version('nova')
    except importlib.metadata.PackageNotFoundError:
        raise exception.SourceNotFound(
            'Nova is not installed in this environment')


def series_of(release: str) -> str:
    """The series of a release: '34' of '34.0.1.dev5'."""
    return release.split('.', 1)[0]


def load_digests(series: str) -> dict[str, dict[str, str]]:
    """What the package was tested on.

    :param series: one of SERIES
    :returns: dict, callable -> {digest: first release, or package of a
        distributor, that has it}
    :raises: DigestsUnusable
    """
    return _read_digests(series)


def overridden(series: str) -> set[str]:
    """The callables that the package overrides, as its digests know them.

    :param series: one of SERIES
    :raises: DigestsUnusable
    """
    return set(load_digests(series)) - set(relied_on.CALLABLES)


@functools.lru_cache(maxsize=None)
def _read_digests(series: str) -> dict[str, dict[str, str]]:
    released = _read_file('nova-%s.json' % series, _released)
    patched = _read_file(DISTRIBUTORS,
                         lambda content: dict(content.get(series, {})))
    return {name: {**patched.get(name, {}), **known}
            for name, known in released.items()}


def _released(content: typing.Any) -> dict[str, dict[str, str]]:
    callables = dict(content['callables'])
    if not callables:
        raise ValueError('it is empty')
    return callables


def _read_file(
        name: str,
        part: typing.Callable[[typing.Any], dict[str, dict[str, str]]]
) -> dict[str, dict[str, str]]:
    """Read a file of digests.

    :param part: what takes the wanted part out of its content
    :raises: DigestsUnusable
    """
    path = os.path.join(DIGESTS, name)
    try:
        with open(path, encoding='utf-8') as text:
            return part(json.load(text))
    except OSError as exc:
        reason = exc.strerror or str(exc)
    except (AttributeError, KeyError, TypeError, ValueError) as exc:
        reason = 'it is damaged: %s' % exc
    raise exception.DigestsUnusable(
        'file %s of nova-rescue-ext cannot be used (%s). Install '
        'nova-rescue-ext again' % (path, reason))


def verify(release: str) -> list[Finding]:
    """Compare the installed Nova with what the package was tested on.

    :param release: the version of the installed Nova
    :returns: a list with a Finding for each callable
    """
    return [_verify_callable(name, known)
            for name, known in load_digests(series_of(release)).items()]


def _verify_callable(name: str, known: dict[str, str]) -> Finding:
    try:
        found = digest(source_of(name))
    except exception.SourceNotFound as exc:
        return Finding(name, MISSING, str(exc))
    if found in known:
        return Finding(name, VERIFIED, 'as in Nova %s' % known[found])
    return Finding(name, DIFFERS, 'digest %s is none of %s' % (
        found, ', '.join(sorted(known))))


def digest(source: str) -> str:
    """The digest of a callable's source (32 hexadecimal digits)."""
    return hashlib.sha256(source.encode('utf-8')).hexdigest()[:32]


@functools.lru_cache(maxsize=None)
def source_of(name: str) -> str:
    """The source of a callable that is installed, decorators included.

    :param name: 'package.module:function' or 'package.module:Class.method'
    :raises: SourceNotFound
    """
    module, _, qualname = name.partition(':')
    scope, _, function = qualname.rpartition('.')
    if not scope:
        return extract(_read_module(module), function)
    # The same few classes have most of the callables.
    return _function(_read_class(module, scope), '    ' * (
        scope.count('.') + 1), function)


@functools.lru_cache(maxsize=None)
def _read_class(module: str, scope: str) -> str:
    return _scope(_read_module(module), scope.split('.'))


@functools.lru_cache(maxsize=None)
def _read_module(module: str) -> str:
    path = _module_path(module)
    try:
        with open(path, encoding='utf-8') as source:
            return source.read()
    except OSError as exc:
        raise exception.SourceNotFound('%s cannot be read (%s)' % (
            path, exc.strerror))


def forget_sources() -> None:
    """Read the files, of Nova and of ours, again next time."""
    _read_module.cache_clear()
    _read_class.cache_clear()
    source_of.cache_clear()
    _read_digests.cache_clear()


def _module_path(module: str) -> str:
    # Only the top of the path is looked up by name: find_spec() of a module
    # further down imports its parents.
    top, *rest = module.split('.')
    spec = importlib.util.find_spec(top)
    if spec is None or not spec.submodule_search_locations:
        raise exception.SourceNotFound('package %s is not installed' % top)
    base = os.path.join(list(spec.submodule_search_locations)[0], *rest)
    package = os.path.join(base, '__init__.py')
    return package if os.path.exists(package) else base + '.py'


def extract(source: str, qualname: str) -> str:
    """Cut one callable out of a module's source.

    Finds it by its indentation: modules of Nova have up to half a megabyte,
    and parsing them would take longer than the rest of the activation. Unit
    tests compare the result with that of the parser.

    :param source: the source of the module
    :param qualname: 'function' or 'Class.method'
    :raises: SourceNotFound
    """
    *classes, function = qualname.split('.')
    return _function(_scope(source, classes), '    ' * len(classes), function)


def _scope(source: str, classes: list[str]) -> str:
    for depth, name in enumerate(classes):
        source = _class_body(source, '    ' * depth, name)
    return source


def _class_body(source: str, indent: str, name: str) -> str:
    start = _find_statement(source, indent, ('class',), name)
    end = source.find('\n%sclass ' % indent, start)
    return source[start:end + 1 or None]


def _function(source: str, indent: str, name: str) -> str:
    position = _find_statement(source, indent, ('def', 'async def'), name)
    start = _start_of_decorators(source, position, indent)
    return source[start:_end(source, position, indent)].rstrip() + '\n'


def _end(source: str, position: int, indent: str) -> int:
    """Where a callable ends: before the next line that is not indented deeper.

    Except for a closing bracket, which belongs to its own signature, a
    comment, which may be indented in any way, and the text of a docstring.
    """
    for match in re.compile(r'^ {0,%d}[^\s)\]}#]' % len(indent),
                            re.MULTILINE).finditer(
                                source, position + len(indent) + 1):
        text = source[position:match.start()]
        if text.count('"""') % 2 == 0 and text.count("'''") % 2 == 0:
            return match.start()
    return len(source)


def _find_statement(source: str, indent: str, keywords: tuple[str, ...],
                    name: str) -> int:
    # str.find() takes a hundredth of the time of a regular expression here.
    for keyword in keywords:
        for follows in '(:':
            line = '%s%s %s%s' % (indent, keyword, name, follows)
            if source.startswith(line):
                return 0
            position = source.find('\n' + line)
            if position != -1:
                return position + 1
    raise exception.SourceNotFound('%s is not in the source' % name)


def _start_of_decorators(source: str, position: int, indent: str) -> int:
    start = position
    while position:
        previous = source.rfind('\n', 0, position - 1) + 1
        line = source[previous:position].rstrip()
        if not line.startswith(indent) or not line.strip():
            break
        if line.startswith(indent + '@'):
            start = previous
        elif not re.match(r'%s(?: |[)\]}#])' % indent, line):
            break
        position = previous
    return start

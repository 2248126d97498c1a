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

"""Which of Nova's tests to run: the data files and what they match."""

import fnmatch
import importlib
import importlib.util
import os
import pkgutil
import sys
import typing
import unittest

import testscenarios


class Entry(typing.NamedTuple):
    """A line of a data file: a package, module, class or test of Nova.

    A test, with its class, may be a pattern: ``nova...module.*rescue*``.
    """

    name: str
    exclude: bool = False

    def names(self, test):
        """Whether the test with this id is meant."""
        return test.startswith(self.name + '.') or fnmatch.fnmatchcase(
            test, self.name)


class Found(typing.NamedTuple):
    """What the entries of a selection are in the installed Nova."""

    tests: dict  # module -> ids of its tests
    unmatched: dict  # entry that matches nothing -> reason
    not_imported: dict  # module -> reason


def read(name):
    """Read a selection, for example ``quick``.

    :returns: list of Entry
    """
    path = os.path.join(os.path.dirname(__file__), name + '.txt')
    with open(path) as selection:
        return parse(selection)


def parse(lines):
    """Parse a data file.

    A line is ``name``, ``- name`` to leave that out again, or
    ``include selection``; what follows ``#`` is a comment.
    """
    entries = []
    for line in lines:
        words = line.partition('#')[0].split()
        if not words:
            continue
        if words[0] == 'include':
            entries += read(words[1])
        else:
            entries.append(Entry(words[-1], exclude=words[0] == '-'))
    return entries


def find(entries):
    """Find the tests that the entries name. Imports Nova's test modules.

    :param entries: list of Entry
    :returns: Found
    """
    tests = {}
    unmatched = {}
    not_imported = {}
    excluded = [entry for entry in entries if entry.exclude]
    for entry in entries:
        if entry.exclude:
            continue
        reason = 'not in this Nova'
        matched = False
        for module in _modules(entry.name, not_imported):
            try:
                names = [name for name in load(module) if entry.names(name)]
            except Exception as exc:  # SkipTest is one
                reason = not_imported[module] = _as_text(exc)
                continue
            matched = matched or bool(names)
            tests.setdefault(module, {}).update(
                (name, None) for name in names
                if not any(other.names(name) for other in excluded))
        if not matched:
            unmatched[entry.name] = reason
    return Found({module: list(names) for module, names in tests.items()
                  if names}, unmatched, not_imported)


def load(module):
    """Load the tests of a module.

    :returns: dict, id -> test
    """
    suite = unittest.defaultTestLoader.loadTestsFromModule(
        importlib.import_module(module))
    # A test with scenarios has its final ids only when they are applied.
    return {test.id(): test
            for test in testscenarios.generate_scenarios(suite)
            # A module also loads the classes that it imports from others.
            if test.id().startswith(module + '.')}


def _as_text(exc):
    return '%s: %s' % (type(exc).__name__, exc)


def _modules(name, not_imported):
    """The test modules in which a name is, or which are in it.

    :param not_imported: dict, package -> reason, which is added to
    """
    def note(package):
        not_imported[package] = _as_text(sys.exc_info()[1])

    module = name
    while not _exists(module):
        module = module.rpartition('.')[0]
    spec = importlib.util.find_spec(module)
    if not spec.submodule_search_locations:
        return [module]
    if module != name:
        return []
    return sorted(found.name for found in pkgutil.walk_packages(
        spec.submodule_search_locations, module + '.', onerror=note)
        if found.name.rpartition('.')[2].startswith('test_'))


def _exists(name):
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False

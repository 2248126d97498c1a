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

"""Which tests execute which statement.

Kept in ``.mutants/map``, a file for each module of tests: made once, and again
when the module has changed. A statement is known by its text, so that the map
holds while other code changes.
"""

import ast
import hashlib
import json
import os

from tests.mutants import operators
from tests.mutants import tree

_MAP = tree.DIRECTORY / 'map'
_HIT = '_mutants_hit'


def instrument(file, source):
    """A source that tells what of it is executed.

    :param file: the path to name
    :param source: bytes
    :returns: bytes
    """
    module = ast.parse(source)
    _Instrumenter(file).visit(module)
    # Below the docstring and what is from __future__.
    first = next((number for number, statement in enumerate(module.body)
                  if not isinstance(statement, ast.Expr) and getattr(
                      statement, 'module', None) != '__future__'), 1)
    module.body[first:first] = ast.parse(
        'from tests.mutants.hits import hit as %s' % _HIT).body
    return ast.unparse(ast.fix_missing_locations(module)).encode()


class _Instrumenter(ast.NodeTransformer):

    def __init__(self, file):
        self._file = file
        self._path = []
        self._in_function = False

    def visit_ClassDef(self, node):
        return self._definition(node, self._in_function)

    def visit_FunctionDef(self, node):
        return self._definition(node, True)

    def _definition(self, node, in_function):
        before, outermost = self._in_function, not self._in_function
        if outermost:
            self._path.append(node.name)
        self._in_function = in_function
        self._body(node)
        self._in_function = before
        if outermost:
            self._path.pop()
        return node

    def generic_visit(self, node):
        self._body(node)
        return node

    def _body(self, node):
        for name in ('body', 'orelse', 'finalbody', 'handlers'):
            statements = getattr(node, name, None)
            if isinstance(statements, list):
                setattr(node, name, [
                    new for statement in statements
                    for new in self._with_hit(statement)])

    def _with_hit(self, node):
        if not isinstance(node, ast.stmt) or not self._in_function or (
                isinstance(node, ast.Expr)
                and isinstance(node.value, ast.Constant)):
            return [self.visit(node)]
        key = operators.key(self._file, '.'.join(self._path), node)
        return [*ast.parse('%s(%r)' % (_HIT, key)).body, self.visit(node)]


class Map:
    """What is known of the tests.

    :ivar seconds: {test: how long it takes}
    """

    def __init__(self):
        self.seconds = {}
        self._tests = {}
        self._of_function = {}
        for path in _MAP.glob('*.json'):
            known = json.loads(path.read_text())
            for test, (seconds, numbers) in known['tests'].items():
                self.seconds[test] = seconds
                for number in numbers:
                    statement = known['statements'][number]
                    self._tests.setdefault(statement, set()).add(test)
                    self._of_function.setdefault(
                        statement.rpartition('|')[0], set()).add(test)
        self._of_file = {}
        for statement in self._tests:
            self._of_file.setdefault(
                statement.partition('|')[0], []).append(statement)

    def covering(self, mutant):
        """The tests that could notice a change.

        Those that do different things in its file first, and of those that do
        the same the quickest.

        :returns: a list of names
        """
        tests = self._tests.get(mutant.statement)
        if tests is None:
            tests = self._of_function.get(
                '%s|%s' % (mutant.file, mutant.function), set())
        if not tests and mutant.statement is None:
            # It is done at import. Those that execute something of the file,
            # or else of its folder.
            tests = self._tests_of(
                self._of_file.get(mutant.file, ())) or self._tests_of(
                    statement for file, statements in self._of_file.items()
                    if os.path.dirname(file) == os.path.dirname(mutant.file)
                    for statement in statements)
        alike = {}
        for test in sorted(tests, key=lambda test: self.seconds[test]):
            what = frozenset(statement for statement
                             in self._of_file.get(mutant.file, ())
                             if test in self._tests[statement])
            alike.setdefault(what, []).append(test)
        ordered = [(place, self.seconds[test], test)
                   for same in alike.values()
                   for place, test in enumerate(same)]
        # Unit tests are so quick that all of them come first.
        return [test for _, _, test in sorted(
            ordered, key=lambda each: (kind(each[2]) != 'unit', each))]

    def _tests_of(self, statements):
        return set().union(*(self._tests[statement]
                             for statement in statements))


def kind(test):
    """``unit`` or ``functional``."""
    return test.split('.')[1]


def save(module, outcomes):
    """Keep what the tests of a module execute.

    :param module: its name
    :param outcomes: {test: (seconds, names of statements)}
    """
    statements = sorted(set().union(*(
        seen for _, seen in outcomes.values())) if outcomes else ())
    numbers = {name: number for number, name in enumerate(statements)}
    _MAP.mkdir(parents=True, exist_ok=True)
    (_MAP / (module + '.json')).write_text(json.dumps({
        'digest': digest(module), 'statements': statements,
        'tests': {test: (seconds, sorted(numbers[name] for name in seen))
                  for test, (seconds, seen) in outcomes.items()}}))


def is_known(module):
    """Whether the map has the tests of a module as it is."""
    path = _MAP / (module + '.json')
    return path.exists() and json.loads(
        path.read_text())['digest'] == digest(module)


def digest(module):
    """A digest of a module of tests."""
    path = tree.ROOT / (module.replace('.', '/') + '.py')
    return hashlib.sha256(path.read_bytes()).hexdigest()


def modules(kind):
    """The modules of tests.

    :param kind: ``unit`` or ``functional``
    """
    return sorted('.'.join(path.relative_to(tree.ROOT).with_suffix('').parts)
                  for path in (tree.ROOT / 'tests' / kind).rglob('test_*.py'))

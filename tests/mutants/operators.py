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

"""What can be changed in a source.

Texts for people, log lines and annotations are left alone, and so is what has
no effect by its nature: docstrings, imports, ``typing``.
"""

import ast
import hashlib
import typing

_OTHER = {
    ast.Eq: '!=', ast.NotEq: '==', ast.Lt: '<=', ast.LtE: '<', ast.Gt: '>=',
    ast.GtE: '>', ast.Is: 'is not', ast.IsNot: 'is', ast.In: 'not in',
    ast.NotIn: 'in', ast.Add: '-', ast.Sub: '+', ast.BitOr: '&',
    ast.BitAnd: '|',
}
# Calls that only tell people something, or only type checkers.
_WORDS = {'_', 'LOG', 'typing', 'warnings', 'print'}
# Without these a method cannot even be called as it is.
_KINDS = {'property', 'staticmethod', 'classmethod', 'abstractmethod',
          'contextmanager', 'wraps', 'dataclass', 'overload'}


class Mutant(typing.NamedTuple):
    """One change.

    :ivar file: the path of the source, from the top of the checkout
    :ivar function: the qualified name of the outermost function or class
        member that it is in, '' in the module itself
    :ivar before: what is there
    :ivar after: what comes in its place
    :ivar number: which of those that are the same but for their place
    :ivar line: where it is at the moment
    :ivar statement: what a test must execute to notice it, by :func:`key`;
        None if that happens when the module is imported
    :ivar start: the offset in the bytes of the source
    :ivar end: the same
    :ivar text: what to write between them
    """

    file: str
    function: str
    before: str
    after: str
    number: int
    line: int
    statement: str | None
    start: int
    end: int
    text: str

    @property
    def id(self):
        """A name that stays while the code around it changes."""
        return hashlib.sha256('\0'.join(
            (self.file, self.function, self.before, self.after,
             str(self.number))).encode()).hexdigest()[:8]

    def apply(self, source):
        """The source with the change.

        :param source: bytes
        """
        return (source[:self.start] + self.text.encode()
                + source[self.end:])


def key(file, function, statement):
    """The name of a statement: of its first line, for one with a body."""
    return '%s|%s|%s' % (file, function, hashlib.sha256(
        _header(statement).encode()).hexdigest()[:8])


def _header(statement):
    text = ast.unparse(statement)
    return text.split('\n')[0] if hasattr(statement, 'body') else text


def find(file, source):
    """All that can be changed.

    :param file: the path to name
    :param source: bytes
    :returns: a list of Mutant
    """
    return _Finder(file, source).found


class _Finder(ast.NodeVisitor):

    def __init__(self, file, source):
        self._file = file
        self._source = source
        self._offsets = [0]
        for line in source.splitlines(keepends=True):
            self._offsets.append(self._offsets[-1] + len(line))
        self._path = []
        self._statement = None
        self._numbers = {}
        self.found = []
        self.visit(ast.parse(source))

    # What is added

    def _add(self, node, after, text=None, before=None, statement=None):
        """Something else in the place of a node.

        :param after: what is shown of it
        :param text: what is written, by default that in parentheses
        :param before: what is shown of what was there
        """
        before = before or ast.unparse(node)
        which = (self._function, before, after)
        number = self._numbers[which] = self._numbers.get(which, 0) + 1
        self.found.append(Mutant(
            self._file, self._function, before, after, number, node.lineno,
            statement or self._statement,
            self._offsets[node.lineno - 1] + node.col_offset,
            self._offsets[node.end_lineno - 1] + node.end_col_offset,
            '(%s)' % after if text is None else text))

    @property
    def _function(self):
        return '.'.join(self._path)

    # Where we are

    def visit(self, node):
        if isinstance(node, ast.stmt):
            self._visit_statement(node)
        else:
            super().visit(node)

    def _visit_statement(self, node):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            self._visit_definition(node)
            return
        if self._says_something(node) or isinstance(
                node, (ast.Import, ast.ImportFrom)) or (
                    isinstance(node, ast.If) and _is_words(node.test)):
            return
        before, self._statement = self._statement, (
            key(self._file, self._function, node) if self._in_function
            else None)
        self._statement_mutants(node)
        super().visit(node)
        self._statement = before

    _in_function = False

    def _visit_definition(self, node):
        before = self._in_function, self._statement
        outermost = not self._in_function
        if outermost:
            self._path.append(node.name)
        self._statement = None if outermost else key(
            self._file, self._function, node)
        for decorator in node.decorator_list:
            self._decorator(decorator)
        if isinstance(node, ast.FunctionDef):
            for default in [*node.args.defaults, *node.args.kw_defaults]:
                if default is not None:
                    self.visit(default)
            self._in_function = True
        for statement in node.body:
            self.visit(statement)
        self._in_function, self._statement = before
        if outermost:
            self._path.pop()

    def _decorator(self, node):
        name = ast.unparse(node).partition('(')[0].split('.')[-1]
        if name not in _KINDS and name not in ('setter', 'getter'):
            self._add(node, 'no decorator', '(lambda it: it)')

    @staticmethod
    def _says_something(node):
        return isinstance(node, ast.Expr) and (
            isinstance(node.value, ast.Constant) or _is_words(node.value))

    # Statements

    def _statement_mutants(self, node):
        if isinstance(node, ast.Return) and node.value is not None:
            if not isinstance(node.value, ast.Constant):
                self._add(node.value, 'None')
        elif isinstance(node, (ast.If, ast.While)):
            self._condition(node.test, isinstance(node, ast.If))
        elif isinstance(node, ast.Try):
            for handler in node.handlers:
                self._handler(handler)
        elif isinstance(node, ast.With):
            if all(item.optional_vars is None for item in node.items):
                self._without(node)
        elif self._in_function and self._can_go(node):
            self._add(node, 'pass', 'pass')

    @staticmethod
    def _can_go(node):
        if isinstance(node, (ast.Assign, ast.AugAssign)):
            # Without a local variable everything fails.
            targets = (node.targets if isinstance(node, ast.Assign)
                       else [node.target])
            return isinstance(node, ast.AugAssign) or not any(
                isinstance(target, (ast.Name, ast.Tuple))
                for target in targets)
        if isinstance(node, ast.Expr):
            return isinstance(node.value, ast.Call)
        return isinstance(node, (ast.Raise, ast.Delete, ast.Continue,
                                 ast.Break))

    def _condition(self, node, both=True):
        if isinstance(node, ast.Constant):
            return
        self._add(node, 'False')
        if both:
            self._add(node, 'True')

    def _handler(self, handler):
        if handler.type is None:
            return
        first = handler.body[0]
        statement = key(self._file, self._function, first)
        if isinstance(handler.type, ast.Tuple):
            for each in handler.type.elts:
                rest = ', '.join(ast.unparse(other) for other
                                 in handler.type.elts if other is not each)
                self._add(handler.type, '(%s,)' % rest, statement=statement)
        else:
            self._add(handler.type, '()', statement=statement)

    def _without(self, node):
        """A with statement that only runs its body."""
        items = node.items
        first, last = items[0].context_expr, items[-1].context_expr
        start = self._offsets[node.lineno - 1] + node.col_offset
        end = (self._offsets[last.end_lineno - 1] + last.end_col_offset)
        tail = self._source[end:].split(b':', 1)[0]
        before = 'with ' + ', '.join(ast.unparse(item) for item in items)
        self._add(node, 'no with', before=before)
        self.found[-1] = self.found[-1]._replace(
            line=first.lineno, start=start, end=end + len(tail),
            text='if True')

    # Expressions

    def visit_Compare(self, node):
        if len(node.ops) == 1 and type(node.ops[0]) in _OTHER:
            self._add(node, '%s %s %s' % (
                ast.unparse(node.left), _OTHER[type(node.ops[0])],
                ast.unparse(node.comparators[0])))
        self.generic_visit(node)

    def visit_BinOp(self, node):
        if type(node.op) in _OTHER and not _has_text(node):
            self._add(node, '(%s) %s (%s)' % (
                ast.unparse(node.left), _OTHER[type(node.op)],
                ast.unparse(node.right)))
        self.generic_visit(node)

    def visit_BoolOp(self, node):
        for left_out in node.values:
            rest = [ast.unparse(value) if isinstance(
                value, (ast.Name, ast.Attribute, ast.Call, ast.Compare))
                else '(%s)' % ast.unparse(value)
                for value in node.values if value is not left_out]
            self._add(node, (' and ' if isinstance(node.op, ast.And)
                             else ' or ').join(rest))
        self.generic_visit(node)

    def visit_UnaryOp(self, node):
        if isinstance(node.op, ast.Not):
            self._add(node, ast.unparse(node.operand))
        self.generic_visit(node)

    def visit_IfExp(self, node):
        self._condition(node.test)
        self.generic_visit(node)

    def visit_comprehension(self, node):
        for condition in node.ifs:
            self._add(condition, 'True')
        self.generic_visit(node)

    def visit_Constant(self, node):
        if isinstance(node.value, bool):
            self._add(node, str(not node.value))
        elif isinstance(node.value, int):
            self._add(node, str(node.value + 1))
        elif isinstance(node.value, str) and _is_name(node.value):
            self._add(node, repr('not ' + node.value))

    def visit_Call(self, node):
        if not _is_words(node):
            self.generic_visit(node)

    def visit_JoinedStr(self, node):
        """Its parts have no place of their own before Python 3.12."""

    def visit_AnnAssign(self, node):
        if node.value is not None:
            self.visit(node.value)

    def visit_Lambda(self, node):
        self.visit(node.body)


def _is_words(node):
    while isinstance(node, (ast.Call, ast.Attribute)):
        node = node.func if isinstance(node, ast.Call) else node.value
    return isinstance(node, ast.Name) and node.id in _WORDS


def _is_name(text):
    """Whether a string is for programs, not for people."""
    return bool(text) and not any(sign in text for sign in ' \n%')


def _has_text(node):
    return any(isinstance(each, ast.JoinedStr) or isinstance(
        each, ast.Constant) and isinstance(each.value, str)
        for each in ast.walk(node))

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


"""Override callables of Nova in place, and restore them.

Each override is an entry point of this distribution in the group
``nova_rescue_ext.overrides``: its name is the Nova callable
(``module:function`` or ``module:Class.method``), its value is our function.
Ours is called as ``ours(original, self, ...)``, or ``ours(original, ...)`` for
a function of a module or a static method, with the arguments of the caller,
and decides whether to call ``original``, which is bound.

Nova's modules are patched when the service imports them, so that nova-api, for
example, does not import the libvirt driver because of us.
"""

import ast
import functools
import importlib
import textwrap
import types
import typing

import wrapt

from nova_rescue_ext.activation import distribution
from nova_rescue_ext.activation import exception
from nova_rescue_ext.activation import verification

GROUP = 'nova_rescue_ext.overrides'
# Methods that Nova's classes get in addition: the name is where, the value is
# the function. They are called as any method is.
ADDITIONS = 'nova_rescue_ext.additions'
# Those that our code calls, whatever the metadata says.
CALLED = frozenset({
    'nova.conductor.api:ComputeTaskAPI.rebuild_instance_in_cell0'})

_Callable = typing.Callable[..., typing.Any]


class Override(typing.NamedTuple):
    """One entry point: a callable of Nova and the function around it."""

    target: str
    ours: str

    @property
    def module(self) -> str:
        return self.target.partition(':')[0]

    @property
    def qualname(self) -> str:
        return self.target.partition(':')[2]


class Addition(Override):
    """One entry point: the name of a new method and its function."""


def apply(override: Override, module: types.ModuleType) -> 'Applied | Added':
    """Put an override or an addition in place.

    :param override: the Override or Addition
    :param module: the imported module of Nova that the target is in
    :returns: an object with a remove()
    :raises: see Applied and Added
    """
    kind = Added if isinstance(override, Addition) else Applied
    return kind(override, module)


def declared() -> list[Override]:
    """The overrides that this package declares.

    Only those of our own distribution, the first if there are several: another
    package cannot slip one in.

    :returns: a list of Override, sorted by target
    """
    return _declared(GROUP)


def additions() -> list[Override]:
    """The methods that this package adds to classes of Nova.

    :returns: a list of Addition, sorted by target
    """
    return _declared(ADDITIONS, Addition)


def _declared(group: str, kind: type[Override] = Override) -> list[Override]:
    return sorted(kind(entry_point.name, entry_point.value)
                  for entry_point in distribution.current().entry_points
                  if entry_point.group == group)


def check_fit(override: Override) -> None:
    """Check that ours accepts every call that Nova's accepts.

    Compares their sources, as nothing of Nova may be imported before the
    service itself does so.

    :raises: Misfit; SourceNotFound
    """
    target = _parameters(override.target)
    ours = _parameters(override.ours)
    given = target.posonlyargs + target.args
    taken = (ours.posonlyargs + ours.args)[1:]  # the first is the original

    def refuse(reason: str) -> None:
        raise exception.Misfit('%s does not fit %s: %s' % (
            override.ours, override.target, reason))

    for mine, theirs in zip(taken, given):
        if mine.arg != theirs.arg:
            refuse('argument %s is called %s' % (theirs.arg, mine.arg))
    if len(taken) > len(given):
        refuse('Nova does not pass %s' % taken[len(given)].arg)
    rest = given[len(taken):] + target.kwonlyargs
    keywords = {arg.arg for arg in ours.kwonlyargs}
    unnamed = [arg.arg for arg in rest if arg.arg not in keywords]
    if unnamed and not (ours.vararg and ours.kwarg):
        refuse('it does not take %s' % ', '.join(unnamed))
    if target.vararg and not ours.vararg:
        refuse('it does not take *%s' % target.vararg.arg)
    if target.kwarg and not ours.kwarg:
        refuse('it does not take **%s' % target.kwarg.arg)
    expected = _defaults(target)
    found = _defaults(ours)
    for arg in taken:
        if expected.get(arg.arg) != found.get(arg.arg):
            refuse('the default of %s differs' % arg.arg)


def _parameters(name: str) -> ast.arguments:
    function = ast.parse(_signature(verification.source_of(name))).body[0]
    assert isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef))
    return function.args


def _signature(source: str) -> str:
    """A callable without its decorators and its body.

    Parsing bodies would take most of the time of an activation.
    """
    lines = source.split('\n')
    first = next(number for number, line in enumerate(lines)
                 if line.lstrip().startswith(('def ', 'async def ')))
    signature = ''
    for line in lines[first:]:
        code = line.partition('  #')[0].strip()
        signature += code + ' '
        if code.endswith(':') and _is_balanced(signature):
            return signature + 'pass'
        if _is_balanced(signature) and '):' in code:  # all in one line
            break
    return textwrap.dedent('\n'.join(lines[first:]))


def _is_balanced(code: str) -> bool:
    return all(code.count(opening) == code.count(closing)
               for opening, closing in ('()', '[]', '{}'))


def _defaults(arguments: ast.arguments) -> dict[str, str]:
    positional = arguments.posonlyargs + arguments.args
    defaults = dict(zip([arg.arg for arg in reversed(positional)],
                        reversed(arguments.defaults)))
    return {name: ast.dump(value) for name, value in defaults.items()}


class Applied:
    """An override that is in place.

    :param override: the Override
    :param module: the imported module of Nova that the target is in
    :raises: AttributeError if the module does not have the target
    """

    def __init__(self, override: Override, module: types.ModuleType) -> None:
        self.override = override
        self._ours = _load(override.ours)
        self._owner, self._attribute, original = wrapt.resolve_path(
            module, override.qualname)
        self._inherited = self._attribute not in vars(self._owner)
        self._original = original
        self._bound = ('.' in override.qualname
                       and not isinstance(original, staticmethod))
        call = self._call_method if self._bound else self._call_function
        self._wrapper = wrapt.FunctionWrapper(original, call)
        setattr(self._owner, self._attribute, self._wrapper)

    def _call_method(self, wrapped: _Callable, instance: object,
                     args: tuple, kwargs: dict) -> typing.Any:
        return self._ours(wrapped, instance, *args, **kwargs)

    def _call_function(self, wrapped: _Callable, instance: object,
                       args: tuple, kwargs: dict) -> typing.Any:
        return self._ours(wrapped, *args, **kwargs)

    def remove(self) -> None:
        """Put the original back.

        If other code has wrapped the callable after us, its wrapper stays and
        ours only calls the original.
        """
        if vars(self._owner).get(self._attribute) is not self._wrapper:
            self._ours = (_original_method if self._bound
                          else _original_function)
        elif self._inherited:
            delattr(self._owner, self._attribute)
        else:
            setattr(self._owner, self._attribute, self._original)


class Added:
    """A method that was added to a class of Nova.

    :param addition: the Addition
    :param module: the imported module of Nova that the class is in
    :raises: AttributeError if the module does not have the class; Misfit if
        the class has such a method
    """

    def __init__(self, addition: Override,
                 module: types.ModuleType) -> None:
        path, _, self._attribute = addition.qualname.rpartition('.')
        self.override = addition
        self._owner = functools.reduce(
            getattr, path.split('.'), typing.cast(typing.Any, module))
        if hasattr(self._owner, self._attribute):
            raise exception.Misfit('Nova has a %s of its own' %
                                   addition.target)
        self._ours = _load(addition.ours)
        setattr(self._owner, self._attribute, self._ours)

    def remove(self) -> None:
        """Take it off again, unless other code has replaced it."""
        if vars(self._owner).get(self._attribute) is self._ours:
            delattr(self._owner, self._attribute)


def _load(name: str) -> _Callable:
    module, _, qualname = name.partition(':')
    found: typing.Any = importlib.import_module(module)
    return functools.reduce(getattr, qualname.split('.'), found)


def _original_method(original: _Callable, self: object, *args: typing.Any,
                     **kwargs: typing.Any) -> typing.Any:
    return original(*args, **kwargs)


def _original_function(original: _Callable, *args: typing.Any,
                       **kwargs: typing.Any) -> typing.Any:
    return original(*args, **kwargs)

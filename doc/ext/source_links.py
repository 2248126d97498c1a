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

"""A role that links to a function of the package in its repository.

``:ours:`rescue.api:rescue``` is nova_rescue_ext/rescue/api.py, function
rescue. One that does not exist is a warning, and so an error of "make docs".
"""

import ast
import pathlib

ROOT = pathlib.Path(__file__).parents[2]
URL = ('https://opendev.org/x/nova-rescue-ext/src/branch/master/'
       '{path}#L{line}')


def find(name):
    """Where a function, a class or a method of the package is.

    :param name: ``module:function`` or ``module:Class.method``, without the
        name of the package
    :returns: path below the root of the repository, and line
    :raises: LookupError
    """
    module, _, inside = name.partition(':')
    base = ROOT.joinpath('nova_rescue_ext', *module.split('.'))
    path = base.with_suffix('.py')
    if not path.exists():
        path = base / '__init__.py'
    try:
        node = ast.parse(path.read_text())
        for part in inside.split('.') if inside else ():
            node = next(each for each in ast.iter_child_nodes(node)
                        if getattr(each, 'name', None) == part)
    except (OSError, StopIteration):
        raise LookupError(name)
    return path.relative_to(ROOT), getattr(node, 'lineno', 1)


def _link(name, text, lineno, inliner):
    from docutils import nodes

    shown = nodes.literal(text, name)
    try:
        path, line = find(name)
    except LookupError:
        return [shown], [inliner.reporter.warning(
            f'nova_rescue_ext has no {name}', line=lineno)]
    link = nodes.reference('', '', shown,
                           refuri=URL.format(path=path, line=line))
    return [link], []


def setup(app):
    app.add_role('ours', lambda role, raw, text, lineno, inliner, *args:
                 _link(text, raw, lineno, inliner))
    return {'parallel_read_safe': True}

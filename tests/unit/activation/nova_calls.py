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


"""What of Nova the package calls, found in its syntax trees.

Python has no types to ask, so the class of an object is told by what the
object is called (KINDS): the package calls the same things by the same names
everywhere. A method of something that has no known name counts as a use of any
class of Nova that has a method of that name.
"""

import ast
import configparser
import functools
import importlib
import inspect
import os
import pkgutil
import typing

import nova_rescue_ext

ROOT = os.path.dirname(nova_rescue_ext.__file__)

# Names of variables, parameters and attributes -> class of Nova.
KINDS = {
    'nova.accelerator.cyborg:_CyborgClient': ['cyborg_client'],
    'nova.compute.api:API': ['compute_api', '_api'],
    'nova.compute.manager:ComputeManager': ['manager', '_compute'],
    'nova.compute.manager:ComputeVirtAPI': ['virtapi'],
    'nova.compute.share_management:ShareManager': ['share_manager'],
    'nova.conductor.api:ComputeTaskAPI': ['compute_task_api'],
    'nova.conductor.tasks.live_migrate:LiveMigrationTask': ['task'],
    'nova.context:RequestContext': [
        '_context', 'cctxt', 'context', 'ctxt', 'elevated'],
    'nova.image.glance:API': ['_image_api', 'image_api'],
    'nova.network.neutron:API': ['network_api'],
    'nova.objects.block_device:BlockDeviceMapping': [
        'bdm', 'root', 'root_bdm', 'row'],
    'nova.objects.block_device:BlockDeviceMappingList': ['bdms'],
    'nova.objects.build_request:BuildRequest': [
        '_build_request', 'build_request'],
    'nova.objects.compute_node:ComputeNode': ['compute_node', 'node'],
    'nova.objects.image_meta:ImageMeta': ['image_meta'],
    'nova.objects.image_meta:ImageMetaProps': ['properties'],
    'nova.objects.instance:Instance': [
        'fresh', 'instance', 'new', 'old'],
    'nova.objects.migrate_data:LibvirtLiveMigrateData': [
        'dest_check_data', 'migrate_data'],
    'nova.objects.migration:Migration': ['migration'],
    'nova.objects.request_spec:RequestSpec': ['request_spec', 'spec'],
    'nova.objects.share_mapping:ShareMappingList': ['shares'],
    'nova.scheduler.client.report:SchedulerReportClient': [
        'placementclient', 'report_client'],
    'nova.servicegroup.api:API': ['servicegroup_api'],
    'nova.virt.libvirt.driver:LibvirtDriver': ['driver', '_driver'],
    'nova.virt.libvirt.guest:Guest': ['guest'],
    'nova.virt.libvirt.host:Host': ['_host'],
    'nova.virt.libvirt.vif:LibvirtGenericVIFDriver': ['vif_driver'],
    'nova.volume.cinder:API': ['volume_api'],
}
CLASS_OF = {name: kind for kind, names in KINDS.items() for name in names}

# What a callable of Nova returns, where the package goes on with it at once.
RESULTS = {
    'nova.virt.libvirt.host:Host.get_guest': 'nova.virt.libvirt.guest:Guest',
    'nova.context:RequestContext.elevated': 'nova.context:RequestContext',
    'nova.objects.instance:Instance.get_network_info':
        'nova.network.model:NetworkInfo',
}

# Attributes of what has no known name, and is nothing of Nova.
NOT_OF_NOVA = {
    'disabled': 'a field of a CellMapping',
    'post': 'the end of a migration, which is an object of ours',
    'show_port': 'of neutronclient',
    'start': 'where a match of a regular expression begins; of a stop watch',
}

# Everything has these; what they are called on has to have a name above.
_COMMON = {name for kind in (dict, list, set, str, bytes, int, object)
           for name in dir(kind)} | {'__name__', '__module__', '__qualname__'}


class Use(typing.NamedTuple):
    """A place where the package uses a callable of Nova.

    ``names`` are those that it may be: one of them, if its class is known.
    """

    names: typing.Tuple[str, ...]
    where: str


class Of(typing.NamedTuple):
    """An object of a class of Nova."""

    kind: type


FOREIGN = object()  # nothing of Nova, and nothing of Nova in it
OURS = object()  # an object of a class of ours


def load(name):
    """The object that 'module:qualname' names, None if this Nova has none."""
    module, _, qualname = name.partition(':')
    try:
        return functools.reduce(getattr, qualname.split('.'),
                                importlib.import_module(module))
    except (ImportError, AttributeError):
        return None


def overridden():
    """dict, our function -> the callables of Nova that it overrides."""
    setup = configparser.ConfigParser(delimiters=('=',))
    setup.optionxform = str
    setup.read(os.path.join(os.path.dirname(ROOT), 'setup.cfg'))
    found = {}
    for line in setup['entry_points']['nova_rescue_ext.overrides'].split('\n'):
        target, _, ours = line.strip().partition(' = ')
        if target:
            found.setdefault(ours, []).append(target)
    return found


def uses():
    """Yield each Use of a callable of Nova in the package."""
    from nova import objects

    objects.register_all()
    targets = overridden()
    for info in pkgutil.walk_packages([ROOT], 'nova_rescue_ext.'):
        path = os.path.join(ROOT, *info.name.split('.')[1:])
        path += '/__init__.py' if info.ispkg else '.py'
        with open(path, encoding='utf-8') as source:
            yield from uses_in(source.read(), info.name, targets)


def uses_in(source, module, targets):
    """Yield each Use in the source of a module of ours.

    :param module: its name
    :param targets: what overridden() returns
    """
    finder = _Finder(module, ast.parse(source), targets)
    return sorted(set(finder.found))


def qualified(kind, attribute, properties=True):
    """Where a class has a callable from.

    :param properties: whether those count, too
    :returns: 'module:Class.attribute', or None if it is not Nova's code
    """
    for base in inspect.getmro(kind):
        if attribute in vars(base):
            value = vars(base)[attribute]
            break
    else:
        return None
    if properties and isinstance(value, property):
        value = value.fget
    if not (inspect.isroutine(value) or isinstance(
            value, (staticmethod, classmethod))):
        return None
    value = getattr(value, '__func__', value)
    written_in = getattr(inspect.unwrap(value), '__module__', None) or ''
    if not base.__module__.startswith('nova.') or (
            not written_in.startswith('nova.')):
        return None  # a field of an object, or of a library
    return '%s:%s.%s' % (base.__module__, base.__qualname__, attribute)


class _Finder(ast.NodeVisitor):

    def __init__(self, module, tree, targets):
        self.found = []
        self._module = module
        self._imported = {}
        self._self = []  # what "self" is, in the functions around
        self._targets = {
            ours.partition(':')[2]: [load(name.rpartition('.')[0])
                                     for name in theirs if '.' in
                                     name.partition(':')[2]]
            for ours, theirs in targets.items()
            if ours.partition(':')[0] == module}
        self._is_given_nova = bool(self._targets)
        for node in ast.walk(tree):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                self._import(node)
        self.visit(tree)

    def _import(self, node):
        """Note what names mean; in a function as well as at the top."""
        for alias in node.names:
            name = alias.asname or alias.name.split('.')[0]
            if isinstance(node, ast.Import):
                full = alias.name if alias.asname else name
            else:
                full = '%s.%s' % (node.module, alias.name)
            self._imported[name] = FOREIGN
            if full.split('.')[0] == 'nova':
                self._imported[name] = _import_name(full)
                self._is_given_nova = True

    def visit_ClassDef(self, node):
        self._self.append(OURS)
        self.generic_visit(node)
        self._self.pop()

    def visit_FunctionDef(self, node):
        if self._self and self._self[-1] is OURS:
            self._self.append(OURS)
        else:
            every = [kind for kinds in self._targets.values()
                     for kind in kinds]
            self._self.append(self._targets.get(node.name) or every)
        self.generic_visit(node)
        self._self.pop()

    def visit_Attribute(self, node):
        self._resolve(node)

    def visit_Name(self, node):
        self._resolve(node)

    def visit_Call(self, node):
        self._resolve(node)
        for argument in node.args + [word.value for word in node.keywords]:
            self.visit(argument)

    def _resolve(self, node):
        """What an expression is, with all that is used on the way noted.

        :returns: a module, class or function of Nova, a list of Of, FOREIGN,
            OURS, or None if that is not known
        """
        if isinstance(node, ast.Name):
            return self._of_name(node)
        if isinstance(node, ast.Attribute):
            return self._of_attribute(node)
        if isinstance(node, ast.Call):
            return self._of_call(node)
        self.generic_visit(node)
        return None

    def _of_name(self, node):
        if node.id == 'self' and self._self:
            if self._self[-1] is OURS:
                return OURS
            return [Of(kind) for kind in dict.fromkeys(self._self[-1])]
        if node.id in self._imported:
            value = self._imported[node.id]
            if inspect.isfunction(value):
                self._note(node, _name_of(value))
            return value
        return self._by_convention(node.id)

    def _by_convention(self, name):
        kind = CLASS_OF.get(name) and load(CLASS_OF[name])
        return [Of(kind)] if kind else None

    def _of_attribute(self, node):
        base = self._resolve(node.value)
        if base is FOREIGN:
            return FOREIGN
        if inspect.ismodule(base):
            value = getattr(base, node.attr, None)
            if inspect.isroutine(value):
                self._note(node, _name_of(value))
            return value if value is not None else FOREIGN
        if inspect.isclass(base):
            base = [Of(base)]
        if isinstance(base, list):
            names = {qualified(of.kind, node.attr) for of in base} - {None}
            if names:
                self._note(node, *names)
                return names
        elif base is None and self._is_given_nova and (
                node.attr not in _COMMON and node.attr not in NOT_OF_NOVA):
            names = {qualified(kind, node.attr, properties=False)
                     for kind in _classes_in_reach()} - {None}
            if names:
                self._note(node, *names)
        return self._by_convention(node.attr)

    def _of_call(self, node):
        called = self._resolve(node.func)
        if inspect.isclass(called):
            name = qualified(called, '__init__')
            if name:
                self._note(node, name)
            return [Of(called)]
        if isinstance(called, set):
            for name in called:
                if name in RESULTS:
                    return [Of(load(RESULTS[name]))]
                if name.startswith('nova.objects.') and (
                        name.rpartition('.')[2].startswith('get_by')):
                    return [Of(load(name.rpartition('.')[0]))]
        return FOREIGN if called is FOREIGN else None

    def _note(self, node, *names):
        if all(names):
            self.found.append(Use(tuple(sorted(names)), '%s:%d' % (
                self._module, node.lineno)))


def _import_name(full):
    try:
        return importlib.import_module(full)
    except ImportError:
        module, _, attribute = full.rpartition('.')
        return getattr(importlib.import_module(module), attribute)


def _name_of(function):
    """'module:name' of a function of Nova, None if it is a library's."""
    module = getattr(function, '__module__', None) or ''
    if module.split('.')[0] != 'nova':
        return None
    return '%s:%s' % (module, function.__qualname__)


_REACH = []


def _classes_in_reach():
    """The classes that objects which the package is given may have."""
    if not _REACH:
        names = set(KINDS) | {
            target.rpartition('.')[0] for targets in overridden().values()
            for target in targets if '.' in target.partition(':')[2]}
        _REACH.extend(filter(None, map(load, sorted(names))))
    return _REACH

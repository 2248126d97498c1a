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

"""Where an operation calls out, and how each of these calls fails for real.

Nothing here knows our own modules: a boundary is where Nova or the package
leaves the process, so that code that is moved or written anew is explored as
before.
"""

import builtins
import contextlib
import dataclasses
import functools
import importlib
import inspect
import os
import pkgutil
import re
import shutil
import sys

from castellan.common import exception as key_exception
from nova import conf
from nova import exception
import nova.privsep
from nova.tests.fixtures import glance
from nova.tests.fixtures import libvirt
from nova.tests.fixtures import neutron
from nova.virt.libvirt import host
from oslo_db import exception as db_exception
from oslo_db.sqlalchemy import enginefacade
import oslo_messaging
from oslo_messaging.rpc import client as rpc_client
from oslo_privsep import daemon

from tests.explorer import doubles
from tests.functional import tpms

CONF = conf.CONF

_UUID = re.compile('[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}')


@dataclasses.dataclass(frozen=True)
class Boundary:
    """A place at which something can happen.

    :ivar service: the service that calls out
    :ivar label: what it calls
    :ivar kind: libvirt, database, rpc, files, cinder, ...
    :ivar number: which of the calls with this service and label it is, from 1
    :ivar only_reads: whether the call changes nothing
    :ivar where: the innermost lines of Nova or the package
    """

    service: str
    label: str
    kind: str
    number: int
    only_reads: bool
    where: tuple = dataclasses.field(default=(), compare=False)

    @property
    def key(self):
        """The same in every run: this is how a replay finds it."""
        return '%s/%s#%d' % (self.service, self.label, self.number)


# Calls that tell nothing of a server, or that no failure is worth a thought.
_QUIET = frozenset(
    'name UUIDString ID isPersistent vcpus maxMemory memoryStats blockStats '
    'verify_hostdevs_interface_are_vfs interfaceStats getInfo getType '
    'getLibVersion getVersion getHostname getCPUMap getCapabilities '
    'getDomainCapabilities getCPUModelNames compareCPU compareHypervisorCPU '
    'getCPUStats baselineCPU listDevices listAllDevices complete_job '
    'fail_job registerCloseCallback domainEventRegisterAny isActive info '
    'hasManagedSaveImage getMemoryStats'.split())
_LIBVIRT_READS = frozenset(
    'XMLDesc lookupByUUIDString listAllDomains jobStats jobInfo '
    'blockJobInfo'.split())

_CINDER = ('get', 'attachment_create', 'attachment_update',
           'attachment_complete', 'attachment_delete', 'attachment_get',
           'delete', 'begin_detaching', 'roll_detaching', 'get_snapshot')
_NEUTRON = ('create_port', 'update_port', 'delete_port',
            'create_port_binding', 'delete_port_binding',
            'activate_port_binding', 'list_ports', 'show_port')
_GLANCE = ('show', 'download', 'detail')
_PLACEMENT = ('get', 'put', 'post', 'delete')
_READS = ('get', 'show', 'list', 'detail')
_READS_TOO = ('attachment_get', 'exists')


def _libvirt_error(label):
    return libvirt.make_libvirtError(
        libvirt.libvirtError, 'Injected at %s' % label,
        error_code=libvirt.VIR_ERR_INTERNAL_ERROR,
        error_domain=libvirt.VIR_FROM_QEMU)


def _database_error(label):
    return db_exception.DBConnectionError('Injected at %s' % label)


def _rpc_error(label):
    return oslo_messaging.MessagingTimeout('Injected at %s' % label)


def _file_error(label):
    return OSError(5, 'Injected at %s' % label)


def _cinder_error(label):
    return exception.CinderConnectionFailed(
        reason='Injected at %s' % label)


def _glance_error(label):
    return exception.GlanceConnectionFailed(
        server='glance', reason='Injected at %s' % label)


def _neutron_error(label):
    from neutronclient.common import exceptions

    return exceptions.ConnectionFailed(reason='Injected at %s' % label)


def _placement_error(label):
    from keystoneauth1 import exceptions

    return exceptions.ConnectFailure('Injected at %s' % label)


def _privsep_error(label):
    return daemon.FailedToDropPrivileges('Injected at %s' % label)


def _key_error(label):
    return key_exception.KeyManagerError('Injected at %s' % label)


def _driver_error(label):
    return exception.NovaException('Injected at %s' % label)


def where(frames=4):
    """The innermost lines of Nova or the package that are running."""
    lines = []
    frame = sys._getframe(1)
    while frame is not None and len(lines) < frames:
        path = frame.f_code.co_filename
        if (('/nova/' in path or '/nova_rescue_ext/' in path)
                and '/tests/' not in path and '/objects/' not in path
                and '/db/' not in path):
            lines.append('%s:%d %s' % ('/'.join(path.split('/')[-2:]),
                                       frame.f_lineno,
                                       frame.f_code.co_name))
        frame = frame.f_back
    return tuple(lines)


def install(explorer):
    """Wrap all that an operation can call out to.

    For the rest of the process: use it in a process of its own.

    :param explorer: its ``at(kind, label, error, only_reads)`` is a context
        manager around each call
    """
    _install_libvirt(explorer)
    _install_databases(explorer)
    _install_rpc(explorer)
    _install_services(explorer)
    _install_privsep(explorer)
    _install_files(explorer)
    _install_fake_driver(explorer)


def _wrap(explorer, owner, name, kind, error, only_reads=False, label=None):
    original = getattr(owner, name, None)
    if original is None:
        return
    label = label or '%s.%s' % (owner.__name__.rpartition('.')[2], name)

    # A double may be a Mock, or a bound method of its fixture.
    @functools.wraps(original, assigned=('__name__', '__doc__'), updated=())
    def call(*args, **kwargs):
        with explorer.at(kind, label, error, only_reads):
            return original(*args, **kwargs)

    if inspect.isclass(owner) and not (
            inspect.isfunction(original)
            and not isinstance(vars(owner).get(name), staticmethod)):
        call = staticmethod(call)
    setattr(owner, name, call)


def _install_libvirt(explorer):
    for owner in (libvirt.Domain, libvirt.Connection):
        for name, value in list(vars(owner).items()):
            if (inspect.isfunction(value) and not name.startswith('_')
                    and name not in _QUIET):
                _wrap(explorer, owner, name, 'libvirt', _libvirt_error,
                      name in _LIBVIRT_READS)
    for name in ('create_secret', 'delete_secret'):
        _wrap(explorer, host.Host, name, 'libvirt', _libvirt_error)


def _install_databases(explorer):
    """A boundary is a transaction: it fails before, or after its commit."""
    manager = enginefacade._TransactionContextManager
    scope = manager._transaction_scope

    @contextlib.contextmanager
    def transaction_scope(itself, context):
        with explorer.at('database', _transaction_name, _database_error,
                         itself._mode is not enginefacade._WRITER):
            with scope(itself, context) as resource:
                yield resource

    manager._transaction_scope = transaction_scope


def _transaction_name():
    """The function whose transaction begins."""
    frame = sys._getframe(1)
    while frame is not None:
        path = frame.f_code.co_filename
        function = frame.f_locals.get('fn') or frame.f_locals.get('f')
        if callable(function) and ('enginefacade' in path or '/db/' in path):
            return 'db.' + function.__name__
        if ('/tests/explorer/' not in path and 'contextlib' not in path
                and 'enginefacade' not in path):
            return 'db.' + frame.f_code.co_name
        frame = frame.f_back
    return 'db'


def _install_rpc(explorer):
    for name in ('call', 'cast'):
        send = getattr(rpc_client._BaseCallContext, name)

        def follow(itself, context, method, _name=name, _send=send,
                   **kwargs):
            with explorer.at('rpc', 'rpc.%s.%s' % (_name, method),
                             _rpc_error, False) as outcome:
                return outcome.run(_send, (itself, context, method), kwargs)

        setattr(rpc_client._BaseCallContext, name, follow)


def _install_services(explorer):
    from nova.scheduler.client import report
    from nova.volume import cinder

    for owner, names, kind, error in (
            (cinder.API, _CINDER, 'cinder', _cinder_error),
            (neutron.NeutronFixture, _NEUTRON, 'neutron', _neutron_error),
            (glance.GlanceFixture, _GLANCE, 'glance', _glance_error),
            (report.SchedulerReportClient, _PLACEMENT, 'placement',
             _placement_error),
            (doubles.RbdDriver, ('exists', 'cleanup_volumes'), 'rbd',
             _driver_error),
            (doubles.KeyManager, ('get',), 'barbican', _key_error),
            (tpms.KeyManager, ('get', 'store', 'delete'), 'barbican',
             _key_error)):
        for name in names:
            _wrap(explorer, owner, name, kind, error,
                  name.startswith(_READS) or name in _READS_TOO,
                  '%s.%s' % (kind, name))


def _install_privsep(explorer):
    """What is done as root, by a daemon that may be gone."""
    for found in pkgutil.iter_modules(nova.privsep.__path__,
                                      'nova.privsep.'):
        module = importlib.import_module(found.name)
        for name, value in list(vars(module).items()):
            if nova.privsep.sys_admin_pctxt.is_entrypoint(value):
                _wrap(explorer, module, name, 'privsep', _privsep_error,
                      label='privsep.%s' % name)


def _install_files(explorer):
    for module, names in (
            (os, ('unlink', 'remove', 'rename', 'replace', 'mkdir',
                  'makedirs', 'rmdir', 'link', 'symlink')),
            (shutil, ('rmtree', 'copy', 'copyfile', 'copytree', 'move'))):
        for name in names:
            _wrap_file_operation(explorer, module, name)
    _wrap_file_operation(explorer, builtins, 'open')


def _wrap_file_operation(explorer, module, name):
    original = getattr(module, name)

    @functools.wraps(original)
    def call(*args, **kwargs):
        path = _instance_file(args)
        if path is None or (name == 'open' and not _writes(args, kwargs)) or (
                name in ('mkdir', 'makedirs') and os.path.isdir(args[0])):
            return original(*args, **kwargs)
        try:
            with explorer.at('files', '%s.%s(%s)' % (
                    module.__name__, name, path), _file_error, False):
                return original(*args, **kwargs)
        except OSError:
            if not kwargs.get('ignore_errors'):
                raise

    setattr(module, name, call)


def _writes(args, kwargs):
    mode = kwargs.get('mode') or (args[1] if len(args) > 1 else 'r')
    return isinstance(mode, str) and set(mode) & set('wax+')


def _instance_file(args):
    """What is below a server's directory, or None for any other path."""
    path = args[0] if args else None
    if not isinstance(path, str) or not path.startswith(
            CONF.instances_path + os.sep):
        return None
    # instances/<host>/<uuid>/...; the name of a temporary file is random.
    names = path[len(CONF.instances_path) + 1:].split(os.sep)[1:]
    # That of a folder for a migration has its UUID, which is random, too.
    return _UUID.sub('UUID', '/'.join(names[1:])) or '.'


def _install_fake_driver(explorer):
    """What the double of a hypervisor without libvirt does."""
    from nova.virt import fake

    for name in ('spawn', 'destroy', 'cleanup', 'plug_vifs', 'unplug_vifs'):
        _wrap(explorer, fake.FakeDriver, name, 'driver', _driver_error)

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


"""Why a build failed, for programs: ``reason`` in the fault of a server.

Nova keeps the traceback of the exception with the fault, and shows it to
administrators. Its last line names the exception. So it can be told of servers
that failed before the package was there, and nothing has to be kept. Of an
exception that says nothing of the cause there is no reason.
"""

from __future__ import annotations

import itertools
import re
import typing

from nova import exception as nova_exception
from nova import objects

from nova_rescue_ext import exception
from nova_rescue_ext import microversion
from nova_rescue_ext import rebuild

# What is said in another exception than that of the cause.
_WRAPPERS = ('nova.exception.BuildAbortException',
             'nova.exception.RescheduledException',
             'nova.exception.RescheduledByPolicyException')

# Exceptions, with those that inherit from them. The first that fits counts:
# MaxRetriesExceeded, for example, is a NoValidHost.
_REASONS = (
    ('interrupted', (exception.RebuildInterrupted,)),
    ('retries_exhausted', ('MaxRetriesExceeded',)),
    ('no_host', ('NoValidHost', 'ComputeResourcesUnavailable')),
    ('quota', ('OverQuota', 'oslo_limit.exception.ProjectOverLimit')),
    ('port', (
        'ExternalNetworkAttachForbidden', 'FixedIpAlreadyInUse',
        'FixedIpInvalidOnHost', 'NetworkNotFound', 'NetworkRequiresSubnet',
        'NetworksWithQoSPolicyNotSupported', 'NoMoreFixedIps',
        'PortBindingFailed', 'PortInUse', 'PortNotFound', 'PortNotUsable',
        'PortNotUsableDNS', 'PortRequiresFixedIP', 'PortUpdateFailed',
        'UnableToAutoAllocateNetwork', 'VirtualInterfaceCreateException',
        'VirtualInterfaceMacAddressException',
        'VirtualInterfacePlugException')),
    ('volume', (
        'InvalidBDM', 'InvalidVolume', 'SnapshotNotFound',
        'VolumeAttachFailed', 'VolumeEncryptionNotSupported',
        'VolumeNotCreated', 'VolumeNotFound', 'VolumeSmallerThanMinDisk')),
    ('image', (
        'CertificateValidationFailed', 'FlavorDiskTooSmall',
        'FlavorMemoryTooSmall', 'ImageBadRequest', 'ImageNotActive',
        'ImageNotAuthorized', 'ImageNotFound', 'ImageUnacceptable',
        'InvalidDiskFormat', 'InvalidImageFormat',
        'cursive.exception.SignatureVerificationError')),
)

_TRACEBACK = 'Traceback (most recent call last):\n'
# The line below a traceback. Of an exception that came in a message
# oslo.messaging changes the name of the class, and of the module.
_EXCEPTION = re.compile(r'^([A-Za-z_][\w.]*)', re.M)
_REMOTE = '_Remote'
# Nova raises the exception of the fault while it handles one from there.
_IN_CLEAN_UP = ', in _shutdown_instance\n'

# In the environment of a WSGI request: UUID -> reason.
_ENVIRON = 'nova_rescue_ext.fault_reasons'


def exception_of(fault: objects.InstanceFault) -> str | None:
    """The name of the exception that tells why a build failed.

    :param fault: an InstanceFault
    :returns: with the name of its module; None if that was not recorded
    """
    names = []
    for part in (fault.details or '').split(_TRACEBACK)[1:]:
        found = _EXCEPTION.search(part)
        if found:
            names.append(found[1].replace(_REMOTE, ''))
    if not names:
        return _exception_without_traceback(fault)
    return next(itertools.dropwhile(_WRAPPERS.__contains__, reversed(names)),
                names[-1])


def host_that_may_have_guest(
        fault: objects.InstanceFault | None) -> str | None:
    """The host that could not clean up after it had failed to build a server.

    A nova-compute without the package tells it nowhere else.

    :param fault: the newest of a server that never booted, if there is one
    """
    if fault is None or _IN_CLEAN_UP not in (fault.details or ''):
        return None
    return fault.host


def _exception_without_traceback(fault: objects.InstanceFault) -> str | None:
    """What Nova records without it: if the code is not 500, and one error."""
    if fault.code == nova_exception.OverQuota.code:
        return 'nova.exception.OverQuota'  # no other has this code
    begin = nova_exception.MaxRetriesExceeded.msg_fmt.partition('%')[0]
    if (fault.message or '').startswith(begin):
        return 'nova.exception.MaxRetriesExceeded'
    return None


def reason_of(fault: objects.InstanceFault) -> str | None:
    """Why a build failed, in a word that does not change.

    :param fault: an InstanceFault
    :returns: None if the exception does not tell
    """
    name = exception_of(fault)
    names = _ancestors(name) if name else []
    return next((reason for reason, exceptions in _REASONS
                 if not set(names).isdisjoint(map(_full_name, exceptions))),
                None)


def _ancestors(name: str) -> list[str]:
    module, _, class_name = name.rpartition('.')
    found = (getattr(nova_exception, class_name, None)
             if module == nova_exception.__name__ else None)
    if not isinstance(found, type):
        return [name]
    return [_full_name(ancestor) for ancestor in found.__mro__]


def _full_name(an_exception: str | type) -> str:
    if isinstance(an_exception, type):
        return '%s.%s' % (an_exception.__module__, an_exception.__name__)
    return (an_exception if '.' in an_exception
            else '%s.%s' % (nova_exception.__name__, an_exception))


def get_fault(original: typing.Callable[..., dict[str, typing.Any] | None],
              self: object, request: typing.Any,
              instance: objects.Instance) -> dict[str, typing.Any] | None:
    """The fault of a server in nova-api's answer; its reason is noted.

    Nova's schema of the answer does not allow for it yet. Nor may that of a
    client that names no version: it gets none by the operator's default.
    """
    shown = original(request, instance)
    if (shown is not None and rebuild.never_booted(instance)
            and microversion.is_named(
                request.environ['nova.context'],
                microversion.REBUILD_NEVER_BOOTED)):
        reason = reason_of(instance.fault)
        if reason is not None:
            request.environ.setdefault(_ENVIRON, {})[instance.uuid] = reason
    return shown


def add_reasons(request: typing.Any, answer: typing.Any) -> None:
    """Add the reasons that were noted to the answer of nova-api.

    :param request: a wsgi.Request of Nova
    :param answer: what Nova's controller returned for it
    """
    # Nova's own tests dispatch with no request.
    reasons = request.environ.get(_ENVIRON) if request else None
    if not reasons:
        return
    body = getattr(answer, 'obj', answer)
    if not isinstance(body, dict):
        return
    for server in [*body.get('servers', ()), body.get('server', {})]:
        if server.get('id') in reasons and 'fault' in server:
            server['fault']['reason'] = reasons[server['id']]

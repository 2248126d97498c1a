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

"""Nobody's rights serve a stranger, in any test.

Every call of Glance, Cinder, Neutron, Cyborg and the key manager is recorded,
with the context that it is made with and the server in whose service. A test
fails in which something that the server's project may not have is read,
reserved or destroyed with other rights than the project has. What the request
names, the caller has given away; so has the operator what they offer.
Placement knows no rights: there a server's allocation is that of its project.

nova_rescue_ext.claims has to read what it refuses: of that, only what it gives
out counts. Nor does what no test has given an owner.
"""

import functools
import pkgutil
import re
import sys
import typing

import fixtures
from nova import conf
from nova import context as nova_context
from nova import exception
from nova import objects

CONF = conf.CONF

_ID = re.compile(rb'[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}')
_CLAIMS = 'nova_rescue_ext.claims'
# What Nova, and we, call the server that something is done for.
_NAMES = ('instance', 'new')


class Call(typing.NamedTuple):
    """What is done for a server, and with whose rights."""

    service: str
    action: str
    what: object  # an id
    server: object  # the id of the server, or None
    project: object  # that of the server
    caller: object  # the project of the context
    is_admin: bool
    is_operator: bool  # with the credentials of nova.conf
    request_id: object


class Audit(fixtures.Fixture):
    """Record calls, and fail the test if one should not have been made.

    :param test: the test, with Nova's doubles
    :param owners: the Owners
    :ivar calls: every Call
    :ivar violations: of these, what should not have been made
    """

    def __init__(self, test, owners):
        super().__init__()
        self._test = test
        self._owners = owners
        self._named = {}
        self._secrets = {}
        self._snapshots = {}
        self._allowed = set()
        self.calls = []
        self.violations = []

    def allow(self, *ids):
        """Stock Nova does it, or the test does it by itself."""
        self._allowed.update(ids)

    def _setUp(self):
        self.addCleanup(self._check)
        self._note_what_requests_name()
        self._watch_images()
        self._watch_volumes()
        self._watch('nova.network.neutron.get_client', self._watch_neutron)
        self._watch('castellan.key_manager.API', self._watch_key_manager)
        self._watch('nova.accelerator.cyborg._CyborgClient'
                    '._get_device_profile_list', self._watch_cyborg)
        self._watch('nova.scheduler.client.report.SchedulerReportClient'
                    '.delete_allocation_for_instance', self._watch_placement)
        self._watch_claims()

    def _check(self):
        if self.violations:
            raise AssertionError(
                'Done for a server whose project may not have it:\n'
                + '\n'.join(map(str, self.violations)))

    def _watch(self, name, make):
        """Put something in the place of a function of Nova.

        :param make: makes it of the function
        """
        module, attribute = name.rsplit('.', 1)
        found = pkgutil.resolve_name(module)
        original = vars(found).get(attribute, getattr(found, attribute))
        self.useFixture(fixtures.MonkeyPatch(name, make(original)))

    # Who names what

    def _note_what_requests_name(self):
        def make(original):
            @functools.wraps(original)
            def process(itself, request, action, action_args, content_type,
                        body, accept):
                context = request.environ.get('nova.context')
                if context is not None:
                    self._named[context.request_id] = {
                        found.decode() for found in _ID.findall(body or b'')}
                return original(itself, request, action, action_args,
                                content_type, body, accept)
            return process

        self._watch('nova.api.openstack.wsgi.Resource._process_stack', make)

    def _gives_away(self, call, image=None):
        """Whether caller or operator has named it in this request."""
        offered = {CONF.libvirt.rescue_image_id}
        if 'rescue_ext' in CONF:
            offered.add(CONF.rescue_ext.default_rescue_image)
        named = offered | self._named.get(call.request_id, set())
        if call.what in named | self._allowed:
            return True
        return any(call.what in self._boots_with(other)
                   and (other in offered and call.is_operator
                        or self._owner(other) is not None
                        and self._owner(other) == self._owner(call.what))
                   for other in named)

    def _boots_with(self, image_id):
        image = self._test.glance.images.get(image_id) or {'properties': {}}
        return {image['properties'].get(name)
                for name in ('kernel_id', 'ramdisk_id')} - {None}

    def _owner(self, image_id):
        return (self._test.glance.images.get(image_id) or {}).get('owner')

    # The calls

    def _record(self, service, action, what, context, may_have,
                asks_for_rights=True):
        server = _server()
        call = Call(
            service, action, what, server and server.uuid,
            server and server.project_id, context.project_id,
            bool(context.is_admin), context.user_auth_plugin is not None,
            context.request_id)
        self.calls.append(call)
        if server is None or _is_vetted():
            return
        self._judge(call, may_have, asks_for_rights)

    def _judge(self, call, may_have, asks_for_rights=True):
        has_only_its_rights = (asks_for_rights and call.caller == call.project
                               and not call.is_admin and not call.is_operator)
        if not (has_only_its_rights or may_have(call.project, call.what)
                or self._gives_away(call)):
            self.violations.append(call)

    def _may_read_image(self, project, image_id):
        image = self._test.glance.images.get(image_id)
        return (image is None or image.get('owner') is None
                or bool(image.get('is_public'))
                or image.get('visibility') in ('public', 'community')
                or image.get('owner') == project
                or project in self._owners.members.get(image_id, ()))

    def _may_have_volume(self, project, volume_id):
        return self._owners.volumes.get(volume_id) in (project, None)

    def _may_have_snapshot(self, project, snapshot_id):
        return self._snapshots.get(snapshot_id) in (project, None)

    def _watch_images(self):
        for name in ('show', 'download', 'delete'):
            def watched(context, image_id, *args, _name=name,
                        _original=getattr(self._test.glance, name), **kwargs):
                if context is not None:
                    self._record('glance', _name, image_id, context,
                                 self._may_read_image)
                return _original(context, image_id, *args, **kwargs)
            self.useFixture(fixtures.MockPatchObject(
                self._test.glance, name, watched))

        def other_glance(original):
            def watched(context, href):
                if '/' not in str(href):
                    return original(context, href)
                # Whoever calls, and wherever.
                self._record('glance', 'send token', href, context,
                             lambda project, what: True)
                self.violations.append(self.calls[-1])
                raise exception.ImageNotFound(image_id=href)
            return watched

        self._watch('nova.image.glance.get_remote_image_service',
                    other_glance)

    def _watch_volumes(self):
        for name, position in (('get', 0), ('attachment_create', 0),
                               ('attachment_update', None),
                               ('reimage_volume', 0), ('delete', 0),
                               ('attachment_delete', None)):
            self._watch('nova.volume.cinder.API.' + name,
                        functools.partial(self._watch_volume, name, position))

        def snapshot(original):
            def watched(itself, context, snapshot_id):
                found = _call(original, itself, context, snapshot_id)
                owner = found.get('project_id') if found else None
                self._snapshots.setdefault(snapshot_id, owner)
                self._record('cinder', 'get_snapshot', snapshot_id, context,
                             self._may_have_snapshot)
                return found
            return watched

        def delete_snapshot(original):
            def watched(itself, context, snapshot_id):
                self._record('cinder', 'delete_snapshot', snapshot_id,
                             context, self._may_have_snapshot)
                return _call(original, itself, context, snapshot_id)
            return watched

        def create(original):
            def watched(itself, context, *args, **kwargs):
                if kwargs.get('image_id'):
                    self._record('cinder', 'create', kwargs['image_id'],
                                 context, self._may_read_image)
                return _call(original, itself, context, *args, **kwargs)
            return watched

        self._watch('nova.volume.cinder.API.get_snapshot', snapshot)
        self._watch('nova.volume.cinder.API.delete_snapshot', delete_snapshot)
        self._watch('nova.volume.cinder.API.create', create)

    def _watch_volume(self, name, position, original):
        def watched(itself, context, first, *args, **kwargs):
            volume_id = first
            if position is None:  # first is an attachment
                volume_id = next((
                    volume for volume, attachments
                    in self._test.cinder.volume_to_attachment.items()
                    if first in attachments), None)
            self._record('cinder', name, volume_id, context,
                         self._may_have_volume)
            return _call(original, itself, context, first, *args, **kwargs)
        return watched

    def _watch_neutron(self, original):
        def get_client(context, *args, **kwargs):
            return _Neutron(self, context, original(context, *args, **kwargs))
        return get_client

    def may_use_network(self, context, network_id, action):
        """Record that a port is made on a network."""
        def may_use(project, what):
            network = self._test.neutron._networks.get(what, {})
            return (network.get('shared') or project in (
                network.get('project_id'), network.get('tenant_id'))
                or self._is_shared_by_policy(project, 'network', what))
        self._record('neutron', action, network_id, context, may_use)

    def may_use_group(self, context, group_id):
        """Record that a port gets a security group."""
        def may_use(project, what):
            group = self._test.neutron._security_groups.get(what)
            return (group is None
                    or project in (group.get('project_id'),
                                   group.get('tenant_id', project))
                    or self._is_shared_by_policy(project, 'security_group',
                                                 what))
        self._record('neutron', 'security group', group_id, context, may_use)

    def may_use_port(self, context, port_id, action='update_port'):
        """Record that a port is bound, unbound or deleted."""
        def may_use(project, what):
            port = self._test.neutron._ports.get(what, {})
            return project in (port.get('project_id', project),
                               port.get('tenant_id', project))
        self._record('neutron', action, port_id, context, may_use)

    def _is_shared_by_policy(self, project, kind, what):
        list_policies = getattr(self._test.neutron, 'list_rbac_policies',
                                None)
        return list_policies is not None and any(
            policy['target_tenant'] in ('*', project)
            for policy in list_policies(
                object_type=kind, object_id=what,
                action='access_as_shared')['rbac_policies'])

    def _watch_key_manager(self, original):
        def get_manager(*args, **kwargs):
            return _KeyManager(self, original(*args, **kwargs))
        return get_manager

    def secret(self, context, action, secret_id):
        """Record that a secret is made, read or deleted."""
        if action not in ('get', 'delete'):
            self._secrets.setdefault(secret_id, context.project_id)
        self._record('key manager', action, secret_id, context,
                     lambda project, what:
                     self._secrets.get(what, project) == project)

    def _watch_cyborg(self, original):
        def watched(itself, name):
            # Belongs to nobody.
            self.calls.append(Call('cyborg', 'device profile', name,
                                   *[None] * 3, False, False, None))
            return original(itself, name)
        return watched

    def _watch_placement(self, original):
        def watched(itself, context, uuid, *args, **kwargs):
            self._record('placement', 'delete', uuid, context,
                         self._may_have_allocation, asks_for_rights=False)
            return _call(original, itself, context, uuid, *args, **kwargs)
        return watched

    @staticmethod
    def _may_have_allocation(project, consumer):
        try:
            found = objects.InstanceMapping.get_by_instance_uuid(
                nova_context.get_admin_context(), consumer)
        except exception.InstanceMappingNotFound:
            return True  # a migration, or nobody's any more
        return found.project_id == project

    # What nova_rescue_ext.claims gives out

    def _watch_claims(self):
        def read_image(original):
            def watched(context, instance, image_api, image_id, origin):
                return self._given(
                    original(context, instance, image_api, image_id, origin),
                    context, instance, self._may_read_image, image_id)
            return watched

        def check_parts(original):
            def watched(context, instance, *args):
                return self._all_given(original(context, instance, *args),
                                       context, instance)
            return watched

        def read_volume(original):
            def watched(context, instance, volume_api, volume_id):
                return self._given(
                    original(context, instance, volume_api, volume_id),
                    context, instance, self._may_have_volume, volume_id)
            return watched

        self._watch(_CLAIMS + '.images.read', read_image)
        self._watch(_CLAIMS + '.images.check_kernel_and_ramdisk', check_parts)
        self._watch(_CLAIMS + '.volumes.read', read_volume)

    def _all_given(self, ids, context, instance):
        for image_id in filter(None, ids):
            self._given(None, context, instance, self._may_read_image,
                        image_id)
        return ids

    def _given(self, result, context, instance, may_have, what):
        call = Call('claims', 'given out', what, instance.uuid,
                    instance.project_id, context.project_id,
                    bool(context.is_admin),
                    context.user_auth_plugin is not None, context.request_id)
        self.calls.append(call)
        self._judge(call, may_have)
        return result


class _Neutron:
    """A client of Neutron that tells what it does."""

    def __init__(self, audit, context, client):
        self._audit = audit
        self._context = context
        self._client = client

    def __getattr__(self, name):
        return getattr(self._client, name)

    def create_port(self, body):
        port = body['port']
        self._audit.may_use_network(self._context, port['network_id'],
                                    'create_port')
        for group in port.get('security_groups', ()):
            self._audit.may_use_group(self._context, group)
        return self._client.create_port(body)

    def update_port(self, port_id, body):
        if 'device_id' in body['port']:
            self._audit.may_use_port(self._context, port_id)
        return self._client.update_port(port_id, body)

    def delete_port(self, port_id):
        self._audit.may_use_port(self._context, port_id, 'delete_port')
        return self._client.delete_port(port_id)


class _KeyManager:
    """A key manager that tells what it does."""

    def __init__(self, audit, manager):
        self._audit = audit
        self._manager = manager

    def __getattr__(self, name):
        return getattr(self._manager, name)

    def store(self, context, *args, **kwargs):
        secret_id = self._manager.store(context, *args, **kwargs)
        self._audit.secret(context, 'store', secret_id)
        return secret_id

    def create_key(self, context, *args, **kwargs):
        secret_id = self._manager.create_key(context, *args, **kwargs)
        self._audit.secret(context, 'create_key', secret_id)
        return secret_id

    def get(self, context, secret_id, *args, **kwargs):
        self._audit.secret(context, 'get', secret_id)
        return self._manager.get(context, secret_id, *args, **kwargs)

    def delete(self, context, secret_id, *args, **kwargs):
        self._audit.secret(context, 'delete', secret_id)
        return self._manager.delete(context, secret_id, *args, **kwargs)


def _call(original, itself, *args, **kwargs):
    """Call what may be a function, or a mock in the place of one."""
    if hasattr(original, '__get__'):
        return original.__get__(itself)(*args, **kwargs)
    return original(*args, **kwargs)


def _frames():
    frame = sys._getframe(2)
    while frame is not None:
        yield frame
        frame = frame.f_back


def _server():
    """The server that is served: the innermost one on the stack."""
    for frame in _frames():
        for name in _NAMES:
            found = frame.f_locals.get(name)
            if (getattr(found, 'uuid', None) is not None
                    and getattr(found, 'project_id', None) is not None):
                return found
    return None


def _is_vetted():
    return any(frame.f_globals.get('__name__', '').startswith(_CLAIMS)
               for frame in _frames())

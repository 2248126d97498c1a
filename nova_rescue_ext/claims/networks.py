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

"""Networks, ports and security groups.

Nova asks about them when it builds, with the caller's rights: Neutron whether
there is such a network, and its own policy about external ones. Only a port it
refuses that is of another project than the server.
"""

from __future__ import annotations

import typing

from neutronclient.common import exceptions as neutron_exc
from nova import context as nova_context
from nova.network import neutron
from nova import objects

from nova_rescue_ext import claims
from nova_rescue_ext import exception
from nova_rescue_ext.i18n import _

_Resource = dict[str, typing.Any]


def check(context: nova_context.RequestContext, instance: objects.Instance,
          networks: typing.Optional[objects.NetworkRequestList],
          origin: claims.Origin) -> None:
    """Check the networks and ports that a server is to be connected to.

    An operator who names a network for a server of another project is refused,
    too: Nova's policy about external networks would be applied to them, not to
    the project.

    :param context: the RequestContext to ask with
    :param instance: the Instance
    :param networks: None for what there is
    :param origin: who says so
    :raises: ClaimRefused
    """
    if (claims.has_only_rights_of(context, instance)
            or networks is not None and networks.no_allocate):
        return
    if (origin is claims.Origin.CALLER
            and not claims.is_foreign(context, instance)):
        return
    client = neutron.get_client(context)
    named = [] if networks is None or networks.auto_allocate else networks
    of_ports = {_network_of_port(client, context, instance, network.port_id)
                for network in named if network.port_id}
    by_id = {network.network_id for network in named
             if network.network_id and not network.port_id}
    # Neutron lets the owner of a network choose, and administrators.
    chosen = {network.network_id for network in named
              if network.address and not network.port_id
              and origin is not claims.Origin.CALLER}
    filters = ({'id': sorted(of_ports | by_id)} if of_ports or by_id
               else {'tenant_id': instance.project_id})
    found = client.list_networks(**filters)['networks']
    for network in found:
        # Whoever made a port for the project was allowed to.
        if (_is_external(network)
                or network['id'] in by_id
                and not _may_use(client, instance, 'network', network)):
            claims.log_refusal(instance, 'network', network['id'])
            raise exception.NetworkNotOfProject(
                network=network['id'], project=instance.project_id)
        if network['id'] in chosen and not _is_of_project(instance, network):
            raise exception.AddressNotOfProject(
                network=network['id'], project=instance.project_id)


def _network_of_port(client: neutron.ClientWrapper,
                     context: nova_context.RequestContext,
                     instance: objects.Instance, port_id: str) -> str:
    try:
        port = client.show_port(port_id)['port'] if claims.is_id(
            port_id) else None
    except neutron_exc.NotFound:
        port = None
    if port is None or not _is_of_project(instance, port):
        if port is not None:
            claims.log_refusal(instance, 'port', port_id)
        raise claims.refusal(context, instance, _('port'), port_id)
    return port['network_id']


def _is_external(network: _Resource) -> bool:
    return bool(network.get('router:external')
                and not network.get('shared'))


def check_security_groups(
        context: nova_context.RequestContext, instance: objects.Instance,
        groups: objects.SecurityGroupList) -> None:
    """Check the security groups that a server was created with.

    Nova looks for them among those of the project, and then among all that
    the caller sees as shared.

    :param context: the RequestContext to ask with
    :param instance: the Instance
    :param groups: those of the RequestSpec
    :raises: ClaimRefused
    """
    if claims.has_only_rights_of(context, instance):
        return
    wanted = {group.uuid if group.obj_attr_is_set('uuid') and group.uuid
              else group.name for group in groups} - {'default'}
    if not wanted:
        return
    client = neutron.get_client(context)
    own = client.list_security_groups(
        tenant_id=instance.project_id,
        fields=['id', 'name'])['security_groups']
    for group in sorted(wanted - _names(own)):
        key = 'id' if claims.is_id(group) else 'name'
        others = client.list_security_groups(
            **{key: group})['security_groups']
        if not any(_may_use(client, instance, 'security_group', other)
                   for other in others):
            claims.log_refusal(instance, 'security group', group)
            raise claims.refusal(context, instance, _('security group'),
                                 group)


def _names(groups: list[_Resource]) -> set[str]:
    return {group[key] for group in groups for key in ('id', 'name')}


def _may_use(client: neutron.ClientWrapper, instance: objects.Instance,
             kind: str, resource: _Resource) -> bool:
    if resource.get('shared') and kind == 'network':
        return True
    if _is_of_project(instance, resource):
        return True
    policies = client.list_rbac_policies(
        object_type=kind, object_id=resource['id'],
        action='access_as_shared')['rbac_policies']
    return any(policy['target_tenant'] in ('*', instance.project_id)
               for policy in policies)


def _is_of_project(instance: objects.Instance, resource: _Resource) -> bool:
    return instance.project_id in (resource.get('project_id'),
                                   resource.get('tenant_id'))

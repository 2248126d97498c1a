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


"""What an operator's rights must not do for a server of another project.

Whoever calls, Nova makes volumes and secrets with the caller's token, looks up
key pairs among the caller's, and asks its policies what the caller may do
(hazard: rights-of-the-caller).
"""

import copy

from nova.network import neutron
from nova.virt import hardware

from nova_rescue_ext.i18n import _
from nova_rescue_ext.rebuild import answers
from nova_rescue_ext.rebuild import block_devices


def of_project(context, instance):
    """The caller's rights, in the project of the server.

    For what Nova counts or looks up by the project of the context.

    :returns: a RequestContext
    """
    if not _is_foreign(context, instance):
        return context
    context = copy.copy(context)
    context.project_id = instance.project_id
    return context


def check_volumes(context, instance, bdms):
    """Refuse volumes that would belong to the caller's project.

    :param bdms: the server's BlockDeviceMappings
    :raises: HTTPConflict
    """
    if _is_foreign(context, instance) and block_devices.makes_volumes(bdms):
        answers.conflict(
            _('A volume of the server is made when it is built, and would be '
              'yours and not of project %s. A user of that project can '
              'rebuild the server.'), instance.project_id)


def check_key_pair(context, instance, name):
    """Refuse a key pair that would be another user's.

    :param name: the key pair that the request names, or None
    :raises: HTTPConflict
    """
    if _is_foreign(context, instance) and name:
        answers.conflict(
            _('Key pair %s would be looked up among yours. Leave key_name out '
              'to keep the key pair of the server.'), name)


def check_secrets(context, instance, image_meta, bdms):
    """Refuse secrets that the server's owner could not read.

    The key manager gives them to whoever makes them.

    :param image_meta: the ImageMeta to build with
    :param bdms: the server's BlockDeviceMappings
    :raises: HTTPConflict
    """
    if _is_foreign(context, instance) and (
            _makes_tpm_secret(instance, image_meta)
            or any(_makes_secret(bdm) for bdm in bdms)):
        answers.conflict(
            _('A secret of the server (of its TPM or of an encrypted disk) is '
              'made when it is built, and would be yours and not of project '
              '%s. A user of that project can rebuild the server.'),
            instance.project_id)


def _makes_tpm_secret(instance, image_meta):
    if not hardware.get_vtpm_constraint(instance.flavor, image_meta):
        return False
    # Nova itself makes and reads one of security "deployment" (Nova 33).
    return (instance.flavor.extra_specs.get('hw:tpm_secret_security')
            != 'deployment'
            and not instance.system_metadata.get('vtpm_secret_uuid'))


def _makes_secret(bdm):
    return bool(bdm.obj_attr_is_set('encrypted') and bdm.encrypted
                and not bdm.encryption_secret_uuid)


def check_networks(context, instance, networks):
    """Refuse networks that the caller may use and the project may not.

    Nova asks when it builds, with the caller's rights: neutron whether there
    is such a network, and its own policy about external ones.

    :param networks: a NetworkRequestList, or None for what there is
    :raises: HTTPConflict
    """
    if (not _is_foreign(context, instance)
            or networks is not None and networks.no_allocate):
        return
    client = neutron.get_client(context)
    project_id = instance.project_id
    named = [] if networks is None or networks.auto_allocate else networks
    of_ports = {client.show_port(network.port_id)['port']['network_id']
                for network in named if network.port_id}
    by_id = {network.network_id for network in named
             if network.network_id and not network.port_id}
    filters = ({'id': sorted(of_ports | by_id)} if of_ports or by_id
               else {'tenant_id': project_id})
    found = client.list_networks(**filters)['networks']
    _check_external(found, project_id)
    for network in found:
        # A port was made for the project by somebody who might.
        if network['id'] in by_id and not _may_use(client, network,
                                                   project_id):
            _refuse_network(network, project_id)


def _check_external(networks, project_id):
    for network in networks:
        if network.get('router:external') and not network.get('shared'):
            _refuse_network(network, project_id)


def _may_use(client, network, project_id):
    if network.get('shared') or project_id in (
            network.get('project_id'), network.get('tenant_id')):
        return True
    policies = client.list_rbac_policies(
        object_type='network', object_id=network['id'],
        action='access_as_shared')['rbac_policies']
    return any(policy['target_tenant'] in ('*', project_id)
               for policy in policies)


def _refuse_network(network, project_id):
    answers.conflict(
        _('You may connect the server to network %(network)s, project '
          '%(project)s perhaps may not. A user of that project can rebuild '
          'the server.') % {'network': network['id'], 'project': project_id})


def _is_foreign(context, instance):
    return context.project_id != instance.project_id

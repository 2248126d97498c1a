# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.

"""Neutron: the server alone, or with Open vSwitch agents (NET=ovs).

Nova asks Neutron about every server, also about one without ports.
"""

from tests.lab.cloud import config
from tests.lab.cloud import process
from tests.lab.cloud import settings

_ETC = settings.ETC / 'neutron'
_CONF = _ETC / 'neutron.conf'
_ML2 = _ETC / 'ml2_conf.ini'
_FILES = ('--config-file', _CONF, '--config-file', _ML2)
PHYSNET = 'physnet1'


def up():
    config.write(_CONF, {
        'DEFAULT': {
            'core_plugin': 'ml2',
            'service_plugins': '',
            'transport_url': config.rabbit(),
            'state_path': settings.DATA / 'neutron',
            'api_paste_config': _ETC / 'api-paste.ini',
            'dhcp_agent_notification': 'false',
            'rpc_workers': 1,
        },
        'database': {'connection': config.database('neutron')},
        'oslo_concurrency': {'lock_path': settings.DATA / 'neutron/locks'},
        'keystone_authtoken': config.authtoken('neutron'),
        'placement': config.credentials('placement'),
        'nova': config.credentials('nova'),
    })
    config.write(_ML2, {
        'ml2': {
            'type_drivers': 'flat,vlan',
            'tenant_network_types': 'vlan',
            'mechanism_drivers': 'openvswitch',
            'extension_drivers': 'port_security',
        },
        'ml2_type_flat': {'flat_networks': PHYSNET},
        'ml2_type_vlan': {'network_vlan_ranges': f'{PHYSNET}:100:199'},
    })
    config.paste('neutron', 'api-paste.ini', _ETC)
    process.run(settings.VENV / 'bin/neutron-db-manage', *_FILES, 'upgrade',
                'heads', log='neutron-db-manage')
    # ';' separates the files here.
    config.wsgi('neutron', 'neutron.wsgi.api:application', {
        'OS_NEUTRON_CONFIG_DIR': _ETC,
        'OS_NEUTRON_CONFIG_FILES': f'{_CONF.name};{_ML2.name}'})
    process.wait_port('neutron')
    process.start('neutron-rpc',
                  [settings.VENV / 'bin/neutron-rpc-server', *_FILES])


def up_agent(host):
    """Open vSwitch in user space and its agent, in one hypervisor."""
    run = settings.DATA / host / 'run/openvswitch'
    database = settings.DATA / host / 'ovs.db'
    run.mkdir(parents=True, exist_ok=True)
    if not database.exists():
        process.run('ovsdb-tool', 'create', database,
                    '/usr/share/openvswitch/vswitch.ovsschema')
    process.start(f'ovsdb-{host}', [
        'ovsdb-server', database,
        '--remote=punix:/run/openvswitch/db.sock',
        '--unixctl=/run/openvswitch/ovsdb-server.ctl',
        '--pidfile=/run/openvswitch/ovsdb-server.pid'], host=host)
    process.wait_for((run / 'db.sock').exists, f'ovsdb on {host}')
    _vsctl(host, '--no-wait', 'init')
    process.start(f'vswitchd-{host}', [
        'ovs-vswitchd', 'unix:/run/openvswitch/db.sock',
        '--unixctl=/run/openvswitch/ovs-vswitchd.ctl',
        '--pidfile=/run/openvswitch/ovs-vswitchd.pid'], host=host)
    for bridge in ('br-ex', 'br-int'):
        _vsctl(host, '--may-exist', 'add-br', bridge, '--', 'set', 'bridge',
               bridge, 'datapath_type=netdev')
    _vsctl(host, '--may-exist', 'add-port', 'br-ex', 'eth1')
    conf = _ETC / f'agent-{host}.ini'
    config.write(conf, _agent_sections(host, conf))
    process.start(f'neutron-agent-{host}', [
        settings.VENV / 'bin/neutron-openvswitch-agent', '--config-file',
        conf], host=host)


def _vsctl(host, *argv):
    return process.run('ovs-vsctl', *argv, host=host, timeout=60)


def _agent_sections(host, conf):
    sections = {
        'DEFAULT': {
            'host': host,
            'transport_url': config.rabbit(),
            'state_path': settings.DATA / host / 'neutron',
        },
        'oslo_concurrency': {
            'lock_path': settings.DATA / host / 'neutron/locks'},
        'agent': {'root_helper': ''},
        'ovs': {
            'bridge_mappings': f'{PHYSNET}:br-ex',
            'datapath_type': 'netdev',
            'ovsdb_connection': 'unix:/run/openvswitch/db.sock',
        },
        # The kernel of the machine need not have conntrack.
        'securitygroup': {'firewall_driver': 'noop'},
    }
    for helper in ('privsep', 'privsep_conntrack', 'privsep_dhcp_release',
                   'privsep_link', 'privsep_namespace',
                   'privsep_ovs_vsctl'):
        sections[helper] = config.privsep(conf)
    return sections


def create_network(cloud):
    """One flat network without DHCP: the guest reads its config drive."""
    if cloud.network.find_network('lab'):
        return
    network = cloud.network.create_network(
        name='lab', is_shared=True, provider_network_type='flat',
        provider_physical_network=PHYSNET)
    cloud.network.create_subnet(
        name='lab', network_id=network.id, ip_version=4,
        cidr='10.88.0.0/24', gateway_ip='10.88.0.1', is_dhcp_enabled=False,
        allocation_pools=[{'start': '10.88.0.50', 'end': '10.88.0.200'}])

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

"""Nova: API, conductors, scheduler; cell0 and two cells.

cell1 has both hypervisors, because a server migrates within its cell.
cell2 has a database and a virtual host of its own and no hypervisor: it is
there so that nothing may take a cell for the only one.
"""

import concurrent.futures
import datetime
import shutil

from tests.lab.cloud import ceph
from tests.lab.cloud import config
from tests.lab.cloud import mariadb
from tests.lab.cloud import process
from tests.lab.cloud import settings

_ETC = settings.ETC / 'nova'
CONF = _ETC / 'nova.conf'
CELLS = ('cell1', 'cell2')
# One path on both hosts, as Nova wants it; each mounts its own folder.
INSTANCES = settings.DATA / 'instances'
_SECRETS = settings.CHECKOUT / 'tests/lab/cloud/secrets.py'
_LIBVIRT_90 = settings.CHECKOUT / 'tests/lab/libvirt90/nova_compute.py'


def cell_conf(cell):
    return _ETC / f'nova-{cell}.conf'


def compute_conf(host):
    return _ETC / f'nova-{host}.conf'


def up_api():
    """The API level: everything but the hosts."""
    _write_api_confs()
    config.paste('nova', 'api-paste.ini', _ETC)
    _sync_databases()
    config.wsgi('nova-api', 'nova.wsgi.osapi_compute:application',
                {'OS_NOVA_CONFIG_DIR': _ETC}, processes=2)
    _start('nova-conductor', 'nova-conductor', CONF)
    _start('nova-conductor-cell1', 'nova-conductor', cell_conf('cell1'))
    _start('nova-scheduler', 'nova-scheduler', CONF)
    process.wait_port('nova-api')


def _write_api_confs():
    config.write(CONF, {
        **_common(CONF, settings.CONTROLLER, 'ctl'),
        'api_database': {'connection': config.database('nova_api')},
        'database': {'connection': config.database('nova_cell0')},
        'scheduler': {'workers': 1},
        'conductor': {'workers': 1},
    })
    for cell in CELLS:
        config.write(cell_conf(cell), {
            **_common(cell_conf(cell), settings.CONTROLLER, 'ctl', cell),
            'api_database': {'connection': config.database('nova_api')},
            'database': {'connection': config.database(f'nova_{cell}')},
            'conductor': {'workers': 1},
        })


def up_compute(host, ext=None, venv=settings.VENV):
    """Start nova-compute.

    :param host: the hypervisor
    :param ext: whether with the package; None: if the lab has it
    :param venv: the environment that Nova is in
    """
    config.write(compute_conf(host), _compute_sections(host, ext, venv))
    process.start(f'nova-compute-{host}', [
        *_compute_program(venv), '--config-file', compute_conf(host)],
        host=host, env=_key_manager())


def _key_manager():
    """Put the key manager of the lab where nova-compute finds it."""
    modules, secrets = _ETC / 'modules', settings.DATA / 'secrets'
    for folder in (modules, secrets):
        folder.mkdir(exist_ok=True)
    shutil.copy(_SECRETS, modules / 'lab_secrets.py')
    return {'PYTHONPATH': str(modules), 'LAB_SECRETS': str(secrets)}


def switch_host(host, ext=None, venv=settings.VENV):
    """Start nova-compute of one host anew, on another Nova perhaps.

    Parameters are those of up_compute(); without them the host is again as
    the lab made it.
    """
    process.stop(f'nova-compute-{host}')
    _note_version(host, venv)
    up_compute(host, ext, venv)
    wait_for_reports('nova-compute')


def _note_version(host, venv):
    """Let the controllers take a host for one that has this Nova all along.

    No service starts that is older than all others of its kind were, and the
    controllers remember that. They need no [upgrade_levels]: Nova 33 and 34
    have the same versions of RPC.
    """
    row = f"WHERE host = '{host}'"
    version = process.run(
        venv / 'bin/python', '-c', 'from nova.objects import service\n'
        'print(service.SERVICE_VERSION)').split()[-1]
    if mariadb.sql(f'SELECT version FROM nova_cell1.services {row}'
                   ).strip() == version:
        return
    mariadb.sql(f'UPDATE nova_cell1.services SET version = {version} {row}')
    _restart('nova-api', 'nova-conductor', 'nova-conductor-cell1',
             'nova-scheduler')
    process.wait_port('nova-api')


def _compute_program(venv):
    """Nova's, unless libvirt is the one that refuses Nova's UEFI guests."""
    version = process.run('libvirtd', '--version').split()[-1]
    if version.startswith('9.0.'):
        return [venv / 'bin/python', _LIBVIRT_90]
    return [venv / 'bin/nova-compute']


def switch_package(on, hosts_only=False):
    """Put the package into nova.conf, or take it out, and restart Nova."""
    settings.change_shape(ext=on)
    if not hosts_only:
        _write_api_confs()
    for host in settings.HYPERVISORS:
        config.write(compute_conf(host), _compute_sections(host))
    _restart(*(name for name in process.names() if name.startswith(
        'nova-compute-' if hosts_only else 'nova-')))
    process.wait_port('nova-api')
    wait_for_reports('nova-compute' if hosts_only else None)


def _restart(*names):
    with concurrent.futures.ThreadPoolExecutor() as pool:
        list(pool.map(process.restart, names))


def wait_for_reports(binary=None):
    """Wait until all services, or all of a binary, have reported once more.

    Those that were restarted are at work then.
    """
    begin = datetime.datetime.now(datetime.timezone.utc)
    cloud = _connect()

    def have_reported():
        return all(
            service.updated_at and datetime.datetime.fromisoformat(
                service.updated_at + '+00:00') > begin
            for service in cloud.compute.services(binary=binary))

    process.wait_for(have_reported, "a report of all of Nova's services",
                     600, 1)


def discover_hosts():
    """Wait for the computes to report, then map them to their cell."""
    cloud = _connect()

    def are_up():
        services = cloud.compute.services(binary='nova-compute')
        return sum(service.state == 'up' for service in services) == len(
            settings.HYPERVISORS)

    process.wait_for(are_up, 'the nova-computes, see nova-compute-*.log',
                     step=1)
    manage('cell_v2', 'discover_hosts')


def manage(*argv, conf=CONF):
    return process.run(settings.VENV / 'bin/nova-manage', '--config-file',
                       conf, *argv, log='nova-manage')


def _connect():
    from tests.lab.cloud import keystone
    return keystone.connect()


def _start(name, program, conf):
    process.start(name, [settings.VENV / 'bin' / program, '--config-file',
                         conf])


def _sync_databases():
    manage('api_db', 'sync')
    manage('cell_v2', 'map_cell0', '--database_connection',
           config.database('nova_cell0'))
    manage('db', 'sync', '--local_cell')
    have = manage('cell_v2', 'list_cells')
    for cell in CELLS:
        manage('db', 'sync', '--local_cell', conf=cell_conf(cell))
        if cell not in have:
            manage('cell_v2', 'create_cell', '--name', cell,
                   '--database_connection', config.database(f'nova_{cell}'),
                   '--transport-url', config.rabbit(cell))


def _common(conf, address, host, cell='', ext=None, venv=settings.VENV):
    """What all of Nova's services share; cell '' is the API level."""
    if ext is None:
        ext = settings.Shape.current().ext
    state = settings.DATA / host / 'nova'
    state.mkdir(parents=True, exist_ok=True)
    default = {
        'debug': 'true',
        'my_ip': address,
        'transport_url': config.rabbit(cell),
        'state_path': state,
        'rootwrap_config': venv / 'etc/nova/rootwrap.conf',
        # A stopping service should not make "restart" in a test slow.
        'graceful_shutdown_timeout': 3,
        # How long nova-conductor may be at work on a migration before
        # nova-compute takes it for dead. Nova's half an hour is too long here.
        'long_rpc_timeout': 180,
    }
    sections = {
        'DEFAULT': default,
        'api': {'auth_strategy': 'keystone'},
        'wsgi': {'api_paste_config': _ETC / 'api-paste.ini'},
        'glance': {'api_servers': settings.url('glance')},
        'oslo_concurrency': {'lock_path': state / 'locks'},
        'oslo_messaging_notifications': {'driver': 'noop'},
        'vnc': {'enabled': 'false'},
        'keystone_authtoken': config.authtoken('nova'),
        'placement': config.credentials('placement'),
        'neutron': config.credentials('neutron'),
        'cinder': {
            **config.credentials('cinder'),
            'catalog_info': 'volumev3::internalURL',
            'os_region_name': settings.REGION,
        },
        'service_user': {
            **config.credentials('nova'),
            'send_service_user_token': 'true',
        },
    }
    if ext:
        default['config_source'] = 'rescue_ext'
        sections['rescue_ext'] = {'driver': 'nova_rescue_ext'}
    return sections


def _compute_sections(host, ext=None, venv=settings.VENV):
    conf = compute_conf(host)
    address = settings.HYPERVISORS[host]
    shape = settings.Shape.current()
    sections = _common(conf, address, host, 'cell1', ext, venv)
    sections['DEFAULT'].update({
        'host': host,
        'compute_driver': 'libvirt.LibvirtDriver',
        'instances_path': INSTANCES,
        'vif_plugging_timeout': 60,
        'manager_shutdown_timeout': 1,
        'reserved_host_memory_mb': 0,
        # The guest answers the power button at once.
        'shutdown_timeout': 10,
        # 128 MB guests on a machine with 8 GB and a cloud on it.
        'ram_allocation_ratio': 4,
        'cpu_allocation_ratio': 32,
        'disk_allocation_ratio': 8,
    })
    sections['libvirt'] = {
        'virt_type': 'qemu',
        'cpu_mode': 'none',
        'images_type': 'rbd' if shape.profile == 'rbd' else
                       'raw' if shape.profile == 'raw' else 'qcow2',
        'live_migration_scheme': 'tcp',
        'live_migration_inbound_addr': address,
        'images_rbd_pool': 'vms',
        'images_rbd_ceph_conf': ceph.CONF,
        'rbd_user': ceph.USER,
        'rbd_secret_uuid': ceph.SECRET,
    }
    sections['libvirt'].update({
        'swtpm_enabled': 'true', 'swtpm_user': 'root', 'swtpm_group': 'root'})
    sections['key_manager'] = {'backend': 'lab_secrets.FolderKeyManager'}
    # Open vSwitch's user space datapath has no event for the plug.
    sections['compute'] = {'live_migration_wait_for_vif_plug':
                           str(shape.net == 'none').lower()}
    sections['os_vif_ovs'] = {
        'ovsdb_connection': 'unix:/run/openvswitch/db.sock'}
    for helper in ('nova_sys_admin', 'privsep_osbrick',
                   'vif_plug_ovs_privileged'):
        sections[helper] = config.privsep(conf, venv)
    return sections

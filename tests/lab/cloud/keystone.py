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

"""Keystone, with the users and the catalogue of all other services."""

from tests.lab.cloud import config
from tests.lab.cloud import process
from tests.lab.cloud import settings

_ETC = settings.ETC / 'keystone'
_CONF = _ETC / 'keystone.conf'

# user: (service type, its address)
CATALOGUE = {
    'glance': ('image', settings.url('glance')),
    'placement': ('placement', settings.url('placement')),
    'nova': ('compute', settings.url('nova-api', '/v2.1')),
    'neutron': ('network', settings.url('neutron')),
    'cinder': ('volumev3', settings.url('cinder-api', '/v3')),
}


def up():
    config.write(_CONF, {
        'database': {'connection': config.database('keystone')},
        'fernet_tokens': {'key_repository': _ETC / 'fernet-keys'},
        'credential': {'key_repository': _ETC / 'credential-keys'},
        'token': {'provider': 'fernet', 'expiration': 86400},
        # As cheap as bcrypt can be: the lab's password is no secret.
        'identity': {'password_hash_rounds': 4},
        # There is one process of it. Without a cache, each validation of a
        # token takes most of a second of CPU time.
        'cache': {'enabled': 'true', 'backend': 'oslo_cache.dict'},
    })
    _manage('db_sync')
    for setup in ('fernet_setup', 'credential_setup'):
        _manage(setup, '--keystone-user', 'root', '--keystone-group', 'root')
    address = settings.url('keystone', '/v3')
    _manage('bootstrap', '--bootstrap-password', settings.PASSWORD,
            '--bootstrap-admin-url', address,
            '--bootstrap-internal-url', address,
            '--bootstrap-public-url', address,
            '--bootstrap-region-id', settings.REGION)
    config.wsgi('keystone', 'keystone.wsgi.api:application', {
        'OS_KEYSTONE_CONFIG_DIR': _ETC,
        'OS_KEYSTONE_CONFIG_FILES': 'keystone.conf'})
    process.wait_port('keystone')
    _catalogue()


def _manage(*argv):
    process.run(settings.VENV / 'bin/keystone-manage', '--config-file',
                _CONF, *argv, log='keystone-manage')


def _catalogue():
    identity = connect().identity
    project = (identity.find_project('service') or
               identity.create_project(name='service', domain_id='default'))
    roles = {role.name: role for role in identity.roles()}
    for name in ('service', 'creator'):
        roles.setdefault(name, None)
        roles[name] = roles[name] or identity.create_role(name=name)
    types = {service.type: service for service in identity.services()}
    for name, (kind, address) in CATALOGUE.items():
        user = identity.find_user(name) or identity.create_user(
            name=name, password=settings.PASSWORD, domain_id='default',
            default_project_id=project.id)
        for role in ('admin', 'service'):
            identity.assign_project_role_to_user(project, user, roles[role])
        if kind in types:
            continue
        service = identity.create_service(name=name, type=kind)
        for interface in ('public', 'internal', 'admin'):
            identity.create_endpoint(
                service_id=service.id, interface=interface, url=address,
                region_id=settings.REGION)
    _write_clouds_yaml()


def connect(user='admin', project='admin'):
    """A connection of openstacksdk; the admin's unless told otherwise."""
    # Imported here: the driver also runs where the SDK is not installed.
    import openstack
    return openstack.connect(
        auth_url=settings.url('keystone', '/v3'), username=user,
        password=settings.PASSWORD, project_name=project,
        user_domain_id='default', project_domain_id='default',
        region_name=settings.REGION, load_yaml_config=False,
        load_envvars=False, app_name='lab')


def _write_clouds_yaml():
    """So that "openstack" on the command line needs no more."""
    (settings.DATA / 'clouds.yaml').write_text(f'''clouds:
  lab:
    region_name: {settings.REGION}
    auth:
      auth_url: {settings.url('keystone', '/v3')}
      username: admin
      password: {settings.PASSWORD}
      project_name: admin
      user_domain_id: default
      project_domain_id: default
''')

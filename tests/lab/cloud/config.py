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

"""Write the services' configuration files and start their APIs."""

import shutil

from tests.lab.cloud import process
from tests.lab.cloud import settings


def write(path, sections):
    """Write an oslo.config file from {section: {option: value}}."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = []
    for name, options in sections.items():
        lines.append(f'[{name}]')
        lines += [f'{key} = {value}' for key, value in options.items()]
    path.write_text('\n'.join(lines) + '\n')


def database(name):
    return (f'mysql+pymysql://lab:{settings.PASSWORD}@'
            f'{settings.CONTROLLER}:{settings.PORTS["mariadb"]}/{name}'
            '?charset=utf8')


def rabbit(vhost=''):
    return (f'rabbit://guest:guest@{settings.CONTROLLER}:'
            f'{settings.PORTS["rabbit"]}/{vhost}')


def credentials(user):
    """Options that every section with a keystoneauth client takes."""
    return {
        'auth_type': 'password',
        'auth_url': settings.url('keystone', '/v3'),
        'username': user,
        'password': settings.PASSWORD,
        'project_name': 'service',
        'user_domain_id': 'default',
        'project_domain_id': 'default',
        'region_name': settings.REGION,
    }


def authtoken(user):
    return {
        **credentials(user),
        'www_authenticate_uri': settings.url('keystone', '/v3'),
        'interface': 'internal',
        # A service that passes a user's request on shows its own token
        # too; without this, Cinder and Glance would not believe it.
        'service_token_roles': 'service',
        'service_token_roles_required': 'true',
    }


def privsep(conf, venv=settings.VENV):
    return {'helper_command':
            f'{venv}/bin/privsep-helper --config-file {conf}'}


def paste(service, name, target):
    """Copy the paste file that came with a service."""
    target.mkdir(parents=True, exist_ok=True)
    shutil.copy(settings.VENV / 'etc' / service / name, target / name)


def wsgi(name, module, env=None, argv='', processes=1):
    """Serve an API with uWSGI, one log for it and the service in it."""
    options = {
        'virtualenv': settings.VENV,
        'http-socket': f'{settings.CONTROLLER}:{settings.PORTS[name]}',
        'module': module,
        'master': 'true',
        'processes': processes,
        'threads': 4,
        'enable-threads': 'true',
        # Every worker loads the service itself: its database pool and
        # message bus threads do not survive a fork.
        'lazy-apps': 'true',
        'need-app': 'true',
        'die-on-term': 'true',
        'buffer-size': 65535,
        # Nova uploads snapshots in chunks of its own size and speed.
        'http-chunked-input': 'true',
        'chunked-input-limit': 64 << 20,
        'chunked-input-timeout': 120,
        'add-header': 'Connection: close',
        'procname-prefix-spaced': f'lab-{name}',
    }
    if argv:
        options['pyargv'] = argv
    lines = [f'{key} = {value}' for key, value in options.items()]
    lines += [f'env = {key}={value}' for key, value in (env or {}).items()]
    ini = settings.ETC / f'{name}-uwsgi.ini'
    ini.write_text('[uwsgi]\n' + '\n'.join(lines) + '\n')
    process.start(name, [settings.VENV / 'bin/uwsgi', '--ini', ini])

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

"""Cinder on Ceph: QEMU's own RBD needs nothing of the kernel."""

from tests.lab.cloud import ceph
from tests.lab.cloud import config
from tests.lab.cloud import process
from tests.lab.cloud import settings

_ETC = settings.ETC / 'cinder'
_CONF = _ETC / 'cinder.conf'
_DATA = settings.DATA / 'cinder'


def up():
    config.write(_CONF, _sections())
    config.paste('cinder', 'api-paste.ini', _ETC)
    (_DATA / 'conversion').mkdir(parents=True, exist_ok=True)
    process.run(settings.VENV / 'bin/cinder-manage', '--config-file', _CONF,
                'db', 'sync', log='cinder-manage')
    # Cinder reads its configuration from the arguments alone.
    config.wsgi('cinder-api', 'cinder.wsgi.api:application',
                argv=f'--config-file {_CONF}')
    for name in ('cinder-scheduler', 'cinder-volume'):
        process.start(name, [settings.VENV / 'bin' / name,
                             '--config-file', _CONF])
    process.wait_port('cinder-api')


def create_type(cloud):
    if not cloud.block_storage.find_type('rbd'):
        cloud.block_storage.create_type(
            name='rbd', extra_specs={'volume_backend_name': 'rbd'})


def _sections():
    return {
        'DEFAULT': {
            'my_ip': settings.CONTROLLER,
            'host': 'ctl',
            'auth_strategy': 'keystone',
            'transport_url': config.rabbit(),
            'state_path': _DATA,
            'image_conversion_dir': _DATA / 'conversion',
            'api_paste_config': _ETC / 'api-paste.ini',
            'rootwrap_config': settings.VENV / 'etc/cinder/rootwrap.conf',
            'resource_query_filters_file':
                settings.VENV / 'etc/cinder/resource_filters.json',
            'glance_api_servers': settings.url('glance'),
            'enabled_backends': 'rbd',
            'default_volume_type': 'rbd',
            # The image cache of others would hide what a test asks for.
            'image_volume_cache_enabled': 'false',
        },
        'database': {'connection': config.database('cinder')},
        'oslo_concurrency': {'lock_path': _DATA / 'locks'},
        'cinder_sys_admin': config.privsep(_CONF),
        'privsep_osbrick': config.privsep(_CONF),
        'rbd': {
            'volume_backend_name': 'rbd',
            'volume_driver': 'cinder.volume.drivers.rbd.RBDDriver',
            'rbd_pool': 'volumes',
            'rbd_ceph_conf': ceph.CONF,
            'rbd_user': ceph.USER,
            'rbd_secret_uuid': ceph.SECRET,
        },
        'keystone_authtoken': config.authtoken('cinder'),
        'nova': config.credentials('nova'),
        'service_user': {
            **config.credentials('cinder'),
            'send_service_user_token': 'true',
        },
    }

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

"""Glance: images as files, or in Ceph where the root disks are there."""

from tests.lab.cloud import ceph
from tests.lab.cloud import config
from tests.lab.cloud import process
from tests.lab.cloud import settings

_ETC = settings.ETC / 'glance'
_CONF = _ETC / 'glance-api.conf'
_DATA = settings.DATA / 'glance'


def up():
    config.write(_CONF, _sections())
    config.paste('glance', 'glance-api-paste.ini', _ETC)
    process.run(settings.VENV / 'bin/glance-manage', '--config-file', _CONF,
                'db_sync', log='glance-manage')
    config.wsgi('glance', 'glance.wsgi.api:application', {
        'OS_GLANCE_CONFIG_DIR': _ETC,
        'OS_GLANCE_CONFIG_FILES': 'glance-api.conf'})
    process.wait_port('glance')


def lose_data(image):
    """Lose an image's data, not its record, as a broken store does."""
    (_DATA / 'images' / image).unlink()


def _sections():
    rbd = settings.Shape.current().profile == 'rbd'
    store = 'rbd' if rbd else 'file'
    sections = {
        'DEFAULT': {
            'enabled_backends': f'{store}:{store}',
            # Nova then clones root disks in Ceph instead of copying.
            'show_image_direct_url': rbd,
            'show_multiple_locations': rbd,
            'node_staging_uri': f'file://{_DATA}/staging',
        },
        'database': {'connection': config.database('glance')},
        'paste_deploy': {'flavor': 'keystone'},
        'glance_store': {'default_backend': store},
        'file': {'filesystem_store_datadir': _DATA / 'images'},
        # Let bad images in: what Nova does with them is what stories tell.
        'image_format': {'require_image_format_match': 'false'},
        'os_glance_staging_store': {
            'filesystem_store_datadir': _DATA / 'staging'},
        'os_glance_tasks_store': {
            'filesystem_store_datadir': _DATA / 'tasks'},
        'oslo_messaging_notifications': {'driver': 'noop'},
        'keystone_authtoken': config.authtoken('glance'),
    }
    if rbd:
        sections['rbd'] = {
            'rbd_store_pool': 'images', 'rbd_store_user': ceph.USER,
            'rbd_store_ceph_conf': ceph.CONF}
    return sections

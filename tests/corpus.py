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

"""Input that nobody means: headers, bodies and images of odd forms.

Each is asked for only every so often in "make test"; all are in the nightly
run. The steps share no factor with the lengths of what is combined, so that
everything is used with something.
"""

import itertools

from oslo_serialization import jsonutils

MANY = '9' * 5000  # more digits than Python makes a number of
SOMEWHERE = '7f1a4f0e-6d5c-4b4e-9f0b-0d8d2c1b7a55'  # nothing has this id

_VERSIONS = (
    '', ' ', '1', '1.', '.1', '.', '1.1', '1.1.1', '01.1', '1.01', '1.0',
    '-1.1', '+1.1', '1,1', '1 1', 'latest', 'LATEST', 'latestt', 'null',
    '1e3', '0x1.1', '1_0.1', '0.0', '0.9', '1.4', '2.0', '9.9', '1.1;q=1',
    '"1.1"', "'1.1'", '1.1\t', '1.1\x0b', '1.1\x00', '\xe9', '1.\xb9',
    '\xef\xbc\x91.\xef\xbc\x91', '%s', '%(version)s', '{}', '{0}', '../1.1',
    '<b>', '1.99999999999', MANY + '.1', '1.' + MANY, MANY, '1.' + '0' * 5000,
    '1' * 4300 + '.0', '1.1' * 1000)
_FORMS = (
    '{s} {v}', 'compute 2.87, {s} {v}', '{s} {v}, compute 2.87',
    '{s} {v},{s} {v}', '{s} 1.1, {s} {v}', 'compute 2.87,, {s} {v},', '{s}{v}',
    '{s}  {v}', '{s}\t{v}', 'compute {v}, {s} 1.1')
_SERVICES = ('compute-rescue', 'Compute-RESCUE', ' compute-rescue',
             'compute-rescue,', 'compute_rescue', 'compute-rescuer',
             'x-compute-rescue')


def headers():
    """What may stand in OpenStack-API-Version, as WSGI has it."""
    yield from ('', ',', ',,,', ' ', 'compute', 'compute-rescue',
                'compute-rescue,compute', 'compute-rescue' * 500,
                'compute 2.87', 'compute 2.87,' * 500 + 'compute-rescue 1.1')
    for version, form in itertools.product(_VERSIONS, _FORMS):
        yield form.format(s='compute-rescue', v=version.replace('{', '{{'))
    for service, version in itertools.product(
            _SERVICES[1:], ('1.1', '', 'latest', '7', MANY + '.1')):
        yield 'compute 2.87, %s %s' % (service, version)


VALUES = (
    None, True, False, 0, -1, 1.5, 10 ** 400, '', ' ', 'x', 'x' * 300,
    '\u0000', '\u202e\u00e9\ud83d\ude00', '%s%(x)s{}', SOMEWHERE,
    SOMEWHERE.upper(), SOMEWHERE + '/file', 'http://192.0.2.1/' + SOMEWHERE,
    '../' + SOMEWHERE, 'nokernel', [], [None], [SOMEWHERE], [[]], {},
    {'id': SOMEWHERE}, {'uuid': SOMEWHERE, 'port': SOMEWHERE},
    [{'uuid': SOMEWHERE}], [{'uuid': 7}], [{'port': 'x'}], [{}], 'auto',
    'none', {'\u0000': {}})

_PARAMETERS = {
    'rescue': ('rescue_image_ref', 'adminPass', 'other'),
    'unrescue': ('other',),
    'rebuild': ('imageRef', 'networks', 'name', 'metadata', 'key_name',
                'user_data', 'trusted_image_certificates', 'adminPass',
                'description', 'hostname', 'preserve_ephemeral',
                'personality', 'OS-DCF:diskConfig', 'other'),
    'os-migrateLive': ('host', 'block_migration', 'disk_over_commit',
                       'force', 'other'),
    'forceDelete': ('other',),
}
_DEFAULTS = {'rebuild': {'imageRef': SOMEWHERE, 'networks': 'none'},
             'os-migrateLive': {'host': None, 'block_migration': 'auto'}}


def bodies():
    """Bodies of actions of a server, as bytes."""
    for action, value in itertools.product(_PARAMETERS, VALUES):
        yield jsonutils.dump_as_bytes({action: value})
    for action, names in _PARAMETERS.items():
        for name, value in itertools.product(names, VALUES):
            yield jsonutils.dump_as_bytes(
                {action: dict(_DEFAULTS.get(action, {}), **{name: value})})
        yield jsonutils.dump_as_bytes(
            {action: {'networks': 'none'}, 'lock': None})
    yield from raw_bodies()


def raw_bodies():
    """Bodies that are no JSON, or odd JSON."""
    yield from (
        b'', b' ', b'null', b'[]', b'{}', b'0', b'"rebuild"', b'rebuild',
        b'{"rebuild"', b'{"rebuild": NaN}', b'{"rebuild": Infinity}',
        b'{"rebuild": {"imageRef": "x", "imageRef": 7}}',
        b'{"rebuild": {}, "rebuild": []}', b'\xff\xfe', b'\xef\xbb\xbf{}',
        b'{"rescue": "\xff"}', b'{"rebuild": ' + b'9' * 5000 + b'}',
        b'{"rebuild": {"networks": ' + b'[' * 100 + b']' * 100 + b'}}',
        b'{"rebuild": ' + b'[' * 100000 + b']' * 100000 + b'}')


def image_properties():
    """Properties of images: Glance takes any text."""
    texts = ('', ' ', 'x', '-1', '0', MANY, '9' * 20, '1.5', 'None', '{',
             '[]', '{}', 'null', '[null]', '[7]', '"x"',
             '[{"device": null}]', 'http://192.0.2.1/x', SOMEWHERE, '\u0000',
             '\u00e9', ',', '^', '1-', '0-999', 'true')
    names = (
        'mappings', 'block_device_mapping', 'img_block_device_mapping',
        'bdm_v2', 'root_device_name', 'kernel_id', 'ramdisk_id',
        'base_image_ref', 'hw_rescue_device', 'hw_rescue_bus',
        'hw_numa_nodes', 'hw_numa_cpus.0', 'hw_numa_mem.0',
        'hw_cpu_sockets', 'hw_cpu_policy', 'hw_cpu_realtime_mask',
        'hw_mem_page_size', 'hw_pci_numa_affinity_policy',
        'hw_firmware_type', 'hw_machine_type', 'hw_architecture',
        'architecture', 'hw_tpm_version', 'hw_tpm_model',
        'hw_video_ram', 'hw_serial_port_count', 'hw_vif_model',
        'hw_locked_memory', 'hw_mem_encryption', 'auto_disk_config',
        'os_secure_boot', 'cinder_encryption_key_id', 'img_signature',
        'img_signature_key_type', 'img_config_drive', 'img_hv_type',
        'min_ram', 'vmware_disktype', 'trait:X', 'owner_specified')
    for name, text in itertools.product(names, texts):
        # Of so many nodes stock Nova makes as many objects, until the memory
        # is gone.
        if (name, text) != ('hw_numa_nodes', '9' * 20):
            yield {name: text}
    yield {'hw_numa_nodes': '2', 'hw_numa_cpus.0': '0', 'hw_numa_cpus.7': '1'}
    yield {'hw_numa_nodes': '1', 'hw_numa_cpus.x': '0'}
    yield {'p%d' % number: 'x' * 200 for number in range(200)}

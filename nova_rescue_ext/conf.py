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


"""Options of the package, in group ``[rescue_ext]`` of nova.conf."""

import typing

from oslo_config import cfg
from oslo_utils import uuidutils

from nova_rescue_ext import microversion

GROUP = 'rescue_ext'
_HELP = """
Switches nova-rescue-ext on in this Nova service. The service activates the
package when nova.conf holds these lines::

    [DEFAULT]
    config_source = rescue_ext

    [rescue_ext]
    driver = nova_rescue_ext

and runs as stock Nova when they are absent.
"""

# Options in [libvirt] -> what becomes of rescues if one is not an image ID.
IMAGES_OF_NOVA = {
    'rescue_image_id': 'every rescue that names no image is refused, from '
                       'compute-rescue 1.1 on',
    'rescue_kernel_id': 'every rescue fails when its kernel is downloaded',
    'rescue_ramdisk_id': 'every rescue fails when its ramdisk is downloaded',
}

OPTS: list[cfg.Opt] = [
    cfg.StrOpt(
        'default_api_version',
        default='1.0',
        help="""
The ``compute-rescue`` API version of a request that names none.

A caller opts in to what the package adds with the header
``OpenStack-API-Version: compute 2.95, compute-rescue 1.1``. Clients that
cannot send the second part (Horizon, Terraform, the openstack command without
the plugin of this package) get what this option says, but no field in a
response that Nova does not have.

Possible values:

* ``1.0``: the behaviour of the Nova underneath (default)
* A version from 1.0 to the maximum that ``GET /`` of the compute API shows
* ``latest``: that maximum

Used by nova-api. An unusable value keeps the package from being activated.
"""),
    cfg.StrOpt(
        'default_rescue_image',
        help="""
The ID of the image that a server is rescued with if the request names none.
With a name instead of an ID the package is not activated.

A dedicated rescue image saves users from the worst mistake: the base image of
a server has the same file-system UUIDs as its broken root disk, so that the
broken disk may be what boots. From compute-rescue 1.1.

The image need not be public: if the project of a user cannot see it, it is
read with the credentials in ``[service_user]``. If this option is not set,
``[libvirt] rescue_image_id`` is used, which has no effect in stock Nova.

Used by nova-api. nova-compute needs ``[service_user]`` for an image that is
not public.
"""),
    cfg.StrOpt(
        'stable_devices',
        default='by-image',
        choices=[
            ('by-image', 'If the rescue image has hw_rescue_device or '
                         'hw_rescue_bus, as in stock Nova, and always for '
                         'boot-from-volume servers'),
            ('always', 'With every image; what it does not say is filled '
                       'in: device disk, on the bus of the server\'s disks'),
        ],
        help="""
When a rescued server keeps all its disks at their addresses.

With stable devices the rescue disk is added as the last one and booted first;
volumes, ephemeral disks and swap stay. Otherwise the rescued server has two
disks: the rescue disk first, its own root disk second. From compute-rescue
1.1.

Used by nova-compute; set it to the same value on all hosts.
"""),
    cfg.IntOpt(
        'max_rescue_timeout',
        default=604800,
        min=60,
        max=315360000,  # ten years: no date is out of range
        help="""
The longest ``timeout`` that a rescue request may have, in seconds.

From compute-rescue 1.4 the request can say after how long the server is to be
unrescued. ``[DEFAULT] rescue_timeout`` of nova-compute applies as well: what
comes first counts.

Used by nova-api.
"""),
    cfg.IntOpt(
        'ready_timeout',
        default=300,
        min=0,
        help="""
How long to look for the ready line of a rescue system, in seconds.

A rescue image says with the property ``os_rescue_ready_line`` what its console
shows when it is ready. From compute-rescue 1.4 nova-compute looks for that at
the end of the console log of the server, from the end of the rescue on, and
tells whether it was seen. Nothing else depends on it.

With 0 nova-compute reads no console log by itself, and ``ready_line`` of a
rescue is null. Set it to the same value on all hosts.

Used by nova-compute.
"""),
    cfg.IntOpt(
        'rebuild_quiet_period',
        default=15,
        min=0,
        help="""
How long to refuse the rebuild of a server whose build failed on a host, in
seconds.

nova-compute and nova-conductor set such a server to ERROR before they release
its ports and its allocation. A rebuild within this time after the last change
of the server is answered with 409. Servers for which no host was found can be
rebuilt at once.

Used by nova-api.
"""),
    cfg.BoolOpt(
        'allow_unverified',
        default=False,
        help="""
Activate the package on a Nova whose code it was not tested on.

Before it touches anything, the package compares the source of every Nova
function that it overrides or relies on with the Nova releases that it was
tested on. If one differs, nothing is activated, the service runs as stock
Nova, and an ERROR line names the difference. With this option the package is
activated nevertheless, with a WARNING, as long as every function exists and
takes the arguments that the package expects.

Only use this on a Nova that your distribution has patched, after reading the
output of ``nova-rescue-ext-status overrides`` and the patches. Never use it on
a Nova series that the package does not support.
"""),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register the options.

    :param conf: the oslo.config ConfigOpts of a Nova service
    """
    conf.register_opts(OPTS, group=_group())


def check_values(conf: cfg.ConfigOpts) -> None:
    """Check that every option can be used.

    One that cannot is reset to its default: services log all their options at
    start, which would fail.

    :raises: ValueError
    """
    errors = []
    for opt in OPTS:
        try:
            _check_value(opt.dest, conf.rescue_ext[opt.dest])
        except (ValueError, cfg.Error) as exc:
            errors.append('%s: %s' % (opt.dest, exc))
            conf.set_override(opt.dest, opt.default, group=GROUP)
    if errors:
        raise ValueError('; '.join(errors))


def _check_value(name: str, value: typing.Any) -> None:
    if name == 'default_api_version':
        microversion.check_default_version(value)
    elif name == 'default_rescue_image' and value and (
            not uuidutils.is_uuid_like(value)):
        raise ValueError(
            '"%s" is not the id of an image. "openstack image show -f value '
            '-c id %s" shows it' % (value, value))


def find_names_of_images(conf: cfg.ConfigOpts) -> list[str]:
    """Find options of Nova that name an image by something other than its ID.

    Nova takes them all the same, and every rescue that needs the image fails.

    :param conf: the ConfigOpts of a Nova service
    :returns: a sentence for each
    """
    # Nova's own options: absent where the package only reads nova.conf.
    libvirt = getattr(conf, 'libvirt', None)
    found = {}
    for option, what in IMAGES_OF_NOVA.items():
        value = getattr(libvirt, option, None)
        if value and not uuidutils.is_uuid_like(value):
            found[option] = (
                '[libvirt] %(option)s is "%(value)s", which is not the ID of '
                'an image, and so %(what)s. Set it to what "openstack image '
                'show -f value -c id %(value)s" prints, or remove it'
                % {'option': option, 'value': value, 'what': what})
    if conf.rescue_ext.default_rescue_image:
        found.pop('rescue_image_id', None)  # it is not used
    return list(found.values())


def list_opts() -> list[tuple[cfg.OptGroup, list[cfg.Opt]]]:
    """The options for oslo-config-generator (namespace nova_rescue_ext)."""
    return [(_group(), OPTS)]


def _group() -> cfg.OptGroup:
    # A new one each time: oslo.config keeps the values of options in it.
    return cfg.OptGroup(GROUP, title='Options of nova-rescue-ext', help=_HELP)

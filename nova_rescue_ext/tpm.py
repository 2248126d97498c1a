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

"""The TPM of a server, which the rescue system does not get.

Only the state that libvirt keeps on the host is the TPM, and libvirt names its
directory after the UUID of the domain: a TPM of the rescue system would be
that of the server, to clear, to lock out and to write to. A domain without
one leaves the directory alone, whatever is done to the domain.
"""

from __future__ import annotations

import typing

from nova import objects
from nova.virt import hardware

from nova_rescue_ext import nova_types
from nova_rescue_ext.task import operation

if typing.TYPE_CHECKING:
    from nova.objects import flavor as flavor_object


class LeftOut(operation.Operation):
    """Nova does something as for a server without a TPM.

    That is to check whether it can be rescued, to make the domain of the
    rescue, and to define a domain without the secret that starting it takes.
    """


def get_vtpm_constraint(
        original: nova_types.Original, flavor: flavor_object.Flavor,
        image_meta: objects.ImageMeta) -> hardware.VTPMConfig | None:
    """Nova asks whether a server has a TPM, and which."""
    if LeftOut.is_run_by_this_thread():
        return None
    return original(flavor, image_meta)


def has_tpm(instance: objects.Instance) -> bool:
    """Whether a server has a TPM.

    :param instance: the Instance
    """
    return bool(instance.image_meta.properties.get('hw_tpm_version')
                or instance.flavor.extra_specs.get('hw:tpm_version'))


def is_of_user(instance: objects.Instance) -> bool:
    """Whether starting a server takes the token of a user of its project.

    So it is with every TPM before Nova 33.

    :param instance: the Instance
    """
    return has_tpm(instance) and _secret_security(instance) == 'user'


def is_of_host(instance: objects.Instance) -> bool:
    """Whether a host keeps the secret of a server's TPM, in libvirt.

    :param instance: the Instance
    """
    return has_tpm(instance) and _secret_security(instance) == 'host'


def _secret_security(instance: objects.Instance) -> str:
    return instance.flavor.extra_specs.get('hw:tpm_secret_security', 'user')

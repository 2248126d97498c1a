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


"""What nova-api tells nova-compute about a rescue, with the instance.

The RPC call has no room for it, and must be understood by a nova-compute
without the package. The keys are saved with the task state and go when the
next rescue is asked for.
"""

import microversion_parse

from nova_rescue_ext import rescue_record

_VERSION = 'rescue_ext_version'
_OFFERED = 'rescue_ext_offered_image'


def write(instance, version, offered_image=None):
    """Tell nova-compute what was asked for. Nova saves the instance.

    :param instance: the Instance
    :param version: the ``compute-rescue`` version of the request
    :param offered_image: the id of the operator's image, if it is one that
        the caller cannot see
    """
    forget(instance)
    instance.system_metadata[_VERSION] = str(version)
    if offered_image:
        instance.system_metadata[_OFFERED] = offered_image


def forget(instance):
    """Forget an earlier rescue. Nova saves the instance.

    Also its record, which a nova-compute without the package would leave.
    """
    metadata = instance.system_metadata
    # Every rescue comes here: one look, and nothing else if there is nothing.
    # An offered image is never without a version.
    if _VERSION in metadata:
        metadata.pop(_VERSION)
        metadata.pop(_OFFERED, None)
    if rescue_record.MODE in metadata:
        rescue_record.clear(instance)


def asked_for(instance, version):
    """Whether the rescue was asked for with a ``compute-rescue`` version."""
    asked = instance.system_metadata.get(_VERSION)
    return bool(asked) and (
        microversion_parse.parse_version_string(asked) >= version)


def is_offered_image(instance, image_id):
    """Whether an image is to be read with the operator's rights.

    Only the one that was offered: a nova-api without the package checks no
    image, and knows nothing of an offer of an earlier rescue.

    :param instance: the Instance
    :param image_id: the id of the image, or None
    """
    return bool(image_id) and (
        instance.system_metadata.get(_OFFERED) == image_id)

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


"""Unrescue in nova-api."""

from nova_rescue_ext import microversion
from nova_rescue_ext import rescue_record


def unrescue(original, self, context, instance):
    """From compute-rescue 1.1 the server goes back to its state of before.

    nova-compute calls this, too, for servers that have been in rescue for
    ``rescue_timeout``.
    """
    rescue_record.ask_to_go_back(instance, _version(context)
                                 >= microversion.RESCUE)
    return original(context, instance)


def _version(context):
    if context.user_id is None:  # rescue_timeout: nobody could name one
        return microversion.default_version()
    return getattr(context, 'compute_rescue', microversion.MIN_VERSION)

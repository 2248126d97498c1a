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


"""What nova-conductor tells the source of a migration, with the instance.

The instance goes from nova-conductor to the destination and from there to the
source, which is the only one of them that surely has the package: nova-api
asks no conductor, and nobody but a conductor with the package has looked at
the destination (hazard 47). The key is never saved.
"""

_DESTINATION = 'rescue_ext_destination'


def with_destination(instance, host):
    """A copy of an instance that says which destination was checked.

    :param instance: the Instance, which stays as it is
    :param host: the destination
    :returns: an Instance, to be sent
    """
    copy = instance.obj_clone()
    copy.system_metadata[_DESTINATION] = host
    # The destination may save it, which writes only what has changed.
    copy.obj_reset_changes(['system_metadata'])
    return copy


def take_destination(instance):
    """Take out which destination was checked, on the source.

    :param instance: the Instance, as it was received
    :returns: the destination, or None if no conductor has checked it
    """
    host = instance.system_metadata.pop(_DESTINATION, None)
    if host is not None:
        # As if it had never been there.
        instance.obj_reset_changes(['system_metadata'])
    return host

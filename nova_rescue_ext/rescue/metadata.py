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

"""What cloud-init in a rescue system reads: key pair and user data.

From compute-rescue 1.4 the rescue system gets those of the rescue request,
from its config drive and from the metadata API. The user data of the server is
not for it: cloud-init would run that against the server's purpose. The
password is on the config drive only, as in stock Nova.
"""

from __future__ import annotations

import contextlib
import copy
import typing

from nova.compute import task_states
from nova import objects

from nova_rescue_ext import instance_metadata
from nova_rescue_ext import microversion
from nova_rescue_ext import nova_types

if typing.TYPE_CHECKING:
    from nova.api.metadata import handler
    from nova import cache_utils


def init_instance_metadata(original: nova_types.Original, self: object,
                           instance: objects.Instance, *args: typing.Any,
                           **kwargs: typing.Any) -> None:
    """The metadata API: what a server in rescue gets.

    It may ask before the state is saved: cloud-init is quick.
    """
    access = None
    # Nova's metadata API never loads these, and has them.
    if (instance.obj_attr_is_set('vm_state')
            and instance_metadata.has_rescue_guest(instance)):
        access = instance_metadata.access_to_rescue(instance)
    with (contextlib.nullcontext() if access is None
          else as_in_rescue(instance, access)):
        # Nova copies the instance.
        original(instance, *args, **kwargs)


def get_metadata_by_instance_id(original: typing.Callable[..., typing.Any],
                                self: handler.MetadataRequestHandler,
                                instance_id: str, address: str) -> typing.Any:
    """Keep in the cache nothing that another system may get before it expires.

    :returns: an InstanceMetadata, or None
    """
    return _with_our_cache(original, self)(instance_id, address)


def get_metadata_by_remote_address(original: typing.Callable[..., typing.Any],
                                   self: handler.MetadataRequestHandler,
                                   address: str) -> typing.Any:
    """Likewise, where no proxy of Neutron says which server asks.

    :returns: an InstanceMetadata, or None
    """
    return _with_our_cache(original, self)(address)


def _with_our_cache(
        original: typing.Callable[..., typing.Any],
        reader: handler.MetadataRequestHandler
) -> typing.Callable[..., typing.Any]:
    stand_in = copy.copy(reader)
    stand_in._cache = _Cache(reader._cache)
    return original.__func__.__get__(stand_in)  # type: ignore[attr-defined]


class _Cache:
    """Nova's cache of metadata, without that of a server around its rescue."""

    def __init__(self, cache: cache_utils.CacheClient) -> None:
        self._cache = cache

    def get(self, key: str) -> typing.Any:
        """As CacheClient.get()."""
        return self._cache.get(key)

    def set(self, key: str, value: typing.Any) -> None:
        """As CacheClient.set()."""
        if not _is_soon_outdated(getattr(value, 'instance', None)):
            self._cache.set(key, value)


def _is_soon_outdated(instance: typing.Any) -> bool:
    # Nova's own tests have others.
    return (isinstance(instance, objects.Instance)
            and instance.obj_attr_is_set('system_metadata')
            and instance_metadata.rescue_asks_for(
                instance, microversion.RESCUE_SESSION)
            and (instance_metadata.is_in_rescue(instance)
                 or instance.task_state in (task_states.RESCUING,
                                            task_states.UNRESCUING)))


@contextlib.contextmanager
def as_in_rescue(
        instance: objects.Instance,
        access: instance_metadata.RescueAccess) -> typing.Iterator[None]:
    """Show an instance as its rescue system is to see it.

    It always has a config drive. None of this is ever saved.

    :param instance: the Instance
    :param access: what the rescue system gets
    """
    shown = {'user_data': access.user_data, 'config_drive': 'True'}
    if access.key_name:
        key = objects.KeyPair(name=access.key_name, type=access.key_type,
                              public_key=access.key_data)
        key.obj_reset_changes()  # a list has those of what is in it
        keys = objects.KeyPairList(objects=[key])
        keys.obj_reset_changes()
        shown.update(key_name=access.key_name, key_data=access.key_data,
                     keypairs=keys)
    own = {name: getattr(instance, name) for name in shown}
    changed = instance.obj_what_changed()
    try:
        _set(instance, shown, changed)
        yield
    finally:
        _set(instance, own, changed)


def _set(instance: objects.Instance, values: dict[str, typing.Any],
         changed: set[str]) -> None:
    for name, value in values.items():
        setattr(instance, name, value)
    instance.obj_reset_changes(set(values) - changed)

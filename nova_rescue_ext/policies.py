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


"""Policies of the package, for the policy file of nova-api."""

import copy
import typing

from oslo_policy import policy

BOOT_FROM_VOLUME = 'rescue_ext:rescue:boot_from_volume'
LIVE_MIGRATE_RESCUED = 'rescue_ext:migrate_live:rescued'
ATTACH_PORT_RESCUED = 'rescue_ext:os-attach-interfaces:create:rescued'
DETACH_PORT_RESCUED = 'rescue_ext:os-attach-interfaces:delete:rescued'
ATTACH_VOLUME_RESCUED = 'rescue_ext:os-volumes-attachments:create:rescued'
DETACH_VOLUME_RESCUED = 'rescue_ext:os-volumes-attachments:delete:rescued'
REBOOT_RESCUED = 'rescue_ext:reboot:rescued'
START_RESCUED = 'rescue_ext:start:rescued'
STOP_RESCUED = 'rescue_ext:stop:rescued'

_RULES = [
    policy.DocumentedRuleDefault(
        name=BOOT_FROM_VOLUME,
        check_str='rule:os_compute_api:os-rescue',
        description='Rescue a boot-from-volume server in a way that stock '
                    'Nova refuses: with an image that does not have both '
                    'hw_rescue_bus and hw_rescue_device, or with the image '
                    'of its root volume. Nova\'s own policy for rescue is '
                    'checked as well.',
        operations=[{'method': 'POST',
                     'path': '/servers/{server_id}/action (rescue)'}],
        scope_types=['project']),
    policy.DocumentedRuleDefault(
        name=LIVE_MIGRATE_RESCUED,
        check_str='rule:os_compute_api:os-migrate-server:migrate_live',
        description='Live-migrate a server that is in rescue, and force such '
                    'a migration to complete. Nova\'s own policies for that '
                    'are checked as well.',
        operations=[{'method': 'POST',
                     'path': '/servers/{server_id}/action (os-migrateLive)'},
                    {'method': 'POST',
                     'path': '/servers/{server_id}/migrations/'
                             '{migration_id}/action (force_complete)'}],
        scope_types=['project']),
    policy.DocumentedRuleDefault(
        name=ATTACH_PORT_RESCUED,
        check_str='rule:os_compute_api:os-attach-interfaces:create',
        description='Attach a port, or a new one of a network, to a server '
                    'that is in rescue. Nova\'s own policy is checked as '
                    'well.',
        operations=[{'method': 'POST',
                     'path': '/servers/{server_id}/os-interface'}],
        scope_types=['project']),
    policy.DocumentedRuleDefault(
        name=DETACH_PORT_RESCUED,
        check_str='rule:os_compute_api:os-attach-interfaces:delete',
        description='Detach a port from a server that is in rescue. Nova\'s '
                    'own policy is checked as well.',
        operations=[{'method': 'DELETE',
                     'path': '/servers/{server_id}/os-interface/{port_id}'}],
        scope_types=['project']),
    policy.DocumentedRuleDefault(
        name=ATTACH_VOLUME_RESCUED,
        check_str='rule:os_compute_api:os-volumes-attachments:create',
        description='Attach a volume to a server that is in rescue. Nova\'s '
                    'own policy is checked as well.',
        operations=[{'method': 'POST',
                     'path': '/servers/{server_id}/os-volume_attachments'}],
        scope_types=['project']),
    policy.DocumentedRuleDefault(
        name=DETACH_VOLUME_RESCUED,
        check_str='rule:os_compute_api:os-volumes-attachments:delete',
        description='Detach a volume from a server that is in rescue. '
                    'Nova\'s own policy is checked as well.',
        operations=[{'method': 'DELETE',
                     'path': '/servers/{server_id}/os-volume_attachments/'
                             '{volume_id}'}],
        scope_types=['project']),
    policy.DocumentedRuleDefault(
        name=REBOOT_RESCUED,
        check_str='rule:os_compute_api:servers:reboot',
        description='Reboot the rescue system of a server that is in rescue. '
                    'Nova\'s own policy for reboots is checked as well.',
        operations=[{'method': 'POST',
                     'path': '/servers/{server_id}/action (reboot)'}],
        scope_types=['project']),
    policy.DocumentedRuleDefault(
        name=START_RESCUED,
        check_str='rule:os_compute_api:servers:start',
        description='Power on the rescue system of a server that is in '
                    'rescue. Nova\'s own policy is checked as well.',
        operations=[{'method': 'POST',
                     'path': '/servers/{server_id}/action (os-start)'}],
        scope_types=['project']),
    policy.DocumentedRuleDefault(
        name=STOP_RESCUED,
        check_str='rule:os_compute_api:servers:stop',
        description='Power off the rescue system of a server that is in '
                    'rescue. Nova\'s own policy is checked as well.',
        operations=[{'method': 'POST',
                     'path': '/servers/{server_id}/action (os-stop)'}],
        scope_types=['project']),
]


def list_rules() -> list[policy.DocumentedRuleDefault]:
    """The policies for oslo.policy's generators (nova_rescue_ext)."""
    return _RULES


def get_enforcer() -> policy.Enforcer:
    """Nova's enforcer with these policies, for the tools of oslo.policy.

    They read the policy file of nova-api, which has Nova's policies as well.
    """
    from nova import policy as nova_policy  # only where nova-api runs

    enforcer = nova_policy.get_enforcer()
    _register(enforcer)
    return enforcer


def authorize(context: typing.Any, rule: str, instance: typing.Any) -> None:
    """Check a policy of ours with Nova's enforcer.

    The rules are registered at the first check, not at start, so that a Nova
    without opted-in callers has exactly its own policies.

    :param context: the RequestContext of the caller
    :param rule: the name of one of the policies of this module
    :param instance: the instance that the caller wants to act on
    :raises: nova.exception.PolicyNotAuthorized
    """
    from nova import policy as nova_policy  # only nova-api has it

    nova_policy.init()
    _register(nova_policy._ENFORCER)
    context.can(rule, target={'user_id': instance.user_id,
                              'project_id': instance.project_id})


def _register(enforcer: policy.Enforcer) -> None:
    if _RULES[0].name not in enforcer.registered_rules:
        # A new dictionary: other threads may be iterating over the old one.
        enforcer.registered_rules = {
            **enforcer.registered_rules,
            **{default.name: copy.deepcopy(default) for default in _RULES}}

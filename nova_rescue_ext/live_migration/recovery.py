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


"""Migrations of rescued servers that nobody runs any more.

Whoever was at work on one may have died, or have had no database when it
began or ended it. The server keeps the task then, and its owner can do nothing
with it. What is done about it depends on where the guest runs.
"""

from __future__ import annotations

import typing

from nova.compute import task_states
from nova.compute import vm_states
from nova import context as nova_context
from nova import exception
from nova import objects
from oslo_log import log as logging

from nova_rescue_ext import instance_metadata

LOG = logging.getLogger(__name__)

# nova-conductor has the first, the source the others.
OF_THE_CONDUCTOR = ('accepted', 'pre-migrating')
OF_THE_SOURCE = ('queued', 'preparing', 'running', 'post-migrating')


class Services(typing.NamedTuple):
    """What is needed to end a migration.

    ``network_api`` is a nova.network.neutron.API, ``compute_rpcapi`` a
    nova.compute.rpcapi.ComputeAPI, ``reportclient`` placement's
    SchedulerReportClient.
    """

    network_api: typing.Any
    compute_rpcapi: typing.Any
    reportclient: typing.Any


def unfinished(context: nova_context.RequestContext,
               instance_uuid: str) -> objects.Migration | None:
    """The newest live migration of a server that has not ended, or None.

    :param context: a RequestContext of the server's cell
    :param instance_uuid: the UUID of the server
    """
    return max(all_unfinished(context, instance_uuid),
               key=lambda migration: migration.id, default=None)


def all_unfinished(context: nova_context.RequestContext,
                   instance_uuid: str) -> objects.MigrationList:
    """The live migrations of a server that have not ended.

    :param context: a RequestContext of the server's cell
    :param instance_uuid: the UUID of the server
    """
    return objects.MigrationList.get_by_filters(context, {
        'instance_uuid': instance_uuid, 'migration_type': 'live-migration',
        'status': list(OF_THE_CONDUCTOR + OF_THE_SOURCE)})


def to_settle(context: nova_context.RequestContext,
              instance_uuid: str) -> objects.Migration | None:
    """The migration that tells where else a server's guest may run, or None.

    That is the unfinished one, or the last if it has ended with an error: not
    everything that ends so is rolled back.

    :param context: a RequestContext of the server's cell
    :param instance_uuid: the UUID of the server
    """
    migrations = objects.MigrationList.get_by_filters(context, {
        'instance_uuid': instance_uuid, 'migration_type': 'live-migration'})
    last = max(migrations, key=lambda migration: migration.id, default=None)
    return unfinished(context, instance_uuid) or (
        last if last is not None and last.status == 'error' else None)


def runs_on(services: Services, context: nova_context.RequestContext,
            instance: objects.Instance, host: str) -> bool | None:
    """Whether a nova-compute says that it runs the guest of a server.

    :param services: a Services
    :param context: a RequestContext of the server's cell
    :param instance: the Instance
    :param host: the host to ask
    :returns: None if it does not answer
    """
    there = instance.obj_clone()
    there.host = host
    try:
        services.compute_rpcapi.get_diagnostics(context, there)
    except exception.InstanceInvalidState:
        return False
    except Exception as exc:
        LOG.debug('Host %(host)s does not say whether it runs the guest: '
                  '%(error)s', {'host': host, 'error': exc},
                  instance=instance)
        return None
    return True


def take_back_task(context: nova_context.RequestContext,
                   instance: objects.Instance) -> None:
    """Take the task from a server if no migration of it has begun.

    :param context: a RequestContext of the server's cell
    :param instance: the Instance, for which one was asked for
    """
    try:
        fresh = objects.Instance.get_by_uuid(context, instance.uuid)
        if (fresh.vm_state != vm_states.RESCUED
                or fresh.task_state != task_states.MIGRATING
                or unfinished(context, instance.uuid) is not None):
            return
        fresh.task_state = None
        fresh.save(expected_task_state=[task_states.MIGRATING])
    except (exception.InstanceNotFound, exception.UnexpectedTaskStateError):
        return
    except Exception as exc:
        LOG.warning('The task migrating cannot be taken from the server, '
                    'whose live migration has not begun: %s. nova-compute '
                    'does it later.', exc, instance=instance)


def give_back(services: Services, context: nova_context.RequestContext,
              instance: objects.Instance,
              migration: objects.Migration | None) -> None:
    """Leave a server on its host, where its guest is.

    :param services: a Services
    :param context: a RequestContext of the server's cell
    :param instance: the Instance
    :param migration: the Migration that nobody runs, or None
    """
    if migration is not None:
        give_back_claims(services, context, instance, migration)
    fresh = objects.Instance.get_by_uuid(
        context, instance.uuid,
        expected_attrs=['system_metadata', 'migration_context'])
    instance_metadata.end_attempt(fresh)
    fresh.drop_migration_context()
    fresh.task_state = None
    fresh.progress = 0
    fresh.save(expected_task_state=[task_states.MIGRATING])
    LOG.warning('The live migration that nobody runs any more is ended: the '
                'server is in rescue on %(host)s. Look for its directory on '
                '%(dest)s before it is migrated there again.',
                {'host': instance.host,
                 'dest': migration and migration.dest_compute},
                instance=instance)


def give_back_claims(services: Services, context: nova_context.RequestContext,
                     instance: objects.Instance,
                     migration: objects.Migration) -> None:
    """Give a server what its migration holds, and end the migration.

    :param services: a Services
    :param context: a RequestContext of the server's cell
    :param instance: the Instance
    :param migration: the Migration that nobody runs
    """
    if services.reportclient.get_allocations_for_consumer(
            context, migration.uuid):
        services.reportclient.move_allocations(context, migration.uuid,
                                               instance.uuid)
    if migration.dest_compute and migration.dest_compute != instance.host:
        services.network_api.setup_networks_on_host(
            context, instance, host=migration.dest_compute, teardown=True)
    had_begun = migration.status in OF_THE_SOURCE
    migration.status = 'error'
    migration.save()
    if had_begun:
        LOG.warning('The live migration to %(dest)s was interrupted. If the '
                    'server has volumes, what Nova has recorded of their '
                    'attachments may be those to %(dest)s. Compare them with '
                    'Cinder before the server is rebooted or migrated.',
                    {'dest': migration.dest_compute}, instance=instance)


def finish(services: Services, context: nova_context.RequestContext,
           instance: objects.Instance, migration: objects.Migration) -> None:
    """Do on both sides what is left when the guest has moved.

    The destination takes the server over: host, task and domain.

    :param services: a Services
    :param context: a RequestContext of the server's cell
    :param instance: the Instance
    :param migration: the Migration that nobody runs
    """
    activate_ports(services, context, instance, migration)
    services.compute_rpcapi.post_live_migration_at_destination(
        context, instance, False, migration.dest_compute)
    finish_books(services, context, migration)
    LOG.warning('The live migration to %(dest)s that nobody ran any more is '
                'finished: the server is in rescue on %(dest)s, where its '
                'guest runs. If its directory is on %(source)s, compare it '
                'with that on %(dest)s, and remove it by hand.',
                {'source': migration.source_compute,
                 'dest': migration.dest_compute}, instance=instance)


def activate_ports(services: Services, context: nova_context.RequestContext,
                   instance: objects.Instance,
                   migration: objects.Migration) -> None:
    """Let the ports of a server be those of the destination."""
    services.network_api.migrate_instance_start(
        context, instance, objects.Migration(
            source_compute=migration.source_compute,
            dest_compute=migration.dest_compute))


def finish_books(services: Services, context: nova_context.RequestContext,
                 migration: objects.Migration) -> None:
    """Give back what a migration holds on the source, and end it.

    :param services: a Services
    :param context: a RequestContext of the server's cell
    :param migration: the Migration of a server that is on the destination
    """
    services.reportclient.delete_allocation_for_instance(
        context, migration.uuid, consumer_type='migration', force=False)
    migration.status = 'completed'
    migration.save()


def set_host(context: nova_context.RequestContext, instance: objects.Instance,
             migration: objects.Migration) -> None:
    """Say that a server is on the destination, which does not answer.

    :param context: a RequestContext of the server's cell
    :param instance: the Instance
    :param migration: the Migration that nobody runs
    """
    node = objects.ComputeNode.get_by_host_and_nodename(
        context, migration.dest_compute, migration.dest_node)
    fresh = objects.Instance.get_by_uuid(
        context, instance.uuid,
        expected_attrs=['system_metadata', 'migration_context'])
    fresh.apply_migration_context()
    fresh.drop_migration_context()
    fresh.host, fresh.node = node.host, node.hypervisor_hostname
    if 'compute_id' in fresh.fields:  # from Nova 30 on
        fresh.compute_id = node.id
    fresh.task_state = None
    fresh.progress = 0
    fresh.save(expected_task_state=[task_states.MIGRATING])

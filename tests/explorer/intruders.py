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

"""Who acts on the server in the middle of an operation."""

import contextlib
import io
import typing

from nova.cmd import manage
from nova import context as nova_context
from nova import objects

from tests.explorer import clock
from tests.explorer import operators

# Seconds of the virtual clock: more than commands wait by default.
_HOUR = 3700


class Intruder(typing.NamedTuple):
    """Somebody who acts.

    :ivar words: for the report
    :ivar act: called with the cloud
    :ivar resets: whether it overwrites the state of the server, which is then
        no longer what the operation says
    :ivar takes_away: whether it takes from the server what it cannot do
        without
    """

    words: str
    act: typing.Callable
    resets: bool = False
    takes_away: bool = False


ALL = {}


def _intruder(words, **what):
    def add(function):
        ALL[function.__name__.strip('_')] = Intruder(words, function, **what)
        return function

    return add


@_intruder('the owner deletes the server')
def _delete(cloud):
    return cloud.delete()


@_intruder('an administrator deletes it by force')
def _force_delete(cloud):
    return cloud.act({'forceDelete': None}, cloud.admin_api)


@_intruder('the owner rescues it')
def _rescue(cloud):
    return cloud.ask_rescue()


@_intruder('the owner unrescues it')
def _unrescue(cloud):
    return cloud.act({'unrescue': None})


@_intruder('the owner reboots it hard')
def _reboot(cloud):
    return cloud.act({'reboot': {'type': 'HARD'}})


@_intruder('the owner stops it')
def _stop(cloud):
    return cloud.act({'os-stop': None})


@_intruder('the owner starts it')
def _start(cloud):
    return cloud.act({'os-start': None})


@_intruder('the owner attaches a volume')
def _attach_volume(cloud):
    cloud.changes_volumes = True
    return cloud.ask_attach_volume()


@_intruder('the owner detaches that volume')
def _detach_volume(cloud):
    cloud.changes_volumes = True
    return cloud.ask_detach_volume()


@_intruder('the owner attaches another port')
def _attach_port(cloud):
    cloud.changes_ports = True
    return cloud.ask_attach_port()


@_intruder('the owner detaches its first port')
def _detach_port(cloud):
    cloud.changes_ports = True
    return cloud.ask_detach_port(cloud.PORT)


@_intruder('the owner rebuilds it')
def _rebuild(cloud):
    return cloud.ask_rebuild()


@_intruder('an administrator migrates it live')
def _migrate(cloud):
    return cloud.ask_live_migration()


@_intruder('an administrator aborts its migration')
def _abort(cloud):
    found = cloud.admin_api.api_get('/servers/%s/migrations' % (
        cloud.server['id'])).body['migrations']
    for migration in found:
        cloud.request('DELETE', 'migrations/%s' % migration['id'],
                      api=cloud.admin_api)


@_intruder('an administrator resets its state to active', resets=True)
def _reset_active(cloud):
    return cloud.act({'os-resetState': {'state': 'active'}},
                     cloud.admin_api)


@_intruder('an administrator resets its state to error', resets=True)
def _reset_error(cloud):
    return cloud.act({'os-resetState': {'state': 'error'}}, cloud.admin_api)


@_intruder('an administrator disables the compute services')
def _disable(cloud):
    for service in cloud.admin_api.get_services(binary='nova-compute'):
        cloud.admin_api.put_service(service['id'], {'status': 'disabled'})


@_intruder('the power states are synchronized')
def _sync_power_states(cloud):
    _each(cloud, '_sync_power_states')


@_intruder('rescue_timeout is looked at')
def _poll_rescued(cloud):
    _each(cloud, '_poll_rescued_instances')


@_intruder('its rescue has lasted as long as it was asked for')
def _timeout(cloud):
    cloud.let_rescue_expire()


@_intruder('guests of deleted servers are looked for')
def _cleanup_deleted(cloud):
    _each(cloud, '_cleanup_running_deleted_instances')


@_intruder('files of deleted servers are looked for')
def _cleanup_files(cloud):
    _each(cloud, '_run_pending_deletes')


@_intruder('the resources are audited')
def _audit(cloud):
    _each(cloud, 'update_available_resource')


@_intruder('the network info is healed')
def _heal(cloud):
    _each(cloud, '_heal_instance_info_cache')


@_intruder('the image cache is cleaned')
def _image_cache(cloud):
    _each(cloud, '_run_image_cache_manager_pass')


@_intruder('an operator archives deleted rows')
def _archive(cloud, **kwargs):
    with contextlib.redirect_stdout(io.StringIO()):
        manage.DbCommands().archive_deleted_rows(
            all_cells=True, max_rows=1000, until_complete=True, **kwargs)


@_intruder('an operator archives deleted rows, and purges them')
def _purge(cloud):
    _archive(cloud, purge=True)


@_intruder('its host loses power and is evacuated; then it is booted')
def _evacuate(cloud):
    host = cloud.host()
    if host is None:
        return
    cloud.switch_off(host)
    try:
        cloud.mark_down(host, True)
        if cloud.ask_evacuation().status_code == 409:
            # It is in rescue, or has a task.
            _reset_error(cloud)
            cloud.ask_evacuation()
        cloud.wait_for_task()
    finally:
        cloud.end_outage(host)


@_intruder('each host looks for abandoned migrations')
def _attend(cloud):
    cloud.attend()


@_intruder('after an hour an operator runs settle-migration')
def _settle(cloud):
    clock.pass_time(_HOUR)
    operators.run(cloud, 'settle-migration', cloud.server['id'])


@_intruder('an operator drains its host with migrate-rescued')
def _drain(cloud):
    operators.run(cloud, 'migrate-rescued', cloud.host() or 'compute1')


@_intruder('operators remove leftovers on all hosts with rescue-leftovers')
def _leftovers(cloud):
    for host in list(cloud.hosts):
        operators.remove_leftovers(cloud, host)


@_intruder('after an hour an operator runs rebuild-interrupted')
def _interrupted(cloud):
    clock.pass_time(_HOUR)
    operators.run(cloud, 'rebuild-interrupted')


@_intruder('an operator takes it off its host with rebuild-release')
def _release(cloud):
    operators.run(cloud, 'rebuild-release', cloud.server['id'])


@_intruder('an operator runs rebuild-failed')
def _rebuild_failed(cloud):
    operators.run(cloud, 'rebuild-failed')


@_intruder('the volume is transferred to another project, if it is free',
           takes_away=True)
def _transfer(cloud):
    if not cloud.cinder.volume_to_attachment[cloud.VOLUME]:
        cloud.owners.volumes[cloud.VOLUME] = 'another-project'


@_intruder('servers are listed, and this one is shown')
def _look(cloud):
    # What it sees must be one server, always.
    cloud.looks.append((
        [server['status'] for server in cloud.api.get_servers()
         if server['id'] == cloud.server['id']],
        cloud.request('GET', '').status_code))


PERIODIC = ('sync_power_states', 'poll_rescued', 'cleanup_deleted',
            'cleanup_files', 'audit', 'heal', 'image_cache')


def _each(cloud, name):
    for host in list(cloud.computes):
        compute = cloud.computes.get(host)
        if compute is not None:
            cloud.at_host(host, getattr(compute.manager, name),
                          nova_context.get_admin_context())


def let_periodic_tasks_run(cloud):
    """Run what nova-compute runs from time to time.

    :param cloud: an operations.Cloud
    :returns: what was raised, as a list of texts
    """
    raised = []
    for name in PERIODIC:
        try:
            ALL[name].act(cloud)
        except Exception as exc:
            raised.append('periodic task %s raises %r' % (name, exc))
    return raised


def unfinished_migrations(cloud):
    """The states of the server's migrations that are not over."""
    return [migration.status for migration
            in objects.MigrationList.get_by_filters(
                cloud.context, {'instance_uuid': cloud.server['id']})
            if migration.status not in ('completed', 'error', 'failed',
                                        'cancelled', 'done', 'confirmed')]

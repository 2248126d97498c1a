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


"""What Nova raises while a rebuild is checked, made an early 4xx."""

import contextlib
import typing

from cinderclient import exceptions as cinder_exc
from keystoneauth1 import exceptions as ks_exc
from neutronclient.common import exceptions as neutron_exc
from nova import exception as nova_exception
from oslo_log import log as logging

from nova_rescue_ext import exception

LOG = logging.getLogger(__name__)

# Nova's controller has answers for these.
_ANSWERED_BY_NOVA = (
    nova_exception.InstanceInvalidState, nova_exception.InstanceIsLocked,
    nova_exception.InstanceNotFound, nova_exception.KeypairNotFound,
    nova_exception.OverQuota, nova_exception.PolicyNotAuthorized)

# What they say has addresses of the cloud's own network: that is for the log.
_SERVICES: dict[type[Exception], str] = {
    cinder_exc.ClientException: 'Cinder',
    ks_exc.ClientException: 'Keystone',
    neutron_exc.NeutronClientException: 'Neutron',
    nova_exception.AcceleratorRequestOpFailed: 'Cyborg',
    nova_exception.AllocationDeleteFailed: 'Placement',
    nova_exception.CinderConnectionFailed: 'Cinder',
    nova_exception.ConsumerAllocationRetrievalFailed: 'Placement',
    nova_exception.DeviceProfileError: 'Cyborg',
    nova_exception.GlanceConnectionFailed: 'Glance',
    nova_exception.KeystoneConnectionFailed: 'Keystone',
    nova_exception.PlacementAPIConnectFailure: 'Placement',
    nova_exception.UsagesRetrievalFailed: 'Placement'}

# Deleted since the server was looked up.
_GONE = (nova_exception.BuildRequestNotFound,
         nova_exception.InstanceMappingNotFound,
         nova_exception.RequestSpecNotFound)


def as_sentence(refused: exception.ClaimRefused) -> str:
    """What a refused claim says, as the begin of a sentence.

    :param refused: the refusal
    """
    text = refused.format_message()
    return text[:1].upper() + text[1:]


def _service(error: Exception) -> str:
    """The service that has failed."""
    if isinstance(error, ks_exc.ConnectFailure):
        # Each service is asked through Keystone's library.
        return 'Keystone, Neutron, Placement, ...'
    return next(service for failure, service in _SERVICES.items()
                if isinstance(error, failure))


@contextlib.contextmanager
def in_novas_words() -> typing.Iterator[None]:
    """Refuse for what Nova's controller of a rebuild has no answer to.

    :raises: RebuildRefused
    """
    try:
        yield
    except (exception.RebuildRefused, *_ANSWERED_BY_NOVA):
        raise
    except exception.NotOfProject as error:
        raise exception.NotGivenToProject(claim=as_sentence(error))
    except exception.ClaimRefused as error:
        raise exception.NotGiven(claim=as_sentence(error))
    except _GONE as error:
        raise exception.ServerGone(reason=error.format_message())
    except tuple(_SERVICES) as error:
        LOG.warning('A rebuild is refused, as a service fails: %s', error)
        raise exception.ServiceFails(service=_service(error))
    except nova_exception.NovaException as error:
        # Most of Nova's exceptions about bad requests have code 500.
        refusal = (exception.RebuildForbidden if error.code == 403
                   else exception.BadRebuildRequest)
        raise refusal(reason=error.format_message())

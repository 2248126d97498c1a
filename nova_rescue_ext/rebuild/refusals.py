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

from nova_rescue_ext import exception

# Nova's controller has answers for these.
_ANSWERED_BY_NOVA = (
    nova_exception.InstanceInvalidState, nova_exception.InstanceIsLocked,
    nova_exception.InstanceNotFound, nova_exception.KeypairNotFound,
    nova_exception.OverQuota, nova_exception.PolicyNotAuthorized)

_SERVICE_FAILURES = (
    cinder_exc.ClientException, ks_exc.ClientException,
    neutron_exc.NeutronClientException,
    nova_exception.AcceleratorRequestOpFailed,
    nova_exception.AllocationDeleteFailed,
    nova_exception.CinderConnectionFailed,
    nova_exception.ConsumerAllocationRetrievalFailed,
    nova_exception.DeviceProfileError,
    nova_exception.GlanceConnectionFailed,
    nova_exception.KeystoneConnectionFailed,
    nova_exception.PlacementAPIConnectFailure,
    nova_exception.UsagesRetrievalFailed)

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
    except _SERVICE_FAILURES as error:
        raise exception.ServiceFails(reason=error)
    except nova_exception.NovaException as error:
        # Most of Nova's exceptions about bad requests have code 500.
        refusal = (exception.RebuildForbidden if error.code == 403
                   else exception.BadRebuildRequest)
        raise refusal(reason=error.format_message())

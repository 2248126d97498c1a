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


"""How a rebuild is refused: early, as a 4xx, in words."""

import contextlib

from cinderclient import exceptions as cinder_exc
from keystoneauth1 import exceptions as ks_exc
from neutronclient.common import exceptions as neutron_exc
from nova import exception
from webob import exc

from nova_rescue_ext import exception as ext_exception
from nova_rescue_ext.i18n import _

# Nova's controller has answers for these.
_ANSWERED_BY_NOVA = (
    exception.InstanceInvalidState, exception.InstanceIsLocked,
    exception.InstanceNotFound, exception.KeypairNotFound,
    exception.OverQuota, exception.PolicyNotAuthorized)

_SERVICE_FAILURES = (
    cinder_exc.ClientException, exception.AllocationDeleteFailed,
    exception.CinderConnectionFailed,
    exception.ConsumerAllocationRetrievalFailed,
    exception.GlanceConnectionFailed, exception.PlacementAPIConnectFailure,
    exception.UsagesRetrievalFailed, ks_exc.ClientException,
    neutron_exc.NeutronClientException)

# Deleted since the server was looked up.
_GONE = (exception.BuildRequestNotFound, exception.InstanceMappingNotFound,
         exception.RequestSpecNotFound)


def conflict(reason, *args):
    """Refuse for what the server is like now (409).

    :param reason: a sentence that says what to do
    :raises: HTTPConflict
    """
    raise exc.HTTPConflict(explanation=reason % args if args else reason)


def bad_request(reason, *args):
    """Refuse for what was asked (400).

    :raises: HTTPBadRequest
    """
    raise exc.HTTPBadRequest(explanation=reason % args if args else reason)


def as_sentence(refused):
    """What a ClaimRefused says, as the begin of a sentence."""
    text = refused.format_message()
    return text[:1].upper() + text[1:]


@contextlib.contextmanager
def translated():
    """Answer what Nova's controller does not know of, in Nova's words."""
    try:
        yield
    except _ANSWERED_BY_NOVA:
        raise
    except _GONE as error:
        raise exc.HTTPNotFound(explanation=error.format_message())
    except ext_exception.NotOfProject as error:
        conflict(_('%s. Name another in the request if it can be named, or '
                   'have it shared with that project.'), as_sentence(error))
    except ext_exception.ClaimRefused as error:
        conflict('%s.', as_sentence(error))
    except _SERVICE_FAILURES as error:
        conflict(_('The server is as it was: a service that Nova needs does '
                   'not do its part (%s). Try again later.'), error)
    except exception.NovaException as error:
        # Most of Nova's exceptions about bad requests have code 500.
        answer = (exc.HTTPForbidden if error.code == 403
                  else exc.HTTPBadRequest)
        raise answer(explanation=error.format_message())

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

"""One call of what the package overrides, by somebody who does not use it."""

import functools
import importlib
import json
import sys
import time

from nova import monkey_patch
monkey_patch.patch()

from nova.api.openstack import wsgi
from nova.compute import api as compute_api
from nova import context as nova_context
from nova import objects
import wrapt

from bench import report
from bench import target
from nova_rescue_ext.activation import overrides

ROUNDS = 101
CALLS = 5000
GOAL = 2.0  # microseconds


class Case:
    """A callable that is overridden, and a call of it.

    What the original does is left out: it is replaced by a function that does
    nothing, so that only what the package adds is measured.

    :param override: an Override
    :param stub: takes the place of the original
    :param call: calls the overridden callable
    """

    def __init__(self, override, stub, call):
        self.override = override
        self.stub = stub
        self.call = call

    def measure(self, rounds):
        """Measure the case.

        :returns: a report.Result
        """
        module = importlib.import_module(self.override.module)
        owner, attribute, original = wrapt.resolve_path(
            module, self.override.qualname)
        setattr(owner, attribute, self.stub)
        try:
            pairs = [self._pair(module, number) for number in range(rounds)]
        finally:
            setattr(owner, attribute, original)
        without, with_package = report.medians(pairs)
        cost = report.median_difference(pairs)
        return report.Result(
            'A call that is not ours: `%s`' % self.override.qualname,
            '%.2f µs' % without, '%.2f µs' % with_package,
            '%+.2f µs' % cost, '< %.0f µs' % GOAL, cost < GOAL, rounds,
            (without, with_package, cost / GOAL))

    def _pair(self, module, number):
        if number % 2:
            without = self._time()
            return without, self._time_overridden(module)
        with_package = self._time_overridden(module)
        return self._time(), with_package

    def _time_overridden(self, module):
        applied = overrides.Applied(self.override, module)
        try:
            return self._time()
        finally:
            applied.remove()

    def _time(self):
        call = self.call
        started = time.process_time()
        for _ in range(CALLS):
            call()
        return (time.process_time() - started) / CALLS * 1e6


def declared(name):
    """The Override of a callable of Nova."""
    return next(override for override in overrides.declared()
                if override.target == name)


def cases():
    """What is measured."""
    objects.register_all()
    plain = target.Target()
    yield Case(overrides.Override('bench.target:Target.method',
                                  'bench.target:pass_on'),
               target.Target.method, lambda: plain.method(1))
    api = object.__new__(compute_api.API)
    context = nova_context.RequestContext('user', 'project',
                                          is_admin=False)
    instance = objects.Instance(uuid='3b7e4a52-2f0b-4b3d-8f0c-1f3f5d1a2c4e',
                                system_metadata={})
    yield Case(declared('nova.compute.api:API.rescue'), _rescue,
               lambda: api.rescue(
                   context, instance, rescue_password='password',
                   rescue_image_ref=None, clean_shutdown=True,
                   allow_bfv_rescue=True))
    yield Case(declared('nova.compute.api:API.unrescue'), _unrescue,
               lambda: api.unrescue(context, instance))
    request = wsgi.Request.blank('/v2.1/servers', headers={
        'OpenStack-API-Version': 'compute 2.95'})
    yield Case(declared('nova.api.openstack.wsgi:'
                        'Request.set_api_version_request'),
               lambda self: None,
               lambda: request.set_api_version_request())
    resource = object.__new__(wsgi.Resource)
    yield Case(declared('nova.api.openstack.wsgi:Resource.__call__'),
               _resource_call,
               functools.partial(_call, resource, request.environ))


def _rescue(self, context, instance, rescue_password=None,
            rescue_image_ref=None, clean_shutdown=True,
            allow_bfv_rescue=False):
    return None


def _unrescue(self, context, instance):
    return None


def _resource_call(self, environ, start_response):
    start_response('200 OK', [('OpenStack-API-Version', 'compute 2.95')])
    return ()


def _start_response(status, headers, exc_info=None):
    return None


def _call(resource, environ):
    resource(environ, _start_response)


def main():
    scale = float(sys.argv[1])
    rounds = max(3, int(ROUNDS * scale))
    print(json.dumps([case.measure(rounds) for case in cases()]))


if __name__ == '__main__':
    main()

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

"""Who runs: in which service, and in whose service.

Every green thread that belongs to an operation or an intruder is known with
the service that it runs in, over RPC messages and executors. So it is known
when all have come to rest, each host can have locks of its own as in life, and
a crash ends what ran in one service and nothing else.
"""

import collections
import contextlib
import functools
import threading
import types

import eventlet
import fasteners
import futurist
import greenlet
from oslo_concurrency import lockutils
from oslo_messaging._drivers import impl_fake
from oslo_messaging.rpc import client as rpc_client
from oslo_messaging.rpc import dispatcher

from nova_rescue_ext.live_migration import source

OPERATION = 'operation'
# Of what is done for a message that was late, or came twice.
LATE = 'late'
# Of a service that starts again.
RESTART = 'restart'
API = 'api'

Actor = collections.namedtuple('Actor', 'service life lineage')
Actor.__doc__ = """What a green thread is.

``service`` is a host's name, ``conductor``, ``scheduler`` or ``api``; ``life``
counts the starts of that service; ``lineage`` is ``operation``, ``late`` or
the name of an intruder.
"""


class Actors:
    """Those of the process; only one of these can be in use."""

    def __init__(self):
        self._of = {}  # greenlet -> Actor
        self._lives = collections.Counter()
        self._lineages = {}  # (id of a request, method) -> lineage
        self._at_work = collections.Counter()  # Actor -> how many threads
        self._readers = {}  # (lock, thread) -> Actor
        self._awake = eventlet.event.Event()
        self._follow_messages()
        self._follow_executors()
        self._follow_threads()
        self._separate_processes()
        self._free_cells()
        self._poll_no_queue()

    def current(self):
        """The Actor of this green thread, or None."""
        return self._of.get(greenlet.getcurrent())

    def actor(self, service, lineage):
        """An Actor in the present life of a service."""
        return Actor(service, self._lives[service], lineage)

    @contextlib.contextmanager
    def acting(self, actor):
        """This green thread is this Actor in here, and at work."""
        current = greenlet.getcurrent()
        before = self._of.get(current)
        self._of[current] = actor
        self._at_work[actor] += 1
        try:
            yield
        finally:
            self._at_work[actor] -= 1
            if before is None:
                self._of.pop(current, None)
            else:
                self._of[current] = before

    def spawn(self, actor, function, *args):
        """Run a function in a green thread of its own."""
        self._at_work[actor] += 1  # until it has begun, too
        return eventlet.spawn(  # noqa: N340
            self._as_actor(actor, functools.partial(function, *args)))

    def is_dead(self, actor):
        """Whether the service of an Actor has crashed since."""
        return actor is not None and actor.life != self._lives[actor.service]

    def crash(self, service):
        """Nothing that runs in a service does anything from here on."""
        self._lives[service] += 1
        for (lock, thread), actor in list(self._readers.items()):
            if self.is_dead(actor):
                del self._readers[lock, thread]
                with lock._cond:
                    lock._readers.pop(thread, None)
                    lock._cond.notify_all()

    @staticmethod
    def stop_here():
        """Never come back: that of a process that was killed.

        An exception would run ``finally`` blocks, which kill -9 does not.
        """
        eventlet.event.Event().wait()

    def at_work(self, *lineages):
        """How many green threads are at work.

        :param lineages: those of these lineages; of all, if there are none
        """
        return sum(number for actor, number in self._at_work.items()
                   if not self.is_dead(actor)
                   and (not lineages or actor.lineage in lineages))

    def messages(self, *lineages):
        """How many RPC messages wait for somebody to take them."""
        return sum(
            1 for exchange in
            impl_fake.FakeExchangeManager._exchanges.values()
            for queues in (exchange._topic_queues, exchange._server_queues)
            for (topic, _), queue in queues.items()
            if 'notifications' not in str(topic)
            for context, message, *_ in queue
            if not lineages
            or self._lineage_of(context, message.get('method')) in lineages)

    def _lineage_of(self, context, method):
        """The lineage of who has sent a message, or None.

        :param context: as it is sent
        :param method: what is called
        """
        return self._lineages.get((context.get('request_id'), method))

    def awaited(self):
        """Who is at work, and which queues have messages, as texts."""
        return ['%s: %d' % (actor, number)
                for actor, number in self._at_work.items()
                if number and not self.is_dead(actor)] + [
                    'queue %s: %s' % (topic, message[1].get('method'))
                    for exchange in
                    impl_fake.FakeExchangeManager._exchanges.values()
                    for queues in (exchange._topic_queues,
                                   exchange._server_queues)
                    for (topic, _), queue in queues.items()
                    if 'notifications' not in str(topic)
                    for message in queue]

    def is_quiet(self, *lineages):
        """Whether nobody of these lineages is at work, or is asked to be."""
        return not self.at_work(*lineages) and not self.messages(*lineages)

    def _follow_messages(self):
        for name in ('call', 'cast'):
            self._follow_client(name)
        dispatch = dispatcher.RPCDispatcher._do_dispatch

        def do_dispatch(itself, endpoint, method, context, args):
            lineage = self._lineage_of(context, method)
            if lineage is None:
                return dispatch(itself, endpoint, method, context, args)
            actor = self.actor(_service_of(endpoint), lineage)
            with self.acting(actor):
                return dispatch(itself, endpoint, method, context, args)

        dispatcher.RPCDispatcher._do_dispatch = do_dispatch

    def _follow_client(self, name):
        send = getattr(rpc_client._BaseCallContext, name)

        def follow(itself, context, method, **kwargs):
            actor = self.current()
            if actor is not None:
                self._lineages[context.request_id, method] = actor.lineage
            return send(itself, context, method, **kwargs)

        setattr(rpc_client._BaseCallContext, name, follow)

    def _follow_executors(self):
        for executor in (futurist.GreenThreadPoolExecutor,
                         futurist.SynchronousExecutor):
            self._follow_executor(executor)

    def _follow_executor(self, executor):
        submit = executor.submit

        def follow(itself, function, *args, **kwargs):
            actor = self.current()
            if actor is None:
                return submit(itself, function, *args, **kwargs)

            def run():
                with self.acting(actor):
                    return function(*args, **kwargs)

            if executor is futurist.SynchronousExecutor:
                return submit(itself, run)
            # Not a worker of the pool: one that has crashed would be missing
            # in the next life of the service, as all share the pool here.
            future = futurist.Future()
            self.spawn(actor, _fulfil, future, run)
            return future

        executor.submit = follow

    def _follow_threads(self):
        """A thread is at work for who starts it, until it has ended."""
        start = threading.Thread.start

        def follow(thread):
            actor = self.current()
            # Those of a service that starts last as long as the service.
            if actor is not None and actor.lineage != RESTART:
                self._at_work[actor] += 1  # until it has begun, too
                thread.run = self._as_actor(actor, thread.run)
            start(thread)

        threading.Thread.start = follow

    def _as_actor(self, actor, function):
        def run():
            try:
                with self.acting(actor):
                    return function()
            finally:
                self._at_work[actor] -= 1

        return run

    def _separate_processes(self):
        """What each process of a cloud has for itself."""
        source._at_work = _CollectionPerService(list, self)
        source._run = _CollectionPerService(set, self)
        lockutils._semaphores = _PerService(lockutils.Semaphores, self)
        lockutils._fair_locks = _PerService(lockutils.FairLocks, self)

    def _free_cells(self):
        """Nova's tests lock a cell for who targets it, dead or alive."""
        acquire = fasteners.ReaderWriterLock._acquire_read_lock

        def follow(lock, thread):
            acquire(lock, thread)
            actor = self.current()
            if actor is not None:
                self._readers[lock, thread] = actor

        fasteners.ReaderWriterLock._acquire_read_lock = follow

    def _poll_no_queue(self):
        """A listener wakes up when there is a message, not every 50 ms."""
        deliver = impl_fake.FakeExchange.deliver_message

        def deliver_and_wake(itself, *args, **kwargs):
            deliver(itself, *args, **kwargs)
            awake, self._awake = self._awake, eventlet.event.Event()
            awake.send()

        def sleep(seconds):
            with eventlet.Timeout(5, False):
                self._awake.wait()

        impl_fake.FakeExchange.deliver_message = deliver_and_wake
        impl_fake.time = types.SimpleNamespace(
            sleep=sleep, time=lambda: __import__('time').time())


def _fulfil(future, function):
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = function()
    except Exception as exc:
        future.set_exception(exc)
    else:
        future.set_result(result)


class _CollectionPerService:
    """A list or a set that each process has, and loses when it is killed."""

    def __init__(self, kind, actors):
        self._actors = actors
        self._of = collections.defaultdict(kind)

    def _own(self):
        actor = self._actors.current()
        return self._of[actor and (actor.service, actor.life)]

    def __getattr__(self, name):
        return getattr(self._own(), name)

    def __iter__(self):
        return iter(self._own())

    def __contains__(self, item):
        return item in self._own()


class _PerService:
    """The locks of a process: two hosts of the cloud do not share one."""

    def __init__(self, kind, actors):
        self._kind = kind
        self._actors = actors
        self._of = {}

    def get(self, name):
        actor = self._actors.current()
        key = actor and (actor.service, actor.life)
        if key not in self._of:
            self._of[key] = self._kind()
        return self._of[key].get(name)


def _service_of(endpoint):
    # Nova tracks what an endpoint does, and has proxies for old versions.
    manager = getattr(endpoint, '_endpoint', endpoint)
    manager = getattr(manager, 'manager', manager)
    name = type(manager).__name__
    if name == 'ComputeManager':
        return manager.host
    if 'Scheduler' in name:
        return 'scheduler'
    return 'conductor'

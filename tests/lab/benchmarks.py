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


"""What the features cost, on real hypervisors.

Each measure is of pairs that alternate: stock Nova on one host against the
package on the other, a server that runs against the same server in rescue, or
delete-and-create of a failed server against its rebuild.
Medians, ratios and a plot go to doc/source/contributor. Nothing is asserted
of a time: LAB_BENCH_PAIRS says how many pairs (5).
"""

import functools
import os
import statistics
import textwrap
import threading
import time

import libvirt
import matplotlib
from matplotlib import pyplot

from tests.lab import base
from tests.lab.cloud import hypervisor
from tests.lab.cloud import images
from tests.lab.cloud import nova
from tests.lab.cloud import process
from tests.lab.cloud import settings

matplotlib.use('Agg')

PAIRS = int(os.environ.get('LAB_BENCH_PAIRS', '5'))
GLANCE_RATE = '800mbit'  # 100 MB/s

_FOLDER = settings.CHECKOUT / 'doc/source/contributor'
_PAGE = _FOLDER / 'lab-benchmarks.rst'
_PLOT = _FOLDER / 'lab-benchmarks.png'
_RESULTS = []


class _Result:
    """The pairs of one measure of a feature, in seconds.

    ``goal`` is of the median ratio of the second to the first, or None.
    """

    def __init__(self, feature, measure, first, second, goal=None):
        self.feature = feature
        self.measure = measure
        self.names = first, second
        self.goal = goal
        self.pairs = []
        _RESULTS.append(self)

    @property
    def medians(self):
        return [statistics.median(column) for column in zip(*self.pairs)]

    @property
    def ratio(self):
        return statistics.median(second / first
                                 for first, second in self.pairs)


class Benchmarks(base.LabTest):

    step = 0.1

    def setUp(self):
        super().setUp()
        # After each: what comes later may fail, or be given up.
        self.addCleanup(_write_results)

    # -- rescue and unrescue: hv1 has the package, hv2 is stock

    def _boot_pair(self):
        """A server on the stock host and one on the other."""
        self._make_stock('hv2')
        return self._boot_on('hv2'), self._boot_on('hv1')

    def _boot_on(self, host):
        with self.only_on(host):
            return self.boot()[0]

    def _make_stock(self, host):
        """Switch the package off on one host until the benchmark ends."""
        self.addCleanup(nova.switch_host, host)
        nova.switch_host(host, ext=False)

    def test_down_time_of_rescue(self):
        """The image is one that the host does not have yet."""
        servers = self._boot_pair()
        for host in settings.HYPERVISORS:
            self.enterContext(hypervisor.slow(host, GLANCE_RATE))
        for size in (64, 1024):
            result = _Result('Rescue', f'Rescue, {size} MB image: guest down',
                             'stock', 'package')
            result.pairs = self._alternate(
                *(functools.partial(self._down_time_of_rescue, server, size)
                  for server in servers))

    def _down_time_of_rescue(self, server, size):
        _, disk_format, properties = images.CATALOGUE['rescue-stable']
        data = (settings.IMAGES / 'rescue.raw').read_bytes()
        image = self.make_image(data.ljust(size << 20, b'\0'),
                                disk_format=disk_format, **properties)
        down = _down_time(server, lambda: server.ask_rescue(image))
        server.wait_for('RESCUE')
        server.action('unrescue')
        server.wait_for('ACTIVE')
        self.admin.image.delete_image(image)
        return down

    def test_unrescue(self):
        names = 'stock', 'package'
        down = _Result('Unrescue', 'Unrescue: guest down', *names)
        total = _Result('Unrescue', 'Unrescue: request to ACTIVE', *names,
                        goal=1.1)
        pairs = self._alternate(*(functools.partial(self._unrescue, server)
                                  for server in self._boot_pair()))
        _split(pairs, down, total)

    @staticmethod
    def _unrescue(server):
        server.rescue('rescue-stable')
        begin = time.monotonic()
        down = _down_time(server, lambda: server.action('unrescue'))
        server.wait_for('ACTIVE')
        return down, time.monotonic() - begin

    # -- live migration: both hosts have the package

    def test_live_migration(self):
        self._live_migration('Live migration', self.boot()[0])

    @base.in_profiles('qcow2')
    def test_live_migration_of_data(self):
        """With 4 GB that the server wrote."""
        server, _ = self.boot(flavor='lab-data')
        server.stop()
        writes = [word for gigabyte in range(1, 5)
                  for word in ('-c', f'write -P 170 {gigabyte}G 1G')]
        process.run('qemu-io', '-f', 'qcow2', *writes,
                    nova.INSTANCES / server.id / 'disk', host=server.host)
        server.start()
        self._live_migration('Live migration, 4 GB', server)

    def test_live_migration_of_two_disks(self):
        """What is left if the running server has as many disks to move."""
        self._live_migration('Live migration, two disks each',
                             self.boot()[0], self.boot(flavor='lab-two')[0])

    def _live_migration(self, measure, server, running=None):
        names = 'running', 'in rescue'
        total = _Result('Live migration',
                        f'{measure}: request to the other host', *names,
                        goal=1.05)
        down = _Result('Live migration', f'{measure}: guest down', *names)
        with _GuestWatch() as watch:
            pairs = self._alternate(
                functools.partial(self._migrate, running or server, watch),
                functools.partial(self._migrate_in_rescue, server, watch))
        _split(pairs, total, down)

    def _migrate_in_rescue(self, server, watch):
        server.rescue('rescue-stable', base.MIGRATE)
        measured = self._migrate(server, watch, 'RESCUE')
        # The console began afresh on this host, in the middle of a guest.
        server.action('unrescue', None, base.MIGRATE)
        server.wait_for('ACTIVE')
        server.wait_for_guest('base')
        return measured

    @staticmethod
    def _migrate(server, watch, status='ACTIVE'):
        begin = time.monotonic()
        server.live_migrate(base.MIGRATE, status=status)
        return time.monotonic() - begin, watch.down_time(server)

    # -- rebuild: both hosts have the package

    def test_rebuild(self):
        total = _Result('Rebuild', 'A failed server: request to ACTIVE',
                        'delete and create', 'rebuild')
        total.pairs = self._alternate(self._delete_and_create,
                                      self._rebuild)

    def _failed_server(self):
        self.switch_hosts('disabled')
        try:
            server = self.ask_boot()
            server.wait_for('ERROR')
        finally:
            self.switch_hosts('enabled')
        return server

    def _delete_and_create(self):
        failed = self._failed_server()
        begin = time.monotonic()
        failed.delete()
        return self._seconds_to_active(self.ask_boot(), begin)

    def _rebuild(self):
        failed = self._failed_server()
        begin = time.monotonic()
        failed.action('rebuild', {}, base.REBUILD)
        return self._seconds_to_active(failed, begin)

    @staticmethod
    def _seconds_to_active(server, begin):
        server.wait_for('ACTIVE')
        measured = time.monotonic() - begin
        server.delete()
        return measured

    def _alternate(self, first, second):
        """Run two measures as pairs, each in turn the first to run."""
        pairs = []
        for number in range(PAIRS):
            if number % 2:
                later = second()
                pairs.append((first(), later))
            else:
                pairs.append((first(), second()))
        return pairs


def _split(pairs, *results):
    """Pairs of several numbers are pairs of several results."""
    for number, result in enumerate(results):
        result.pairs = [(first[number], second[number])
                        for first, second in pairs]


class _GuestWatch:
    """When guests stop and go on in live migrations, as libvirt says it."""

    def __enter__(self):
        self._stopped, self._resumed = {}, {}
        self._is_over = threading.Event()
        libvirt.virEventRegisterDefaultImpl()
        self._hosts = [libvirt.openReadOnly(f'qemu+tcp://{address}/system')
                       for address in settings.HYPERVISORS.values()]
        for host in self._hosts:
            host.domainEventRegisterAny(
                None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._note, None)
        # So that the loop never sleeps for long.
        libvirt.virEventAddTimeout(100, lambda *_: None, None)
        self._loop = threading.Thread(target=self._run, daemon=True)
        self._loop.start()
        return self

    def __exit__(self, *_):
        self._is_over.set()
        self._loop.join()
        for host in self._hosts:
            host.close()

    def _run(self):
        while not self._is_over.is_set():
            libvirt.virEventRunDefaultImpl()

    def _note(self, host, domain, event, detail, opaque):
        now = time.monotonic()
        if (event, detail) == (libvirt.VIR_DOMAIN_EVENT_SUSPENDED,
                               libvirt.VIR_DOMAIN_EVENT_SUSPENDED_MIGRATED):
            self._stopped[domain.UUIDString()] = now
        elif (event, detail) == (libvirt.VIR_DOMAIN_EVENT_RESUMED,
                                 libvirt.VIR_DOMAIN_EVENT_RESUMED_MIGRATED):
            self._resumed[domain.UUIDString()] = now

    def down_time(self, server):
        """How long the guest stood still in its last migration, in seconds.

        From the source's word to the destination's.
        """
        return self._resumed.pop(server.id) - self._stopped.pop(server.id)


def _down_time(server, ask):
    """How long a server has no QEMU when something is asked, in seconds.

    From the last look at libvirt's file of its process id to the first at
    that of the next one.
    """
    path = (settings.DATA / server.host / 'run/libvirt/qemu' /
            f'{server.domain}.pid')

    def written():
        try:
            return path.stat().st_mtime_ns
        except FileNotFoundError:
            return None

    first, seen = written(), []

    def is_next():
        now = written()
        if now == first:
            seen[:] = [time.monotonic()]
        return now not in (first, None)

    is_next()
    ask()
    process.wait_for(is_next, 'the next QEMU', base.PATIENCE, 0.01)
    return time.monotonic() - seen[0]


def _write_results():
    results = [result for result in _RESULTS if result.pairs]
    if results:
        _plot(results)
        _write_page(results)


def _write_page(results):
    lines = [
        'What the features cost on real hypervisors', '=' * 42, '',
        f'Written by ``make lab-bench`` with ``{settings.Shape.current()}``:',
        f'medians of {len(results[0].pairs)} alternating pairs on '
        f'{os.cpu_count()} processors, guests emulated', '(no KVM), Glance at '
        '100 MB/s for the rescue images.', '',
        'The load of the machine in the last five minutes was '
        f'{os.getloadavg()[1]:.0f}: the busier it is', 'with other work, the '
        'less a ratio says.', '',
        '.. list-table::', '   :header-rows: 1', '']
    rows = [('Measure', 'First', 'Second', 'Ratio', 'Goal')]
    for result in results:
        first, second = (f'{name} {median:.2f} s' for name, median
                         in zip(result.names, result.medians))
        rows.append((result.measure, first, second, f'{result.ratio:.2f}',
                     f'<= {result.goal}' if result.goal else '-'))
    for row in rows:
        lines.append(f'   * - {row[0]}')
        lines += [f'     - {cell}' for cell in row[1:]]
    lines += ['', f'.. image:: {_PLOT.name}',
              '   :alt: the pairs of each measure as points, goals as lines',
              '']
    _PAGE.write_text('\n'.join(lines))


def _plot(results):
    """One row for each feature, the goals as lines."""
    rows = {}
    for result in results:
        rows.setdefault(result.feature, []).append(result)
    columns = max(len(row) for row in rows.values())
    figure, axes = pyplot.subplots(
        len(rows), columns, figsize=(2.4 * columns, 3.2 * len(rows)),
        squeeze=False, layout='constrained')
    for axis in axes.flat:
        axis.set_axis_off()
    for row, measures in zip(axes, rows.values()):
        for axis, result in zip(row, measures):
            _plot_pairs(axis, result)
    figure.savefig(_PLOT, dpi=90)


def _plot_pairs(axis, result):
    axis.set_axis_on()
    for pair in result.pairs:
        axis.plot(result.names, pair, 'o-', color='tab:blue', alpha=.4)
    axis.plot(result.names, result.medians, 'ks', label='median')
    if result.goal:
        # Of the ratio, so it is a line from the first of the medians.
        first, _ = result.medians
        axis.plot(result.names, [first, first * result.goal], '--',
                  color='tab:green', label=f'goal: {result.goal}')
    axis.set_title(textwrap.fill(result.measure, 24), fontsize=9)
    axis.set_ylim(bottom=0)
    axis.margins(x=.3)
    axis.set_ylabel('s')
    axis.legend(fontsize=7, loc='lower left')

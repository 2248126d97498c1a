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

"""``python -m tests.lab.suites``: see the package."""

import argparse
import json
import sys

from tests.lab.cloud import nova
from tests.lab.cloud import process
from tests.lab.cloud import settings
from tests.lab.suites import openstackclient
from tests.lab.suites import page
from tests.lab.suites import plugin
from tests.lab.suites import rally
from tests.lab.suites import tempest

_SUITES = {'tempest': tempest, 'plugin': plugin, 'rally': rally,
           'openstackclient': openstackclient}
_LATEST = 'default_api_version = latest\n'


def _with_package():
    """The package, and nobody who opts in: the lab as it comes up."""


def _latest():
    """All requests have the newest version of the package."""
    text = nova.CONF.read_text()
    nova.CONF.write_text(text.replace('[rescue_ext]\n',
                                      '[rescue_ext]\n' + _LATEST))
    process.restart('nova-api')
    process.wait_port('nova-api')


def _without_package():
    nova.switch_package(False)


# In this order: each needs one restart.
_CLOUDS = {page.WITH: _with_package, page.LATEST: _latest,
           page.WITHOUT: _without_package}


def _run(names):
    """Run suites on each cloud, and keep {suite: {cloud: {test: result}}}."""
    results = _read()
    suites = [_SUITES[name] for name in names]
    clouds = [cloud for cloud in _CLOUDS
              if any(cloud in _clouds_of(suite) for suite in suites)]
    try:
        for cloud in clouds:
            _CLOUDS[cloud]()
            for suite in suites:
                if cloud in _clouds_of(suite):
                    print(f'{suite.NAME}: {cloud}', flush=True)
                    results.setdefault(suite.NAME, {})[cloud] = suite.run()
                    _results_path().write_text(json.dumps(results, indent=1))
    finally:
        if clouds != [page.WITH]:
            nova.switch_package(True)
    return results


def _clouds_of(suite):
    return getattr(suite, 'CLOUDS', _CLOUDS)


def _read():
    try:
        return json.loads(_results_path().read_text())
    except FileNotFoundError:
        return {}


def _results_path():
    return settings.ROOT / 'suites.json'


def main():
    parser = argparse.ArgumentParser(prog='python -m tests.lab.suites')
    parser.add_argument('--install', action='store_true',
                        help='only make their environments')
    parser.add_argument('suites', nargs='*', metavar='SUITE',
                        default=list(_SUITES),
                        help='of %s; default: all' % ', '.join(_SUITES))
    arguments = parser.parse_args()
    try:
        if arguments.install:
            for name in arguments.suites:
                _SUITES[name].install()
        elif not settings.Shape.current().ext:
            sys.exit('The lab is up without the package (EXT=0).')
        else:
            page.write(_run(arguments.suites))
    except process.LabError as exc:
        sys.exit(str(exc))


if __name__ == '__main__':
    main()

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


"""Make ``nova_rescue_ext/activation/digests/nova-<series>.json``.

    python tools/make_digests.py [--check] [--wheels DIR] [SERIES ...]

Takes every point release of the series that the package registry has (a
wheel is enough, nothing is installed), cuts out each callable that the package
overrides or relies on, and writes the digests of its source with the first
release that has it. ``--check`` writes nothing and exits with 1 if a file
would change, which is how a new point release of Nova is noticed.
"""

import argparse
import ast
import collections
import configparser
import functools
import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

from nova_rescue_ext.activation import exception  # noqa: E402
from nova_rescue_ext.activation import relied_on  # noqa: E402
from nova_rescue_ext.activation import verification  # noqa: E402

SERIES = verification.SERIES


def overrides():
    """The callables of Nova that setup.cfg says we override.

    :returns: dict, callable -> ours
    """
    setup = configparser.ConfigParser(delimiters=('=',))
    setup.optionxform = str
    setup.read(os.path.join(ROOT, 'setup.cfg'))
    lines = setup['entry_points']['nova_rescue_ext.overrides'].split('\n')
    return dict(line.split(' = ') for line in lines if line.strip())


@functools.cache
def releases_of(project):
    """The final releases of a project in the registry, oldest first."""
    listing = subprocess.run(
        [sys.executable, '-m', 'pip', 'index', 'versions', project],
        check=True, capture_output=True, text=True).stdout
    found = re.search(r'^Available versions: (.*)$', listing, re.M)[1]
    return sorted(found.split(', '), key=_as_tuple)


def releases(series):
    """The final releases of a series that the registry has, oldest first."""
    return [release for release in releases_of('nova')
            if verification.series_of(release) == series]


def _as_tuple(release):
    return tuple(int(part) for part in release.split('.'))


def wheel(release, folder):
    """The path of a release's wheel, which is downloaded if need be."""
    path = os.path.join(folder, 'nova-%s-py3-none-any.whl' % release)
    if not os.path.exists(path):
        subprocess.run(
            [sys.executable, '-m', 'pip', 'download', '--quiet', '--no-deps',
             '--only-binary', ':all:', '--dest', folder, 'nova==' + release],
            check=True)
    return path


def sources(path, modules):
    """The sources of modules in a wheel; those that it lacks are left out."""
    found = {}
    with zipfile.ZipFile(path) as files:
        names = set(files.namelist())
        for module in modules:
            base = module.replace('.', '/')
            for name in (base + '.py', base + '/__init__.py'):
                if name in names:
                    found[module] = files.read(name).decode('utf-8')
    return found


@functools.lru_cache(maxsize=32)
def parse(source):
    """The syntax tree of a module, of which many callables are checked."""
    return ast.parse(source)


def check_extraction(source, qualname, extracted):
    """Check against the parser that a cut-out is all of the callable."""
    body = parse(source).body
    for name in qualname.split('.'):
        node = [node for node in body
                if getattr(node, 'name', None) == name][-1]
        body = node.body
    first = min([node.lineno] + [d.lineno for d in node.decorator_list])
    lines = source.split('\n')[first - 1:node.end_lineno]
    if '\n'.join(lines) not in extracted:
        sys.exit('%s is cut out wrongly' % qualname)


@functools.cache
def digest(source, qualname):
    """The digest of a callable of a module; most releases share modules.

    :returns: None if the module does not have it
    """
    try:
        text = verification.extract(source, qualname)
    except exception.SourceNotFound:
        return None
    check_extraction(source, qualname, text)
    return verification.digest(text)


def digests(series, folder):
    """What the file of a series holds."""
    overridden = overrides()
    callables = sorted(set(overridden) | set(relied_on.CALLABLES))
    modules = {name.partition(':')[0] for name in callables}
    found = collections.defaultdict(dict)
    tested = releases(series)
    for release in tested:
        texts = sources(wheel(release, folder), modules)
        for name in callables:
            module, _, qualname = name.partition(':')
            hexadecimal = digest(texts.get(module, ''), qualname)
            if hexadecimal:
                found[name].setdefault(hexadecimal, release)
            elif name in overridden:
                sys.exit('Nova %s has no %s' % (release, name))
    return {'series': series, 'releases': tested, 'callables': dict(found)}


def path_of(series):
    """The file of a series."""
    return os.path.join(verification.DIGESTS, 'nova-%s.json' % series)


def read(path):
    """What a file holds, or an empty dict if there is none."""
    if not os.path.exists(path):
        return {}
    with open(path, encoding='utf-8') as text:
        return json.load(text)


def write(series, content):
    """Write the file of a series."""
    text = json.dumps(content, indent=1, sort_keys=True)
    with open(path_of(series), 'w', encoding='utf-8') as output:
        output.write(text + '\n')


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--check', action='store_true',
                        help='write nothing, exit with 1 if a file is stale')
    parser.add_argument('--wheels', help='keep downloaded wheels here')
    parser.add_argument('series', nargs='*', default=SERIES)
    arguments = parser.parse_args()
    stale = []
    with tempfile.TemporaryDirectory() as temporary:
        for series in arguments.series:
            content = digests(series, arguments.wheels or temporary)
            path = path_of(series)
            if read(path) == content:
                continue
            stale.append(path)
            if not arguments.check:
                write(series, content)
    for path in stale:
        print('%s %s' % ('stale:' if arguments.check else 'written:', path))
    return int(arguments.check and bool(stale))


if __name__ == '__main__':
    sys.exit(main())

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

"""Setup with pbr, which takes the version from git or from an sdist.

It is told the version where it cannot find it: in what "git archive" makes,
and in a shallow clone that has no tag.
"""

import configparser
import os
import re
import subprocess

import setuptools

ROOT = os.path.dirname(os.path.abspath(__file__))


def _git(*command):
    done = subprocess.run(['git', '-C', ROOT, *command], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return done.stdout.strip()


def _tag():
    """The tag of the commit that "git archive" was given, or nothing."""
    with open(os.path.join(ROOT, '.git_archival.txt')) as text:
        match = re.search(r'^describe-name: ([0-9.]+)$', text.read(), re.M)
    return match and match[1]


def _version():
    """The version of a tree of which pbr does not know it, or None."""
    if os.path.exists(os.path.join(ROOT, 'PKG-INFO')):
        return None
    config = configparser.ConfigParser()
    config.read(os.path.join(ROOT, 'setup.cfg'))
    # Not .dev0, of which pbr drops the end when it reads it again.
    coming = config['metadata']['version'] + '.dev1'
    if not os.path.exists(os.path.join(ROOT, '.git')):
        return _tag() or coming
    if _git('rev-parse', '--is-shallow-repository') == 'true' and not _git(
            'describe', '--tags'):
        return coming
    return None


if 'PBR_VERSION' not in os.environ and _version():
    os.environ['PBR_VERSION'] = _version()
setuptools.setup(setup_requires=['pbr>=2.0.0'], pbr=True)

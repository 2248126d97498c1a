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

"""Nova's sources with all that its tests read.

A wheel has Nova's tests but not what lies beside the package, such as the
samples of the API. The sdist of the same release has both.
"""

import importlib.metadata
import os
import subprocess
import sys
import tarfile
import tempfile


def folder():
    """The folder of this environment for what is got once.

    :returns: the path
    """
    path = os.path.join(sys.prefix, 'nova-suite')
    os.makedirs(path, exist_ok=True)
    return path


def unpacked(release=None):
    """The sources of a release, which are downloaded if need be.

    :param release: of Nova; the installed one if None
    :returns: the path of the folder in which the package ``nova`` is
    :raises: subprocess.CalledProcessError if the registry does not have it
    """
    release = release or importlib.metadata.version('nova')
    path = os.path.join(folder(), 'nova-' + release)
    if not os.path.isdir(path):
        with tempfile.TemporaryDirectory(dir=folder()) as temporary:
            os.rename(_download(release, temporary), path)
    return path


def _download(release, temporary):
    subprocess.run(
        [sys.executable, '-m', 'pip', 'download', '--quiet', '--no-deps',
         '--no-binary', 'nova', '--dest', temporary, 'nova==' + release],
        check=True)
    archive, = (name for name in os.listdir(temporary)
                if name.endswith('.tar.gz'))
    with tarfile.open(os.path.join(temporary, archive)) as sources:
        sources.extractall(temporary, filter='data')
    return os.path.join(temporary, 'nova-' + release)

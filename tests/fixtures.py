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

"""What Nova's own test classes need when Nova is an installed package."""

import os
import sys
import unittest

import fixtures

# For tests that take long: "make test-nightly" runs them.
nightly = unittest.skipUnless(
    os.environ.get('TEST_NIGHTLY'), 'only in make test-nightly')


def need_eventlet():
    """Skip a module of tests that work with green threads themselves.

    Call it before eventlet is imported, which Nova does not allow on native
    threads.

    :raises: SkipTest
    """
    variable = os.environ.get('OS_NOVA_DISABLE_EVENTLET_PATCHING', '')
    if variable.lower() in ('1', 'true', 'yes'):
        raise unittest.SkipTest('not on native threads')


API_PASTE_VARIABLE = 'OS_WSGI__API_PASTE_CONFIG'


def installed_api_paste():
    """Where pip puts Nova's api-paste.ini.

    :returns: the path, or None when Nova does not come from pip
    """
    path = os.path.join(sys.prefix, 'etc', 'nova', 'api-paste.ini')
    return path if os.path.isfile(path) else None


def use_installed_api_paste(environ=os.environ):
    """Let Nova's tests find api-paste.ini in every process from here on.

    Nova's ConfFixture looks for it beside the package, where only a source
    checkout has it. oslo.config reads an option from the environment before
    it takes a default, and Nova's tests change that option by default and by
    override only, so that no class of Nova needs to be touched.
    """
    path = installed_api_paste()
    if path:
        environ.setdefault(API_PASTE_VARIABLE, path)


class InstalledApiPaste(fixtures.Fixture):
    """The same for one test: use it before Nova's API is started."""

    def _setUp(self):
        path = installed_api_paste()
        if path:
            self.useFixture(
                fixtures.EnvironmentVariable(API_PASTE_VARIABLE, path))

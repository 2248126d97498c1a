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

"""Libraries that were imported before Python was patched."""

import ssl
import sys
import threading
import types
from unittest import mock

import testtools

from nova_rescue_ext.activation import early_imports

TLS = 'urllib3.util.ssl_'
CONTEXT = 'oslo_context.context'


class BindAgainTest(testtools.TestCase):

    def bind(self, **modules):
        with mock.patch.dict(sys.modules):
            for name in (TLS, CONTEXT):
                sys.modules.pop(name, None)
            sys.modules.update({
                {'tls': TLS, 'context': CONTEXT}[name]: module
                for name, module in modules.items()})
            early_imports.bind_again()

    def test_not_imported(self):
        """A later import binds the right ones."""
        self.bind()

    def test_tls(self):
        for before in ('not patched', ssl.SSLContext):
            tls = types.SimpleNamespace(SSLContext=before)
            self.bind(tls=tls)
            self.assertIs(ssl.SSLContext, tls.SSLContext)

    def test_without_tls(self):
        tls = types.SimpleNamespace(SSLContext=None)
        self.bind(tls=tls)
        self.assertIsNone(tls.SSLContext)

    def test_store_of_before(self):
        context = types.SimpleNamespace(_request_store='not patched')
        self.bind(context=context)
        self.assertIsInstance(context._request_store, threading.local)

    def test_store(self):
        """What it holds stays."""
        store = threading.local()
        context = types.SimpleNamespace(_request_store=store)
        self.bind(context=context)
        self.assertIs(store, context._request_store)

    def test_without_a_store(self):
        context = types.SimpleNamespace()
        self.bind(context=context)
        self.assertFalse(hasattr(context, '_request_store'))

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


"""Libraries that were imported before Nova patched Python for eventlet.

Nova 34 first parses its configuration before that, and oslo.config then
imports the drivers of all configuration sources, whichever ``nova.conf``
names, and with them urllib3 and oslo.context. Nova only warns. TLS then ends
in a RecursionError, and all green threads share one context.
"""

import ssl
import sys
import threading
import typing


def bind_again() -> None:
    """Give these libraries the patched classes. Idempotent."""
    # Not imported here: a later import binds the right ones.
    tls: typing.Any = sys.modules.get('urllib3.util.ssl_')
    if getattr(tls, 'SSLContext', None) not in (None, ssl.SSLContext):
        tls.SSLContext = ssl.SSLContext
    context: typing.Any = sys.modules.get('oslo_context.context')
    store = getattr(context, '_request_store', None)
    if store is not None and not isinstance(store, threading.local):
        context._request_store = threading.local()

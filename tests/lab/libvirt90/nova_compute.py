# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.

"""nova-compute for libvirt 9.0, which Debian 12 has; of the lab alone.

Nova 33 and 34 ask for UEFI with firmware='efi', by which libvirt chooses the
firmware, and describe the loader, too: secure='no', and what a domain that
was there before had. Later releases of libvirt take both. 9.0 refuses that,
so this leaves the description out, and libvirt chooses the same once more.

A folder of its own: Python looks there first for what this imports.
"""

import sys

import wrapt

# What 9.0 takes together with firmware='efi'.
_LOADER = {'stateless'}


def _leave_out(wrapped, instance, args, kwargs):
    wrapped(*args, **kwargs)
    (root,) = args
    for os_element in root.iterfind('os[@firmware]'):
        for loader in os_element.findall('loader'):
            loader.text = None
            for name in set(loader.attrib) - _LOADER:
                del loader.attrib[name]
            if not loader.attrib:
                os_element.remove(loader)
        for nvram in os_element.findall('nvram'):
            nvram.attrib.pop('template', None)


@wrapt.when_imported('nova.virt.libvirt.config')
def _patch(module):
    wrapt.wrap_function_wrapper(module, 'LibvirtConfigGuest._format_os',
                                _leave_out)


if __name__ == '__main__':
    # Imported after the hook.
    from nova.cmd import compute
    sys.exit(compute.main())

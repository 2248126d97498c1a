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

"""TPMs, which Nova's double of libvirt does not have, and their secrets."""

import itertools
import os
import tempfile

from castellan.common import exception as castellan_exception
import fixtures
from lxml import etree
from nova.tests.fixtures import libvirt
from nova.tests.functional.libvirt import test_vtpm
from nova.virt.libvirt import driver as libvirt_driver

DOMAIN = 'nova.tests.fixtures.libvirt.Domain.'
KEEP_TPM = 64  # VIR_DOMAIN_UNDEFINE_KEEP_TPM

KEEPS_TPMS = hasattr(libvirt_driver, 'MIN_VERSION_INT_FOR_KEEP_TPM')
HAS_SECURITY = hasattr(libvirt_driver, 'vtpm')


def configure(flags, security):
    """Have nova-compute make TPMs.

    :param flags: sets options
    :param security: who reads their secrets
    """
    flags(group='libvirt', swtpm_enabled=True)
    if HAS_SECURITY:
        flags(group='libvirt', supported_tpm_secret_security=[security])
    flags(group='key_manager', backend='%s.%s' % (
        KeyManager.__module__, KeyManager.__name__))


def extra_specs(security):
    """What a flavor says of the TPM of its servers.

    :param security: who reads its secret
    """
    specs = {'hw:tpm_version': '2.0', 'hw:tpm_model': 'tpm-crb'}
    if HAS_SECURITY:
        specs['hw:tpm_secret_security'] = security
    return specs


class KeyManager(test_vtpm.FakeKeyManager):
    """A private secret is read by its owner only.

    The administrator of Nova's tests is in the same project.
    """

    def __init__(self, configuration):
        super().__init__(configuration)
        self._contexts = {}

    def store(self, context, managed_object, **kwargs):
        secret_id = super().store(context, managed_object, **kwargs)
        self._contexts[secret_id] = context
        return secret_id

    def get(self, context, secret_id):
        owner = self._contexts.get(secret_id, context)
        if context.user_id != owner.user_id:
            raise castellan_exception.KeyManagerError(
                'Key manager error: Forbidden: Secret payload retrieval '
                'attempt not allowed')
        return self._found(secret_id)

    def delete(self, context, secret_id):
        self._found(secret_id)
        super().delete(context, secret_id)

    def _found(self, secret_id):
        if secret_id not in self._passphrases:
            raise castellan_exception.ManagedObjectNotFoundError(
                uuid=secret_id)
        return self._passphrases[secret_id]

    @property
    def secrets(self):
        """{ID: passphrase} of all."""
        return {secret_id: passphrase.get_encoded() for secret_id, passphrase
                in self._passphrases.items()}


class TPMs(fixtures.Fixture):
    """The state of TPMs, in files.

    It is as libvirt 9.0 and swtpm 0.7 have it: tests/lab/test_tpm.py.
    """

    def _setUp(self):
        self._path_of_folder = None
        self._new = itertools.count()
        parse = libvirt.Domain._parse_definition
        create = libvirt.Domain.createWithFlags
        undefine = libvirt.Domain.undefine
        describe = libvirt.Domain.XMLDesc

        def parse_with_tpm(domain, xml):
            domain.tpm = etree.fromstring(xml).find('devices/tpm')
            return parse(domain, xml)

        def create_with_tpm(domain, flags):
            if domain.tpm is not None:
                self._open(domain)
            return create(domain, flags)

        def undefine_with_tpm(domain, flags=0):
            path = self._path(domain)
            if (domain.tpm is not None and not flags & KEEP_TPM
                    and os.path.exists(path)):
                os.unlink(path)
            return undefine(domain)

        def describe_with_tpm(domain, flags):
            description = etree.fromstring(describe(domain, flags))
            if domain.tpm is not None:
                description.find('devices').append(domain.tpm)
            return etree.tostring(description, encoding='unicode')

        for name, replacement in (
                ('_parse_definition', parse_with_tpm),
                ('createWithFlags', create_with_tpm),
                ('undefine', undefine_with_tpm),
                ('undefineFlags', undefine_with_tpm),
                ('XMLDesc', describe_with_tpm)):
            self.useFixture(fixtures.MonkeyPatch(DOMAIN + name, replacement))
        self._support()

    def _support(self):
        """Let libvirt and Nova be ones that have TPMs and keep them."""
        supported = '_domain_capability_tpm_supported'
        if hasattr(libvirt.virConnect, supported):  # from Nova 33
            self.useFixture(fixtures.MonkeyPatch(
                'nova.tests.fixtures.libvirt.virConnect'
                '._domain_capability_tpm',
                getattr(libvirt.virConnect, supported)))
        driver = 'nova.virt.libvirt.driver.'
        self.useFixture(fixtures.MonkeyPatch(
            driver + 'LibvirtDriver._check_vtpm_support',
            lambda driver: None))
        if KEEPS_TPMS:
            self.useFixture(fixtures.MonkeyPatch(
                driver + 'MIN_VERSION_INT_FOR_KEEP_TPM', (0, 0, 0)))

    @property
    def _folder(self):
        # Among the temporary files of the test, which are elsewhere when
        # fixtures are set up.
        if self._path_of_folder is None:
            self._path_of_folder = tempfile.mkdtemp()
        return self._path_of_folder

    @property
    def states(self):
        """By the UUID of a domain, what a TPM has, wherever it is."""
        return {uuid: state for (_, uuid), state in self.by_host().items()}

    def by_host(self):
        """{(host, UUID of a domain): what a TPM has}."""
        found = {}
        for name in os.listdir(self._folder):
            with open(os.path.join(self._folder, name), 'rb') as file:
                found[tuple(name.split('_'))] = file.read()
        return found

    def _path(self, domain):
        return os.path.join(self._folder, '%s_%s' % (
            domain._connection.hostname, domain.UUIDString()))

    def _open(self, domain):
        """Start a TPM, which is a new one if there is none."""
        secret = domain._connection._secrets.get(
            domain.tpm.find('backend/encryption').get('secret'))
        if secret is None:
            raise libvirt.make_libvirtError(
                libvirt.libvirtError, 'Secret not found',
                error_code=libvirt.VIR_ERR_NO_SECRET)
        path = self._path(domain)
        if not os.path.exists(path):
            with open(path, 'wb') as file:
                file.write(b'%d, sealed with ' % next(self._new)
                           + secret._value)
        with open(path, 'rb') as file:
            if file.read().partition(b' with ')[2] != secret._value:
                raise libvirt.make_libvirtError(
                    libvirt.libvirtError, 'TPM result for CMD_INIT: 0x101',
                    error_code=libvirt.VIR_ERR_INTERNAL_ERROR)

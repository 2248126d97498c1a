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


"""Activation, in processes of its own: what is patched cannot be un-imported.

Learned from the patch tests of tracing libraries: every order of import,
activate and deactivate.
"""

import itertools
import tempfile
import textwrap

import testtools

from nova_rescue_ext import microversion
from tests.unit.activation.processes import run

ON = textwrap.dedent('''\
    [DEFAULT]
    config_source = rescue_ext
    [rescue_ext]
    driver = nova_rescue_ext
    ''')

# What a Nova service does before it imports its manager.
SERVICE = textwrap.dedent('''\
    import sys
    from nova import config
    from oslo_log import log as logging
    import nova.conf
    config.parse_args(['nova-x', '--config-file', sys.argv[1]],
                      configure_db=False, init_rpc=False)
    logging.setup(nova.conf.CONF, 'nova')
    ''')


class OrderTest(testtools.TestCase):
    """Whatever the order, what holds is what was said last."""

    STEPS = {
        'I': 'import nova.api.openstack.wsgi',
        'A': 'assert activation.activate()',
        'D': 'activation.deactivate()',
    }
    CODE = '''\
        from nova_rescue_ext import activation
        from nova_rescue_ext import conf
        from oslo_config import cfg
        import inspect
        import sys
        import wrapt
        cfg.CONF([], project='x')
        for order in sys.argv[1].split(','):
            for step in order:
                exec({steps}[step])
            if 'I' not in order:
                assert 'nova' not in sys.modules
                import nova.api.openstack.wsgi
            found = inspect.getattr_static(
                nova.api.openstack.wsgi.Request, 'set_api_version_request')
            patched = isinstance(found, wrapt.FunctionWrapper)
            active = order.rfind('A') > order.rfind('D')
            assert patched == active == activation.is_active(), order
            if patched:  # once
                inner = found.__wrapped__
                assert not isinstance(inner, wrapt.FunctionWrapper), order
            state = activation.override_states().get(
                'nova.api.openstack.wsgi:Request.set_api_version_request')
            assert state == ('applied' if active else None), order
        print('done')
        '''

    def _check(self, orders):
        output = run(textwrap.dedent(self.CODE).format(steps=self.STEPS),
                     ','.join(orders))
        self.assertEqual('done', output.strip().split('\n')[-1])

    def test_import_first(self):
        # Imported once: the orders that follow run in one process.
        self._check(['I' + ''.join(rest) for length in range(6)
                     for rest in itertools.product('AD', repeat=length)])

    def test_import_last(self):
        for order in ('', 'A', 'AA', 'AD', 'ADA', 'ADAD', 'D', 'DA'):
            self._check([order])

    def test_import_between(self):
        for order in ('AI', 'AID', 'AIDA', 'ADIA', 'ADI', 'AAIA', 'DAID'):
            self._check([order])


class ServiceTest(testtools.TestCase):
    """Activation from nova.conf, as in a service of Nova."""

    def _run(self, conf, code=''):
        with tempfile.NamedTemporaryFile('w', suffix='.conf') as file:
            file.write(conf)
            file.flush()
            return run(SERVICE + textwrap.dedent(code), file.name)

    STATE = '''\
        from nova_rescue_ext import activation
        import nova.compute.api
        import wrapt
        print('ACTIVE' if activation.is_active() else 'STOCK', isinstance(
            nova.compute.api.API.__dict__['rescue'], wrapt.FunctionWrapper))
        '''

    def test_on(self):
        output = self._run(ON, self.STATE)
        self.assertIn('ACTIVE True', output)
        lines = [line for line in output.split('\n')
                 if 'nova_rescue_ext' in line]
        self.assertEqual(1, len(lines), output)
        self.assertIn(' INFO ', lines[0])
        self.assertRegex(lines[0], r': [1-9][0-9]* overrides, ')
        self.assertIn('compute-rescue 1.0 to %s (default 1.0)'
                      % str(microversion.MAX_VERSION), lines[0])

    def test_name_of_an_image(self):
        """An option of Nova's that never works does not keep us away."""
        output = self._run(ON + '[libvirt]\nrescue_image_id = grml\n',
                           self.STATE)
        self.assertIn('ACTIVE True', output)
        self.assertRegex(output, ' WARNING .*rescue_image_id is "grml"')

    def test_off_loads_nothing(self):
        output = self._run('[DEFAULT]\n', '''\
            import nova.compute.api
            print([name for name in sys.modules
                   if name.split('.')[0] == 'nova_rescue_ext'])
            ''')
        self.assertEqual('[]', output.strip().split('\n')[-1])

    def _assert_stock(self, conf, *words):
        output = self._run(conf, self.STATE)
        self.assertIn('STOCK False', output)
        for word in words:
            self.assertIn(word, output)
        return output

    def test_bad_option_values(self):
        for line in ('default_api_version = 9.9',
                     'default_api_version = newest',
                     'allow_unverified = perhaps'):
            output = self._assert_stock(
                ON + line + '\n', ' ERROR ', 'is NOT active, Nova ',
                line.split()[0], 'Correct group [rescue_ext]')
            self.assertEqual(1, output.count('ERROR'))

    def test_bad_option_value_does_not_end_the_service(self):
        """Services log the values of all options when they start."""
        output = self._run(ON + 'stable_devices = perhaps\n', '''\
            import logging as python_logging
            nova.conf.CONF.log_opt_values(
                python_logging.getLogger('x'), python_logging.DEBUG)
            print('STARTED')
            ''')
        self.assertIn('STARTED', output)
        self.assertIn('is NOT active', output)

    def test_typo_in_the_driver(self):
        """oslo.config says so itself."""
        self._assert_stock(ON.replace('nova_rescue_ext', 'nova_rescue'),
                           "found 'nova_rescue'")

    def test_typo_in_the_source(self):
        self._assert_stock(ON.replace('= rescue_ext', '= rescue_exd'),
                           "no 'driver' is set")

    def test_twice_in_nova_conf(self):
        conf = ON.replace('= rescue_ext', '= rescue_ext, rescue_ext')
        output = self._run(conf, self.STATE)
        self.assertIn('ACTIVE True', output)
        self.assertEqual(1, output.count('is active on'))

    def test_not_a_service_of_nova(self):
        """privsep daemons parse nova.conf, too."""
        output = run('''\
            import sys
            from oslo_config import cfg
            cfg.CONF(['--config-file', sys.argv[1]], project='privsep')
            from nova_rescue_ext import activation
            print(activation.summary())
            ''', self._file(ON))
        self.assertIn('is not active', output)

    def _file(self, text):
        file = tempfile.NamedTemporaryFile('w', suffix='.conf')
        self.addCleanup(file.close)
        file.write(text)
        file.flush()
        return file.name

    def test_forked(self):
        output = self._run(
            ON, textwrap.dedent(self.STATE) + textwrap.dedent('''\
            import os
            child = os.fork()
            if not child:
                assert activation.is_active()
                import nova.virt.libvirt.driver as driver
                assert isinstance(driver.LibvirtDriver.__dict__[
                    'get_available_resource'], wrapt.FunctionWrapper)
                activation.deactivate()
                os._exit(0)
            print('CHILD', os.waitpid(child, 0)[1], activation.is_active())
            '''))
        self.assertIn('CHILD 0 True', output)

    def test_guru_meditation(self):
        output = self._run(ON, '''\
            import nova.compute.api
            from oslo_reports import guru_meditation_report as gmr
            from nova import version
            print(gmr.TextGuruMeditation(version).run())
            ''')
        report = output[output.index('nova-rescue-ext  '):] if (
            'nova-rescue-ext  ' in output) else output
        self.assertIn('is active on Nova', report)
        self.assertIn('nova.compute.api:API.rescue = applied', report)
        self.assertIn('not imported by this service yet', report)


class RefusalTest(testtools.TestCase):
    """All or nothing: what is not verified is not touched."""

    # The check sees a Nova that differs; the one that is imported is real.
    CODE = '''\
        from oslo_config import cfg
        from nova_rescue_ext import activation
        from nova_rescue_ext import conf
        from nova_rescue_ext.activation import exception
        from nova_rescue_ext.activation import overrides
        from nova_rescue_ext.activation import verification
        import logging
        import sys
        logging.basicConfig(level=logging.INFO, stream=sys.stdout)
        cfg.CONF([], project='x')
        conf.register_opts(cfg.CONF)
        source_of = verification.source_of
        {change}
        print('RESULT', activation.activate())
        import nova.compute.api
        import wrapt
        print('PATCHED', isinstance(nova.compute.api.API.__dict__['rescue'],
                                    wrapt.FunctionWrapper))
        '''
    ALLOW = "cfg.CONF.set_override('allow_unverified', True, 'rescue_ext')\n"
    SERIES = "verification.nova_release = lambda: '35.1.0'\n"
    PATCHED = (
        "def patched(name):\n"
        "    text = source_of(name)\n"
        "    return text + '# patched\\n' if 'check_hw' in name else text\n"
        "patched.cache_clear = source_of.cache_clear\n"
        "verification.source_of = patched\n")
    MISSING = (
        "def patched(name):\n"
        "    if 'API.rescue' in name:\n"
        "        raise exception.SourceNotFound('not in the source')\n"
        "    return source_of(name)\n"
        "patched.cache_clear = source_of.cache_clear\n"
        "verification.source_of = patched\n")
    MISFIT = PATCHED.replace(
        "return text + '# patched\\n' if 'check_hw' in name else text",
        "return text.replace('rescue_password=', 'password=') "
        "if name == 'nova.compute.api:API.rescue' else text")

    def _run(self, change):
        return run(textwrap.dedent(self.CODE).format(change=change))

    def _assert_refused(self, change, *words):
        output = self._run(change)
        self.assertIn('RESULT False', output)
        self.assertIn('PATCHED False', output)
        self.assertEqual(1, output.count('ERROR'), output)
        for word in words:
            self.assertIn(word, output)

    def _assert_allowed(self, change, *words):
        output = self._run(self.ALLOW + change)
        self.assertIn('RESULT True', output)
        self.assertIn('PATCHED True', output)
        self.assertEqual(1, output.count('WARNING:nova_rescue_ext'), output)
        for word in words:
            self.assertIn(word, output)

    def test_unknown_series(self):
        self._assert_refused(self.SERIES, 'Nova 35.1.0',
                             'supports the Nova series 29, 30, 31, 32, 33, 34')
        self._assert_allowed(self.SERIES, 'not tested on')

    def test_patched_nova(self):
        """Also when it is only relied on."""
        self._assert_refused(
            self.PATCHED, 'nova.virt.hardware:check_hw_rescue_props differs',
            'nova-rescue-ext-status overrides')
        self._assert_allowed(self.PATCHED, 'check_hw_rescue_props differs')

    def test_missing(self):
        for allow in ('', self.ALLOW):
            self._assert_refused(allow + self.MISSING,
                                 'nova.compute.api:API.rescue is missing')

    def test_misfit(self):
        for allow in ('', self.ALLOW):
            self._assert_refused(allow + self.MISFIT, 'does not fit',
                                 'rescue_password')

    def test_no_nova(self):
        change = (
            "def release():\n"
            "    raise exception.SourceNotFound('Nova is not installed')\n"
            "verification.nova_release = release\n")
        self._assert_refused(change, 'Nova unknown runs as stock',
                             'Nova is not installed')

    def test_defect_of_ours(self):
        """With a traceback, and contained."""
        self._assert_refused("overrides.declared = lambda: 1 / 0\n",
                             'ZeroDivisionError')

    def test_defect_while_a_module_is_imported(self):
        """The import goes on, and what was applied is taken off again."""
        change = (
            "load = overrides._load\n"
            "def fail(name):\n"
            "    if 'compute:' in name: raise RuntimeError('broken')\n"
            "    return load(name)\n"
            "overrides._load = fail\n")
        code = textwrap.dedent(self.CODE).format(change=change) + (
            "import nova.compute.manager\n"
            "print('THEN', activation.is_active(), isinstance(\n"
            "    nova.compute.api.API.__dict__['rescue'],\n"
            "    wrapt.FunctionWrapper))\n")
        output = run(code)
        self.assertIn('RESULT True', output)
        self.assertIn('PATCHED', output)
        self.assertIn('THEN False False', output)
        self.assertIn('broken', output)
        self.assertEqual(1, output.count('ERROR'), output)

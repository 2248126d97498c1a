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

""".zuul.yaml, against the jobs that it builds on (zuul_upstream.yaml)."""

import configparser
import pathlib
import re

import testtools
import yaml

from tests.matrix import places

ROOT = pathlib.Path(__file__).parents[2]
NEWEST = 34


def tox_environments():
    """Names of the environments in tox.ini, with each combination."""
    config = configparser.ConfigParser(interpolation=None)
    config.read(ROOT / 'tox.ini')
    names = {section.split(':', 1)[1] for section in config.sections()
             if section.startswith('testenv:')}
    for factors in re.findall(r'^([a-z0-9{},]+):',
                              config['testenv']['description'], re.MULTILINE):
        for factor in re.split(r',(?![^{]*})', factors):
            match = re.fullmatch(r'(.*)\{(.*)\}', factor)
            names |= ({match[1] + each for each in match[2].split(',')}
                      if match else {factor})
    return names


class ZuulTestCase(testtools.TestCase):

    def setUp(self):
        super().setUp()
        with open(ROOT / '.zuul.yaml') as text:
            config = yaml.safe_load(text)
        self.jobs = {item['job']['name']: item['job']
                     for item in config if 'job' in item}
        self.project, = (item['project'] for item in config
                         if 'project' in item)
        with open(ROOT / 'tests/unit/zuul_upstream.yaml') as text:
            self.upstream = yaml.safe_load(text)
        self.run_jobs = {name for pipeline in self.project.values()
                         for name in pipeline['jobs']}

    def resolve(self, name):
        """A job with all that it inherits."""
        if name in self.upstream['jobs']:
            return dict(self.upstream['jobs'][name])
        job = self.jobs[name]
        inherited = self.resolve(job['parent'])
        inherited.pop('abstract', None)
        return {**inherited, **job.get('vars', {}),
                **{key: job[key] for key in ('nodeset', 'abstract')
                   if key in job}}

    def test_parents(self):
        known = {*self.jobs, *self.upstream['jobs']}
        self.assertEqual([], [name for name, job in self.jobs.items()
                              if job['parent'] not in known])

    def test_jobs_of_the_project(self):
        known = {*self.jobs, *self.upstream['jobs']}
        self.assertEqual(set(), self.run_jobs - known)
        self.assertEqual([], [name for name in self.run_jobs
                              if self.resolve(name).get('abstract')])
        self.assertEqual([], [
            name for name in self.jobs if name not in self.run_jobs
            and not self.resolve(name).get('abstract')])

    def test_nodesets_have_the_python(self):
        nodesets = self.upstream['nodesets']
        for name in self.run_jobs:
            job = self.resolve(name)
            self.assertIn(job['nodeset'], nodesets, name)
            self.assertEqual(
                nodesets[job['nodeset']],
                job.get('python_version', nodesets[job['nodeset']]), name)

    def test_tox_environments(self):
        environments = tox_environments()
        for name in self.run_jobs:
            job = self.resolve(name)
            if job['tox_envlist'] != 'all':  # Tempest's
                self.assertIn(job['tox_envlist'], environments, name)

    def test_nova_supports_the_python(self):
        for name in self.run_jobs:
            series = re.search(r'nova(\d+)$', name)
            job = self.resolve(name)
            oldest, newest = places.PYTHONS[
                series[1] if series else str(NEWEST)]
            if job.get('tox_envlist') == 'py310':
                oldest, newest = places.PYTHONS[str(NEWEST - 1)]
            minor = int(self.upstream['nodesets'][job['nodeset']][2:])
            self.assertTrue(oldest <= minor <= newest, name)

    def test_pythons(self):
        """All that setup.cfg names are tested."""
        config = configparser.ConfigParser()
        config.read(ROOT / 'setup.cfg')
        claimed = set(re.findall(r'Python :: (3\.\d+)',
                                 config['metadata']['classifier']))
        self.assertEqual(claimed, {
            self.resolve(name)['python_version'] for name in self.run_jobs
            if re.fullmatch(r'openstack-tox-py\d+', name)})

    def test_series(self):
        """All that have constraints are tested, with Nova's own tests too."""
        series = {path.stem.replace('nova-', 'nova')
                  for path in (ROOT / 'constraints').glob('nova-*.txt')}
        for prefix in ('functional', 'nova-suite-full'):
            self.assertEqual(
                {f'nova-rescue-ext-{prefix}-{each}' for each in series},
                {name for name in self.run_jobs if re.fullmatch(
                    rf'nova-rescue-ext-{prefix}-nova\d+', name)})

    def test_required_projects(self):
        required = {project for job in self.jobs.values()
                    for project in job.get('required-projects', [])}
        self.assertEqual(set(), required - set(self.upstream['projects']))

    def test_expressions(self):
        for job in self.jobs.values():
            for expression in job.get('irrelevant-files', []):
                re.compile(expression)
        regex = re.compile(self.jobs['nova-rescue-ext-devstack']['vars'][
            'tempest_test_regex'])
        for test in ('servers.test_server_rescue.ServerRescueTestJSON.test_a',
                     'admin.test_live_migration.LiveMigrationTest.test_b',
                     'servers.test_server_actions.ServerActionsTestJSON.c'):
            self.assertTrue(regex.search('tempest.api.compute.' + test), test)

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

"""Configuration of Sphinx."""

import importlib.metadata
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / 'ext'))

project = 'nova-rescue-ext'
copyright = '2026, nova-rescue-ext contributors'

extensions = [
    'openstackdocstheme',
    'oslo_config.sphinxconfiggen',
    'oslo_config.sphinxext',
    'oslo_policy.sphinxext',
    'oslo_policy.sphinxpolicygen',
    'reno.sphinxext',
    'sphinx.ext.graphviz',
    'sphinxarg.ext',
    'source_links',
]
root_doc = 'index'
html_theme = 'openstackdocs'
html_static_path = ['_static']
pygments_style = 'native'
graphviz_output_format = 'svg'

openstackdocs_repo_name = 'nova-rescue-ext'
openstackdocs_auto_name = False
openstackdocs_auto_version = False
version = release = importlib.metadata.version(project)
openstackdocs_bug_project = 'nova-rescue-ext'
openstackdocs_bug_tag = 'doc'

# The samples that the configuration guide shows.
config_generator_config_file = [
    ('../../etc/nova-rescue-ext/config-generator.conf',
     '_static/nova-rescue-ext'),
]
policy_generator_config_file = [
    ('../../etc/nova-rescue-ext/policy-generator.conf',
     '_static/nova-rescue-ext'),
]

man_pages = [
    (f'cli/{name}', name, description, 'nova-rescue-ext contributors', 1)
    for name, description in [
        ('nova-rescue-ext-manage',
         'rebuild servers that never booted, and move servers in rescue'),
        ('nova-rescue-ext-status',
         'whether Nova services would activate nova-rescue-ext')]]

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

"""Configuration of Sphinx for the release notes."""

project = 'nova-rescue-ext release notes'
copyright = '2026, nova-rescue-ext contributors'

extensions = [
    'openstackdocstheme',
    'reno.sphinxext',
]
root_doc = 'index'
html_theme = 'openstackdocs'
pygments_style = 'native'

# The series are branches, not versions of these pages.
version = ''
release = ''

openstackdocs_repo_name = 'nova-rescue-ext'
openstackdocs_auto_name = False
openstackdocs_bug_project = 'nova-rescue-ext'
openstackdocs_bug_tag = 'releasenotes'

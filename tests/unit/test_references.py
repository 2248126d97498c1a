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

"""What code, tests and documents refer to exists."""

import importlib.util
import pathlib
import re

import testtools

ROOT = pathlib.Path(__file__).parents[2]
GUIDE = ROOT / 'doc/source/contributor'
# White space, and the sign of a comment where one is continued.
SPACE = r'(?:\s|\n\s*#)+'
NAMES = re.compile(
    rf'\b(hazard|spec|invariant)s?:{SPACE}'
    rf'([a-z][a-z0-9]*(?:-[a-z0-9]+)*'
    rf'(?:,{SPACE}[a-z][a-z0-9]*(?:-[a-z0-9]+)+)*)'
    # Not "spec: objects.RequestSpec".
    rf'(?=[),:;]|\.(?!\w)|\s*"""|\s*$)',
    re.IGNORECASE | re.MULTILINE)
NUMBERS = re.compile(
    r'\b(?:hazards?|fact|specs?|invariant):? \d|\b[1-5]-[a-z-]+\.rst\b',
    re.IGNORECASE)


def code():
    for folder in ('nova_rescue_ext', 'tests', 'demo', 'bench', 'tools'):
        for path in (ROOT / folder).rglob('*.py'):
            yield path, path.read_text()


def source_links():
    """The Sphinx extension, which is no package."""
    spec = importlib.util.spec_from_file_location(
        'source_links', ROOT / 'doc/ext/source_links.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def labels(text):
    return set(re.findall(r'^\.\. _([a-z0-9-]+):$', text, re.MULTILINE))


def documents():
    return [(path, path.read_text())
            for path in (ROOT / 'doc/source').rglob('*.rst')
            if path.parent.name != 'specs' or path.name == 'index.rst']


class ReferencesTestCase(testtools.TestCase):

    def test_names(self):
        """Every hazard, spec and invariant that code cites is described."""
        known = {
            'hazard': set().union(*(
                labels(path.read_text())
                for path in GUIDE.glob('hazards-*.rst'))),
            'spec': {path.stem for path in (GUIDE / 'specs').glob('*.rst')},
            'invariant': labels((GUIDE / 'architecture.rst').read_text()),
        }
        cited = {(kind.lower(), name.strip(' #\n'), str(path))
                 for path, text in code()
                 for kind, names in NAMES.findall(text)
                 for name in names.split(',')}
        self.assertGreater(len(cited), 50)
        self.assertEqual([], sorted(
            cite for cite in cited if cite[1] not in known[cite[0]]))

    def test_no_numbers(self):
        """A number says nothing, and changes when something is inserted."""
        found = [(str(path), match[0]) for path, text in
                 [*code(), *documents()] for match in NUMBERS.finditer(text)
                 if path != pathlib.Path(__file__)]
        self.assertEqual([], found)

    def test_tests(self):
        """The tests that documents name."""
        tests = '\n'.join(f'{path.stem} {text}' for path, text in code())
        named = {(name, str(path)) for path, text in documents()
                 for name in re.findall(
                     r'``(test_[a-z0-9_]+\b(?!/)|[A-Z]\w+Test)``', text)}
        self.assertGreater(len(named), 50)
        self.assertEqual([], sorted(
            (name, path) for name, path in named
            # ddt numbers what it makes of a test.
            if not re.search(rf'\b{re.sub("_[0-9]+$", "", name)}\b', tests)))

    def test_functions(self):
        """The functions that the contributor guide links to."""
        find = source_links().find
        named = {name for _, text in documents()
                 for name in re.findall(r':ours:`([^`]+)`', text)}
        self.assertGreater(len(named), 50)
        missing = []
        for name in sorted(named):
            try:
                find(name)
            except LookupError:
                missing.append(name)
        self.assertEqual([], missing)
        self.assertRaises(LookupError, find, 'rescue.api:no_such_function')
        self.assertRaises(LookupError, find, 'no_such_module')

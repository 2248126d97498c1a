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

"""The process of the cloud: ``python -m demo.serve``.

Serves Nova's API on a port of the loopback until its standard input ends.
Requests for :class:`demo.cloud.Backstage` are read from the standard input and
answered on the standard output, a line of JSON each; the log is the standard
error. The package is switched on as in a deployment, by nova.conf.
"""

import json
import os
import sys
import tempfile
import traceback

from nova import monkey_patch

from nova_rescue_ext import activation

NOVA_CONF = """\
[DEFAULT]
config_source = rescue_ext

[rescue_ext]
driver = nova_rescue_ext
"""


def read_nova_conf():
    """Parse nova.conf, which activates the package.

    :returns: what the package says of its state
    """
    from nova import config

    with tempfile.NamedTemporaryFile('w', suffix='.conf') as nova_conf:
        nova_conf.write(NOVA_CONF)
        nova_conf.flush()
        config.parse_args(['demo', '--config-file', nova_conf.name],
                          configure_db=False, init_rpc=False)
    if not activation.is_active():
        raise RuntimeError(activation.summary())
    # Nova's test base registers options, and parses without files.
    config.CONF.clear()
    return activation.summary()


def serve(running, requests, answers, summary):
    """Answer requests until they end.

    :param running: the demo.cloud.Cloud
    :param requests: lines
    :param answers: a file
    :param summary: what the package says of its state
    """
    def answer(content):
        answers.write(json.dumps(content) + '\n')
        answers.flush()

    answer({'result': dict(running.describe(), summary=summary)})
    for line in requests:
        request = json.loads(line)
        try:
            answer({'result': getattr(running.backstage, request['do'])(
                **request['arguments'])})
        except Exception as exc:
            traceback.print_exc()
            answer({'error': '%s: %s' % (type(exc).__name__, exc)})


def main():
    # What Nova's fixtures print is no answer.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), 'w')
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    # In the order of Nova's own commands: the package is switched on before
    # the services' modules are imported.
    monkey_patch.patch()
    summary = read_nova_conf()
    from demo import cloud

    return cloud.run(
        lambda running: serve(running, sys.stdin, answers, summary))


if __name__ == '__main__':
    sys.exit(main())

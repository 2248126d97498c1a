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


"""Can another user read the installed package?"""

import json
import os
import pwd

import nova_rescue_ext
from nova_rescue_ext.activation import distribution


def unreadable_by(user: pwd.struct_passwd) -> list[str]:
    """The files of the package that a user cannot read.

    Asked as that user, in a process of its own, so that groups and access
    control lists of folders count as well.

    :param user: the user, who is this process's own if that is not root's
    :returns: paths
    """
    receive, send = os.pipe()
    child = os.fork()
    if not child:
        _answer(user, send)
    os.close(send)
    with open(receive, encoding='utf-8') as answer:
        text = answer.read()
    os.waitpid(child, 0)
    return json.loads(text)


def _answer(user: pwd.struct_passwd, send: int) -> None:
    """Write the answer and end the process."""
    try:
        paths = _files()
        if os.getuid() == 0:
            os.initgroups(user.pw_name, user.pw_gid)
            os.setgid(user.pw_gid)
            os.setuid(user.pw_uid)
        unreadable = [path for path in paths if not os.access(path, os.R_OK)]
        os.write(send, json.dumps(unreadable).encode('utf-8'))
    finally:
        os._exit(0)


def _files() -> list[str]:
    package = os.path.dirname(nova_rescue_ext.__file__)
    paths = [os.path.join(folder, name)
             for folder, _, names in os.walk(package) for name in names
             if name.endswith(('.py', '.json'))]
    installed = distribution.current()
    # Without its metadata no entry point is found.
    return paths + [str(installed.locate_file(name))
                    for name in installed.files or ()
                    if name.parent.name.endswith(('.dist-info', '.egg-info'))]

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

"""Who uses the cloud."""

PROJECT = '6f70656e737461636b20342065766572'
OTHER_PROJECT = '8c2f6b1f0d3e4a5b9c7d6e5f4a3b2c1d'

OPERATOR = 'token-of-the-operator'

# Whom the middleware of Keystone takes the bearer of a token for.
TOKENS = {
    'token-of-alice': {'user_id': 'alice', 'project_id': PROJECT,
                       'role_list': ['reader', 'member']},
    OPERATOR: {'user_id': 'operator', 'project_id': PROJECT,
               'role_list': ['reader', 'member', 'admin']},
}


def find(user_id):
    """A user, by the id.

    :returns: the token and the user, or None twice
    """
    return next(((token, user) for token, user in TOKENS.items()
                 if user['user_id'] == user_id), (None, None))

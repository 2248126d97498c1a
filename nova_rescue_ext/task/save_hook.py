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


"""What Nova saves of an instance, seen before it does."""

import contextlib


@contextlib.contextmanager
def before_each_save(instance, prepare):
    """Call a function before each save of an instance in this block.

    Nova sets a state and saves it at once: there is no other moment.

    :param instance: the Instance
    :param prepare: a function without arguments, which may change the instance
    """
    save = instance.save
    shadowed = vars(instance).get('save')

    def prepare_and_save(*args, **kwargs):
        prepare()
        return save(*args, **kwargs)

    instance.save = prepare_and_save
    try:
        yield
    finally:
        if shadowed is None:
            del instance.save
        else:
            instance.save = shadowed

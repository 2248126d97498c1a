# Nova's services run on eventlet here as in Nova's own functional tests: it
# must be patched before anything else of Nova is imported. Nova 32 does so in
# nova.test only, when our own imports have bound what is not patched.
from nova import monkey_patch

if hasattr(monkey_patch, 'patch'):  # up to Nova 31 the import patches
    monkey_patch.patch()

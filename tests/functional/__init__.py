# Nova's services run on eventlet here as in Nova's own functional tests: it
# must be patched before anything else of Nova is imported.
import nova.tests.functional  # noqa: F401

"""The worker under test, served in this process; shared with the tests of what launches it."""

from tests.specialists.conftest import serve

__all__ = ["serve"]

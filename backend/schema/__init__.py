"""Every value that crosses a process boundary, declared once.

`frames`  what a specialist's socket speaks;
`records` what is stored or listed: registry entries, sessions, messages, errors;
`events`  what the backend tells its clients, in one numbered stream.

This room imports nothing of ours and holds no behaviour beyond small derived values.
"""

from backend.schema.errors import ErrorCode, TektonError
from backend.schema.events import *  # noqa: F403
from backend.schema.frames import *  # noqa: F403
from backend.schema.records import *  # noqa: F403

__all__ = ["ErrorCode", "TektonError"]

"""Every value that crosses a process boundary, declared once.

`content` what a message holds beside text, and how an answer is wished for;
`frames`  the frames of a specialist's socket;
`records` what is stored or listed: registry entries, sessions, messages, errors;
`events`  what the backend publishes to its clients, in one numbered stream.

This room imports nothing of ours and holds no behaviour beyond small derived values.
"""

from backend.schema.content import *  # noqa: F403
from backend.schema.errors import ErrorCode, TektonError
from backend.schema.events import *  # noqa: F403
from backend.schema.frames import *  # noqa: F403
from backend.schema.records import *  # noqa: F403
from backend.schema.states import *  # noqa: F403

__all__ = ["ErrorCode", "TektonError"]

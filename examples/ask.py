"""Ask one specialist from plain code. Start one first: `tekton launch apollo`.

python examples/ask.py "What breaks first under load?" [SPECIALIST]
"""

from __future__ import annotations

import sys

from backend.client import SpecialistUnreachable, ai_send_sync


def main() -> None:
    question = sys.argv[1] if len(sys.argv) > 1 else "Who are you?"
    specialist = sys.argv[2] if len(sys.argv) > 2 else "apollo"
    try:
        print(ai_send_sync(specialist, question))
    except SpecialistUnreachable as error:
        raise SystemExit(error.message) from error


if __name__ == "__main__":
    main()

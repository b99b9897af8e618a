"""Print an answer as it comes. Start a specialist first: `tekton launch apollo`.

python examples/stream.py "Count to ten." [SPECIALIST]
"""

from __future__ import annotations

import asyncio
import sys
import time

from backend.client import ai_stream


async def main() -> None:
    question = sys.argv[1] if len(sys.argv) > 1 else "Count to ten."
    specialist = sys.argv[2] if len(sys.argv) > 2 else "apollo"
    asked, first = time.monotonic(), 0.0
    async for text in ai_stream(specialist, question):
        first = first or time.monotonic()
        print(text, end="", flush=True)
    print()
    print(f"first text after {first - asked:.1f} s", file=sys.stderr)


if __name__ == "__main__":
    asyncio.run(main())

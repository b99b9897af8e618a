"""Ask several specialists the same and print each answer; a backend and the specialists are started if none run.

python examples/team.py "What should we do first?" apollo athena
"""

from __future__ import annotations

import asyncio
import sys

from backend.client import attach, own_home
from backend.schema.params import Launch, TeamChat


async def main() -> None:
    question, *names = sys.argv[1:] or ["What should we do first?", "apollo", "athena"]
    client = await attach(own_home())
    try:
        for row in (await client.call(Launch(ids=names))).results:
            if not row.ok:
                raise SystemExit(f"{row.id}: {row.message}")
        result = await client.call(TeamChat(content=question, target_ids=names))
        for answer in result.responses:
            print(f"== {answer.socket_id}, {answer.metadata.total_time:.1f} s\n{answer.content}\n")
        for failure in result.failures:
            print(f"== {failure.socket_id} gave no answer: {failure.error}", file=sys.stderr)
    finally:
        await client.close()


if __name__ == "__main__":
    asyncio.run(main())

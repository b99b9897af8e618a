"""Ask one specialist many questions at the same time, one a line of standard input; print the answers in that order.

python examples/bulk.py apollo < questions.txt
"""

from __future__ import annotations

import asyncio
import sys

from backend.client import attach, own_home
from backend.schema.params import BulkItem, RunBulk


async def main() -> None:
    specialist = sys.argv[1] if len(sys.argv) > 1 else "apollo"
    questions = [line.strip() for line in sys.stdin if line.strip()]
    client = await attach(own_home())
    try:
        items = [BulkItem(specialist_id=specialist, message=question) for question in questions]
        report = await client.call(RunBulk(requests=items))
    finally:
        await client.close()
    for question, result in zip(questions, report.results, strict=True):
        print(f"> {question}\n{result.outcome.content if result.ok else result.outcome.error}\n")
    print(f"{report.ok} answered, {report.failed} failed, {report.wall_time:.1f} s", file=sys.stderr)


if __name__ == "__main__":
    asyncio.run(main())

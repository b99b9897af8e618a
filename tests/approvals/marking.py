"""An MCP server that writes down each call it runs, and what the platform had stored of that call before.

`python marking.py MARKS DATABASE`: one line a call in MARKS, `NAME STATE BY`, by the record of the call in DATABASE.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import sys
from pathlib import Path

from mcp.server import MCPServer

MARKS, DATABASE = sys.argv[1:]
server = MCPServer("marks")


def write_down(line: str) -> None:
    with open(MARKS, "a", encoding="utf-8") as file:
        file.write(f"{line}\n")


@server.tool()
def mark(name: str) -> str:
    """Write a name down."""
    database = sqlite3.connect(f"file:{DATABASE}?mode=ro", uri=True, timeout=60)
    try:
        rows = [
            json.loads(row[0])
            for row in database.execute(
                "SELECT record FROM tool_calls WHERE record LIKE ?", (f'%\\"{name}\\"%',)
            )
        ]
    finally:
        database.close()
    stored = rows[0] if len(rows) == 1 else {"state": f"{len(rows)} records", "by": ""}
    write_down(f"{name} {stored['state']} {stored['by'].replace(' ', '_')}")
    return f"marked {name}"


@server.tool()
async def hold(name: str, pipe: str) -> str:
    """Write a name down, say so into a named pipe, and never return."""
    write_down(f"{name} running held")
    await asyncio.to_thread(Path(pipe).write_text, str(os.getpid()))
    await asyncio.sleep(600)
    return "held"


if __name__ == "__main__":
    server.run(transport="stdio")

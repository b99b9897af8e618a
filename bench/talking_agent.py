"""An agent for `agents.py`, without any library: `go SECONDS` says so many updates a second for so long, all kinds in turn."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

BEAT_S = 0.02


def main(rate: int) -> None:
    """Answer until standard input ends."""

    def send(**values: Any) -> None:
        sys.stdout.write(json.dumps({"jsonrpc": "2.0", **values}) + "\n")

    def updates(number: int) -> dict[str, Any]:
        text = {"type": "text", "text": f"word{number} "}
        call = {"toolCallId": f"c{number // 60}", "title": "Run make", "kind": "execute"}
        kinds: list[dict[str, Any]] = [
            {"sessionUpdate": "agent_message_chunk", "content": text},
            {"sessionUpdate": "agent_thought_chunk", "content": text},
            {"sessionUpdate": "agent_message_chunk", "content": text},
            {"sessionUpdate": "tool_call_update", **call, "status": ("in_progress", "completed")[number % 60 > 50]},
            {"sessionUpdate": "plan", "entries": [{"content": f"step {number // 100}", "status": "in_progress"}]},
            {"sessionUpdate": "usage_update", "used": number, "size": 200_000},
        ]  # fmt: skip
        return kinds[number % len(kinds)]

    for line in sys.stdin:
        frame = json.loads(line)
        match frame.get("method"):
            case "initialize":
                send(id=frame["id"], result={"protocolVersion": 1})
            case "session/new":
                send(id=frame["id"], result={"sessionId": "s"})
            case "session/prompt":
                seconds = float(frame["params"]["prompt"][-1]["text"].split()[-1])
                begin, said = time.monotonic(), 0
                while (passed := time.monotonic() - begin) < seconds:
                    for number in range(said, int(passed * rate)):
                        send(method="session/update", params={"sessionId": "s", "update": updates(number)})
                    said = int(passed * rate)
                    sys.stdout.flush()
                    time.sleep(BEAT_S)
                send(id=frame["id"], result={"stopReason": "end_turn"})
            case _:
                pass
        sys.stdout.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]))

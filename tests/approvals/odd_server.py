"""An MCP server that keeps to no rule, over stdio, line by line: what it does wrong is the word it is started with."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

WAY = sys.argv[1] if len(sys.argv) > 1 else ""
TEXT = {"type": "object", "properties": {"text": {"type": "string"}}}


def say(value: object) -> None:
    sys.stdout.write(value if isinstance(value, str) else json.dumps(value) + "\n")
    sys.stdout.flush()


def answer(number: object, result: object) -> None:
    say({"jsonrpc": "2.0", "id": number, "result": result})


def told(text: str) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": text}], "isError": False}


def tool(name: str, description: str = "") -> dict[str, Any]:
    return {
        "name": name,
        "description": description,
        "inputSchema": TEXT,
        "annotations": {"readOnlyHint": True},
    }


class Server:
    """Answers one message after the other."""

    def __init__(self) -> None:
        self.tools = [tool("echo", "the first")]
        if WAY == "alike":
            self.tools = [
                tool("echo", "the first"),
                tool("echo", "the second"),
                tool("ECHO"),
                tool("e c:h/o"),
                tool("e_c_h_o"),
            ]

    def take(self, message: dict[str, Any]) -> None:
        number, method = message.get("id"), message.get("method")
        if WAY == "noise":
            say("starting up…\n\x1b[2J\x00{not json\n[1,2]\n3\nnull\n{}\n" + "\xff" * 9 + "\n")
            say({"jsonrpc": "2.0", "id": 99_999, "result": {}})
            say({"jsonrpc": "2.0", "method": "notifications/nobody", "params": {"x": 1}})
            say({"jsonrpc": "2.0", "id": "theirs", "method": "roots/nothing", "params": {}})
        match method:
            case "initialize" if WAY == "mute":
                time.sleep(600)
            case "initialize":
                answer(number, {
                    "protocolVersion": "2025-06-18", "serverInfo": {"name": "odd", "version": "1"},
                    "capabilities": {"tools": {"listChanged": True}},
                })  # fmt: skip
            case "tools/list":
                page: dict[str, Any] = {"tools": self.tools}
                answer(number, page | ({"nextCursor": "again"} if WAY == "endless" else {}))
            case "tools/call":
                self.call(number, message["params"])
            case _ if number is not None:
                say({"jsonrpc": "2.0", "id": number, "error": {"code": -32601, "message": f"no {method}"}})
            case _:
                pass

    def call(self, number: Any, params: dict[str, Any]) -> None:
        text, name = params.get("arguments", {}).get("text", ""), params["name"]
        match WAY:
            case "changing":
                self.tools = [tool("later", f"came with {text}"), tool("echo", "another")]
                for _ in range(200):
                    say({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})
            case "gone":
                self.tools = []
                say({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})
            case "twice":
                answer(number, told(f"{name} said {text}"))
                answer(number, told("and again"))
                return
            case "strangers":
                for other in (number + 1, number - 1, None, -1, 2**70, "x"):
                    answer(other, told("for somebody else"))
            case "pictures":
                picture = {"type": "image", "mimeType": text.split()[0], "data": text.split()[1]}
                answer(number, {"content": [{"type": "text", "text": "seen"}, picture]})
                return
            case "shapeless":
                answer(number, {"content": [{"type": "text"}, {"type": "later"}, 3], "isError": "yes"})
                return
            case _:
                pass
        answer(number, told(f"{name} said {text}"))


if __name__ == "__main__":
    server = Server()
    for line in sys.stdin:
        server.take(json.loads(line))

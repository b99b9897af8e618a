"""An agent that keeps to nothing: what it does is named by the words of a prompt. No library; it writes its own lines."""

from __future__ import annotations

import json
import os
import signal
import sys
import time


def send(**values: object) -> None:
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **values}) + "\n")


def say(session: str, text: str) -> None:
    update = {"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": text}}
    send(method="session/update", params={"sessionId": session, "update": update})


def ask(number: object, session: str) -> None:
    send(
        id=number,
        method="session/request_permission",
        params={
            "sessionId": session,
            "toolCall": {"toolCallId": f"t{number}", "title": "rm -rf /\u202e\x1b[2J", "kind": "execute"},
            "options": [{"optionId": "y", "name": "yes", "kind": "allow_once"}],
        },
    )


def flood(session: str) -> None:
    for number in range(20_000):
        say("nobody" if number % 2 else session, "x")


def lies(session: str) -> None:
    for number in (1, 2, 999, "x", -1):
        send(id=number, result={"stopReason": "end_turn"})
    ask(7, session)
    ask(7, session)
    ask(8, "another")


def nobody(session: str) -> None:
    say(session, "before")
    send(id=None, result={"stopReason": "end_turn"})


def huge(session: str) -> None:
    say(session, "before")
    sys.stdout.write('{"jsonrpc":"2.0","method":"session/update","params":"')
    for _ in range(100):
        sys.stdout.write("y" * 1024 * 1024)
    sys.stdout.write('"}\n')


def fork(_: str) -> None:
    """Leave children behind in sessions of their own, some of which beget others, and kill the guard."""
    for _ in range(20):
        if os.fork() == 0:
            os.setsid()
            for _ in range(3):
                os.fork()
            os.execvp("sleep", ["sleep", "602"])
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(600)


def mute(session: str) -> None:
    """Close standard output and live on."""
    say(session, "before")
    sys.stdout.flush()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    time.sleep(600)


def deaf(session: str) -> None:
    """Close standard input and live on."""
    say(session, "before")
    sys.stdout.flush()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    time.sleep(600)


def reused(session: str) -> None:
    """Read a file, and then ask to remove everything under the id of that call."""
    call = {"toolCallId": "c", "title": "read notes", "kind": "read", "locations": [{"path": "/notes"}]}
    begun = {"sessionUpdate": "tool_call", **call, "status": "completed"}
    send(method="session/update", params={"sessionId": session, "update": begun})
    send(
        id="again",
        method="session/request_permission",
        params={
            "sessionId": session,
            "toolCall": {
                "toolCallId": "c",
                "title": "clean up",
                "kind": "execute",
                "rawInput": {"command": "rm -rf /"},
            },
            "options": [{"optionId": "y", "name": "yes", "kind": "allow_once"}],
        },
    )


def strange(session: str) -> None:
    sys.stderr.write("e" * 300_000)
    sys.stdout.write("a log line on standard output\n")
    send(method="session/update", params={"sessionId": session, "update": {"sessionUpdate": "new_in_v9"}})
    send(method="_ext/whatever", params=[1])
    send(id="w", method="fs/write_text_file", params={"sessionId": session, "path": "/etc/x", "content": "x"})
    send(id="u", method="session/unheard_of", params={})
    say(session, "fine")


def main() -> None:
    sessions, waiting = 0, None
    cancelling: dict[str, tuple[str, object]] = {}
    for line in sys.stdin:
        frame = json.loads(line)
        method, number = frame.get("method"), frame.get("id")
        if method == "initialize":
            send(id=number, result={"protocolVersion": 1, "agentCapabilities": None, "authMethods": None})
        elif method == "session/new":
            sessions += 1
            send(id=number, result={"sessionId": f"h{sessions}"})
        elif method == "session/prompt":
            session = frame["params"]["sessionId"]
            word = frame["params"]["prompt"][-1]["text"].split()[0]
            if word in ("silent", "late_ask"):
                cancelling[session] = (word, number)
            elif word == "reused":
                reused(session)
                waiting = number
            else:
                globals()[word](session)
                reason = "because_i_say_so" if word == "strange" else "end_turn"
                send(id=number, result={"stopReason": reason})
                say(session, "one more thing")
                ask(f"late{number}", session)
        elif method == "session/cancel":
            word, asked = cancelling.pop(frame["params"]["sessionId"], ("", None))
            if (
                word == "late_ask"
            ):  # it asks for more while it is being stopped, and ends only once that is answered
                ask("while cancelled", frame["params"]["sessionId"])
                waiting = asked
        elif "result" in frame or "error" in frame:
            with open("answers", "a") as file:
                file.write(line)
            if number in ("again", "while cancelled"):
                reason = "end_turn" if number == "again" else "cancelled"
                send(id=waiting, result={"stopReason": reason})
        sys.stdout.flush()


if __name__ == "__main__":
    main()

"""Hostile text wherever a command may show it, on a terminal: no control byte reaches it and nothing is hidden."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest

from backend.cli.tekton import GROUPS
from tests.cli.commandline import Line
from tests.cli.terminals import Terminal

CORPUS = (
    "\x1b]52;c;QQ==\x07\x1b[31;44m\x1b[2J\x1b[H\x9b2J\x9d0;OWNED\x9c\x1b]0;OWNED\x07\x1bPq#0\x1b\\\x90q\x9c\x85\x7f\x08\x0b\r"
    "\u202egnp\u2066\u200f\u061c\u200b\u2060\u00ad\ufeff\u180e\u2064\u206a\ufff9\U000e0041\U000e007f\u3164\uffa0\u115f\u034f"
    "a\ufe0f\ufe00b\U000e0101\u200dc\u200c\u2800\u17b4[red]x[/]"
)
OWN = re.compile(r"\x1b\[(?:0|1|2|3[0-7]|9[0-7])?(?:;[0-9]+)*m|\x1b\[[HJK]|\r")
"""What commands write to a terminal themselves: styles, moves of `--watch`, line ends."""
HIDDEN = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u2800\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
H = CORPUS

ANSWERED: list[tuple[str, ...]] = [
    ("aish", "apollo", H),
    ("aish", "--json", "apollo", H),
    ("aish", "--no-stream", "apollo", H),
    ("aish", "--direct", "apollo", H),
    ("aish", "-c", 'echo x | apollo "[[hostile]]"'),
    ("aish", "team-chat", H),
    ("aish", "list"),
    ("aish", "history", "apollo"),
    ("aish", "apollo", f"[[fail internal]] {H}"),
    ("tekton", "team", H),
    ("tekton", "pipe", "--times", 'apollo | athena "[[hostile]]"'),
    ("tekton", "pipe", "--save", "evil", f'apollo "{H.replace(chr(13), "")}"'),
    ("tekton", "pipe", "--saved"),
    ("tekton", "pipe", "--history"),
    ("tekton", "pipe", "--history", "--json"),
    ("tekton", "sessions", "new", "apollo", H),
    ("tekton", "sessions"),
    ("tekton", "sessions", "--json"),
    ("tekton", "sessions", "search", "gnp"),
    ("tekton", "errors", "--all", "--evidence"),
    ("tekton", "errors", "--all", "--json"),
    ("tekton", "usage"),
    ("tekton", "specialists", "list"),
    ("tekton", "specialists", "show", H),
    ("tekton", "desk"),
    ("tekton", "desk", "ack", H),
    ("tekton", "asks"),
    ("tekton", "asks", "deny", H, H),
    ("tekton", "rules", "add", "deny", f"{H}:x"),
    ("tekton", "rules", "explain", H),
    ("tekton", "audit", H),
    ("tekton", "options", H),
    ("tekton", "options", "apollo", H, H),
    ("tekton", "sent", "apollo"),
    ("tekton", "sent", H),
    ("tekton", "worktree", "list", H),
    ("tekton", "worktree", "diff", H),
    ("tekton", "status"),
    ("tekton", "status", "--json"),
    ("tekton", "launch", "apollo", "terma", "--dry-run"),
    ("tekton", "launch", H),
    ("tekton", "kill", H),
    ("tekton", "restart", H),
    ("tekton", "logs", "apollo"),
    ("tekton", "logs", "backend"),
    ("tekton", "logs", H),
    ("tekton", "discover"),
    ("tekton", "discover", "--json"),
    ("tekton", "match", H),
    ("tekton", "match", H, "--json"),
    ("tekton", "export", H),
    ("tekton", "models"),
    ("tekton", "models", "set", H, H),
    ("tekton", "config", "show"),
    ("tekton", "config", "check"),
    ("tekton", "config", "set", "evil", H),
    ("tekton", "config", "get", "evil"),
    ("tekton", "config", "orchestration", f"{H}=1"),
    ("tekton", "doctor"),
    ("tekton", "gateway"),
    ("tekton", "gateway", "--json"),
    ("tekton", "cluster", "status"),
    ("tekton", "call", "get_preference", "key=evil"),
    ("tekton", "call", "get_specialist", "id=apollo"),
    ("tekton", "call", "list_sessions"),
    ("tekton", "call", H),
    ("tekton", "call", "launch", f"{H}=1"),
    ("tekton", "call", "chat", "ai_id=apollo", f"content={H}"),
    ("tekton", "completion", "bash"),
    ("tekton", "serve", "--host", H),
    ("tekton", "bulk", H),
    ("tekton", "acp", H),
    ("tekton", "--connect", H, "status"),
    ("tekton", "--connect", "http://127.0.0.1:1", "--token-file", H, "status"),
    ("tekton", H),
    ("aish", "--session", H, "history", "apollo"),
    ("aish", f"--{H}"),
]


@pytest.fixture(scope="module")
def evil(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    """A home whose configuration, history, log and preferences hold the corpus."""
    one = Line(tmp_path_factory.mktemp("evil") / "home")
    one.home.mkdir(mode=0o700)
    text = json.dumps(H.replace("\x7f", ""))  # TOML takes JSON's escapes, pairs of surrogates excepted
    text = re.sub(
        r"\\ud[89ab]..\\ud[c-f]..",
        lambda found: f"\\U{ord(json.loads(chr(34) + found[0] + chr(34))):08x}",
        text,
    )
    (one.home / "config.toml").write_text(
        f"[specialists.apollo]\ntitle = {text}\ndescription = {text}\ncapabilities = [{text}]\n"
    )
    try:
        done = one("tekton", "launch", "apollo", "athena")
        assert done.returncode == 0, done.stderr
        with (one.home / "logs" / "apollo-ai.log").open("a") as log:
            log.write(f"{H}\n")
        assert H.split("\r")[-1] in one("aish", "apollo", H).stdout, "a pipe gets the text unchanged"
        yield one
    finally:
        one.end()


@pytest.mark.parametrize("words", ANSWERED, ids=lambda words: " ".join(words).split("\x1b")[0][:40])
def test_a_terminal_gets_no_control_byte_and_nothing_hidden(evil: Line, words: tuple[str, ...]) -> None:
    with Terminal(evil, *words) as terminal:
        terminal.ended()
        drawn = OWN.sub("", terminal.raw.decode())
    _assert_seen(drawn)
    assert "Traceback" not in drawn


@pytest.mark.parametrize("command", [name for group in GROUPS.values() for name in group])
def test_an_error_about_the_arguments_of_any_command_is_harmless(evil: Line, command: str) -> None:
    with Terminal(evil, "tekton", command, f"--{H}", H) as terminal:
        assert terminal.ended() == 2
        _assert_seen(OWN.sub("", terminal.raw.decode()))


def test_every_command_is_tried() -> None:
    tried = {words[1] for words in ANSWERED if words[0] == "tekton"}
    alone = {"mcp", "stop"}  # speaks to programs only; ends the backend of this test
    assert {name for group in GROUPS.values() for name in group} - tried == alone


@pytest.mark.parametrize(
    "secret",
    ["sk-abcdefghijklmnop1234", "ghp_abcdefghijklmnopqrst", "eyJhbGciOiJIUzI1.eyJzdWIiOiIx.c2lnbmF0dXJl"],
)
def test_an_error_never_repeats_a_secret(quiet: Line, tmp_path: Path, secret: str) -> None:
    quiet.home.mkdir(mode=0o700)
    (quiet.home / "token").write_text(f"{'t' * 43}\n# {secret}\n")
    (tmp_path / "tokens").write_text(f"{secret}\n# a second line\n")
    for words in (
        ("status", f"--token={secret}"),
        ("status", secret),
        ("call", "chat", secret),
        ("launch", secret),
        ("--connect", "http://127.0.0.1:1", "--token-file", str(tmp_path / "tokens"), "status"),
        (
            "--connect",
            f"http://user:{secret}@127.0.0.1:1",
            "--token-file",
            str(tmp_path / "tokens"),
            "status",
        ),
        ("launch", "apollo"),
        ("status",),
    ):
        done = quiet("tekton", *words)
        assert secret not in done.stderr + done.stdout and "t" * 43 not in done.stderr + done.stdout, words
    for name, text in (
        ("config.toml", f'[providers.openai]\napi_key = "{secret}"\n'),
        (".env.tekton", f"{secret}\n"),
    ):
        (quiet.home / name).write_text(text)
        done = quiet("tekton", "config", "check")
        assert done.returncode == 2 and secret not in done.stderr + done.stdout
        (quiet.home / name).unlink()


def _assert_seen(drawn: str) -> None:
    hidden = {hex(ord(character)) for character in HIDDEN.findall(drawn)}
    control = {hex(ord(c)) for c in drawn if unicodedata.category(c) in ("Cc", "Cf", "Cs") and c != "\n"}
    assert (control, hidden) == (set(), set()), drawn

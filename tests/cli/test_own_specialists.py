"""`tekton specialists` over the files of a home, without a backend: everything a person may do with one of their own."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.commandline import Line
from tests.cli.terminals import Terminal

NEW = ("tekton", "specialists", "new", "critic", "--title", "The: Critic", "--persona", "You are the critic.")
FOREIGN = "---\nname: far-off\ndescription: x\nallowed-tools: Bash\n---\nYou are \x1b]52;c;x\x07 far.\n"


@pytest.fixture
def address() -> Iterator[str]:
    """A server that holds one SKILL.md, and leads elsewhere from `/moved`."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            moved = self.path == "/moved"
            self.send_response(302 if moved else 200)
            if moved:
                self.send_header("Location", "https://example.invalid/")
            self.end_headers()
            self.wfile.write(b"" if moved else b"x" * 200_000 if self.path == "/long" else FOREIGN.encode())

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_one_is_written_listed_shown_changed_compared_taken_back_and_removed(quiet: Line) -> None:
    def run(*words: str) -> str:
        done = quiet("tekton", "specialists", *words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert quiet(*NEW).returncode == 0
    again = quiet(*NEW)
    assert again.returncode == 6 and "is there already" in again.stderr
    assert "critic       critic/SKILL.md" in run()
    shown = run("show", "critic")
    assert "The: Critic" in shown and shown.endswith("\nYou are the critic.\n")
    skill = quiet.home / "specialists" / "critic" / "SKILL.md"
    assert skill.stat().st_mode & 0o077 == 0

    quiet.environment["EDITOR"] = "sed -i 's/the critic/the kind/'"
    with Terminal(quiet, "tekton", "specialists", "edit", "critic") as terminal:
        assert terminal.ended() == 0, terminal.text
    assert skill.read_text().endswith("You are the kind.\n")
    compared = run("compare", "critic", "1")
    assert "-You are the critic." in compared and "+You are the kind." in compared
    assert "as in version 1" in run("restore", "critic", "1")
    assert skill.read_text().endswith("You are the critic.\n")
    assert run("versions", "critic").count("\n") == 3
    assert "earlier" not in run("compare", "critic")

    refused = quiet("tekton", "specialists", "remove", "critic")
    assert refused.returncode == 6 or "--yes" in refused.stderr
    run("remove", "critic", "--yes")
    assert not skill.parent.exists() and "critic" not in run()
    run("restore", "critic", "2")
    assert skill.read_text().endswith("You are the kind.\n")


def test_a_broken_edit_is_not_taken_and_not_lost(quiet: Line) -> None:
    assert quiet(*NEW).returncode == 0
    skill = quiet.home / "specialists" / "critic" / "SKILL.md"
    before = skill.read_text()
    quiet.environment["EDITOR"] = "sed -i s/title/titel/"
    with Terminal(quiet, "tekton", "specialists", "edit", "critic") as terminal:
        assert terminal.ended() == 2
    assert "SKILL.md:3: key 'titel': no such key; did you mean 'title'?" in terminal.text.replace("\r\n", " ")
    assert skill.read_text() == before
    skill.write_text(before.replace("title", "titel"))
    checked = quiet("tekton", "specialists", "check")
    assert checked.returncode == 1 and "specialists/critic/SKILL.md:3" in checked.stderr
    listed = quiet("tekton", "specialists", "--json")
    assert listed.returncode == 1 and json.loads(listed.stdout)["faults"]


def test_one_from_elsewhere_is_shown_whole_before_anything_is_written(
    quiet: Line, address: str, tmp_path: Path
) -> None:
    source = f"{address}/SKILL.md"
    asked = quiet("tekton", "specialists", "new", "--from", source)
    assert asked.returncode == 6 or "--yes" in asked.stderr
    assert "You are " in asked.stdout and "allowed-tools: not used" in asked.stdout
    assert not (quiet.home / "specialists").exists(), "nothing was written"
    with Terminal(quiet, "tekton", "specialists", "new", "--from", source) as terminal:
        terminal.until("Write 1 files")
        terminal.type("n\n")
        assert terminal.ended() == 1
    assert b"\x1b]52" not in terminal.raw, "what is shown cannot steer the terminal"
    assert quiet("tekton", "specialists", "new", "--from", source, "--yes").returncode == 0
    assert (quiet.home / "specialists" / "far-off" / "SKILL.md").read_text() == FOREIGN
    moved = quiet("tekton", "specialists", "new", "--from", f"{address}/moved", "--yes")
    assert moved.returncode == 3 and "302, which leads to https://example.invalid/" in moved.stderr
    assert "longer than" in quiet("tekton", "specialists", "new", "--from", f"{address}/long", "--yes").stderr
    plain = quiet("tekton", "specialists", "new", "--from", "http://192.0.2.1/SKILL.md", "--yes")
    assert "only https" in plain.stderr

    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "SKILL.md").write_text("---\nname: mine\ncolour: red\n---\nYou.")
    (folder / "notes.md").write_text("Know this.")
    broken = quiet("tekton", "specialists", "new", "--from", str(folder), "--yes")
    assert broken.returncode == 2 and "mine/SKILL.md:3" in broken.stderr
    (folder / "SKILL.md").write_text("---\nname: mine\n---\nYou.")
    brought = quiet("tekton", "specialists", "new", "other", "--from", str(folder), "--yes")
    assert brought.returncode == 0 and "Know this." in brought.stdout, brought.stderr
    assert "other/SKILL.md" in quiet("tekton", "specialists").stdout


@pytest.mark.parametrize(
    "name", ["../evil", "critic/../../evil", "a b", "9x", "ünï", "x" * 40, "auto", "team"]
)
def test_what_names_no_specialist_is_refused_and_nothing_is_written_anywhere(quiet: Line, name: str) -> None:
    source = quiet.home.parent / "source"
    source.mkdir()
    (source / "SKILL.md").write_text(f"---\nname: {name}\ntitle: x\n---\nYou are x.")
    before = sorted(quiet.home.parent.rglob("SKILL.md"))
    for words in (
        ("new", name, "--persona", "You are x."),
        ("new", name, "--agent", "cat"),
        ("new", "--from", str(source), "--yes"),
    ):
        done = quiet("tekton", "specialists", *words)
        assert done.returncode == 2 and "name" in done.stderr and "Traceback" not in done.stderr, (
            words,
            done,
        )
    assert sorted(quiet.home.parent.rglob("SKILL.md")) == before and not list(quiet.home.rglob("*.toml"))


def test_one_named_like_a_shipped_specialist_is_said_to_change_that(quiet: Line) -> None:
    done = quiet("tekton", "specialists", "new", "apollo", "--persona", "You are kind.")
    assert done.returncode == 0 and "it changes the shipped apollo" in done.stdout
    assert "changes" not in quiet(*NEW).stdout


def test_check_names_what_is_not_used(quiet: Line) -> None:
    quiet.home.mkdir(mode=0o700)
    folder = quiet.home / "specialists"
    (folder / "critic").mkdir(parents=True)
    (folder / "notes.yaml").write_text("title: x")
    done = quiet("tekton", "specialists", "check")
    assert done.returncode == 0
    assert (
        "notes.yaml: not used" in done.stdout
        and "critic: not used: a folder without a SKILL.md" in done.stdout
    )
    (folder / "critic" / "skill.md").write_text("---\ntitle: x\n---\nYou are x.")
    done = quiet("tekton", "specialists", "check")
    assert done.returncode == 1 and "rename it SKILL.md" in done.stderr

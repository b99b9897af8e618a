"""Files that declare specialists: what is read, what is refused with its line, and that nothing in one can break the rest."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend import catalog, config
from backend.config import ConfigError, FoundFiles, Settings, SpecialistSettings
from backend.config.specialist_files import MAX_NODES, read_files, scan, unused, with_last_good
from backend.config.versions import MAX_VERSIONS, difference, keep, version, versions
from backend.home import Home
from backend.schema.errors import TektonError
from tests.randomness import FUZZ

SKILL = b"""---
name: code-critic
title: "Reviewer: code"
description: Reads a change and names what breaks.
capabilities: [code review, 'tests']
temperature: 0.3
max_tokens: 400
budget:
  tokens_per_day: 1000
license: MIT
---
# Critic

You review changes.
"""


def test_a_folder_with_front_matter_is_a_specialist_and_its_other_files_are_reference() -> None:
    files = {
        "code-critic/SKILL.md": SKILL,
        "code-critic/rules.md": b"Never skip tests.\n",
        "code-critic/scripts/run.sh": b"rm -rf /\n",
        "code-critic/picture.png": b"\x89PNG\0\0",
        'code-critic/x"><y.txt': b"<evil>",
        "notes.txt": b"nothing of ours",
    }
    found, faults = read_files(files)
    assert faults == []
    critic = found["code_critic"]
    assert (critic.own.title, critic.own.temperature, critic.own.max_tokens) == ("Reviewer: code", 0.3, 400)
    assert critic.own.capabilities == ["code review", "tests"]
    assert critic.own.budget is not None and critic.own.budget.tokens_per_day == 1000
    assert critic.own.persona is not None and critic.own.persona.startswith("# Critic\n\nYou review changes.")
    assert '<reference file="rules.md">\nNever skip tests.\n</reference>' in critic.own.persona
    assert 'file="scripts/run.sh"' in critic.own.persona, "a program is read, never run"
    assert "PNG" not in critic.own.persona and '"><y' not in critic.own.persona
    assert critic.notes == ["license: not used"]


@pytest.mark.parametrize(
    ("where", "text", "place", "reason"),
    [
        ("mine.toml", b'title = "a"\ntemprature = 1\n', 2, "did you mean 'temperature'"),
        ("mine.toml", b'title = "a"\n\n[budget]\ntokens_per_day = "many"\n', 4, "a whole number"),
        ("mine.toml", b"title = \n", 1, "not valid TOML"),
        ("mine.toml", b'title = "a"\npersona = """never closed\n', 3, "not valid TOML"),
        ("mine.toml", b'title = "\xff"', 1, "no UTF-8"),
        ("mine.toml", b"a\nb\0", 2, "zero byte"),
        ("1.toml", b"", 1, "names no specialist"),
        ("mine/SKILL.md", b"You are.", 1, "front matter"),
        ("mine/SKILL.md", b"---\ntitle: a\n", 1, "not closed"),
        ("mine/SKILL.md", b"---\ntitle: a\n---\n \n", 3, "the persona is missing"),
        ("mine/SKILL.md", b"---\ntitle: a\ntemperature: hot\n---\nx", 3, "expected a number"),
        ("mine/SKILL.md", b"---\ntitle: a\ntemperature: 3\n---\nx", 3, "<= 2"),
        ("mine/SKILL.md", b"---\ntitle: a\ncolour: red\n---\nx", 3, "no such key"),
        ("mine/SKILL.md", b"---\nnmae: mine\n---\nx", 2, "did you mean 'name'?"),
        ("mine/SKILL.md", b"---\ntitle: a\nallowed-tool: b\n---\nx", 3, "did you mean 'allowed-tools'?"),
        ("mine/SKILL.md", b"---\ntitle: a\ntitle: b\n---\nx", 3, "given twice"),
        ("mine/SKILL.md", b"---\nname: other\n---\nx", 2, "make them one"),
        ("mine/SKILL.md", b"---\ntitle: [a\n---\nx", 2, "not valid YAML"),
        ("mine/SKILL.md", b"---\n- a\n---\nx", 2, "expected keys"),
        ("mine/SKILL.md", b"---\npersona: x\n---\nx", 2, "behind the front matter"),
        ("mine/SKILL.md", b"---\ntitle: !!python/object/apply:os.system [ls]\n---\nx", 2, "expected text"),
        ("mine/SKILL.md", b"---\na: " + b"[" * 3_000 + b"\n---\nx", 2, "YAML"),
        ("mine.toml", b"a = " + b"[" * 100_000, 1, "TOML"),
    ],
)  # fmt: skip
def test_a_broken_file_is_refused_with_its_line_and_the_reason(
    where: str, text: bytes, place: int, reason: str
) -> None:
    found, [fault] = read_files({where: text, "good.toml": b'persona = "p"'})
    assert list(found) == ["good"], "another file is not disturbed"
    assert (fault.where, fault.line) == (where, place) and reason in fault.reason
    assert str(fault).startswith(f"specialists/{where}:{place}: ")


def test_a_front_matter_that_grows_when_read_is_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    _, [fault] = read_files({"mine/SKILL.md": "\n".join(["---", *lines, "---", "x"]).encode()})
    assert f"{MAX_NODES:,} values" in fault.reason


def test_two_files_of_one_name_are_named(tmp_path: Path) -> None:
    found, [fault] = read_files({"mine.toml": b"", "mine/SKILL.md": SKILL.replace(b"code-critic", b"mine")})
    assert found["mine"].where == "mine.toml" and "mine.toml declares 'mine' already" in fault.reason
    home = Home(tmp_path / "home").prepare()
    home.specialists.mkdir()
    (home.specialists / "mine.toml").write_text('provider = "olama"')
    (home.specialists / "twice.toml").write_text("")
    (home.specialists / "numa2.toml").write_text('aliases = ["numa"]')
    home.config.write_text('[specialists.twice]\ntitle = "t"\n')
    loaded = config.load(home)
    reasons = {fault.name: fault.reason for fault in loaded.files.faults}
    assert "expected one of" in reasons["mine"] and "[specialists.twice] already" in reasons["twice"]
    rows = catalog.load(loaded)
    assert "numa2-ai" not in rows.components and "twice-ai" in rows.components
    assert "same name" in rows.faults[0].reason and rows.faults[0].where == "numa2.toml"
    home.config.write_text("[files]\n")
    with pytest.raises(ConfigError, match="specialists of your own stand in"):
        config.load(home)


@pytest.mark.parametrize(
    ("where", "name", "words"),
    [
        ("critic/skill.md", "critic", "rename it SKILL.md"),
        ("critic/Skill.MD", "critic", "rename it SKILL.md"),
        ("critic.TOML", "critic", "rename it critic.toml"),
    ],
)
def test_a_name_in_the_wrong_case_is_told_and_not_passed_over(where: str, name: str, words: str) -> None:
    read = read_files({where: b"---\ntitle: x\n---\nYou are critic."})
    assert [(fault.name, fault.where) for fault in read.faults] == [(name, where)] and words in read.faults[
        0
    ].reason
    beside = read_files({"a/SKILL.md": b"---\ntitle: x\n---\nYou are a.", "a/skill.md": b"more"})
    assert list(beside.found) == ["a"] and beside.faults == []


def test_what_declares_nobody_is_named_with_why(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "specialists", tmp_path / "elsewhere"
    for path in (
        folder / "good",
        folder / "empty",
        folder / "odd" / "SKILL.md",
        folder / "dir.toml",
        folder / "cased",
        elsewhere,
    ):
        path.mkdir(parents=True)
    for path in (folder / "good" / "SKILL.md", folder / "cased" / "skill.md", folder / "notes.yaml", folder / "mine.toml",
                 folder / ".hidden", elsewhere / "SKILL.md"):  # fmt: skip
        path.write_text("x")
    os.mkfifo(folder / "pipe.toml")
    (folder / "out").symlink_to(elsewhere)
    (folder / "linked").mkdir()
    (folder / "linked" / "SKILL.md").symlink_to(elsewhere / "SKILL.md")
    (folder / "gone.toml").symlink_to("nowhere")
    (folder / "loop").symlink_to(".")
    assert list(unused(folder)) == [
        "dir.toml", "empty", "gone.toml", "linked/SKILL.md", "loop", "notes.yaml", "odd", "out", "pipe.toml",
    ]  # fmt: skip
    assert unused(tmp_path / "none") == {}


def test_links_out_of_the_folder_and_hidden_files_are_not_read(tmp_path: Path) -> None:
    outside = tmp_path / "secret.toml"
    outside.write_text('persona = "s"')
    folder = tmp_path / "specialists"
    (folder / ".hidden").mkdir(parents=True)
    (folder / ".hidden" / "SKILL.md").write_bytes(SKILL)
    (folder / "mine.toml").symlink_to(outside)
    (folder / "gone.toml").symlink_to(tmp_path / "nowhere")
    (folder / "loop").symlink_to(folder)
    (folder / "good.toml").write_text('persona = "p"')
    assert list(scan(folder)) == ["good.toml"]


# any edit whatever

NAMES = ("one.toml", "two/SKILL.md", "two/extra.md", "apollo.toml")
GOOD = {
    "one.toml": b'title = "One"\npersona = "p"\naliases = ["uno"]\n',
    "two/SKILL.md": SKILL.replace(b"code-critic", b"two"),
    "two/extra.md": b"extra",
    "apollo.toml": b"temperature = 0.5\n[budget]\ntokens_per_day = 5\n",
}
BITS = st.sampled_from(
    [b"---\n", b"title", b": ", b" = ", b'"', b"'", b"[", b"]", b"{", b"}", b"&a ", b"*a", b"!!x ", b"\n", b"\xff", b"\0",
     b"numa", b"all", b"port = 45004\n", b"aliases: [one]\n", b"# ", b"9" * 400, b"name: two\n", b"1e999", b"- ", b"|\n"]
)  # fmt: skip
EDIT = st.tuples(st.sampled_from(NAMES), st.integers(0, 400), st.integers(0, 30), st.lists(BITS, max_size=4))


@settings(max_examples=500 if FUZZ else 100)  # twenty edits each
@given(st.lists(EDIT, min_size=20, max_size=20))
def test_ten_thousand_edits_never_stop_the_reader_and_the_last_good_state_serves(
    edits: list[tuple[str, int, int, list[bytes]]],
) -> None:
    files, before = dict(GOOD), FoundFiles()
    for name, place, removed, put in edits:
        text = files[name]
        files[name] = text[:place] + b"".join(put) + text[place + removed :]
        found, faults = read_files(files)
        broken = {fault.name for fault in faults}
        now = FoundFiles({n: file.own for n, file in found.items()}, {}, faults)
        own = with_last_good(before, now)
        assert own.keys() == found.keys() | (before.own.keys() & broken)
        assert all(own[n] == before.own[n] for n in broken & before.own.keys())
        assert all(fault.line >= 1 and "\n" not in fault.reason[:1] for fault in faults)
        before = msgspec.structs.replace(now, own=own)
    rows = catalog.load(Settings(files=before))
    assert len(rows.components) >= 19 and rows.get("numa").id == "numa-ai"


# versions


def test_versions_are_kept_compared_and_bounded(tmp_path: Path) -> None:
    home = Home(tmp_path / "home").prepare()
    assert versions(home, "mine") == {}
    for text in (b"one\n", b"one\n", b"two\n"):
        keep(home, "mine", "mine/SKILL.md", text)
    assert [path.read_bytes() for path in versions(home, "mine").values()] == [b"one\n", b"two\n"]
    assert difference("one\n", "two\n", "1", "2").splitlines()[-2:] == ["-one", "+two"]
    for number in range(MAX_VERSIONS + 3):
        keep(home, "mine", "mine/SKILL.md", b"%d" % number)
    kept = versions(home, "mine")
    assert len(kept) == MAX_VERSIONS and max(kept) == MAX_VERSIONS + 5
    with pytest.raises(TektonError, match="has no version 1: versions 6 to"):
        version(home, "mine", 1)


def test_what_a_file_leaves_unset_keeps_the_catalogues() -> None:
    rows = catalog.load(Settings(files=FoundFiles({"apollo": SpecialistSettings(title="Boss")})))
    assert rows.get("apollo").title == "Boss" and "Apollo" in rows.get("apollo").persona

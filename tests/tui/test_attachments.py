"""Files that go along with a question: named, pasted or completed, seen with their size before they are sent."""

from __future__ import annotations

import os
from base64 import b64decode
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from textual import events
from textual.pilot import Pilot

from backend.client.attachments import MAX_ATTACHED_BYTES, NotAttached, attach_files
from backend.schema.content import Attachment, ImagePart, TextPart, attachments_of
from backend.schema.errors import TektonError
from backend.schema.events import TurnStarted
from backend.schema.params import Cancel, Chat, GetHistory, TeamChat
from backend.schema.results import CancelResult, History
from tekton_tui.app import TektonApp
from tekton_tui.widgets.composer.composer import Composer
from tekton_tui.widgets.composer.files import files_named, guessed_tokens, path_choices, read_files
from tests.tui.conftest import settle
from tests.tui.fake_client import NOW, FakeClient, answer, live, message
from tests.tui.test_console import screen_text

Maker = Callable[..., tuple[TektonApp, FakeClient]]
PNG = b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "notes.txt").write_text("line\n" * 400)
    (tmp_path / "two words.txt").write_text("x")
    (tmp_path / "plan.png").write_bytes(PNG)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "deep.md").write_text("deep")
    (tmp_path / ".hidden").write_text("h")
    os.mkfifo(tmp_path / "pipe")
    return tmp_path


def test_pasted_names_of_files_are_files_however_they_are_written(folder: Path) -> None:
    notes, two = folder / "notes.txt", folder / "two words.txt"
    for text in (
        f"{notes}",
        f"'{two}'",
        f'"{two}"',
        str(two).replace(" ", "\\ "),
        f"file://{str(two).replace(' ', '%20')}\r\n",
    ):
        assert files_named(text) in ([notes], [two]), text
    assert files_named(f"{notes}\n{two.parent}/plan.png") == [notes, folder / "plan.png"]
    assert files_named("~/notes.txt ./plan.png") == [notes, folder / "plan.png"]


@pytest.mark.parametrize(
    "text",
    ["", "notes.txt", "/", "/help", "/etc", "~nobody-here/x", "'/unclosed", "/absent/file.txt", "/a\x00b", "/" + "x" * 300,
     "/dev/null", "./pipe", "see ./notes.txt", "./notes.txt and more", "/" * 5000],
)  # fmt: skip
def test_other_pastes_are_text(folder: Path, text: str) -> None:
    assert files_named(text) == []


def test_a_path_is_completed_folder_by_folder(folder: Path) -> None:
    assert [choice.value for choice in path_choices("./")] == [
        "./sub/", "./notes.txt", "./plan.png", "./two\\ words.txt",
    ]  # fmt: skip
    assert [choice.value for choice in path_choices("./sub/d")] == ["./sub/deep.md"]
    assert [choice.value for choice in path_choices("./two\\ w")] == ["./two\\ words.txt"]
    assert [choice.value for choice in path_choices("~/.h")] == ["~/.hidden"]
    assert path_choices("/absent/") == path_choices("./notes.txt/") == []


def test_a_file_is_read_with_its_size_and_a_guess_of_its_tokens(folder: Path) -> None:
    notes, plan = read_files([folder / "notes.txt", folder / "plan.png"])
    assert isinstance(notes.part, TextPart) and notes.part.text.startswith("File notes.txt:\nline\n")
    assert notes.tokens is not None and 450 < notes.tokens < 550
    assert isinstance(plan.part, ImagePart) and (plan.size, plan.tokens) == (len(PNG), None)
    assert guessed_tokens("中" * 30) > guessed_tokens("a" * 30)


@pytest.mark.parametrize(
    ("name", "words"), [("absent", "No such file"), ("pipe", "is no file"), ("sub", "is no file")]
)
def test_what_is_no_file_is_refused_and_never_waited_for(folder: Path, name: str, words: str) -> None:
    with pytest.raises(NotAttached, match=words):
        read_files([folder / name])


def test_the_limit_counts_the_files_that_are_there_already(folder: Path) -> None:
    with pytest.raises(NotAttached, match="together"):
        read_files([folder / "notes.txt"], MAX_ATTACHED_BYTES - 100)


def test_files_of_a_stored_question_have_their_names(folder: Path) -> None:
    parts = [TextPart("What is it?"), *attach_files([folder / "notes.txt", folder / "plan.png"])]
    assert attachments_of(parts) == [Attachment("notes.txt", 2000), Attachment("plan.png", len(PNG))]
    assert attachments_of([TextPart("File under\nanything:\nelse")]) == []


@asynccontextmanager
async def writing(
    console: Maker, size: tuple[int, int] = (80, 24)
) -> AsyncGenerator[tuple[TektonApp, FakeClient, Pilot[Any], Composer]]:
    app, client = console(live("apollo", context_window=1_000, context_used=700), live("athena"))
    async with app.run_test(size=size, notifications=True) as pilot:
        await settle(pilot)
        app.commands.navigator.open_chat("apollo-ai")
        await settle(pilot, 10)
        yield app, client, pilot, app.query_one("#chat-apollo-ai Composer", Composer)


async def paste(app: TektonApp, pilot: Pilot[Any], text: str) -> None:
    app.post_message(events.Paste(text))
    await settle(pilot, 10)


async def test_a_pasted_path_is_a_chip_that_is_seen_sent_and_dropped_by_a_key(
    console: Maker, folder: Path
) -> None:
    async with writing(console) as (app, client, pilot, composer):
        await paste(app, pilot, f"{folder}/notes.txt {folder}/plan.png")
        text = screen_text(app)
        assert "▪ notes.txt 2K ≈504 tok" in text and "▪ plan.png 70B" in text
        assert "≈504 tok, 300 left" in text and composer.draft == ""
        await pilot.press("backspace")
        await settle(pilot)
        assert "plan.png" not in screen_text(app) and "notes.txt" in screen_text(app)
        await pilot.press(*"why", "enter")
        await settle(pilot)
        [chat] = client.called(Chat)
        assert chat.content == "why" and chat.parts is not None
        assert [type(part) for part in chat.parts] == [TextPart, TextPart]
        assert not composer.files and "notes.txt" not in screen_text(app)


async def test_what_a_refused_question_took_along_comes_back_with_it(console: Maker, folder: Path) -> None:
    async with writing(console) as (app, client, pilot, composer):
        client.answers[Chat] = TektonError("apollo does not run", code="not_running")
        await paste(app, pilot, str(folder / "plan.png"))
        await pilot.press(*"why", "enter")
        await settle(pilot, 10)
        assert composer.draft == "why" and [file.name for file in composer.files] == ["plan.png"]


async def test_a_path_behind_an_at_sign_is_completed_to_a_chip(console: Maker, folder: Path) -> None:
    async with writing(console) as (app, _client, pilot, composer):
        await pilot.press(*"look at @./s", "enter")
        await settle(pilot)
        assert composer.draft == "look at @./sub/" and "deep.md" in screen_text(app)
        await pilot.press("enter")
        await settle(pilot, 10)
        assert composer.draft == "look at " and [file.name for file in composer.files] == ["deep.md"]


async def test_the_verb_takes_a_file_with_and_without_a_question(console: Maker, folder: Path) -> None:
    async with writing(console) as (_app, client, pilot, composer):
        composer.draft = "/attach notes.txt"
        await pilot.press("enter")
        await settle(pilot, 10)
        assert composer.draft == "" and [file.name for file in composer.files] == ["notes.txt"]
        composer.draft = "/attach plan.png What is it?"
        await pilot.press("enter")
        await settle(pilot, 10)
        [chat] = client.called(Chat)
        assert chat.content == "What is it?" and chat.parts is not None and len(chat.parts) == 3


async def test_effort_is_said_by_verb_and_word_shown_and_sent(console: Maker, folder: Path) -> None:
    async with writing(console, (120, 40)) as (app, client, pilot, composer):
        for line in ("/effort high", "hello"):
            composer.draft = line
            await pilot.press("enter")
            await settle(pilot)
        assert "effort high" in screen_text(app)
        client.send(*answer("r1", "apollo-ai", "s-apollo-ai", "hello", "Yes."))
        await settle(pilot)
        await pilot.press("escape", ":", *"effort low", "enter")
        await settle(pilot)
        assert "effort low" in screen_text(app)
        composer.focus_field()
        for line in ("/effort hard", "/effort default", "again"):
            composer.draft = line
            await pilot.press("enter")
            await settle(pilot)
        assert any("'hard' is no effort" in notice.message for notice in app._notifications)  # pyright: ignore[reportPrivateUsage]
        efforts = [chat.options.effort if chat.options else None for chat in client.called(Chat)]
        assert efforts == ["high", None]
        assert "effort low" not in screen_text(app) and "effort high" not in screen_text(app)


async def test_files_of_questions_are_named_live_and_read_back(console: Maker, folder: Path) -> None:
    parts = [TextPart("What is it?"), *attach_files(["plan.png"])]
    stored = [
        message(1, "you", "What is it?", request_id="r0", parts=parts),
        message(2, "apollo-ai", "A dot.", request_id="r0"),
    ]
    app, client = console(live("apollo"))
    client.answers[GetHistory] = History("apollo-ai", "s-apollo-ai", stored)
    client.answers[Cancel] = CancelResult("tui-2", True, 0, 1.0)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await settle(pilot)
        app.commands.navigator.open_chat("apollo-ai")
        await settle(pilot, 10)
        assert "▪\u00a0plan.png\u00a070B" in screen_text(app)
        client.send(*answer("tui-1", "apollo-ai", "s-apollo-ai", "First?")[:1])
        client.send(
            TurnStarted(
                "tui-2", "apollo-ai", "s-apollo-ai", "Then?", NOW, attached=[Attachment("notes.txt", 2000)]
            )
        )
        await settle(pilot)
        await pilot.press("up")
        await settle(pilot)
        assert app.query_one(Composer).draft == "Then?"
        assert any("attach again: notes.txt" in notice.message for notice in app._notifications)  # pyright: ignore[reportPrivateUsage]


async def test_team_chat_takes_text_files_and_says_so_of_others(console: Maker, folder: Path) -> None:
    app, client = console(live("apollo"), live("athena"))
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await settle(pilot)
        await pilot.press("3")
        await settle(pilot, 10)
        await paste(app, pilot, str(folder / "plan.png"))
        assert any("takes text files only" in notice.message for notice in app._notifications)  # pyright: ignore[reportPrivateUsage]
        await paste(app, pilot, str(folder / "sub" / "deep.md"))
        await pilot.press(*"why", "enter")
        await settle(pilot)
        assert [ask.content for ask in client.called(TeamChat)] == ["File deep.md:\ndeep\n\nwhy"]

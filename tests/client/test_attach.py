"""Which backend of a home lives, by the facts it left there."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import msgspec
import psutil
import pytest

from backend.client.attach import backend_process, living_backend, locate
from backend.client.connection import RemoteError
from backend.home import Home
from backend.identity import own_identity

URL = "http://127.0.0.1:1"
TICKS, LINUX = own_identity().metadata(), sys.platform == "linux"
OURS = psutil.Process().create_time()


@pytest.mark.parametrize(
    ("facts", "lives"),
    [
        (None, False),
        ("{", False),
        ({"url": URL, "pid": os.getpid(), "process_start": OURS}, True),
        ({"url": URL, "pid": os.getpid()}, True),
        ({"url": URL, "pid": os.getpid(), "process_start": OURS - 60.0}, False),
        ({"url": URL, "pid": 2**22 + 1, "process_start": OURS}, False),
        # the clock was set by an hour since it wrote them, or the machine was started anew
        ({"url": URL, "pid": os.getpid(), "process_start": OURS - 3600.0, **TICKS}, LINUX),
        (
            {"url": URL, "pid": os.getpid(), "process_start": OURS - 3600.0, **TICKS, "boot_id": "other"},
            False,
        ),
    ],
    ids=[
        "no facts",
        "no JSON",
        "lives",
        "of an older version",
        "another process of that pid",
        "gone",
        "the clock was set",
        "the machine was started anew",
    ],
)
def test_a_backend_lives_when_the_process_that_left_its_facts_does(
    tmp_path: Path, facts: dict[str, object] | str | None, lives: bool
) -> None:
    home = Home(tmp_path / "home").prepare()
    if facts is not None:
        text = facts if isinstance(facts, str) else msgspec.json.encode(facts).decode()
        home.backend_facts.write_text(text)
    assert living_backend(home) == (os.getpid() if lives else 0)
    found = backend_process(home, URL)
    assert (found is not None and found.pid == os.getpid()) == lives
    assert backend_process(home, "http://127.0.0.1:2") is None


def test_where_no_backend_left_its_facts_none_runs(tmp_path: Path) -> None:
    with pytest.raises(RemoteError, match="no backend runs") as error:
        locate(Home(tmp_path / "home").prepare())
    assert error.value.code == "backend_lost"


def test_of_several_gateways_the_living_are_asked_and_a_single_one_in_any_case(tmp_path: Path) -> None:
    """One alone is tried though its process is gone: what it answers, or that it does not, is what the caller is told."""
    home = Home(tmp_path / "home").prepare()
    home.token.write_text("a-token")
    gone = {"url": URL, "pid": 2**22 + 1, "process_start": OURS}
    home.backend_facts.write_bytes(msgspec.json.encode(gone))
    assert locate(home) == (URL, "a-token")
    ours = {"url": "http://127.0.0.1:2", "pid": os.getpid(), "process_start": OURS}
    home.backend_facts.with_name("backend-2.json").write_bytes(msgspec.json.encode(ours))
    assert locate(home) == ("http://127.0.0.1:2", "a-token")


def test_the_backend_of_a_home_is_not_that_of_its_copy_but_of_every_other_name_it_goes_by(
    tmp_path: Path,
) -> None:
    home, copied = Home(tmp_path / "home").prepare(), Home(tmp_path / "copy").prepare()
    (tmp_path / "link").symlink_to(home.root)
    facts = {"url": URL, "pid": os.getpid(), "process_start": OURS, "home": str(home.root)}
    for one in (home, copied):
        one.token.write_text("a-token")
        one.backend_facts.write_bytes(msgspec.json.encode(facts))
    assert [living_backend(one) for one in (home, Home(tmp_path / "link"), copied)] == [os.getpid()] * 2 + [0]
    with pytest.raises(RemoteError, match="no backend runs"):
        locate(copied)
    shutil.move(home.root, tmp_path / "moved")
    assert living_backend(Home(tmp_path / "moved")) == os.getpid()

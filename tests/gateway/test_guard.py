"""What the guard makes of the place a call comes from, before it looks at any token."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.requests import HTTPConnection

from backend.config import Settings
from backend.gateway.auth import Guard, Refused
from backend.home import Home

HOST = "127.0.0.1:8100"


@pytest.fixture
def guard(tmp_path: Path) -> Guard:
    return Guard(Home(tmp_path / "home").prepare(), Settings(), "127.0.0.1")


def call(**headers: str) -> HTTPConnection:
    pairs = {"host": HOST, **{name.replace("_", "-"): value for name, value in headers.items()}}
    raw = [(name.encode(), value.encode()) for name, value in pairs.items()]
    return HTTPConnection({"type": "http", "headers": raw})


@pytest.mark.parametrize("site", ["cross-site", "same-site", "nonsense"])
def test_a_browser_that_calls_for_a_page_of_another_place_is_refused_without_an_origin_too(
    guard: Guard, site: str
) -> None:
    with pytest.raises(Refused, match="a web page of another place") as refused:
        guard.check_place(call(sec_fetch_site=site))
    assert refused.value.status == 403


@pytest.mark.parametrize("site", ["none", "same-origin"])
def test_a_person_s_own_tab_and_a_page_of_ours_may_call(guard: Guard, site: str) -> None:
    guard.check_place(call(sec_fetch_site=site))
    guard.check_place(call(sec_fetch_site=site, origin=f"http://{HOST}"))
    guard.check_place(call())

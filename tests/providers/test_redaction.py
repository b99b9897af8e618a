"""Secrets are taken out of whatever is shown, stored or logged; everything else stays."""

from __future__ import annotations

import pytest

from backend.log import MARK, redact

SECRET = "sk-ant-api03-AbCdEf0123456789"


@pytest.mark.parametrize(
    "text",
    [
        f"Authorization: Bearer {SECRET}",
        f"authorization: {SECRET}",
        f'{{"x-api-key": "{SECRET}"}}',
        f"{{'api_key': '{SECRET}'}}",
        f"ANTHROPIC_API_KEY={SECRET}",
        f"Incorrect API key provided: {SECRET}.",
        f"https://me:{SECRET}@models.example.com/v1",
        f"GET /models?token={SECRET}&x=1",
        f"proxy-authorization: Basic {SECRET}",
        f"MY_PASSWORD: {SECRET}",
    ],
)
def test_what_looks_like_a_secret_goes_and_its_name_stays(text: str) -> None:
    shown = redact(text)
    assert SECRET not in shown and MARK in shown
    assert shown.split(SECRET)[0][:6] == text[:6]


@pytest.mark.parametrize(
    "secret",
    ["sk-1234567890abc", "ghp_0123456789abcdefghij", "AKIA0123456789ABCDEF", "xoxb-123456789-abc", "hf_0123456789abcdefghij",
     "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"],
)  # fmt: skip
def test_keys_known_by_their_look_go_wherever_they_stand(secret: str) -> None:
    assert secret not in redact(f"it said {secret} was wrong")


def test_a_secret_that_looks_like_nothing_goes_when_it_is_named() -> None:
    assert redact("the word is plum", "plum", "") == f"the word is {MARK}"


def test_plain_text_stays_as_it_is() -> None:
    plain = "HTTP 429\ntokens: 12 of 100; the key idea: http://127.0.0.1:11434 and token0 are fine, sk- is not a key"
    assert redact(plain) == plain

"""One count of what waits, for every surface."""

from __future__ import annotations

from backend.schema.attention import AttentionItem, Waiting, count_waiting

NOW = 1_795_000_000.0


def test_what_waits_what_failed_and_what_was_answered_are_three_numbers_and_snoozed_ones_are_of_none() -> (
    None
):
    kinds = ("asks", "stalled", "budget", "down", "error", "error", "done")
    items = [AttentionItem(f"{kind}:{n}", kind, "a", NOW, kind, "why") for n, kind in enumerate(kinds)]
    items.append(AttentionItem("asks:9", "asks", "a", NOW, "asks", "why", snoozed_until=NOW + 60))
    items.append(AttentionItem("down:9", "down", "a", NOW, "down", "why", snoozed_until=NOW - 1))
    counts = count_waiting(items, NOW)
    assert counts == Waiting(3, 4, 1, 1)
    assert counts.words == ["3 wait for you", "4 failed", "1 finished unseen", "1 snoozed"]
    assert count_waiting([], NOW).words == [] and count_waiting(items[:1], NOW).words == ["1 waits for you"]

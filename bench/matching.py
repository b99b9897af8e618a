"""Measure matching: first places on requests the model was not fitted to, and the time a match takes.

Run: python bench/matching.py [--misses]. `--misses` prints those of the training half; the held-out half stays unseen.
"""

from __future__ import annotations

import random
import statistics
import sys
import time
import tomllib
from pathlib import Path

from backend import catalog as catalog_module
from backend.catalog import Catalog, Component
from backend.config import Settings
from backend.matching.matcher import Matcher

REQUESTS = Path(__file__).with_name("matching_requests.toml")
GOAL_FIRST = 0.93
GOAL_SMALL_MS, GOAL_LARGE_MS = 5.0, 50.0
MANY = 10_000


def accuracy(matcher: Matcher, requests: list[tuple[str, set[str]]], *, misses: bool) -> tuple[float, float]:
    """Return the shares of requests whose right specialist came first, and among the first three."""
    first = three = 0
    for text, right in requests:
        ranked = [match.id.removesuffix("-ai") for match in matcher.match(text, limit=3)]
        first += ranked[0] in right
        three += bool(right & set(ranked))
        if misses and ranked[0] not in right:
            print(f"  {'/'.join(sorted(right)):<12} {text!r} -> {ranked}")
    return first / len(requests), three / len(requests)


def times(matcher: Matcher, requests: list[str]) -> tuple[float, float]:
    """Return median and 99th percentile in milliseconds, every request once, unseen before."""
    taken: list[float] = []
    for text in requests:
        began = time.perf_counter()
        matcher.match(text)
        taken.append((time.perf_counter() - began) * 1000)
    return statistics.median(taken), statistics.quantiles(taken, n=100)[98]


def crowd(shipped: Catalog) -> Catalog:
    """Return a catalogue of the shipped specialists and thousands of others with texts like theirs."""
    rng = random.Random(3)
    rows = list(shipped)
    words = [word for row in rows for word in f"{row.persona} {row.description}".split()]
    capabilities = [capability for row in rows for capability in row.capabilities]
    for number in range(MANY - len(rows)):
        rows.append(
            Component(
                name=f"own{number}",
                title=" ".join(rng.sample(words, 3)),
                description=" ".join(rng.sample(words, 12)),
                persona=" ".join(rng.sample(words, 70)),
                capabilities=rng.sample(capabilities, 8),
                own=True,
            )
        )
    return Catalog(rows, {})


def main() -> None:
    misses = "--misses" in sys.argv
    halves = tomllib.loads(REQUESTS.read_text(encoding="utf-8"))
    shipped = catalog_module.load(Settings())
    matcher = Matcher(shipped)
    for half in ("training", "held_out"):
        requests = [(text, {name}) for name, texts in halves[half].items() for text in texts]
        first, three = accuracy(matcher, requests, misses=misses and half == "training")
        verdict = (
            ""
            if half == "training"
            else f"goal {GOAL_FIRST:.0%}: {'reached' if first >= GOAL_FIRST else 'MISSED'}"
        )
        print(f"{half:<10} {len(requests)} requests: first {first:.1%}, among three {three:.1%}  {verdict}")
    either = [(entry["text"], set(entry["ids"])) for entry in halves["either"]]
    print(f"{'either':<10} {len(either)} requests: first {accuracy(matcher, either, misses=misses)[0]:.1%}")

    texts = [text for half in ("training", "held_out") for group in halves[half].values() for text in group]
    texts += [f"{a}, and {b}" for a, b in zip(texts, texts[7:], strict=False)]
    fresh = Matcher(shipped)
    middle, worst = times(fresh, texts)
    print(f"19 specialists: median {middle:.3f} ms, p99 {worst:.3f} ms  goal {GOAL_SMALL_MS} ms")
    many = crowd(shipped)
    began = time.perf_counter()
    large = Matcher(many)
    print(f"index of {MANY:,} built in {time.perf_counter() - began:.2f} s")
    middle, worst = times(large, texts)
    print(f"{MANY:,} specialists: median {middle:.3f} ms, p99 {worst:.3f} ms  goal {GOAL_LARGE_MS} ms")


if __name__ == "__main__":
    main()

"""Fit the model that matching ships, `backend/matching/model.json`, by counting words.

Counted are the training requests of `matching_requests.toml`, the vocabulary and the texts of the catalogue: the same
files give the same model, byte for byte. A test says when it is out of date. The held-out requests are not read.

Run: make fit
"""

from __future__ import annotations

import json
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

from backend import catalog as catalog_module
from backend.config import Settings
from backend.matching.model import FILE, Model, features
from backend.matching.tokenizer import words
from backend.matching.vocabulary import GAP, everyday

REQUESTS = Path(__file__).with_name("matching_requests.toml")
KIND_SHARES = {"strong": 1.0, "words": 0.5, "weak": 0.2}
"""How often a word of the vocabulary counts as seen, by its kind."""
LEAST_PAIRS = 2
"""Pairs of words found in fewer texts are left out."""


def examples() -> Iterator[tuple[str, str, float]]:
    """Yield texts with the specialist's name, and how much each counts."""
    for name, texts in tomllib.loads(REQUESTS.read_text(encoding="utf-8"))["training"].items():
        yield from ((text, name, 1.0) for text in texts)
    for name, entry in everyday().items():
        yield from ((phrase.replace(GAP, "it"), name, 1.0) for phrase in entry.phrases)
        for kind, share in KIND_SHARES.items():
            yield from ((word, name, share) for word in getattr(entry, kind).split())
    for row in catalog_module.load(Settings()):
        for text in [*row.capabilities, row.description, row.title, row.name.replace("_", " ")]:
            yield text, row.name, 1.0


def fit() -> Model:
    """Count, for every stem and pair, how often it comes with each specialist."""
    texts = [(list(features(words(text))), name, share) for text, name, share in examples()]
    found = Counter(feature for seen, _, _ in texts for feature, _ in seen)
    names = [row.name for row in catalog_module.load(Settings())]
    totals, counts = [0.0] * len(names), defaultdict[str, defaultdict[int, float]](lambda: defaultdict(float))
    for seen, name, share in texts:
        place = names.index(name)
        for feature, part in seen:
            if " " not in feature or found[feature] >= LEAST_PAIRS:
                counts[feature][place] += share * part
                totals[place] += share * part
    rounded = {
        text: {at: round(n, 2) for at, n in sorted(row.items())} for text, row in sorted(counts.items())
    }
    return Model(names, [round(total, 2) for total in totals], rounded)


def encoded(model: Model) -> str:
    """Return the model as JSON, a line for each stem or pair, so that a change can be read."""
    rows = ",\n".join(
        f"{json.dumps(text)}:{json.dumps(row, separators=(',', ':'))}" for text, row in model.counts.items()
    )
    return f'{{"names":{json.dumps(model.names)},\n"totals":{json.dumps(model.totals)},\n"counts":{{\n{rows}\n}}}}\n'


def main() -> None:
    model = fit()
    target = Path(str(resources.files("backend.matching").joinpath(FILE)))
    target.write_text(encoded(model), encoding="utf-8")
    print(f"{len(model.counts)} stems and pairs, {target.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()

"""Fit the table by which matching knows word meanings: `backend/orchestration/affinity.bin`.

A linear classifier over (a) the mean meaning of a request's words, as the sentence model all-MiniLM-L6-v2
(Apache-2.0) embeds each word alone, and (b) the word sequences seen in the tuning half of `matching_requests.toml`, in
the phrases of `matching.toml` and in the catalogue's capabilities. Being linear, it folds into one row of numbers a
word; the sentence model is not needed afterwards.

Run: python bench/fit_matching.py WORDS.npz    with arrays `words` and `vectors` (one row a word, unit length, words
from frequent to rare). Needs numpy, which the product does not.
"""

from __future__ import annotations

import sys
import tomllib
from collections import Counter
from importlib import resources
from pathlib import Path

import msgspec
import numpy as np

from backend import catalog as catalog_module
from backend.config import Settings
from backend.orchestration.affinity import TABLE, Table, sequences
from backend.orchestration.vocabulary import everyday
from backend.orchestration.words import words
from backend.stemming import stem

REQUESTS = Path(__file__).with_name("matching_requests.toml")
DIMENSIONS = 256
MEANING_SHARE, SEQUENCE_SHARE = 4.0, 3.0
PHRASE_WEIGHT = 0.2
SMALLEST_COUNT = 2
PENALTY, STEPS, RATE = 2e-4, 400, 0.05
FREQUENCY_FLOOR = 1e-3
HEAD_RANK = 20.0


def examples() -> list[tuple[str, str, float]]:
    """Return texts with the specialist's name and the weight they have in fitting."""
    tuning = tomllib.loads(REQUESTS.read_text(encoding="utf-8"))["tuning"]
    found = [(text, name, 1.0) for name, texts in tuning.items() for text in texts]
    for name, entry in everyday().items():
        found += [(phrase.replace("*", "it"), name, PHRASE_WEIGHT) for phrase in entry.phrases]
    for row in catalog_module.load(Settings()):
        found += [(text, row.name, PHRASE_WEIGHT) for text in [*row.capabilities, row.description]]
    return found


def meanings(path: str) -> tuple[list[str], np.ndarray]:
    """Return words and their vectors: centred, without the commonest direction, rarer words longer."""
    loaded = np.load(path)
    known, vectors = [str(word) for word in loaded["words"]], loaded["vectors"].astype(np.float64)
    vectors -= vectors.mean(0)
    _, _, directions = np.linalg.svd(vectors, full_matrices=False)
    vectors = vectors @ directions[1 : DIMENSIONS + 1].T
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True) + 1e-9
    frequency = 1 / ((np.arange(len(known)) + HEAD_RANK) * np.log(len(known)))
    return known, vectors * (FREQUENCY_FLOOR / (FREQUENCY_FLOOR + frequency))[:, None] * MEANING_SHARE


def fit(x: np.ndarray, y: np.ndarray, weight: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return weights and biases of a multinomial logistic regression (Adam, full batch)."""
    w, b = np.zeros((x.shape[1], classes)), np.zeros(classes)
    moments = [np.zeros_like(w), np.zeros_like(w), np.zeros_like(b), np.zeros_like(b)]
    target, weight = np.eye(classes)[y], weight / weight.sum()
    for step in range(1, STEPS + 1):
        z = x @ w + b
        p = np.exp(z - z.max(1, keepdims=True))
        gradient = (p / p.sum(1, keepdims=True) - target) * weight[:, None]
        rate = RATE * (1 - 0.9 * step / STEPS)
        for index, (value, slope) in enumerate(((w, x.T @ gradient + PENALTY * w), (b, gradient.sum(0)))):
            moments[2 * index] = 0.9 * moments[2 * index] + 0.1 * slope
            moments[2 * index + 1] = 0.999 * moments[2 * index + 1] + 0.001 * slope**2
            mean, spread = moments[2 * index] / (1 - 0.9**step), moments[2 * index + 1] / (1 - 0.999**step)
            value -= rate * mean / (np.sqrt(spread) + 1e-8)
    return w, b


def main(path: str) -> None:
    known, vectors = meanings(path)
    place = {word: index for index, word in enumerate(known)}
    names = [row.name for row in catalog_module.load(Settings())]
    given = examples()
    spoken = [words(text) for text, _, _ in given]
    grams = [set(sequences([stem(word) for word in said])) for said in spoken]
    counted = Counter(gram for found in grams for gram in found)
    column = {gram: i for i, gram in enumerate(g for g, n in counted.items() if n >= SMALLEST_COUNT)}
    x = np.zeros((len(given), DIMENSIONS + len(column)))
    for row, (said, found) in enumerate(zip(spoken, grams, strict=True)):
        rows = [place[word] for word in said if word in place]
        if rows:
            x[row, :DIMENSIONS] = vectors[rows].sum(0) / np.sqrt(len(rows))
        for gram in found:
            if gram in column:
                x[row, DIMENSIONS + column[gram]] = SEQUENCE_SHARE / np.sqrt(len(said))
    y = np.array([names.index(name) for _, name, _ in given])
    w, b = fit(x, y, np.array([weight for *_, weight in given]), len(names))
    table = np.vstack([vectors @ w[:DIMENSIONS], w[DIMENSIONS:] * SEQUENCE_SHARE])
    scale = float(np.abs(table).max()) / 127
    values = np.round(table / scale).astype(np.int8).tobytes()
    file = Table(names, [float(v) for v in b], scale, "\n".join(known), "\n".join(column), values)
    target = Path(str(resources.files("backend.orchestration").joinpath(TABLE)))
    target.write_bytes(msgspec.msgpack.encode(file))
    right = float(((x @ w + b).argmax(1) == y)[: len(given)].mean())
    print(f"{len(known)} words, {len(column)} sequences, {target.stat().st_size:,} bytes; fits {right:.1%}")


if __name__ == "__main__":
    main(sys.argv[1])

"""Less to send to a client that is behind: what happens now is not to wait for all that it missed.

Pieces of one turn that wait together are joined, and long texts of turns under way are taken out of a snapshot and sent behind
it: a snapshot is one message, which nothing can overtake. Pure functions; they know no connection.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from backend.schema.events import Snapshot, TurnText
from backend.schema.frames import StreamChunk
from backend.schema.records import ActiveTurn
from backend.wire import encoder

WHOLE_CHARS = 16 * 1024
"""A snapshot whose turns have no more text than this, all together, is sent whole."""
TAIL_CHARS = 400
"""What of a longer text goes with the snapshot: its newest words, which a screen shows."""
PIECE_CHARS = 4 * 1024
"""Characters of one piece. What happens meanwhile waits for one of them, at most."""


_CHUNK, _HEAD_BYTES = b'"type":"stream_chunk"', 60
"""What a chunk's line has behind its number."""


class _Chunk(Struct):
    """A `StreamChunk` with its number."""

    seq: int
    request_id: str
    content: str
    chunk_index: int
    pieces: int = 1


class _OfTurn(Struct):
    """What an event says of the turn it is of; empty for one of no turn."""

    request_id: str | None = ""


class _Joined(NamedTuple):
    """Chunks of one turn, and the place of the last one among the lines of a frame."""

    at: int
    chunks: list[_Chunk]


_read_chunk = msgspec.json.Decoder(_Chunk).decode
_read_turn = msgspec.json.Decoder(_OfTurn).decode


def join_chunks(blocks: Sequence[bytes], size: int) -> list[bytes]:
    """Return blocks of numbered events as frames of about `size` bytes, in which the chunks of each turn are joined.

    A joined chunk has the number and the place of its last one. A frame is read whole or not at all, so whoever resumes after
    the last number of a frame has everything up to it.
    """
    frames: list[bytes] = []
    lines: list[bytes] = []
    open_: dict[str, _Joined] = {}
    used = 0
    for line in b"\n".join(blocks).split(b"\n"):
        if used > size:
            frames.append(_frame(lines, open_))
            lines, open_, used = [], {}, 0
        if _CHUNK not in line[:_HEAD_BYTES]:
            # What else happens in a turn stays between the chunks before and after it.
            if open_ and (joined := open_.pop(_read_turn(line).request_id or "", None)):
                lines[joined.at] = _line(joined)
            lines.append(line)
            used += len(line)
            continue
        chunk = _read_chunk(line)
        chunks: list[_Chunk] = []
        if joined := open_.get(chunk.request_id):
            chunks = joined.chunks
            lines[joined.at] = b""
        chunks.append(chunk)
        open_[chunk.request_id] = _Joined(len(lines), chunks)
        lines.append(line)
        used += len(chunk.content) if joined else len(line)
    return [*frames, _frame(lines, open_)]


def _frame(lines: list[bytes], open_: dict[str, _Joined]) -> bytes:
    for joined in open_.values():
        lines[joined.at] = _line(joined)
    return b"\n".join(filter(None, lines))


def _line(joined: _Joined) -> bytes:
    first, last = joined.chunks[0], joined.chunks[-1]
    whole = StreamChunk(
        last.request_id,
        "".join(chunk.content for chunk in joined.chunks),
        first.chunk_index,
        sum(chunk.pieces for chunk in joined.chunks),
    )
    # The number is the first key, by which clients find it.
    return b'{"seq":%d,%b' % (last.seq, encoder.encode(whole)[1:])


def split(snapshot: Snapshot) -> tuple[Snapshot, Iterator[TurnText]]:
    """Return the snapshot without long texts, and these in pieces, turn by turn.

    A turn that has called tools stays whole, because its text is part of the order of its calls.
    """
    if sum(len(turn.content) + len(turn.reasoning) for turn in snapshot.turns) <= WHOLE_CHARS:
        return snapshot, iter(())
    plain = [turn for turn in snapshot.turns if not turn.parts]
    turns = [turn if turn.parts else _shortened(turn) for turn in snapshot.turns]
    return replace(snapshot, turns=turns), (piece for turn in plain for piece in _pieces(turn))


def _cut(turn: ActiveTurn) -> int:
    """Return how many characters of the turn are left out."""
    return max(0, len(turn.content) - TAIL_CHARS) + max(0, len(turn.reasoning) - TAIL_CHARS)


def _shortened(turn: ActiveTurn) -> ActiveTurn:
    return replace(
        turn,
        content=turn.content[-TAIL_CHARS:],
        reasoning=turn.reasoning[-TAIL_CHARS:],
        left_out=_cut(turn),
    )


def _pieces(turn: ActiveTurn) -> Iterator[TurnText]:
    left = _cut(turn)
    for name, text in (("reasoning", turn.reasoning), ("content", turn.content)):
        for start in range(0, len(text) - TAIL_CHARS, PIECE_CHARS):
            piece = text[start : min(start + PIECE_CHARS, len(text) - TAIL_CHARS)]
            left -= len(piece)
            yield TurnText(turn.request_id, **{name: piece}, left=left)

"""What a turn sent its model, taken apart; and how that differs from the turn before. Pure.

The parts are those that `backend.worker.prompt` puts together. Where a piece of context was cut there, the cut stands
here as well.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b

import msgspec
from msgspec import Struct

from backend.log import redact
from backend.memory.windowing import ATTACHMENT_TOKENS, Window
from backend.orchestration.turns.history import NO_ANSWER
from backend.schema import content
from backend.schema.frames import Request, TurnContext
from backend.schema.records import StoredMessage
from backend.schema.sent import SentChange, SentKind, SentPart, SentReport, SentTurn
from backend.worker.prompt import MAX_FACTS_CHARS, MAX_MEMORY_CHARS, MAX_OUTPUT_CHARS, material

MAX_DIFF_LINES = 200
MAX_DIFFED_CHARS = 100_000
"""Of texts that are compared line by line; of longer ones only that they differ is said."""

Count = Callable[[str], int]


class Sending(Struct):
    """What is known of a request while its turn runs: enough to take it apart at the end.

    `persona` is the one its worker began with. `window` is what was chosen of the session, `None` where the caller keeps
    the conversation.
    """

    request: Request
    ai_id: str
    session_id: str
    persona: str
    model: str
    context_window: int
    at: float
    count: Count
    window: Window | None = None
    own_tools: Sequence[str] = ()

    def texts(self) -> list[str]:
        """Return the texts that the model reads."""
        sent = self.request
        context = msgspec.json.encode(sent.context).decode() if sent.context else ""
        behind = (sent.instruction or "") + (sent.system or "")
        return [
            self.persona,
            *(text for m in sent.messages or () for text in content.texts_of(m.content, m.parts)),
            sent.prompt,
            behind,
            context,
        ]


def taken_apart(sending: Sending, counted: int = 0) -> SentTurn:
    """Return the request of a turn by parts; `counted` is what the provider counted of it."""
    request, parts = sending.request, list[SentPart]()
    count = sending.count

    def add(kind: SentKind, text: str, *, role: str = "", source: str = "", message_id: int = 0) -> None:
        if text:
            parts.append(SentPart(kind, text, count(text), role, source, message_id, digest(text)))

    if request.persona:
        add("persona", sending.persona)
    add("instructions", request.system or "", source="the caller")
    for tool in request.options.offered if request.options else ():
        add("tools", msgspec.json.encode(tool).decode(), source=tool.name)
    if not (request.options and request.options.tools) and request.persona:
        for name in sending.own_tools:
            parts.append(
                SentPart("tools", source=name, missing="its description is its server's", digest=digest(name))
            )
    if sending.window is not None:
        for message in sending.window.pinned:  # one of another specialist's is not sent as it is stored
            add("pinned", message.content, role=_role(message), source=message.author)
            parts += _attached(message.parts)
        for message in sending.window.newest:
            text = _words_of(message)
            number = 0 if message.content == NO_ANSWER or text != message.content else message.id
            add("history", text, role=_role(message), source=message.author, message_id=number)
            parts += _attached(message.parts)
    else:
        for message in request.messages or ():
            add("history", _words_of(message), role=message.role, source="the caller")
            parts += _attached(message.parts)
    if request.context is not None:
        _add_context(request.context, request.prompt, add)
    add("instruction", request.instruction or "")
    add("prompt", request.prompt, role="user")
    parts += _attached(request.parts or ())
    add("prefill", request.prefill or "", role="assistant")
    left_out: list[str] = []
    if request.context is not None:
        material(request.context, request.prompt, left_out)
    return SentTurn(
        request_id=request.request_id or "",
        ai_id=sending.ai_id,
        session_id=sending.session_id,
        at=sending.at,
        model=sending.model,
        window=sending.context_window,
        counted=counted,
        options=_options(request),
        parts=parts,
        left_out=left_out,
    )


def _role(message: StoredMessage) -> str:
    return "assistant" if message.role == "assistant" else "user"


def digest(text: str) -> str:
    """Return what stands for a text."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def changes(turn: SentTurn, before: SentTurn) -> list[SentChange]:
    """Return how a turn's parts differ from those of another, by kind in the order of the request; equal ones are left out."""
    kinds: list[SentKind] = list(dict.fromkeys(part.kind for part in (*turn.parts, *before.parts)))
    found: list[SentChange] = []
    for kind in kinds:
        now = [part for part in turn.parts if part.kind == kind]
        then = [part for part in before.parts if part.kind == kind]
        added, removed = _without(now, then), _without(then, now)
        if added or removed:
            tokens = sum(part.tokens for part in now) - sum(part.tokens for part in then)
            lines = _lines(removed[0], added[0]) if len(added) == len(removed) == 1 else []
            found.append(SentChange(kind, len(added), len(removed), tokens, lines))
    return found


def masked(report: SentReport, secrets: Sequence[str]) -> SentReport:
    """Return a report in which what looks like a key, and each of some secrets, is masked."""
    turn = report.turn
    parts = [msgspec.structs.replace(part, text=redact(part.text, *secrets)) for part in turn.parts]
    told = [
        msgspec.structs.replace(change, lines=[redact(line, *secrets) for line in change.lines])
        for change in report.changes
    ]
    return msgspec.structs.replace(report, turn=msgspec.structs.replace(turn, parts=parts), changes=told)


def _without(parts: Sequence[SentPart], others: Sequence[SentPart]) -> list[SentPart]:
    """Return the parts that are not among the others, each as often as it is more."""
    left = Counter(part.digest for part in others)
    found: list[SentPart] = []
    for part in parts:
        if left[part.digest]:
            left[part.digest] -= 1
        else:
            found.append(part)
    return found


def _lines(then: SentPart, now: SentPart) -> list[str]:
    if not (then.text and now.text) or len(then.text) + len(now.text) > MAX_DIFFED_CHARS:
        return []
    told = difflib.unified_diff(then.text.splitlines(), now.text.splitlines(), n=0, lineterm="")
    return [line for line in told if not line.startswith(("---", "+++", "@@"))][:MAX_DIFF_LINES]


def _add_context(context: TurnContext, prompt: str, add: Callable[..., None]) -> None:
    add("facts", context.facts[:MAX_FACTS_CHARS], source="the platform")
    for output in context.previous:
        add("outputs", output.content[:MAX_OUTPUT_CHARS], source=output.specialist_id)
    if context.original_input and context.original_input not in prompt:
        add("input", context.original_input[:MAX_OUTPUT_CHARS], source="the operator")
    add("summary", context.summary[:MAX_OUTPUT_CHARS], source="earlier conversation")
    for memory in context.memories:
        add("memories", memory.content[:MAX_MEMORY_CHARS], source=memory.who)


def _attached(parts: Iterable[content.Part]) -> list[SentPart]:
    """Return images and files by what they are; their bytes are not kept here."""
    found: list[SentPart] = []
    for part in parts:
        if isinstance(part, content.ImagePart | content.FilePart):
            size = part.size or content.size_of(part.data)
            words = ", ".join(filter(None, (part.media_type, f"{size:,} bytes" if size else part.url)))
            name = part.name or ("image" if isinstance(part, content.ImagePart) else "file")
            mark = digest(part.data or part.url or f"{name} {size}")
            found.append(SentPart("attachments", words, ATTACHMENT_TOKENS, source=name, digest=mark))
        elif isinstance(part, content.ToolResult):
            found += _attached(part.parts)
    return found


def _words_of(message: content.ChatMessage | StoredMessage) -> str:
    """Return a message's text with its tool calls and their results."""
    said = [message.content]
    for part in message.parts:
        if isinstance(part, content.ToolCall):
            said.append(f"calls {part.name} with {part.arguments}")
        elif isinstance(part, content.ToolResult):
            said.append(f"result of {part.name or part.call_id}: {part.content}")
    return "\n".join(filter(None, said))


def _options(request: Request) -> dict[str, object]:
    """Return the wishes of a request by name, tools left out."""
    wishes: dict[str, object] = {"temperature": request.temperature, "max_tokens": request.max_tokens}
    if request.options is not None:
        wishes |= msgspec.to_builtins(msgspec.structs.replace(request.options, tools=[]))
    return {name: value for name, value in wishes.items() if value not in (None, [], {})}

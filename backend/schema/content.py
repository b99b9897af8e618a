"""What a message holds beside plain text, and how an answer is wished for: one form for every vendor and dialect.

A message keeps three roles; results of tools are parts of a user's message. `content` always holds the plain text, so
whoever knows no parts reads what a person would read. Arguments of tools stay the text the model wrote: encoding an
object anew would change its bytes. A part's kind is its `type` on the wire.
"""

from __future__ import annotations

import binascii
from collections.abc import Iterable
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
"""How hard a model is to think before it answers; `none` asks it not to."""
MAX_TOOLS = 512
MAX_TOP_LOGPROBS = 20
MAX_TOOL_NAME = 128


class TextPart(Struct, tag="text", omit_defaults=True):
    """`phase` is `commentary` or `final_answer` where a vendor tells them apart."""

    text: str
    phase: str = ""


class ImagePart(Struct, tag="image", omit_defaults=True):
    """`data` in base64, or `url` where the upstream is to fetch it. `size` in bytes, kept where `data` is left out."""

    media_type: str = ""
    data: str = ""
    url: str = ""
    detail: str = ""
    name: str = ""
    size: int = 0


class FilePart(Struct, tag="file", omit_defaults=True):
    """As `ImagePart`; text files hold their text in base64 as well."""

    name: str = ""
    media_type: str = ""
    data: str = ""
    url: str = ""
    size: int = 0


class ReasoningPart(Struct, tag="reasoning", omit_defaults=True):
    """Thinking of a model. `signature` is opaque and goes back to `origin` (`provider:model`) alone, unchanged.

    `redacted`: there is no text, and the signature stands for all of it. `id` is the vendor's name for it.
    """

    text: str = ""
    id: str = ""
    signature: str = ""
    origin: str = ""
    redacted: bool = False


class ToolCall(Struct, tag="tool_call", omit_defaults=True):
    """A model asks for a tool. `arguments` is JSON as the model wrote it, which may be none."""

    id: str
    name: str
    arguments: str = "{}"


class ToolResult(Struct, tag="tool_result", omit_defaults=True):
    """What a tool gave back to the call `call_id`; `parts` where it is more than text.

    `took_ms` is how long it ran, without any waiting, and `size` the bytes it gave before it was shortened; both are 0
    where a caller ran it.
    """

    call_id: str
    content: str = ""
    name: str = ""
    is_error: bool = False
    parts: list[TextPart | ImagePart | FilePart] = []
    took_ms: float = 0.0
    size: int = 0


class RefusalPart(Struct, tag="refusal"):
    """Words with which a model declined."""

    text: str


class OpaquePart(Struct, tag="opaque", omit_defaults=True):
    """What only `origin` understands: kept, and given back to it alone."""

    origin: str
    value: dict[str, Any] = {}


Part = TextPart | ImagePart | FilePart | ReasoningPart | ToolCall | ToolResult | RefusalPart | OpaquePart


class ChatMessage(Struct, omit_defaults=True):
    """One message of a conversation as a provider takes it. Without `parts` it is plain text."""

    role: Literal["system", "user", "assistant"]
    content: str
    parts: list[Part] = []


class ToolSpec(Struct, omit_defaults=True):
    """A tool a model may ask for. `parameters` is the JSON schema of its arguments."""

    name: Annotated[str, Meta(min_length=1, max_length=MAX_TOOL_NAME)]
    description: str = ""
    parameters: dict[str, Any] = {}
    strict: bool | None = None


class ToolChoice(Struct, omit_defaults=True):
    """Whether the model may, must or must not ask for a tool; `named` means `name`. `parallel`: several at once."""

    mode: Literal["auto", "none", "required", "named"] = "auto"
    name: str = ""
    parallel: bool = True


class ResponseFormat(Struct, omit_defaults=True):
    """`json` is any JSON object, `schema` one that fits a JSON schema."""

    kind: Literal["text", "json", "schema"] = "text"
    name: str = ""
    schema: dict[str, Any] = {}
    strict: bool = True


class TokenLogprob(Struct, omit_defaults=True):
    """A token, the natural logarithm of its probability, its bytes where the upstream says them, and its alternatives."""

    token: str
    logprob: float
    bytes: list[int] | None = None
    top: list[TokenLogprob] = []


class AnswerOptions(Struct, omit_defaults=True):
    """How an answer is wished for. What is left alone is the model's or the specialist's own.

    `stops` are texts at which the answer ends, themselves not part of it.
    """

    tools: Annotated[list[ToolSpec], Meta(max_length=MAX_TOOLS)] = []
    choice: ToolChoice | None = None
    format: ResponseFormat | None = None
    effort: Effort | None = None
    stops: list[str] = []
    seed: int | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    logprobs: Annotated[int, Meta(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    """How many alternatives to name beside each token, with their log probabilities; `None` for no log probabilities."""

    @property
    def offered(self) -> list[ToolSpec]:
        """The tools the model may ask for."""
        return [] if self.choice is not None and self.choice.mode == "none" else self.tools


class Abilities(Struct, omit_defaults=True):
    """What a model takes beside text; `None` where nobody can say."""

    tools: bool | None = None
    images: bool | None = None
    files: bool | None = None
    thinking: bool | None = None
    schema: bool | None = None
    logprobs: bool | None = None

    @property
    def names(self) -> list[str]:
        """What it can do, in words."""
        return [name for name in self.__struct_fields__ if getattr(self, name)]


def read_arguments(text: str) -> dict[str, Any]:
    """Return the arguments of a call as an object; none at all are an empty one.

    Raises:
        ValueError: The model wrote something else, or nested it deeper than can be read.
    """
    try:
        return msgspec.json.decode(text or "{}", type=dict[str, Any])
    except RecursionError as error:
        raise ValueError("they are nested too deep") from error


def text_of(parts: Iterable[Part]) -> str:
    """Return the plain text of parts, a line end between two."""
    return "\n".join(part.text for part in parts if isinstance(part, TextPart | RefusalPart))


def parts_of(message: ChatMessage) -> list[Part]:
    """Return a message's parts; of a plain one its text."""
    return message.parts or ([TextPart(message.content)] if message.content else [])


def joined(first: ChatMessage, second: ChatMessage) -> ChatMessage:
    """Return two messages of one role as one. Results of tools come first, as vendors demand."""
    content = "\n\n".join(text for text in (first.content, second.content) if text)
    if not (first.parts or second.parts):
        return ChatMessage(first.role, f"{first.content}\n\n{second.content}")
    parts = [*parts_of(first), *parts_of(second)]
    # Anthropic refuses a message in which anything stands before the results of its calls
    parts.sort(key=lambda part: not isinstance(part, ToolResult))
    return ChatMessage(first.role, content, parts)


def texts_of(content: str, parts: Iterable[Part]) -> list[str]:
    """Return every text of a message that a model reads: what was said, arguments of calls, results of tools."""
    called = [part.arguments for part in parts if isinstance(part, ToolCall)]
    return [content, *called, *(part.content for part in parts if isinstance(part, ToolResult))]


def shortened(text: str, most: int) -> str:
    """Return a text of at most about `most` bytes: its head and its tail, and how much was left out between."""
    data = text.encode()
    if len(data) <= most:
        return text
    # the head says what it is, the tail how it ended, as in the output of a compiler
    head, tail = data[: most * 2 // 3], data[len(data) - most // 3 :]
    left = len(data) - len(head) - len(tail)
    return (
        f"{head.decode(errors='ignore')}\n… {left:,} bytes of {len(data):,} left out …\n"
        f"{tail.decode(errors='ignore')}"
    )


FILE_HEAD = "File "
"""With what the text part of a text file begins: `File NAME:`, then its lines."""


class Attachment(Struct, omit_defaults=True):
    """A file that goes along with a question, by name; `size` in bytes."""

    name: str
    size: int


def attachments_of(parts: Iterable[Part]) -> list[Attachment]:
    """Return the files among the parts of a question: pictures, documents, and texts that stand under their name."""
    found: list[Attachment] = []
    for part in parts:
        match part:
            case ImagePart() | FilePart():
                kind = "picture" if isinstance(part, ImagePart) else "file"
                found.append(Attachment(part.name or kind, part.size or size_of(part.data)))
            case TextPart(text) if text.startswith(FILE_HEAD) and (end := text.find(":\n")) > 0:
                if "\n" not in (name := text[len(FILE_HEAD) : end]):
                    found.append(Attachment(name, len(text[end + 2 :].encode())))
            case _:
                pass
    return found


def lightened(parts: list[Part]) -> list[Part]:
    """Return parts without the bytes of images and files, of which the sizes are left."""
    return [_light(part) for part in parts]


def _light(part: Part) -> Part:
    if isinstance(part, ImagePart | FilePart) and part.data:
        return msgspec.structs.replace(part, data="", size=part.size or size_of(part.data))
    if isinstance(part, ToolResult) and part.parts:
        return msgspec.structs.replace(part, parts=lightened([*part.parts]))
    return part


def size_of(data: str) -> int:
    """Return how many bytes a text in base64 stands for."""
    # four characters of base64 are three bytes, less one for each sign of padding
    return len(data) * 3 // 4 - data[-2:].count("=")


def is_base64(data: str) -> bool:
    """Return whether a text is base64 of at least a byte, padded and without anything else in it."""
    try:
        return bool(binascii.a2b_base64(data, strict_mode=True))
    except (binascii.Error, ValueError):
        return False


def wrong_with(part: object) -> str:
    """Return what is wrong with a picture or a file that is to be sent to a model; empty for every other part."""
    if isinstance(part, ToolResult):
        return next((wrong for each in part.parts if (wrong := wrong_with(each))), "")
    if not isinstance(part, ImagePart | FilePart):
        return ""
    if part.data and isinstance(part, ImagePart) and not part.media_type.startswith("image/"):
        return f"a picture is of a type image/…, not {part.media_type[:60]!r}"
    if part.data and not is_base64(part.data):
        return "the bytes are not base64"
    if part.url and not part.url.startswith(("https://", "http://")):
        return "an address is http(s)://…"
    return ""

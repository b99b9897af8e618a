"""Which models this machine and its environment offer: looked for briefly and side by side, never asked a question.

Reads untrusted listings: what a server says is data, and anything odd makes that server "not usable", nothing more.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
from collections.abc import Awaitable, Iterable, Mapping
from typing import Any, NamedTuple, cast
from urllib.parse import urlsplit

import psutil

from backend.config import AUTO, ConfigError, KeyedSettings, Settings, usable_provider
from backend.home import Home
from backend.providers.choice import default_model, display_name, named, read_choice
from backend.providers.http import is_this_machine, split_user
from backend.providers.keys import find_key
from backend.providers.lenient import as_list, as_object
from backend.providers.listing import fetch_listing
from backend.schema.errors import TektonError
from backend.schema.records import LookedAt, ModelCandidate, ProviderChoice

PROBE_TIMEOUT_S = 0.25
"""How long a server may take to list its models. All are asked at once, so this is what a start may cost."""
PATIENT_TIMEOUT_S = 2.0
"""The same where somebody asked to look and waits for the answer."""
FIT_SHARE = 0.75
"""Of this machine's memory, how much a model's file may take and still leave room for its work."""
_NO_CHAT = re.compile(
    r"embed|transcri|moderation|rerank|diffusion|guardian|shieldgemma|(^|[/:_-])("
    r"bge|e5|gte|minilm|all-mpnet|paraphrase|instructor|stella|colbert|colqwen\w*|colpali|splade|clip|siglip\w*"
    r"|whisper|parakeet|canary|x?tts|speecht5|kokoro|bark|piper|musicgen|vad"
    r"|dall-e|gpt-image|image|sdxl|sd\d\S*|flux|t2v|i2v|sora|veo"
    r"|(?:llama|prompt|qwen3?)-?guard\d*)([:_.-]|$)",
    re.IGNORECASE,
)
"""Names of models for embedding, reranking, speech, pictures or the judging of texts, which do not chat."""
_NO_CHAT_FAMILIES = frozenset({"bert", "nomic-bert", "xlm-roberta", "clip", "jina-bert-v2"})
LM_STUDIO = "LM Studio"
_SERVERS = {
    "organization_owner": LM_STUDIO,
    "llamacpp": "llama.cpp",
    "vllm": "vLLM",
    "llama-swap": "llama-swap",
    "sglang": "SGLang",
    "koboldcpp": "KoboldCpp",
}
"""Who a server is, by `owned_by` of its models."""
_USUAL = {
    1234: LM_STUDIO, 8080: "llama.cpp, llama-swap", 8000: "vLLM", 1337: "Jan", 30000: "SGLang", 5001: "KoboldCpp",
    5000: "text-generation-webui", 4891: "GPT4All",
}  # fmt: skip
"""Whose usual port it is."""
_ABILITIES = {
    "tools": frozenset({"tools", "tool_use", "tool-use"}),
    "pictures": frozenset({"vision", "multimodal", "image"}),
    "thinking": frozenset({"thinking", "reasoning"}),
}
"""What models do beside answering, by the words of servers."""
SUGGESTED = "qwen3:8b"
"""What to pull where Ollama has nothing that chats and nobody named a model: 5 GB, and good for its size."""
NO_KEY = ("answers 401", "answers 403")
LOCAL_KEY = "TEKTON_LOCAL_API_KEY"
"""Variable whose key goes to servers found on this machine; the key for OpenAI goes to nobody who merely listens."""


class Found(NamedTuple):
    """What was found, the best first, and every place that was looked at, with what it said."""

    candidates: list[ModelCandidate]
    looked: list[LookedAt]


class _Look(NamedTuple):
    where: str
    said: str
    candidates: list[ModelCandidate]


async def choose(
    settings: Settings, home: Home, environment: Mapping[str, str], found: Found | None = None
) -> ProviderChoice:
    """Return the platform's provider and model. A provider named explicitly is taken as it is, whatever its state.

    `auto`: what the operator chose by hand, else the best that is there, else the embedded model. `found`: what is there,
    for who has looked already.
    """
    kind = settings.providers.default
    if kind != AUTO:
        return named(kind, default_model(kind, settings), "named in the configuration")
    if chosen := read_choice(home):
        return chosen
    return choice_of((found or await look_around(settings, home, environment)).candidates)


def choice_of(candidates: list[ModelCandidate]) -> ProviderChoice:
    """Return the choice of the best candidate, with why nothing better was taken."""
    taken = best(candidates) or ModelCandidate("embedded", "", "", "", 0, "nothing else is there")
    reasons = [taken.why]
    if taken.stand_in:
        reasons = [
            one.why for one in candidates if one is not taken and (not one.usable or one.paid)
        ] or reasons
    choice = named(taken.provider, taken.model, "; ".join(reasons))
    choice.address = taken.address if taken.provider == "openai" else ""
    choice.stand_in = taken.stand_in
    return choice


async def look_around(
    settings: Settings, home: Home, environment: Mapping[str, str], *, timeout_s: float = PROBE_TIMEOUT_S
) -> Found:
    """Return what could answer, the best first: usable before not, free before paid, servers before the stand-in.

    Takes at most `timeout_s` and a little: all places are asked at once. Nothing is sent to a service that is paid.
    """
    looks = await asyncio.gather(
        *_ollama(settings, home, environment, timeout_s), *_servers(settings, home, environment, timeout_s)
    )
    looks += _paid(settings, home, environment)
    looks += _embedded(settings, home)
    found = [candidate for look in looks for candidate in look.candidates]
    looked = [LookedAt(one.where, one.said, sum(each.usable for each in one.candidates)) for one in looks]
    return Found(sorted(found, key=_rank), looked)


def best(candidates: Iterable[ModelCandidate]) -> ModelCandidate | None:
    """Return the one that is taken when nobody chose: usable and free; the stand-in also while its weights are missing."""
    known = list(candidates)
    free = (one for one in known if one.usable and not one.paid)
    return next(free, None) or next((one for one in known if one.stand_in), None)


def _rank(one: ModelCandidate) -> tuple[bool, bool, int, int, int]:
    """Configured before loaded before larger; what does not fit in memory comes behind what does."""
    order = {"ollama": 0, "openai": 1, "anthropic": 2}.get(one.provider, 3)
    return (not one.usable, one.paid, order, -one.rank, -one.size)


# Ollama


def _ollama(
    settings: Settings, home: Home, environment: Mapping[str, str], timeout_s: float
) -> list[Awaitable[_Look]]:
    info = usable_provider("ollama")
    if info is None:
        return []
    own: Any = info.own(settings)
    where, user = split_user(own.address)
    own_choice = own.model != info.settings().model
    key = _key_or_none(own, home, environment)
    allowed = f"Bearer {key}" if key else user
    return [_look_at_ollama(where.rstrip("/"), allowed, own, own_choice, timeout_s)]


async def _look_at_ollama(where: str, user: str, own: Any, own_choice: bool, timeout_s: float) -> _Look:
    model: str = own.model
    listing, running = await asyncio.gather(
        fetch_listing(f"{where}/api/tags", user, timeout_s=timeout_s, key="models"),
        fetch_listing(f"{where}/api/ps", user, timeout_s=timeout_s),
    )
    name = f"Ollama at {where}"
    if listing.problem:
        said = _with_hint(listing.problem, own.api_key_file or own.api_key_env)
        why = "Ollama not found" if listing.nobody else f"{name} {said}"
        wanted = model if own_choice else SUGGESTED
        return _Look(name, said, [_unusable("ollama", wanted, where, why)])
    models = listing.entries("models")
    loaded = {entry["name"] for entry in running.entries("models")}
    found = [_ollama_candidate(entry, where, model, loaded, own_choice) for entry in models if _chats(entry)]
    said = _counted(len(found), len(models))
    named_one = any(one.model in (model, f"{model}:latest") for one in found)
    if not found or (own_choice and not named_one):
        wanted = model if own_choice else SUGGESTED
        what = wanted if own_choice else "model that chats"
        found.append(_unusable("ollama", wanted, where, f"Ollama has no {what} (`ollama pull {wanted}`)"))
    return _Look(name, said, found)


def _ollama_candidate(
    entry: dict[str, Any], where: str, configured: str, loaded: set[str], own_choice: bool
) -> ModelCandidate:
    """Return a model that Ollama has. The one of the settings' default counts as chosen only where it fits."""
    name = entry["name"]
    size = _size(entry.get("size"))
    fits = not is_this_machine(where) or size <= psutil.virtual_memory().total * FIT_SHARE
    chosen = name in (configured, f"{configured}:latest") and (own_choice or fits)
    cloud = name.endswith(("-cloud", ":cloud")) or bool(entry.get("remote_host"))
    why = "the model named in the configuration" if chosen else "loaded now" if name in loaded else "pulled"
    if not fits:
        why += f"; {size / 1e9:.0f} GB are more than this machine's memory takes well"
    return ModelCandidate(
        "ollama", name, where, display_name("ollama", name), size,
        f"Ollama answers at {where}: {why}" + ("; it runs on somebody's servers" if cloud else ""),
        usable=True, paid=cloud, rank=4 if chosen else 0 if not fits else 3 if name in loaded else 2,
        fits=None if cloud or not size else fits, abilities=_said_abilities(entry.get("capabilities")),
    )  # fmt: skip


# servers that speak OpenAI's protocol


def _servers(
    settings: Settings, home: Home, environment: Mapping[str, str], timeout_s: float
) -> list[Awaitable[_Look]]:
    info = usable_provider("openai")
    if info is None:
        return []
    own: Any = info.own(settings)
    addresses = dict.fromkeys(address.rstrip("/") for address in settings.providers.local)
    configured = (own.base_url or "").rstrip("/")
    if configured and is_near(configured):
        addresses = {configured: None} | addresses
    key = environment.get(LOCAL_KEY, "").strip()
    # an address that the operator wrote down is asked with the key of its table, as each chat is
    keys = {configured: (_key_or_none(own, home, environment), own.api_key_file or own.api_key_env)}
    return [
        _look_at_server(address, own.model, *keys.get(address, (key, LOCAL_KEY)), configured, timeout_s)
        for address in addresses
    ]


def _key_or_none(own: KeyedSettings, home: Home, environment: Mapping[str, str]) -> str:
    """Return a key, empty where there is none or its file cannot be used: whoever asks in earnest says why."""
    try:
        return find_key(own, home, environment)
    except ConfigError:
        return ""


def _with_hint(problem: str, variable: str) -> str:
    """Return what a server said; where it refused for want of a key, with where to set one."""
    return f"{problem}: it wants the key that {variable} names" if problem in NO_KEY else problem


async def _look_at_server(
    address: str, configured_model: str, key: str, variable: str, configured: str, timeout_s: float
) -> _Look:
    where, user = split_user(address)
    authorization = f"Bearer {key}" if key else user
    listing = await fetch_listing(f"{where}/models", authorization, timeout_s=timeout_s, key="data")
    usual = _USUAL.get(urlsplit(where).port or 0, "")
    place = f"{where} (usual port of {usual})" if usual else where
    if listing.problem:
        found: list[ModelCandidate] = []
        said = _with_hint(listing.problem, variable)
        if address == configured:  # of the others, nobody said that a server should be there
            if not listing.nobody and not urlsplit(where).path:
                below = await fetch_listing(
                    f"{where}/v1/models", authorization, timeout_s=timeout_s, key="data"
                )
                if not below.problem:
                    said += (
                        f", and {where}/v1 does: write that as providers.openai.base_url (OPENAI_BASE_URL)"
                    )
            why = f"the server at {where} " + ("does not answer" if listing.nobody else said)
            found = [_unusable("openai", configured_model, where, why)]
        return _Look(place, said, found)
    models = listing.entries("data", "id")
    owners = [owner for entry in models if isinstance(owner := entry.get("owned_by"), str)]
    who = next((_SERVERS[owner] for owner in owners if owner in _SERVERS), "an OpenAI-compatible server")
    facts: dict[str, dict[str, Any]] = {}
    if who == LM_STUDIO:
        detailed = await fetch_listing(
            f"{where.removesuffix('/v1')}/api/v0/models", authorization, timeout_s=timeout_s
        )
        facts = {entry["id"]: entry for entry in detailed.entries("data", "id")}
    found = [
        _server_candidate(
            entry, facts.get(entry["id"], {}), who, where, configured_model, address == configured
        )
        for entry in models
        if facts.get(entry["id"], {}).get("type") != "embeddings" and _chats({"name": entry["id"]})
    ]
    return _Look(f"{who} at {where}", _counted(len(found), len(models)), found)


def _server_candidate(
    entry: dict[str, Any],
    facts: dict[str, Any],
    who: str,
    where: str,
    configured_model: str,
    configured: bool,
) -> ModelCandidate:
    name = entry["id"]
    meta = entry.get("meta")
    size = _size(as_object(meta).get("size"))
    loaded = facts.get("state") == "loaded"
    why = f"{who} answers at {where}" + (": loaded now" if loaded else "")
    rank = 4 if name == configured_model else 2 * configured + loaded
    said: object = facts.get("capabilities") or entry.get("capabilities")
    named = as_list(said)
    pictures = ["vision"] if facts.get("type") == "vlm" else []
    return ModelCandidate(
        "openai", name, where, display_name("openai", name), size, why, usable=True, rank=rank,
        abilities=_said_abilities([*named, *pictures]),
    )  # fmt: skip


def is_near(address: str) -> bool:
    """Return whether an address is of this machine or its own network: nobody is paid there."""
    host = urlsplit(address).hostname or ""
    if is_this_machine(address):
        return True
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return host.endswith((".local", ".lan", ".internal"))


# what is paid, and what comes with the program


def _paid(settings: Settings, home: Home, environment: Mapping[str, str]) -> list[_Look]:
    """Return services whose key is set. Nothing is sent to them before the operator chose one."""
    looks: list[_Look] = []
    for kind, title in (("anthropic", "Anthropic"), ("openai", "OpenAI")):
        info = usable_provider(kind)
        if info is None:
            continue
        own = cast(KeyedSettings, info.own(settings))
        base = getattr(own, "base_url", None)
        if kind == "openai" and base and is_near(base):
            continue
        place = f"{title}, {own.api_key_file or own.api_key_env}"
        try:
            key, problem = find_key(own, home, environment), ""
        except ConfigError as error:
            key, problem = "", error.message
        model = default_model(kind, settings)
        if problem:
            looks.append(_Look(place, problem, [_unusable(kind, model, base or "", problem, paid=True)]))
        elif not key:
            looks.append(_Look(place, "no key is set", []))
        elif not model:
            why = f"a key for {title} is set, and no model: `tekton models use {kind} MODEL`"
            looks.append(_Look(place, why, [_unusable(kind, "", base or "", why, paid=True)]))
        else:
            why = f"a key for {title} is set; paid by token: `tekton models use {kind}` takes it"
            shown = display_name(kind, model)
            one = ModelCandidate(kind, model, base or "", shown, 0, why, usable=True, paid=True)
            looks.append(_Look(place, "a key is set; nothing was sent", [one]))
    return looks


def _embedded(settings: Settings, home: Home) -> list[_Look]:
    info = usable_provider("embedded")
    if info is None:
        return []
    own: Any = info.own(settings)
    model, size, problem = default_model("embedded", settings), 0, ""
    try:
        from backend.providers.embedded.weights import find

        size = find(own, home).stat().st_size
    except (TektonError, OSError) as error:
        problem = error.message if isinstance(error, TektonError) else str(error)
    why = problem or (
        "the file named in the configuration" if own.gguf else "comes with tekton: a small stand-in"
    )
    one = ModelCandidate(
        "embedded",
        model,
        "",
        display_name("embedded", model),
        size,
        why,
        usable=not problem,
        stand_in=not own.gguf,
    )
    return [_Look(f"model file {own.gguf}" if own.gguf else "embedded model", why, [one])]


# reading


def _counted(chat: int, all_of_them: int) -> str:
    said = f"{chat} chat model{'s' * (chat != 1)}"
    others = all_of_them - chat
    return said + (f", {others} that do{'es' * (others == 1)} not chat" if others else "")


def _chats(entry: dict[str, Any]) -> bool:
    """Return whether a model answers questions, by what its server says of it, else by its name."""
    capabilities = entry.get("capabilities")
    if isinstance(capabilities, list) and capabilities:
        return "completion" in capabilities
    families = as_list(as_object(entry.get("details")).get("families"))
    if _NO_CHAT_FAMILIES & {str(one) for one in families}:
        return False
    return not _NO_CHAT.search(entry["name"])


def _said_abilities(said: object) -> list[str]:
    """Return what a server says a model does beside answering, each once, in our words; nothing it does not say."""
    names = {str(one) for one in as_list(said)}
    return [word for word, known in _ABILITIES.items() if names & known]


def _size(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 50 else 0


def _unusable(kind: str, model: str, where: str, why: str, *, paid: bool = False) -> ModelCandidate:
    return ModelCandidate(kind, model, where, display_name(kind, model), 0, why, usable=False, paid=paid)

"""The kinds of providers: ours, and those that installed packages bring by an entry point of `tekton.providers`.

Each is one module with one `ProviderInfo`. Modules are imported when their kind is first needed; the entry points of
other packages are read when a kind is named that is not ours, or all are to be listed, once in a process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib import import_module
from typing import Any, Generic, NamedTuple, TypeVar, cast

import msgspec
from msgspec import Struct

from backend.config.settings import ConfigError, ProviderSettings, Settings
from backend.home import Home

GROUP = "tekton.providers"
BUILT_IN = {
    "ollama": "backend.providers.ollama:PROVIDER",
    "anthropic": "backend.providers.anthropic:PROVIDER",
    "openai": "backend.providers.openai:PROVIDER",
    "embedded": "backend.providers.embedded:PROVIDER",
    "scripted": "backend.providers.scripted:PROVIDER",
}
"""Our own, as pyproject.toml declares them. Repeated here because reading entry points costs tens of milliseconds, and
because a source tree runs without being installed; a test compares the two."""
OUR_PACKAGE = "tekton-tui"
AUTO = "auto"
"""No provider of its own: what was chosen by hand, else the best that is found (`backend.providers.choice`)."""

S = TypeVar("S", bound=ProviderSettings)


class ProviderInfo(Struct, Generic[S], frozen=True, kw_only=True):
    """Everything the platform knows of one kind of provider, declared once, in the provider's module."""

    kind: str
    """The name in `provider = "NAME"` and `[providers.NAME]`; the same as the entry point's."""
    settings: type[S]
    """What `[providers.NAME]` may hold; every key has a default."""
    make: Callable[[S, Home, Mapping[str, str]], Any]
    """Makes the `backend.providers.base.Provider`, cheaply: the vendor's library is imported by its `prepare`."""
    help: str
    """What it asks, in a few words."""
    fix: str
    """What the operator can do when it cannot be used; shown by `tekton doctor`."""
    remote: bool = False
    """Whether it leaves this machine: its workers are given the proxy variables."""
    free: bool = False
    """Whether its answers cost nothing, so that a model without a price costs 0."""
    listed: bool = True
    """Whether `tekton models` asks it what it offers."""
    worker_bytes: int = 0
    """What a worker grows by when the provider is prepared (proportional set size), for the plan of a launch."""
    variables: dict[str, str] = {}
    """Environment variables that set keys of its table, by name."""
    environment: tuple[str, ...] = ()
    """Further variables its workers are given; one that ends in `*` stands for all that begin so."""
    missing_key: Callable[[S], str] | None = None
    """Returns why it cannot be asked without a key and how to set one; empty where no key is needed."""
    check: Callable[[S, Home], object] | None = None
    """Raises `TektonError` for what stands against its use. Where it is given, a plan and `tekton doctor` call it and
    do not ask the upstream, which may not run yet."""
    default_model: Callable[[S], str] | None = None
    """Returns the model used where none is named; by default the setting `model`."""
    display: Callable[[str], str] | None = None
    """Returns a model's name for people, empty for the general rule."""

    def own(self, settings: Settings) -> S:
        """Return this provider's table of the settings.

        Raises:
            ConfigError: It is not what the provider's struct describes; `load` has said so, unless the settings come
                from a process with another version of the provider.
        """
        try:
            return msgspec.convert(settings.providers.tables.get(self.kind, {}), self.settings)
        except msgspec.ValidationError as error:
            raise ConfigError(f"[providers.{self.kind}] cannot be used: {error}") from error

    def model_of(self, settings: Settings) -> str:
        """Return the model that is used where none is named; empty when the settings must name one and do not."""
        own = self.own(settings)
        return self.default_model(own) if self.default_model else getattr(own, "model", "")

    def key_variable(self, settings: Settings) -> str:
        """Return the name of the environment variable that holds its key; empty when it takes none."""
        return getattr(self.own(settings), "api_key_env", "") or ""


class _Declared(NamedTuple):
    """An entry point of an installed package. `problem` says why it cannot be used, empty when it may be loaded."""

    target: str
    package: str
    problem: str = ""


_loaded: dict[str, ProviderInfo[Any]] = {}


def find_provider(kind: str) -> ProviderInfo[Any]:
    """Return the descriptor of a kind; its module is imported.

    Raises:
        ConfigError: There is no such provider, or the package that brings it is broken; the message names it.
    """
    if (info := _loaded.get(kind)) is not None:
        return info
    if kind in BUILT_IN:
        declared = _Declared(BUILT_IN[kind], OUR_PACKAGE)
    elif (foreign := _foreign().get(kind)) is not None:
        declared = foreign
    else:
        known = ", ".join((*BUILT_IN, *_foreign()))
        raise ConfigError(f"there is no provider {kind!r}; known: {known}")
    return _loaded.setdefault(kind, _load(kind, declared))


def usable_provider(kind: str) -> ProviderInfo[Any] | None:
    """Return the descriptor of a kind, `None` when `find_provider` would refuse it: its use says why."""
    try:
        return find_provider(kind)
    except ConfigError:
        return None


def is_provider(kind: str) -> bool:
    """Return whether a package declares this kind, without importing its module."""
    return kind in BUILT_IN or kind in _foreign()


def providers() -> Iterator[ProviderInfo[Any]]:
    """Yield every descriptor that can be used, ours first; see `provider_problems` for the others."""
    for kind in (*BUILT_IN, *_foreign()):
        if (info := usable_provider(kind)) is not None:
            yield info


def provider_kinds() -> list[str]:
    """Return the names of the providers that can be used, ours first."""
    return [info.kind for info in providers()]


def provider_problems() -> list[str]:
    """Return a sentence for each entry point that cannot be used: it names the package, what is wrong, what to do."""
    found: list[str] = []
    for kind in _foreign():
        try:
            find_provider(kind)
        except ConfigError as error:
            found.append(error.message)
    return found


def provider_packages() -> dict[str, str]:
    """Return who brings the providers that are not ours: name and version of the package, by kind."""
    return {kind: declared.package for kind, declared in _foreign().items() if not declared.problem}


@cache
def _foreign() -> dict[str, _Declared]:
    """Read the entry points of installed packages; what is wrong with one is kept as its problem."""
    from importlib.metadata import distributions

    found: dict[str, _Declared] = {}
    seen: set[tuple[str, str]] = set()
    for distribution in distributions():
        try:
            entries = [entry for entry in distribution.entry_points if entry.group == GROUP]
            package = f"{distribution.name} {distribution.version}" if entries else ""
        except Exception as error:
            place = str(distribution.locate_file(""))
            found[place] = _Declared(
                "", place, f"the metadata of a package in {place} cannot be read: {error}"
            )
            continue
        for entry in entries:
            if BUILT_IN.get(entry.name) == entry.value or (package, entry.name) in seen:
                continue  # ourselves, or a package that is reached by two paths
            seen.add((package, entry.name))
            key = entry.name if entry.name not in BUILT_IN else f"{entry.name} of {package}"
            found[key] = _checked(entry.name, _Declared(entry.value, package), found.get(key))
    return dict(sorted(found.items()))


def _checked(kind: str, declared: _Declared, earlier: _Declared | None) -> _Declared:
    """Return the entry point, with its problem when its name belongs to another."""
    if kind in BUILT_IN or kind in (AUTO, "default"):
        why = f"the package {declared.package} brings a provider {kind!r}, which is a name of our own"
    elif earlier is not None:
        why = f"the packages {earlier.package} and {declared.package} both bring a provider {kind!r}"
    else:
        return declared
    return declared._replace(
        problem=f"{why}: it is not used; uninstall the package, or rename its entry point"
    )


def _load(kind: str, declared: _Declared) -> ProviderInfo[Any]:
    """Import the module of an entry point and check its descriptor.

    Raises:
        ConfigError: It cannot be imported, or is no descriptor of this kind.
    """
    if declared.problem:
        raise ConfigError(declared.problem)
    module, _, attribute = declared.target.partition(":")
    try:
        info: object = getattr(import_module(module), attribute)
        wrong = _wrong(kind, info)
    except (Exception, SystemExit) as error:
        # a fault of ours is no fault of the configuration: its traceback is wanted
        if kind in BUILT_IN:
            raise
        raise ConfigError(_broken(kind, declared, f"{type(error).__name__}: {error}")) from error
    if wrong:
        raise ConfigError(_broken(kind, declared, wrong))
    return cast(ProviderInfo[Any], info)


def _wrong(kind: str, info: object) -> str:
    """Return what is wrong with a descriptor, empty when nothing is."""
    if not isinstance(info, ProviderInfo):
        return f"it is {type(info).__name__}, not backend.providers.ProviderInfo"
    described = cast(ProviderInfo[Any], info)
    if described.kind != kind:
        return f"its descriptor is of {described.kind!r}"
    if not issubclass(described.settings, ProviderSettings):
        return "its settings are no subclass of backend.config.ProviderSettings"
    described.settings()
    return ""


def _broken(kind: str, declared: _Declared, why: str) -> str:
    return (
        f"the provider {kind!r} of the package {declared.package} cannot be used: {why}; "
        "upgrade or uninstall the package"
    )

"""The tree of a pipeline and how it is written. `parse(show(tree)) == tree` for every tree the parser can make."""

from __future__ import annotations

from dataclasses import dataclass

OPTION_TYPES: dict[str, type[float] | type[int] | type[str]] = {
    "temperature": float,
    "max_tokens": int,
    "timeout": float,
    "provider": str,
    "model": str,
}
"""Options a stage may carry, with the type of their value; `timeout` in seconds."""


@dataclass(frozen=True)
class Target:
    """One specialist (or `team`) of a stage, with options as `(name, value)` pairs in the order written."""

    name: str
    options: tuple[tuple[str, float | int | str], ...] = ()


@dataclass(frozen=True)
class Echo:
    """A fixed text."""

    text: str


@dataclass(frozen=True)
class Cat:
    """The content of a file; only the command line reads files."""

    path: str


@dataclass(frozen=True)
class Ask:
    """A question to one specialist, to the team, or side by side to several (`fan_out`)."""

    targets: tuple[Target, ...]
    instruction: str = ""
    fan_out: bool = False


Stage = Echo | Cat | Ask


@dataclass(frozen=True)
class Pipeline:
    """Stages left to right. `input_path` and `output_path` are redirects, empty when there is none."""

    stages: tuple[Stage, ...]
    input_path: str = ""
    output_path: str = ""
    append: bool = False


@dataclass(frozen=True)
class Script:
    """Pipelines one after another."""

    pipelines: tuple[Pipeline, ...]


def show(tree: Script | Pipeline | Stage) -> str:
    """Write a tree in the canonical form."""
    match tree:
        case Script():
            return "\n".join(show(pipeline) for pipeline in tree.pipelines)
        case Pipeline():
            text = " | ".join(show(stage) for stage in tree.stages)
            if tree.input_path:
                text += f" < {quote(tree.input_path)}"
            if tree.output_path:
                text += f" {'>>' if tree.append else '>'} {quote(tree.output_path)}"
            return text
        case Echo():
            return f"echo {quote(tree.text)}"
        case Cat():
            return f"cat {quote(tree.path)}"
        case Ask():
            names = ",".join(map(_show_target, tree.targets))
            head = f"{{{names}}}" if tree.fan_out else names
            return f"{head} {quote(tree.instruction)}" if tree.instruction else head


def quote(text: str) -> str:
    """Write a text as one double-quoted word."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return f'"{escaped}"'


def _show_target(target: Target) -> str:
    if not target.options:
        return target.name
    pairs = ",".join(f"{name}={_show_value(value)}" for name, value in target.options)
    return f"{target.name}[{pairs}]"


def _show_value(value: float | int | str) -> str:
    return quote(value) if isinstance(value, str) else repr(value)

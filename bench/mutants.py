"""Change the code at random places, one at a time, and see whether the tests of that room notice.

    python bench/mutants.py [--count 80] [--seed N] [--nearest FILES] ROOM=TESTS …
    python bench/mutants.py --count 20 backend/client=tests/client "backend/memory=tests/memory/test_windowing.py tests/memory/contract"

A mutant turns a comparison, a constant, a condition or an operator into another, or leaves a `raise` or a call out. It is
killed when a test fails; the test files that speak most of the changed module run first, with `--nearest` so many of them
only. Works in a copy of the tree, so that nothing here is changed. Prints every survivor with its line.
"""

from __future__ import annotations

import ast
import os
import random
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from options import parser_for

ROOT = Path(__file__).resolve().parent.parent
COPIED = ("backend", "tekton_tui", "tests", "examples", "docs", "tools", "pyproject.toml", "README.md")
DEFAULT = [
    "backend/client=tests/client",
    "backend/memory=tests/memory",
    "backend/orchestration=tests/orchestration",
]
TIMEOUT_S = 300.0
"""Of one run of tests; a mutant that hangs is noticed, too, on a machine with nothing else to do."""
KILLED, SURVIVED, HUNG = "killed", "SURVIVED", "hung"
_OTHER: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip


class Mutant(NamedTuple):
    """A change of one file: what stood in a line, and what stands there now."""

    path: Path
    line: int
    what: str
    source: str


def mutants_of(path: Path) -> Iterator[Mutant]:
    """Yield every mutant of a file."""
    text = path.read_text(encoding="utf-8")
    count = sum(1 for _ in _places(ast.parse(text)))
    for number in range(count):
        tree = ast.parse(text)
        node = list(_places(tree))[number]
        before = ast.unparse(node)
        line = node.lineno
        if isinstance(node, ast.Raise | ast.Expr):
            after, tree = "left out", _Without(node).visit(tree)
        else:
            _change(node)
            after = ast.unparse(node).splitlines()[0]
        ast.fix_missing_locations(tree)
        yield Mutant(path, line, f"{before.splitlines()[0]}  →  {after}", ast.unparse(tree))


def _places(tree: ast.AST) -> Iterator[ast.expr | ast.stmt]:
    for node in ast.walk(tree):
        compared = isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _OTHER
        number = isinstance(node, ast.Constant) and type(node.value) in (int, float, bool)
        logical = isinstance(node, ast.BoolOp) or (
            isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not)
        )
        done = isinstance(node, ast.Raise) or (
            isinstance(node, ast.Expr) and isinstance(node.value, ast.Call | ast.Await)
        )
        if (compared or number or logical or done) and isinstance(node, ast.expr | ast.stmt):
            yield node


class _Without(ast.NodeTransformer):
    """Leaves one statement out."""

    def __init__(self, gone: ast.stmt) -> None:
        self._gone = gone

    def visit(self, node: ast.AST) -> ast.AST:
        return ast.Pass() if node is self._gone else super().visit(node)


def _change(node: ast.expr | ast.stmt) -> None:
    match node:
        case ast.Compare():
            node.ops = [_OTHER[type(node.ops[0])]()]
        case ast.Constant(value=bool() as value):
            node.value = not value
        case ast.Constant(value=int() | float() as value):
            node.value = value + 1
        case ast.BoolOp():
            node.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        case ast.UnaryOp():
            node.op, node.operand = ast.Not(), ast.UnaryOp(ast.Not(), node.operand)
        case _:
            raise AssertionError(ast.dump(node))


def nearest_first(tests: list[str], path: Path, tree: Path, most: int) -> list[str]:
    """Return the test files that are meant, those first that name most of what a module defines: they end a run soonest.

    `most` is how many of them, 0 for all.
    """
    options = [word for word in tests if word.startswith("-")]
    files = [
        file
        for word in tests
        if not word.startswith("-")
        for file in ([tree / word] if word.endswith(".py") else sorted((tree / word).rglob("test_*.py")))
        if f"--ignore={file.relative_to(tree)}" not in options
    ]
    names = {
        node.name
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    }
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)

    def named(file: Path) -> int:
        text = file.read_text(encoding="utf-8")
        return 100 * (module in text) + sum(name.lstrip("_") in text for name in names)

    return [*options, *map(str, sorted(files, key=named, reverse=True)[: most or None])]


def verdict(mutant: Mutant, tree: Path, tests: str, nearest: int) -> str:
    """Return what the tests say to a mutant in a copy of the tree."""
    target = tree / mutant.path.relative_to(ROOT)
    whole = target.read_text(encoding="utf-8")
    target.write_text(mutant.source, encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-p",
        "no:cacheprovider",
        *nearest_first(tests.split(), mutant.path, tree, nearest),
    ]
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    try:
        done = subprocess.run(command, cwd=tree, capture_output=True, timeout=TIMEOUT_S, env=environment)
        return SURVIVED if done.returncode == 0 else KILLED
    except subprocess.TimeoutExpired:
        return HUNG
    finally:
        target.write_text(whole, encoding="utf-8")


def main() -> None:
    parser = parser_for(__doc__)
    parser.add_argument("rooms", nargs="*", default=DEFAULT, metavar="ROOM=TESTS")
    parser.add_argument("--count", type=int, default=80)
    parser.add_argument("--nearest", type=int, default=0)
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    options = parser.parse_args()
    chance = random.Random(options.seed)
    rooms = dict(room.split("=", 1) for room in options.rooms)
    files = [
        (path, tests)
        for room, tests in rooms.items()
        for path in ([ROOT / room] if room.endswith(".py") else sorted((ROOT / room).rglob("*.py")))
    ]
    print(f"seed {options.seed}, {len(files)} files", flush=True)
    seen = Counter[str]()
    with tempfile.TemporaryDirectory(prefix="tk-mutants-") as folder:
        tree = Path(folder)
        for name in COPIED:
            source = ROOT / name
            copy = shutil.copytree if source.is_dir() else shutil.copy
            copy(source, tree / name)
        while seen.total() < options.count:
            path, tests = chance.choices(files, weights=[path.stat().st_size for path, _ in files])[0]
            found = list(mutants_of(path))
            if not found:
                continue
            mutant, began = chance.choice(found), time.monotonic()
            word = verdict(mutant, tree, tests, options.nearest)
            seen[word] += 1
            where = f"{path.relative_to(ROOT)}:{mutant.line}"
            print(f"{word:8} {where}  {mutant.what[:120]}  ({time.monotonic() - began:.0f} s)", flush=True)
    noticed = seen.total() - seen[SURVIVED]
    print(
        f"{noticed} of {seen.total()} killed, {seen[HUNG]} of them by hanging ({noticed / seen.total():.0%})"
    )


if __name__ == "__main__":
    main()

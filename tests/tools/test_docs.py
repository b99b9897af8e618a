"""The documents name what is there: each path exists, each room is described, each answer holds its code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("*.md"))
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "bench/README.md")] + sorted(
    ROOT.glob("docs/*.md")
)


def section(title: str) -> str:
    return ARCHITECTURE.partition(f"## {title}\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_each_path_and_link_of_a_page_leads_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    paths = re.findall(r"`((?:backend|tekton_tui|tests|bench|docs|tools|examples)/[\w./*-]*)`", text)
    missing = [path for path in paths if not list(ROOT.glob(path.rstrip("/")))]
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    missing += [link for link in links if link and not (page.parent / link).exists()]
    assert not missing


def test_each_room_of_the_backend_stands_in_the_table() -> None:
    described = re.findall(r"`(backend/[\w./]+)`", section("Rooms").replace("`, `", "` `"))
    rooms = {
        f"backend/{path.name}" for path in (ROOT / "backend").iterdir() if (path / "__init__.py").exists()
    }
    modules = {
        f"backend/{path.name}" for path in (ROOT / "backend").glob("*.py") if path.name != "__init__.py"
    }
    assert rooms | modules <= {path.rstrip("/") for path in described}


def test_each_part_of_the_console_is_described() -> None:
    parts = {path.name for path in (ROOT / "tekton_tui").iterdir() if (path / "__init__.py").exists()}
    assert parts <= set(re.findall(r"tekton_tui/(\w+)/", section("The console")))


def test_the_code_a_question_asks_for_is_where_the_answer_says() -> None:
    rows = [row for row in section("Where is …").splitlines() if "? |" in row]
    assert len(rows) == 6
    for row in rows:
        names = re.findall(r"`(\w+)` in `([\w./]+)`", row)
        assert names, row
        for name, path in names:
            assert re.search(
                rf"^(?:class|(?:async )?def) {name}\b", (ROOT / path).read_text(), re.MULTILINE
            ), row


@pytest.mark.parametrize("page", DECISIONS, ids=lambda page: page.stem)
def test_each_decision_has_its_number_status_and_date(page: Path) -> None:
    number = int(page.name[:4])
    head = rf"# {number}\. .+\n\nStatus: (?:accepted|superseded)\b.*\nDate: \d{{4}}-\d\d-\d\d\b"
    assert re.match(head, page.read_text(encoding="utf-8")), page.name


def test_each_bench_is_listed() -> None:
    listed = (ROOT / "bench" / "README.md").read_text(encoding="utf-8")
    scripts = [path.name for path in (ROOT / "bench").glob("*.py") if "__main__" in path.read_text()]
    assert [name for name in scripts if f"`{name}`" not in listed] == []

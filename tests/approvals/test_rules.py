"""Rules over tool calls: what an allow covers, what a deny holds, and in which order."""

from __future__ import annotations

import json
import posixpath
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.orchestration.approvals.places import real_places
from backend.orchestration.approvals.readings import readings
from backend.orchestration.approvals.rules import (
    RuleError,
    decide,
    escape,
    exact_pattern,
    globs_for,
    matches,
    read_pattern,
)
from backend.schema.tools import Rule, Verdict

OPERATORS = [";", "&&", "||", "|", "&", "\n", "`", "$(", ">", "<", "\r", "${"]
EXPANSIONS = ["$HOME", "$1", "$@"]
TEXTS = st.text(max_size=40)


def verdict(
    tool: str, arguments: object, *rules: tuple[Verdict, str], scopes: tuple[str, ...] = ("",)
) -> str:
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return decide([Rule(word, pattern) for word, pattern in rules], tool, text, scopes).verdict


@given(before=TEXTS, operator=st.sampled_from([*OPERATORS, *EXPANSIONS]), after=TEXTS)
def test_no_star_of_an_allow_reaches_over_a_shell_operator(before: str, operator: str, after: str) -> None:
    command = f"git status {before}{operator}{after}"
    assert verdict("shell:run", {"command": command}, ("allow", "shell:run command=git status*")) == "ask"


@given(command=st.text("abc ./-", min_size=1, max_size=20), more=st.sampled_from(OPERATORS))
def test_a_deny_holds_in_every_part_of_a_command(command: str, more: str) -> None:
    text = f"{command} {more} rm -rf /"
    assert verdict(
        "shell:run", {"command": text}, ("allow", "shell:*"), ("deny", "shell:run command=rm *")
    ) == ("deny")


@pytest.mark.parametrize(
    "command", ["A=1 rm -rf /", "A=1 B='x y' rm -rf /", 'ls; A="1 2" rm -rf /', "A= rm -rf /"]
)
def test_a_deny_of_a_command_holds_behind_variables_and_an_allow_does_not_cover_them(command: str) -> None:
    assert verdict("shell:run", {"command": command}, ("deny", "shell:run command=rm *")) == "deny"
    assert verdict("shell:run", {"command": command}, ("allow", "shell:run command=rm *")) == "ask"


HIDDEN = [
    "rm\t-rf /", "  rm   -rf /", "/bin/rm -rf /", "\\rm -rf /", "'rm' -rf /", 'r""m -rf /', "(rm -rf /)", "{ rm -rf /; }",
    "sudo rm -rf /", "sudo -u root A=1 /bin/rm -rf /", "env -u X rm -rf /", "xargs -n 1 rm -rf", "timeout -s 9 5 rm -rf /",
    "if true; then rm -rf /; fi", "while ! rm -rf /; do x; done", "sh -c 'rm -rf /'", "bash -lc 'cd /; sudo rm -rf .'",
    "find / -exec rm {} ;", "rm${IFS}-rf${IFS}/", "{rm,-rf,/}", "echo $(rm -rf /)", "echo `rm -rf /`", "echo x>y\nrm -rf /",
    "x\0rm -rf /", "RM -rf /", "ｒｍ -rf /", "A=1 nice -n 19 rm -rf /", "eval 'rm -rf /'", "cat <(rm -rf /)", "a+=1 rm -rf /", "$NOTHING rm -rf /",
]  # fmt: skip
"""Commands that delete, as a shell or somebody's file system may read them."""


@pytest.mark.parametrize("command", HIDDEN)
def test_a_deny_holds_however_a_shell_may_hide_the_command(command: str) -> None:
    both: list[tuple[Verdict, str]] = [("allow", "shell:*"), ("deny", "shell:run command=rm *")]
    assert verdict("shell:run", {"command": command}, *both) == "deny"
    assert verdict("Shell:Run", {"command": command}, *both) != "allow"
    assert verdict("shell:run", {"command": {"words": [command]}}, *both) == "deny"


@pytest.mark.parametrize(
    "command",
    ["git rm x", "echo rm -rf", "git commit -m 'sudo rm -rf'", "rmdir x", "ls | grep 'rm x'", "sudo ls"],
)
def test_a_deny_of_a_command_is_none_of_what_only_names_it(command: str) -> None:
    both: list[tuple[Verdict, str]] = [("allow", "shell:*"), ("deny", "shell:run command=rm *")]
    assert verdict("shell:run", {"command": command}, *both) == "allow"


@pytest.mark.parametrize(
    "path",
    ["//etc/passwd", "///etc/passwd", "/./etc//passwd", "/home/../etc/passwd", "file:///etc/passwd", "/etc", "/etc/",
     "file://localhost/etc/pass%77d", "/ETC/passwd", "/etc/passwd\0.txt", " /etc/passwd", "/etc/passwd\n"],
)  # fmt: skip
def test_a_deny_of_a_folder_holds_however_a_path_into_it_is_written(path: str) -> None:
    rules: list[tuple[Verdict, str]] = [("allow", "files:*"), ("deny", "files:write path=/etc/*")]
    assert verdict("files:write", {"path": path}, *rules) == "deny"
    assert verdict("files:write", {"path": [{"path": path}]}, *rules) == "deny"


def through(root: Path, path: str, rule: tuple[Verdict, str], *, cwd: str = "") -> str:
    """Return the verdict over a call with this path, where links are looked at as a backend looks."""
    arguments = {"path": path.replace("ROOT", str(root))}
    rules = [Rule(rule[0], rule[1].replace("ROOT", str(root)))]
    real = real_places(arguments, globs_for(rules, "files:write"), cwd.replace("ROOT", str(root)))
    default: Verdict = "ask" if rule[0] == "allow" else "allow"
    return decide(rules, "files:write", json.dumps(arguments), [""], default=default, real=real).verdict


@pytest.fixture
def links(tmp_path: Path) -> Path:
    """Folders `notes` and `secret`, a link from each to the other, and a link beside them to `notes`."""
    root = tmp_path.resolve()
    for name, other in (("notes", "secret"), ("secret", "notes")):
        (root / name).mkdir()
        (root / name / "out").symlink_to(root / other)
        (root / name / "a.txt").write_text("a")
    (root / "notes" / "file").symlink_to(root / "secret" / "a.txt")
    (root / "beside").symlink_to(root / "notes")
    (root / "loop").symlink_to(root / "loop")
    return root


@pytest.mark.parametrize(
    ("path", "pattern", "cwd", "covered"),
    [
        ("ROOT/notes/a.txt", "path=ROOT/notes/*", "", True),
        ("ROOT/notes/new/b.txt", "path=ROOT/notes/*", "", True),
        ("ROOT/notes/out/a.txt", "path=ROOT/notes/*", "", False),
        ("ROOT/notes/file", "path=ROOT/notes/*", "", False),
        ("ROOT/notes/file", "path=ROOT/notes/file", "", True),
        ("ROOT/notes/out/out/a.txt", "path=ROOT/notes/*", "", True),
        ("ROOT/beside/a.txt", "path=ROOT/beside/*", "", True),
        ("ROOT/beside/out/a.txt", "path=ROOT/beside/*", "", False),
        ("ROOT/beside/a.txt", "path=ROOT/notes/*", "", False),
        ("ROOT/notes/a.txt", "path=ROOT/beside/*", "", False),
        ("ROOT/loop/a", "path=ROOT/notes/*", "", False),
        ("notes/a.txt", "path=notes/*", "ROOT", True),
        ("notes/out/a.txt", "path=notes/*", "ROOT", False),
        ("notes/out/a.txt", "path=*", "ROOT", True),
        ("echo hi", "path=echo *", "ROOT", True),
        ("echo hi", "path=echo *", "ROOT/beside", True),
        ("echo hi/../../x", "path=echo *", "ROOT", False),
        ("a.txt", "path=a*", "ROOT/beside", True),
        ("out/a.txt", "path=*.txt", "ROOT/beside", True),
        ("out/a.txt", "path=out/*", "ROOT/beside", True),
        ("./out/a.txt", "path=./*", "ROOT/beside", False),
    ],
)
def test_an_allow_of_a_folder_covers_what_really_lies_in_it(
    links: Path, path: str, pattern: str, cwd: str, covered: bool
) -> None:
    found = through(links, path, ("allow", f"files:write {pattern}"), cwd=cwd)
    assert found == ("allow" if covered else "ask")


@pytest.mark.parametrize(
    ("path", "pattern", "cwd"),
    [
        ("ROOT/notes/out/a.txt", "path=ROOT/secret/*", ""),
        ("ROOT/notes/out", "path=ROOT/secret/*", ""),
        ("ROOT/notes/file", "path=ROOT/secret/*", ""),
        ("ROOT/notes/a.txt", "path=ROOT/beside/*", ""),
        ("ROOT/beside/a.txt", "path=ROOT/notes/*", ""),
        ("notes/out/new", "path=ROOT/secret/*", "ROOT"),
        ("secret/a.txt", "path=ROOT/secret/*", "ROOT"),
        ("../secret/a.txt", "path=ROOT/secret/*", "ROOT/notes"),
    ],
)
def test_a_deny_of_a_folder_holds_behind_links_and_for_relative_paths(
    links: Path, path: str, pattern: str, cwd: str
) -> None:
    assert through(links, path, ("deny", f"files:write {pattern}"), cwd=cwd) == "deny"


def test_a_home_written_with_a_tilde_is_the_home(links: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(links))
    assert through(links, "~/secret/a.txt", ("deny", "files:write path=ROOT/secret/*")) == "deny"
    assert through(links, "ROOT/secret/a.txt", ("deny", "files:write path=~/secret/*")) == "deny"


@given(text=st.text(max_size=200))
def test_every_text_can_be_read_and_is_its_own_first_reading(text: str) -> None:
    assert readings(text)[0] == text
    assert len(readings(text)) < 100 + 20 * len(text)


def test_the_longest_arguments_are_read_in_no_time_worth_naming() -> None:
    for piece in ("sudo ", "rm ", "a|", "$(", "(", "'", "/../", "a=1 ", "sh -c 'sh -c \"", "{a,b} ", "é"):
        text = (piece * 65_536)[:65_536]
        assert sum(map(len, readings(text))) < 400 * len(text), piece


@given(steps=st.lists(st.sampled_from(["..", "notes", "etc", "."]), max_size=8))
def test_an_allow_of_a_folder_does_not_let_a_path_out_of_it(steps: list[str]) -> None:
    path = "/home/me/notes/" + "/".join(steps)
    found = verdict("files:write", {"path": path}, ("allow", "files:write path=/home/me/notes/*"))
    if found == "allow":
        assert posixpath.normpath(path).startswith("/home/me/notes")


@given(text=st.text(max_size=60), pattern=st.text("ab*\\", max_size=12))
def test_a_glob_matches_as_its_definition_says(text: str, pattern: str) -> None:
    def slow(glob: str, rest: str) -> bool:
        if not glob:
            return not rest
        if glob[0] == "*":
            return slow(glob[1:], rest) or (bool(rest) and slow(glob, rest[1:]))
        plain = glob[1:2] if glob[0] == "\\" and len(glob) > 1 else glob[0]
        used = 2 if glob[0] == "\\" and len(glob) > 1 else 1
        return rest.startswith(plain) and slow(glob[used:], rest[1:])

    short = text[:12]
    assert matches(pattern, short) == slow(pattern, short)
    assert matches(escape(text), text)


@given(
    st.dictionaries(st.sampled_from(["path", "text", "n"]), TEXTS | st.integers() | st.booleans(), max_size=3)
)
def test_the_rule_of_always_covers_that_call_and_not_another(arguments: dict[str, object]) -> None:
    text = json.dumps(arguments)
    pattern = exact_pattern("files:write", text)
    if not pattern:
        return  # such a call cannot be written as a pattern: it is allowed once only
    exact = all(str(value).isascii() and str(value).isprintable() for value in arguments.values())
    if exact and not any(mark in str(value) for value in arguments.values() for mark in ";&|<>`$/"):
        assert verdict("files:write", text, ("allow", pattern)) == "allow"
    other = {**arguments, "path": f"{arguments.get('path', '')}-other"}
    if arguments:
        changed = {name: f"{value}x" for name, value in other.items()}
        assert verdict("files:write", changed, ("allow", pattern)) == "ask"
    assert verdict("files:remove", text, ("allow", pattern)) == "ask"


@pytest.mark.parametrize(
    "arguments",
    [
        '{"path": "/a/../b"}',
        '{"edits": [{"old": "a"}]}',
        '{"where": {"path": "x"}}',
        '{"path": null}',
        '{"path": "x"',
        '["x"]',
        "[" * 5_000,
    ],
)
def test_always_is_not_offered_where_its_rule_would_not_cover_the_call_or_would_cover_more(
    arguments: str,
) -> None:
    assert exact_pattern("files:write", arguments) == ""


def test_always_of_an_agents_call_of_which_nothing_is_said_is_not_offered() -> None:
    assert exact_pattern("agent:execute", "{}") == "" and exact_pattern("files:list", "{}") == "files:list"


def test_the_order_is_deny_then_ask_then_allow_and_the_narrowest_scope_is_named() -> None:
    rules = [
        Rule("allow", "files:*"),
        Rule("ask", "files:write", "apollo-ai"),
        Rule("deny", "files:write path=/etc/*"),
        Rule("allow", "files:read", "apollo-ai"),
        Rule("allow", "files:write", "session/s-1"),
    ]
    scopes = ("", "apollo-ai")
    assert decide(rules, "files:read", "{}", scopes).rule == rules[3]
    assert decide(rules, "files:write", '{"path": "/tmp/x"}', scopes).verdict == "ask"
    assert decide(rules, "files:write", '{"path": "/etc/passwd"}', scopes).verdict == "deny"
    assert decide(rules, "files:write", '{"path": "/tmp/x"}', ("", "athena-ai")).verdict == "allow"


@pytest.mark.parametrize(
    "arguments", ["", "[]", "null", "{", '"x"', '{"path": ["/home/me/notes/a"]}', '{"path": null}']
)
def test_what_is_no_object_of_plain_values_is_covered_by_no_allow_of_an_argument(arguments: str) -> None:
    assert verdict("files:write", arguments, ("allow", "files:write path=*")) == "ask"


@pytest.mark.parametrize("pattern", ["", " ", "a b", "a:b:c", "files:write path=x path=y", "=x"])
def test_a_pattern_that_cannot_be_read_is_refused_with_how_one_looks(pattern: str) -> None:
    with pytest.raises(RuleError, match=r"rule "):
        read_pattern(pattern)

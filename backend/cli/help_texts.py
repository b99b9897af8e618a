"""Help beside the commands: a summary and examples. The examples are data, so that tests can run them."""

from __future__ import annotations

SUMMARY = "Run and question a fleet of AI specialists. `tekton-tui` opens the console over the same platform."

EXAMPLES: dict[str, list[tuple[str, str]]] = {
    "tekton": [
        ("tekton launch apollo athena", "start two specialists"),
        ("tekton status", "see them"),
        ("tekton doctor", "see what is wrong on this machine"),
    ],
    "launch": [
        ("tekton launch apollo", "one specialist"),
        ("tekton launch greek-chorus --dry-run", "what launching a group would do"),
    ],
    "kill": [("tekton kill apollo", "asked to end, then killed after the grace time")],
    "status": [("tekton status --json", "everything, for a program")],
    "logs": [("tekton logs apollo --tail 20", "the newest lines")],
    "discover": [("tekton discover --capability planning", "who can plan")],
    "match": [("tekton match 'our cloud bill doubled'", "who suits, and why")],
    "errors": [
        ("tekton errors", "what nobody has acknowledged"),
        ("tekton errors ack --all", "mark all as seen"),
    ],
    "sessions": [("tekton sessions", "all conversations"), ("tekton sessions search hello", "find words")],
    "usage": [("tekton usage", "tokens and cost of today")],
    "models": [("tekton models", "what each provider offers")],
    "pipe": [("tekton pipe 'echo \"hello\" | apollo'", "one stage after another")],
    "team": [("tekton team 'name one risk'", "everybody that runs")],
    "call": [("tekton call get_orchestration", "any action by name, as JSON")],
    "config": [("tekton config check", "is the file good"), ("tekton config show", "all settings in force")],
    "aish": [
        ("aish apollo 'What is your role?'", "one question"),
        ("aish -c 'echo \"hello\" | apollo'", "a pipeline"),
        ("aish list", "who runs"),
    ],
}
"""Command line and what it does, by command."""

_EXITS = (
    "exit codes: 0 done · 1 failed · 2 wrong words or configuration · 3 not found · 4 not running · 5 the model did not\n"
    "answer · 6 refused (budget, port, cap, token, size) · 7 time-out · 130 cancelled"
)


def _epilog(name: str) -> str:
    width = max(len(line) for line, _ in EXAMPLES[name])
    lines = "\n".join(f"  {line:<{width}}  {words}" for line, words in EXAMPLES[name])
    return f"examples:\n{lines}\n\n{_EXITS}"


EPILOGS = {name: _epilog(name) for name in EXAMPLES}

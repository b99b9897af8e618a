"""Help beside the commands: what each is for, and examples. The examples are data, so that tests run them."""

from __future__ import annotations

import textwrap

SUMMARY = "Run and question a fleet of AI specialists. `tekton-tui` opens the console over the same platform."
WIDTH = 80

GROUPS: dict[str, tuple[str, ...]] = {
    "the fleet": ("launch", "status", "kill", "restart", "logs", "discover", "match"),
    "asking": ("team", "pipe", "bulk"),
    "what is remembered": ("sessions", "export", "errors", "usage"),
    "the platform": (
        "serve",
        "stop",
        "models",
        "config",
        "doctor",
        "gateway",
        "cluster",
        "mcp",
        "call",
        "completion",
    ),
}
"""Commands as the overview shows them."""

DESCRIPTIONS: dict[str, str] = {
    "serve": "Run the backend of TEKTON_HOME in the foreground until ctrl-c or TERM. The fleet runs on after it; the next "
    "backend finds it again. Most commands start a backend by themselves when none runs.",
    "launch": "Launch specialists by name, group (`greek-chorus`), `starter` or `all`, and say of each whether it serves. "
    "What cannot start is named with the reason; the others start. Nothing is ever started again by itself.",
    "kill": "Ask specialists to end, wait for the grace time, then kill what still runs. Only processes of this home are "
    "touched. `--all` also works when no backend runs.",
    "restart": "Stop specialists and launch them again, because you say so.",
    "status": "One row a specialist: state, process, port, model, tokens a second, first token, tokens in and out. "
    "Without a backend the registry is read.",
    "logs": "The newest lines a process wrote; `-f` goes on as it writes. `backend` and `embedded` have logs, too.",
    "discover": "List specialists by capability, role or state. On a terminal long lists are cut; piped or with --json "
    "they are whole.",
    "match": "Rank specialists for a request in free words, with the reasons. Those that run come first.",
    "errors": "What went wrong and nobody has acknowledged yet. `errors ack` marks records as seen; nothing is deleted.",
    "sessions": "Conversations the platform keeps. Verbs: list, show ID, search WORDS, new OWNER [TITLE], rename ID TITLE, "
    "resume ID (go on with it by default), delete ID, pin NUMBER and unpin NUMBER of a message.",
    "export": "Write a conversation as Markdown or JSON. A file that exists is never overwritten.",
    "usage": "Tokens and cost of today, by specialist.",
    "models": "What each provider offers, and why one offers nothing. `fetch` gets the embedded model, `pull MODEL` has "
    "Ollama get one, `set SPECIALIST [MODEL]` changes a specialist's.",
    "team": "Ask everybody that runs at once. Each answer is printed as soon as it is whole; who failed is named on "
    "stderr.",
    "pipe": 'Run stages one after another, each fed by the one before: NAME "instruction", {a,b} side by side, team, '
    'echo "text", cat FILE, < FILE, > FILE, >> FILE, {input}. A failed stage ends the run. Runs are kept: --history '
    "lists them, --show looks at one, --run with --from begins again at a stage.",
    "bulk": 'Ask many things side by side. A line in: {"specialist_id": "apollo", "message": "hello"}; a line out for each, '
    "in the same order.",
    "config": "show: all settings in force. check: is the file good. path: where it lies. orchestration [KEY=VALUE…]: how "
    "teams are moderated and requests routed, in force at once. get and set: values that clients keep.",
    "doctor": "Look at Python, permissions, configuration, weights, ports, disk, provider and backend, and say for each "
    "thing that is not well how to mend it. Changes nothing.",
    "call": "Call any action of the platform by its name, values as key=value; the answer is JSON. Without a name all "
    "actions are listed.",
    "mcp": "Serve MCP over stdin and stdout, for desktop clients that start their servers themselves.",
    "cluster": "The hosts specialists may run on, what they offer, and who runs where.",
    "gateway": "Who called the gateway, by what, and what was refused.",
    "stop": "End the backend. The specialists run on, unless --fleet.",
    "completion": "Print a completion script. bash: source <(tekton completion bash) · zsh: the same with zsh · fish: "
    "tekton completion fish | source",
    "aish": "Ask specialists and run pipelines. Answers come piece by piece on stdout; errors go to stderr with the "
    "failing stage and its code. Without words on a terminal it is a shell.",
}
"""A paragraph for each command."""

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
    "restart": [("tekton restart apollo", "a new process, the same conversation")],
    "kill": [("tekton kill metis", "asked to end, then killed after the grace time")],
    "status": [("tekton status", "a table"), ("tekton status --json", "everything, for a program")],
    "logs": [("tekton logs apollo --tail 20", "the newest lines")],
    "discover": [
        ("tekton discover --capability planning", "who can plan"),
        ("tekton discover --active --json", "who runs"),
    ],
    "match": [("tekton match 'our cloud bill doubled'", "who suits, and why")],
    "errors": [
        ("tekton errors", "what nobody has acknowledged"),
        ("tekton errors ack --all", "mark all as seen"),
    ],
    "sessions": [
        ("tekton sessions", "all conversations"),
        ("tekton sessions search hello", "find words"),
        ("tekton sessions new apollo 'release plan'", "begin one"),
    ],
    "usage": [("tekton usage", "tokens and cost of today")],
    "models": [
        ("tekton models", "what each provider offers"),
        ("tekton models --provider embedded", "of one"),
    ],
    "pipe": [
        ("tekton pipe 'echo \"hello\" | apollo'", "one stage after another"),
        ("echo hello | tekton pipe --times '{apollo,athena} | apollo \"sum up\"'", "side by side, then one"),
        ("tekton pipe --history", "earlier runs"),
        ("tekton pipe --save review 'apollo | athena \"shorter\"'", "keep it under a name"),
        ("echo 'a text' | tekton pipe --saved review", "run it; `--saved` alone lists, `--remove` forgets"),
    ],
    "team": [
        ("tekton team 'name one risk'", "everybody that runs"),
        ("tekton team --to apollo athena -- 'name one risk'", "only these"),
    ],
    "bulk": [('echo \'{"specialist_id": "apollo", "message": "hello"}\' | tekton bulk', "a request a line")],
    "config": [
        ("tekton config check", "is the file good"),
        ("tekton config show", "all settings in force"),
        ("tekton config orchestration moderation_mode=pass_through", "how teams are moderated"),
    ],
    "call": [("tekton call get_orchestration", "any action by name, as JSON")],
    "doctor": [("tekton doctor", "all findings, each with its mend")],
    "gateway": [("tekton gateway", "the newest calls")],
    "cluster": [("tekton cluster status", "this machine, or the nodes of the cluster")],
    "completion": [("tekton completion bash", "the script for bash")],
    "aish": [
        ("aish apollo 'What is your role?'", "one question"),
        ("echo 'a text' | aish apollo 'sum up:' | aish athena > out.txt", "a shell's own pipe"),
        ("aish -c 'echo \"hello\" | apollo | athena > out.txt'", "a pipeline"),
        ("aish --session plans apollo 'go on'", "a named conversation"),
        ("aish --json apollo hello", "JSON lines: pieces, then the answer"),
        ("aish team-chat 'name one risk'", "everybody that runs"),
        ("aish history apollo", "what was said"),
        ("aish list", "who there is"),
    ],
}
"""Command lines and what they do, by command."""

EXITS = (
    "exit codes:\n"
    "  0 done                          5 the model did not answer\n"
    "  1 failed                        6 refused: budget, port, cap, token, size\n"
    "  2 wrong words or configuration  7 time-out\n"
    "  3 not found                     130 cancelled\n"
    "  4 not running                   141 whoever read the output left"
)


def description(name: str) -> str:
    """Return a command's paragraph, wrapped."""
    return textwrap.fill(DESCRIPTIONS.get(name, ""), WIDTH - 2, break_on_hyphens=False)


def epilog(name: str) -> str:
    """Return the examples of a command and the exit codes."""
    lines = [f"  {line}\n      {words}" for line, words in EXAMPLES.get(name, [])]
    examples = "\n".join(["examples:", *lines]) + "\n\n" if lines else ""
    return examples + EXITS


def overview(helps: dict[str, str]) -> str:
    """Return the help of `tekton` itself: commands in groups. `helps` has a line for each command."""
    parts = ["usage: tekton COMMAND …        tekton COMMAND --help", textwrap.fill(SUMMARY, WIDTH - 2)]
    width = max(map(len, helps)) + 2
    grouped = [name for names in GROUPS.values() for name in names]
    more = {"more": tuple(name for name in helps if name not in grouped)}
    for title, names in {**GROUPS, **more}.items():
        if not names:
            continue
        parts.append("\n".join([f"{title}:", *(f"  {name:<{width}}{helps[name]}" for name in names)]))
    parts += [epilog("tekton"), "`aish` asks specialists from a shell: aish --help"]
    return "\n\n".join(parts) + "\n"

"""The one table of verbs: key, word behind `:`, meaning, and the places where each holds.

A letter means the same everywhere. The bindings of every widget, the line of keys, the help, the palette, the context
menu, the command line and the names in the operator's keymap are made from this table, so none can say something else.
Knows no widgets: a place names a widget's action as Textual writes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Literal, NamedTuple, Protocol, runtime_checkable

from textual.binding import Binding, BindingType

Takes = Literal["", "who", "names", "who text", "text", "theme"]
"""What stands behind a word: nothing, specialists, what can be launched, one specialist and a text, a text, a theme."""

EVERYWHERE: Final = "app"
"""The place of the verbs that hold on every screen."""
OF_CURSOR: Final = frozenset(
    "open write acknowledge stop start kill again mark snooze log model copy pin delete rename".split()
)
"""Verbs that act on what the cursor is on."""
OF_LIST: Final = frozenset("group columns order shorter longer".split())
"""Verbs that choose how the fleet's list and plots are to stand."""


class At(NamedTuple):
    """A verb at one place: the action of the place's widget, and what it does there in a word or two.

    `show` is false for what the line of keys leaves out: moves, and what everybody tries by themselves. `sign` is how the
    key is written there, where it stands for more than itself.
    """

    place: str
    action: str
    label: str = ""
    show: bool = True
    sign: str = ""


class Verb(NamedTuple):
    """One meaning.

    Attributes:
        name: Its name in the keymap, behind the place: `fleet.stop`.
        keys: Keys as Textual writes them, separated by commas; the first is shown. Empty for one reached by word alone.
        label: What it does, in a word or two.
        help: What it does, in a sentence.
        places: Where it holds.
        words: What it is called behind `:`, the usual one first; empty for a move.
        takes: What may stand behind the word.
        destructive: Whether it ends, restarts, removes or costs something, so that it asks first.
    """

    name: str
    keys: str
    label: str
    help: str
    places: tuple[At, ...]
    words: tuple[str, ...] = ()
    takes: Takes = ""
    destructive: bool = False

    def at(self, place: str) -> At | None:
        """Return how this verb is carried out at a place, if it holds there."""
        return next((at for at in self.places if at.place == place), None)


@runtime_checkable
class SaysWhyNot(Protocol):
    """A widget some of whose verbs have no use at times."""

    def why_not(self, verb: str) -> str:
        """Return why a verb of the table has no use now, as a sentence; empty if it has one."""
        ...


@runtime_checkable
class NamesKeys(Protocol):
    """A widget whose actions have other descriptions at other times."""

    def key_words(self) -> dict[str, str]:
        """Return descriptions by action, where they differ from those of the bindings."""
        ...


KEY_SIGNS: Final = {
    "enter": "⏎", "escape": "esc", "slash": "/", "colon": ":", "question_mark": "?", "equals_sign": "=", "plus": "+",
    "greater_than_sign": ">", "vertical_line": "|", "left_square_bracket": "[", "right_square_bracket": "]",
    "left_curly_bracket": "{", "right_curly_bracket": "}", "up": "↑", "down": "↓", "left": "←", "right": "→",
    "minus": "-", "apostrophe": "'", "pageup": "PgUp", "pagedown": "PgDn", "home": "Home", "end": "End",
}  # fmt: skip
"""How a key is written for people; others are written as Textual names them."""


def _verb(
    name: str,
    keys: str,
    label: str,
    help: str,
    *places: At,
    words: str = "",
    takes: Takes = "",
    destructive: bool = False,
) -> Verb:
    return Verb(name, keys, label, help, places, tuple(words.split()), takes, destructive)


VERBS: Final = (
    _verb("send", "enter", "send", "send what is written", At("composer", "send")),
    _verb("newline", "ctrl+j,shift+enter", "new line", "begin a new line", At("composer", "newline")),
    _verb("complete", "tab", "complete", "complete a name, or go to what was said", At("composer", "complete", show=False),
          At("command", "complete", show=False)),
    _verb("open", "enter", "open", "open what the cursor is on", At("fleet", "chat", "chat"), At("transcript", "fold", "unfold"),
          At("ask", "alone", "show it alone"),
          At("team-view", "read", "read"), At("switcher", "choose", "go there"),
          At("errors", "go", "go to it"), At("needs", "open"), At("sessions", "resume", "go on in it"),
          At("gantt", "open", "open the turn"), At("first", "begin", "start"),
          words="open chat", takes="who"),
    _verb("write", "i", "write", "write to it; on a question of yours, write that one anew", At("fleet", "ask", "ask"),
          At("transcript", "edit"), At("team", "write"), At("pipes", "write"),
          At("needs", "say_why", "no, because", show=False), At("ask", "say_why", "no, because"), words="ask write", takes="who text"),
    _verb("acknowledge", "a", "acknowledge", "say that it has been seen", At("errors", "acknowledge"),
          At("needs", "acknowledge", "allow/seen"), At("ask", "answer('allow')", "once"), words="acknowledge ack"),
    _verb("acknowledge-all", "A", "all", "say that all have been seen; asks", At("errors", "acknowledge_all"),
          At("needs", "acknowledge_all", "always/all"), At("ask", "answer('always')", "always"),
          words="acknowledge-all", destructive=True),
    _verb("its-answers", "c", "choose", "show the call alone, to choose among the agent's own answers", At("needs", "options", show=False),
          words="answers"),
    _verb("mark", "space", "mark", "mark for the next verb", At("fleet", "mark"), At("team-view", "mark"),
          At("needs", "mark", show=False), At("first", "mark", "take"), words="mark", takes="who"),
    _verb("team", "t", "team", "ask the team; in Team Chat, a round of discussion", At("fleet", "broadcast", "ask team"),
          At("team-view", "discuss", "discuss"), words="team", takes="text"),
    _verb("joint", "M", "joint", "one joint answer from several", At("team-view", "merge", "joint answer"), words="joint merge"),
    _verb("vote", "V", "vote", "let the members vote for the best answer; asks", At("team-view", "vote"), words="vote", destructive=True),
    _verb("start", "s", "start", "show the plan, then start", At("fleet", "launch"), At("needs", "start"),
          At("chat", "start", show=False), words="start launch", takes="names"),
    _verb("stop", "x", "stop", "stop it: a specialist asks first, a turn does not", At("fleet", "stop"),
          At("needs", "stop", "deny/stop"), At("ask", "answer('deny')", "no"),
          At("team-view", "cancel_lane", "stop lane"), At("pipes", "cancel"),
          At("chat", "stop"), words="stop", takes="who", destructive=True),
    _verb("new", "n", "new specialist", "write a specialist of your own, and see its prompt", At("fleet", "new", "new"),
          words="new", takes="text"),
    _verb("log", "l", "log", "what its process wrote", At("fleet", "logs"), At("errors", "logs"), At("needs", "logs"),
          At("chat", "logs", show=False),
          At("timeline", "logs"), words="log logs", takes="who"),
    _verb("kill", "X", "kill", "end it at once; always asks", At("fleet", "kill"), At("team-view", "cancel_all", "stop all"),
          words="kill", takes="who", destructive=True),
    _verb("again", "R", "again", "do it again; asks", At("fleet", "restart", "restart"), At("transcript", "ask_again", "ask again"),
          At("team-view", "ask_again", "ask again"), At("pipes", "rerun", "run from here"), At("first", "look", "look again", show=False),
          At("system", "again", "look again"),
          words="again restart", takes="who",
          destructive=True),
    _verb("detail", "d", "detail", "all that is known of it", At("fleet", "detail"), words="detail describe", takes="who"),
    _verb("start-all", "S", "start all", "show the plan for all, then start", At("fleet", "launch_all"), words="start-all"),
    _verb("model", "m", "model", "choose its model", At("fleet", "model"), At("chat", "model", show=False), words="model", takes="who"),
    _verb("compare", "equals_sign", "compare", "compare two answers", At("team-view", "diff"), words="compare diff"),
    _verb("pipe", "vertical_line", "pipe", "hand it on to others", At("fleet", "pipe"), At("transcript", "pipe"),
          At("team-view", "pipe"), words="pipe", takes="text"),
    _verb("sent", "I", "sent", "what the model was sent for it: parts, tokens, what was left out", At("transcript", "sent", show=False),
          words="sent"),
    _verb("quote", "greater_than_sign", "quote", "quote it in the composer", At("transcript", "quote"),
          At("team-view", "quote", show=False), words="quote"),
    _verb("pick", "p", "pin", "pin or pick it", At("team-view", "pick", "pick"), At("chat", "pin", show=False), words="pin pick"),
    _verb("copy", "y", "copy", "copy it as text", At("fleet", "copy", "copy name", show=False), At("transcript", "copy"),
          At("team-view", "copy"), At("pipes", "copy", "copy output"), At("lines", "copy"), At("errors", "copy"),
          At("needs", "copy", show=False),
          At("gateway", "copy", "copy curl"), At("system", "copy", show=False), At("text", "copy"), words="copy yank"),
    _verb("copy-json", "Y", "as JSON", "copy it as JSON with all its facts", At("fleet", "yank", "row as JSON", show=False),
          words="copy-json"),
    _verb("source", "v", "source", "show the text as it was written", At("transcript", "raw"), words="source raw"),
    _verb("wrap", "w", "wrap", "wrap long lines, or cut them", At("lines", "wrap"), words="wrap"),
    _verb("follow", "f", "follow", "follow what is new, or hold", At("lines", "follow"),
          At("gantt", "follow"), words="follow"),
    _verb("order", "o", "order", "choose the order", At("fleet", "order"), At("team-view", "order"), words="order sort"),
    _verb("layout", "L", "layout", "list or cards, rows or tiles", At("team-view", "list"),
          At("fleet", "layout", "wall", show=False), words="layout"),
    _verb("snooze", "Z", "snooze", "put it away for a while, or bring it back", At("needs", "snooze"), words="snooze"),
    _verb("other", "tab", "another question", "offer another first question", At("first", "question", show=False)),
    _verb("group", "O", "group", "stand them in groups; on the first form, another job", At("fleet", "group", show=False),
          At("first", "group", "another job"), words="group"),
    _verb("kinds", "K", "kinds", "log lines and calls of clients as well, or not", At("timeline", "kinds"), words="kinds"),
    _verb("columns", "C", "columns", "choose the columns, and their order", At("fleet", "columns", show=False), words="columns"),
    _verb("taller", "alt+up", "taller", "more room for the lower pane", At("fleet", "resize_detail(1)", show=False)),
    _verb("lower", "alt+down", "lower", "less room for the lower pane", At("fleet", "resize_detail(-1)", show=False)),
    _verb("shorter", "plus", "shorter", "a shorter time", At("fleet", "span(-1)", show=False),
          At("gantt", "scale(-1)", "zoom in")),
    _verb("longer", "minus", "longer", "a longer time", At("fleet", "span(1)", show=False),
          At("gantt", "scale(1)", "zoom out")),
    _verb("moderation", "", "moderation", "how the next answers are moderated", At("team", "mode"), words="moderation mode"),
    _verb("rename", "r", "rename", "give it another name", At("sessions", "rename"), At("saved", "rename"), words="rename"),
    _verb("delete", "D", "delete", "delete it for good; asks", At("sessions", "delete"), At("saved", "remove", "remove"),
          words="delete remove", destructive=True),
    _verb("zoom", "z", "zoom", "this pane alone, or all again", At("team-view", "zoom"), At("fleet", "zoom", show=False), words="zoom"),
    _verb("add", "plus", "fetch a model", "have Ollama fetch a model", At("models", "fetch"), At("first", "fetch"), words="fetch"),
    _verb("find", "slash", "find", "find, or filter", At("fleet", "filter", "filter"), At("chat", "find"),
          At("timeline", "filter", "filter"), At("log", "filter", "filter"), At("sessions", "find"), words="find filter"),
    _verb("save", "ctrl+s", "save", "save it under a name, or write it to a file", At("chat", "export", "export"),
          At("sessions", "export", "export"), At("pipes", "save"),
          At("new", "create", "create"), words="save export"),
    _verb("switch", "ctrl+o", "switch", "go to another conversation, or to one that is kept", At("pipes", "saved", "saved"),
          At("app", "switch", "conversations", show=False), words="switch"),
    _verb("back", "escape", "back", "one step back", At("composer", "cancel", "leave"), At("command", "close", "close", show=False),
          At("search", "close", "close"), At("fleet", "clear", show=False), At("chat", "cancel", show=False),
          At("team-view", "back", show=False), At("pipes", "back", show=False),
          At("errors", "back", show=False), At("needs", "back", show=False), At("timeline", "back", show=False),
          At("sessions", "back", show=False),
          At("gateway", "back", show=False), At("system", "back", show=False), At("first", "later", "later"),
          At("models", "back", "close"), At("saved", "back", "close"), At("new", "close", "close"),
          At("log", "back", "close"),
          At("switcher", "dismiss", "close"), At("ask", "leave", "later")),
    _verb("close", "escape,q", "close", "close this", At("text", "dismiss"), At("compare", "dismiss")),
    # moves
    _verb("up", "up,k", "up", "one up", At("grid", "move(-1)", show=False),
          At("first", "move(-1)", "choose", sign="↑↓"), At("switcher", "move(-1)", show=False),
          At("transcript", "cursor(-1)", show=False), At("fleet-detail", "scroll_up", show=False),
          At("compare", "scroll(-1)", show=False),
          At("gantt", "move(-1)", show=False), At("ask", "scroll(-1)", show=False)),
    _verb("down", "down,j", "down", "one down", At("grid", "move(1)", show=False),
          At("first", "move(1)", show=False), At("switcher", "move(1)", show=False),
          At("fleet-detail", "scroll_down", show=False),
          At("transcript", "cursor(1)", show=False),
          At("compare", "scroll(1)", show=False),
          At("gantt", "move(1)", show=False), At("ask", "scroll(1)", show=False)),
    _verb("page-up", "pageup", "page up", "a page up", At("grid", "move(-10)", show=False), At("compare", "scroll(-20)", show=False),
          At("lanes", "read_lane(-1)", show=False)),
    _verb("page-down", "pagedown", "page down", "a page down", At("grid", "move(10)", show=False),
          At("compare", "scroll(20)", show=False), At("lanes", "read_lane(1)", show=False)),
    _verb("first", "home,g", "first", "to the beginning", At("grid", "move(-100000)", show=False),
          At("transcript", "top", show=False), At("lines", "scroll_home", show=False),
          At("gantt", "move(-100000)", show=False)),
    _verb("last", "end,G", "last", "to the end", At("grid", "move(100000)", show=False), At("transcript", "tail", show=False),
          At("lines", "end", show=False),
          At("gantt", "move(100000)", show=False)),
    _verb("left", "left", "left", "to the left", At("grid", "side(-1)", show=False), At("lanes", "move(-1,0)", show=False),
          At("pipes", "stage(-1)", "stage", show=False),
          At("gantt", "pan(-1)", "earlier", show=False)),
    _verb("right", "right", "right", "to the right", At("grid", "side(1)", show=False), At("lanes", "move(1,0)", show=False),
          At("pipes", "stage(1)", "stage", show=False),
          At("gantt", "pan(1)", "later", show=False)),
    _verb("above", "up,k", "up", "to the lane above", At("lanes", "move(0,-1)", show=False), At("search", "step(-1)", "older match"),
          At("command", "history(-1)", "earlier", show=False)),
    _verb("below", "down,j", "down", "to the lane below", At("lanes", "move(0,1)", show=False), At("search", "step(1)", "newer match"),
          At("command", "history(1)", "later", show=False)),
    _verb("previous-tab", "left_square_bracket,ctrl+pageup", "tab", "the tab before", At("chat-tabs", "step(-1)", show=False),
          At("fleet", "tab(-1)", show=False), At("needs", "tab(-1)", show=False), At("system", "tab(-1)", show=False),
          At("log", "previous", "earlier run")),
    _verb("next-tab", "right_square_bracket,ctrl+pagedown", "tab", "the next tab", At("chat-tabs", "step(1)", show=False),
          At("fleet", "tab(1)", show=False), At("needs", "tab(1)", show=False), At("system", "tab(1)", show=False),
          At("log", "previous", "latest run", show=False)),
    _verb("earlier", "left_curly_bracket", "earlier", "the round, question, turn or branch before",
          At("team-view", "round(-1)", show=False),
          At("gantt", "turn(-1)", "turn before", show=False), At("chat", "branch(-1)", "branch", show=False)),
    _verb("later", "right_curly_bracket", "later", "the round, question, turn or branch after",
          At("team-view", "round(1)", show=False),
          At("gantt", "turn(1)", "turn after", show=False), At("chat", "branch(1)", "branch", show=False)),
    _verb("next-hit", "n", "next hit", "the next hit, or the next of what waits",
          At("needs", "next", "next", show=False), At("transcript", "hit(1)", show=False), At("lines", "hit(1)", show=False)),
    _verb("previous-hit", "N", "previous hit", "the hit before", At("transcript", "hit(-1)", show=False),
          At("lines", "hit(-1)", show=False)),
    _verb("read-on", "ctrl+d", "read on", "more of what is shown of it", At("needs", "read(1)", show=False)),
    _verb("read-back", "ctrl+u", "read back", "what was shown before", At("needs", "read(-1)", show=False)),
    # everywhere
    _verb("next", "e", "next for you", "to the next that waits for you", At("app", "next_error(1)", show=False), words="next"),
    _verb("previous", "E", "previous for you", "to the one before", At("app", "next_error(-1)", show=False), words="previous"),
    _verb("undo", "u", "undo", "take back what was done in the last 5 s", At("app", "undo", show=False), words="undo"),
    _verb("jump", "apostrophe", "jump", "letters over all that can be gone to: type one", At("app", "jump", show=False), words="jump"),
    _verb("command", "colon", "command", "write a verb by its word", At("app", "command_line", show=False)),
    _verb("help", "question_mark,f1", "keys", "the keys that hold here", At("app", "open_help"), words="help keys"),
    _verb("palette", "ctrl+p", "anything", "all verbs, places, themes and names", At("app", "command_palette", show=False),
          words="palette"),
    _verb("settings", "f2", "settings", "settings of this console and the orchestration policy", At("app", "settings", show=False),
          words="settings"),
    _verb("connect", "f5", "connect", "attach to the backend; start it if it is gone", At("app", "reconnect", show=False),
          words="connect"),
    _verb("use", "f4", "model for all", "which model answers for all that name none", At("app", "use_model", show=False), words="use"),
    _verb("theme", "", "theme", "choose the colours", At("app", "settings", show=False), words="theme", takes="theme"),
    _verb("attach", "", "attach", "have a file go along with the next question: :attach FILE", At("chat", "attach_file", show=False),
          At("team", "attach_file", show=False), words="attach", takes="text"),
    _verb("effort", "", "effort", "how hard its model is to think: :effort high, :effort default", At("chat", "effort", show=False),
          words="effort", takes="text"),
    _verb("options", "", "options", "what can be set at an external agent: its mode, its model and more",
          At("chat", "options", show=False), words="options"),
    _verb("panel", "f3", "panel", "facts beside the conversation", At("chat", "panel", show=False), words="panel"),
    _verb("quit", "ctrl+q", "quit", "leave; asks what becomes of the fleet", At("app", "quit", show=False), words="quit q"),
)  # fmt: skip
"""In the order in which they stand in the line of keys and under help."""

BY_NAME: Final = {verb.name: verb for verb in VERBS}
BY_WORD: Final = {word: verb for verb in VERBS for word in verb.words}

RENAMED: Final = {
    "fleet.chat": "fleet.open", "fleet.launch": "fleet.start", "fleet.launch-all": "fleet.start-all",
    "fleet.broadcast": "fleet.team", "fleet.logs": "fleet.log", "fleet.filter": "fleet.find",
    "fleet.describe": "fleet.detail", "fleet.restart": "fleet.again", "fleet.yank": "fleet.copy-json",
    "fleet.clear": "fleet.back", "team.zoom": "team-view.zoom", "team.pick": "team-view.pick",
    "team.pipe": "team-view.pipe", "team.diff": "team-view.compare", "team.merge": "team-view.joint",
    "team.discuss": "team-view.team", "team.cancel-lane": "team-view.stop", "team.list": "team-view.layout",
    "team.ask-again": "team-view.again", "team.mark": "team-view.mark", "team.cancel-all": "team-view.kill",
    "team.order": "team-view.order", "team.copy": "team-view.copy", "team.quote": "team-view.quote",
    "team.left": "lanes.left", "team.right": "lanes.right", "team.up": "lanes.above", "team.down": "lanes.below",
    "team.scroll-up": "lanes.page-up", "team.scroll-down": "lanes.page-down", "team.back-out": "team-view.back",
    "team.mode": "team.moderation", "errors.go": "errors.open", "errors.logs": "errors.log",
    "timeline.filter": "timeline.find", "sessions.resume": "sessions.open", "sessions.export": "sessions.save",
    "sessions.export-json": "sessions.save", "pipes.cancel": "pipes.stop", "pipes.rerun": "pipes.again",
    "pipes.saved": "pipes.switch", "pipes.previous-stage": "pipes.left", "pipes.next-stage": "pipes.right",
    "log.close": "log.back", "log.previous": "log.previous-tab", "log.filter": "log.find", "lines.top": "lines.first",
    "lines.end": "lines.last", "chat.pin": "chat.pick", "chat.export": "chat.save", "chat.cancel": "chat.back", "chat.logs": "chat.log",
    "chat.previous": "chat-tabs.previous-tab", "chat.next": "chat-tabs.next-tab", "transcript.top": "transcript.first",
    "transcript.tail": "transcript.last", "transcript.raw": "transcript.source", "transcript.fold": "transcript.open",
    "transcript.ask-again": "transcript.again", "transcript.edit": "transcript.write", "models.fetch": "models.add",
    "models.close": "models.back", "saved.remove": "saved.delete", "saved.close": "saved.back",
    "composer.cancel": "composer.back", "command.close": "command.back", "search.close": "search.back",
    "search.older": "search.above", "search.newer": "search.below", "app.next-error": "app.next",
    "app.previous-error": "app.previous", "app.reconnect": "app.connect", "app.help-while-writing": "app.help",
    "go.pipes": "", "go.errors": "go.needs", "go.gateway": "go.system", "go.sessions": "app.switch",
}  # fmt: skip
"""Names of earlier versions in the operator's keymap, and what they are called now; empty for what has no key any more."""


def at_place(place: str) -> Iterator[tuple[Verb, At]]:
    """Yield the verbs that hold at a place, in the table's order."""
    for verb in VERBS:
        if (at := verb.at(place)) is not None:
            yield verb, at


def bindings(place: str) -> list[BindingType]:
    """Return the bindings of the widget that is this place."""
    return [
        Binding(
            verb.keys,
            at.action,
            at.label or verb.label,
            show=at.show,
            key_display=at.sign or key_sign(verb.keys),
            id=f"{place}.{verb.name}",
            priority=verb.name == "quit",
        )
        for verb, at in at_place(place)
        if verb.keys
    ]


def ordered(bindings: Iterable[BindingType], first: Sequence[str]) -> list[BindingType]:
    """Return bindings in another order than the table's: these verbs first, then the others as they were."""

    def place(binding: BindingType) -> int:
        name = (binding.id or "").partition(".")[2] if isinstance(binding, Binding) else ""
        return first.index(name) if name in first else len(first)

    return sorted(bindings, key=place)


def key_sign(keys: str) -> str:
    """Return how the first of these keys is written for people."""
    first = keys.partition(",")[0]
    return KEY_SIGNS.get(first, first)


def verb_of(binding_id: str | None) -> Verb | None:
    """Return the verb of a binding that was made from the table."""
    return BY_NAME.get((binding_id or "").partition(".")[2])

"""What the operator can have done, from a key, a button, the palette or the command line alike.

Asks first where something is lost, then calls the backend; results come back as notices and events. Knows the app only
by the little it needs of it (`Shell`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from textual.screen import Screen

from tekton_tui.desk import Desk, new_request_id
from tekton_tui.screens.dialogs import confirm, plan_dialog, quit_dialog
from tekton_tui.stores import LiveTurn, Stores
from tekton_tui.wording import turn_words

if TYPE_CHECKING:
    from backend.schema.events import Topic

DRAFT_DELAY_S = 1.0


class Shell(Protocol):
    """What commands need of the app."""

    def push_screen(self, screen: Screen[Any], callback: Callable[[Any], None] | None = None) -> Any: ...

    def show_pane(self, name: str) -> None: ...

    def in_pane(self, name: str, act: Callable[[Any], None]) -> None: ...

    def copy_to_clipboard(self, text: str) -> None: ...

    def leave(self) -> None: ...

    def open_help(self) -> None: ...


class Commands:
    """The verbs of the console. `shell` is the app."""

    def __init__(self, shell: Shell, desk: Desk) -> None:
        self._shell, self._desk = shell, desk
        self._drafts: dict[str, str] = {}
        self._saved: dict[str, str] = {}
        self._saving = False
        self._stores: Stores = desk.stores

    # the fleet

    def launch(self, names: list[str]) -> None:
        """Show the launch plan of names, groups, `starter` or `all`; launch on Enter."""

        def planned(answer: dict[str, Any]) -> None:
            plan = answer["plan"]
            if plan["items"] and all(item.get("code") == "already_running" for item in plan["items"]):
                self._desk.notice.emit("all of these run already", False)
                return
            self._shell.push_screen(
                plan_dialog(plan, self._provider_words()), lambda yes: self._launch(names, yes)
            )

        self._desk.do("launch", then=planned, ids=names, dry_run=True)

    def _launch(self, names: list[str], answer: str | None) -> None:
        if answer == "yes":
            self._desk.do("launch", then=lambda result: self._report("launched", result), ids=names)

    def stop(self, ids: list[str]) -> None:
        """End specialists. An idle one asks nothing; one that answers names what is lost; several are listed."""
        self._end(ids, force=False)

    def kill(self, ids: list[str]) -> None:
        """End specialists at once; always asks."""
        self._end(ids, force=True)

    def kill_all(self) -> None:
        self._end([row.id for row in self._stores.fleet.rows.values() if row.pid], force=False, always=True)

    def restart(self, ids: list[str]) -> None:
        """Stop and launch again, by hand; asks like a stop."""
        self._asked(
            ids,
            "Restart",
            "This stops and starts:",
            always=len(ids) > 1,
            then=lambda: self._desk.do(
                "restart", then=lambda result: self._report("restarted", result), ids=ids
            ),
        )

    def _end(self, ids: list[str], *, force: bool, always: bool = False) -> None:
        live = [ai_id for ai_id in ids if self._stores.fleet.rows[ai_id].pid]
        if not live:
            self._desk.notice.emit("nothing of this runs", False)
            return
        verb = "Kill" if force else "Stop"
        self._asked(
            live,
            verb,
            f"This {verb.lower()}s:",
            always=force or always or len(live) > 1,
            then=lambda: self._desk.do(
                "kill", then=lambda result: self._report("stopped", result), ids=live, force=force
            ),
        )

    def _asked(
        self, ids: list[str], verb: str, question: str, *, always: bool, then: Callable[[], None]
    ) -> None:
        """Run `then` at once when nothing is lost, else after a yes."""
        lost = [turn for ai_id in ids for turn in self._stores.turns.of_specialist(ai_id)]
        if not lost and not always:
            then()
            return
        names = [self._loss(ai_id) for ai_id in ids]
        self._shell.push_screen(
            confirm(f"{verb} {len(ids)}", question, names, verb),
            lambda answer: then() if answer == "yes" else None,
        )

    def _loss(self, ai_id: str) -> str:
        turns = self._stores.turns.of_specialist(ai_id)
        name = self._stores.fleet.rows[ai_id].name
        return f"{name}: loses an answer ({turn_words(turns[0])}, {turns[0].pieces} tok)" if turns else name

    def _report(self, done: str, answer: dict[str, Any]) -> None:
        """Say how it went: failures one by one, successes in one line."""
        good = [row for row in answer["results"] if row["ok"]]
        for row in answer["results"]:
            if not row["ok"]:
                self._desk.notice.emit(
                    f"{row['id'].removesuffix('-ai')}: {row.get('message', 'failed')}", True
                )
        if good:
            self._desk.notice.emit(
                f"{done}: {', '.join(row['id'].removesuffix('-ai') for row in good)}", False
            )

    def _provider_words(self) -> str:
        platform = self._stores.fleet.platform
        if platform is None:
            return ""
        provider = platform.provider
        words = f"{provider.provider} · {provider.display or provider.model} · {provider.reason}."
        if provider.provider == "embedded":
            words += (
                "\nThe embedded model is a small stand-in: it talks, it does not know. For real work start Ollama "
                "and pull a model, or set ANTHROPIC_API_KEY, then start the backend again."
            )
        return words

    # asking

    def ask(
        self, ai_id: str, text: str, session_id: str = "", *, otherwise: Callable[[str], None] | None = None
    ) -> None:
        """Send a prompt to one specialist; the answer comes as events. `otherwise` gets the text back if refused."""
        self._desk.do(
            "chat",
            otherwise=otherwise and partial(otherwise, text),
            ai_id=ai_id,
            content=text,
            session_id=session_id or None,
            request_id=new_request_id(),
            wait=False,
        )

    def ask_named(self, name: str, text: str) -> None:
        """Ask whoever a typed name means, `auto` being whoever suits best; its tab opens."""

        def started(answer: dict[str, Any]) -> None:
            self.open_chat(answer["ai_id"])

        auto = "@auto" if name.lower() == "auto" else name
        self._desk.do("chat", then=started, ai_id=auto, content=text, request_id=new_request_id(), wait=False)

    def new_session(self, owner: str, then: Callable[[str], None]) -> None:
        """Begin a new conversation and make it the default one."""
        self._desk.do("reset_member", then=lambda session: then(session["id"]), id=owner)

    def ask_team(
        self,
        text: str,
        targets: list[str],
        mode: str | None = None,
        *,
        otherwise: Callable[[str], None] | None = None,
    ) -> str:
        """Send a prompt to many; return the request id its lanes will carry. `otherwise` gets a refused text back."""
        request_id = new_request_id()
        self._desk.do(
            "team_chat",
            otherwise=otherwise and partial(otherwise, text),
            content=text,
            target_ids=targets or None,
            mode=mode,
            request_id=request_id,
            wait=False,
        )
        return request_id

    def discuss(self, team_request_id: str) -> None:
        self._desk.do("discuss", team_request_id=team_request_id, request_id=new_request_id())

    def merge(self, team_request_id: str, session_id: str, prompt: str, answers: dict[str, str]) -> None:
        """Let Rhetor write one answer from several; it comes as a further lane of the team turn."""
        previous = [{"specialist_id": ai_id, "content": text} for ai_id, text in answers.items()]
        self._desk.do(
            "chat",
            ai_id="rhetor",
            content=f"The team was asked: {prompt}\n\nWrite one joint answer from the answers above.",
            session_id=session_id,
            context={"previous": previous},
            group=team_request_id,
            request_id=f"{team_request_id}/merge",
            wait=False,
        )

    def cancel(self, request_id: str) -> None:
        """End a turn, a team turn or a pipeline; the worker's confirmation is told."""

        def confirmed(answer: dict[str, Any]) -> None:
            self._desk.notice.emit(
                f"stopped after {answer['chunks']} tok, {answer['elapsed_ms']:.0f} ms", False
            )

        self._desk.do("cancel", then=confirmed, request_id=request_id)

    def cancel_turns(self, turns: list[LiveTurn]) -> None:
        for turn in turns:
            self.cancel(turn.request_id)

    def run_pipeline(self, text: str, given: str = "", *, run_id: str = "", from_stage: int = 0) -> None:
        self._desk.do(
            "pipeline",
            pipeline=text,
            input=given,
            run_id=run_id or None,
            from_stage=from_stage or None,
            request_id=new_request_id(),
            wait=False,
        )

    def pipe_text(self, text: str) -> None:
        """Take a text to the pipes screen, as the input of a pipeline to be written."""
        self._shell.show_pane("pipes")
        self._shell.in_pane("pipes", lambda pane: pane.take_input(text))

    # going places

    def show(self, name: str) -> None:
        self._shell.show_pane(name)

    def open_chat(self, ai_id: str) -> None:
        self._shell.show_pane("chat")
        self._shell.in_pane("chat", lambda pane: pane.open_tab(ai_id))

    def open_team(self, ids: list[str]) -> None:
        self._shell.show_pane("team")
        self._shell.in_pane("team", lambda pane: pane.address(ids))

    def resume(self, ai_id: str, session_id: str) -> None:
        """Go on in an earlier conversation."""
        self._shell.show_pane("chat")
        self._shell.in_pane("chat", lambda pane: pane.open_tab(ai_id, session_id))

    def read_topics(self, *topics: Topic) -> None:
        """Hear more of what happens from now on."""
        for topic in topics:
            self._desk.spawn(self._desk.add_topic(topic))

    def delete_session(self, session_id: str, title: str, messages: int, then: Callable[[], None]) -> None:
        """Delete a conversation for good, after a yes."""

        def delete(answer: str | None) -> None:
            if answer == "yes":
                self._desk.do("delete_session", then=lambda result: then(), id=session_id)

        self._shell.push_screen(
            confirm("Delete", f"This deletes {messages} messages for good:", [title], "Delete"), delete
        )

    def open_pipes(self, text: str = "") -> None:
        self._shell.show_pane("pipes")
        self._shell.in_pane("pipes", lambda pane: pane.draft(text))

    def open_errors(self, where: str = "") -> None:
        self._shell.show_pane("errors")
        self._shell.in_pane("errors", lambda pane: pane.go_to(where))

    def show_row(self, ai_id: str) -> None:
        """Go to a specialist's row."""
        self._shell.show_pane("fleet")
        self._shell.in_pane("fleet", lambda pane: pane.grid.go_to(ai_id))

    def open_screen(self, screen: Screen[Any]) -> None:
        self._shell.push_screen(screen)

    def load_errors(self) -> None:
        """Read the ledger; new failures come as events."""
        self._quietly("list_errors", self._take_errors, limit=500)

    def _take_errors(self, answer: dict[str, Any]) -> None:
        import msgspec

        from backend.schema.records import ErrorRecord

        records = msgspec.convert(answer["errors"], list[ErrorRecord])
        self._stores.errors.load(records, answer["unacknowledged"])

    def open_logs(self, ai_id: str) -> None:
        from tekton_tui.screens.logs import LogScreen

        self._shell.push_screen(LogScreen(self._stores, self._desk, ai_id))

    def describe(self, ai_id: str) -> None:
        from tekton_tui.screens.describe import describe_screen

        self._desk.do(
            "get_specialist", then=lambda facts: self._shell.push_screen(describe_screen(facts)), id=ai_id
        )

    def choose_model(self, ids: list[str]) -> None:
        from tekton_tui.screens.models import ModelScreen

        self._shell.push_screen(ModelScreen(self._stores, self._desk, ids))

    def help(self) -> None:
        self._shell.open_help()

    def tell(self, text: str, *, bad: bool = False) -> None:
        self._desk.notice.emit(text, bad)

    # small things

    def fetch_log(self, ai_id: str, tail: int, then: Callable[[dict[str, Any]], None]) -> None:
        """Fetch the newest log lines quietly: a missing log is no news."""
        self._quietly("specialist_logs", then, id=ai_id, tail=tail)

    def _quietly(self, action: str, then: Callable[[dict[str, Any]], None], **params: Any) -> None:
        from backend.schema.errors import TektonError

        async def fetch() -> None:
            try:
                answer = await self._desk.call(action, **params)
            except TektonError:
                return
            then(answer)

        self._desk.spawn(fetch())

    def fetch(self, action: str, then: Callable[[Any], None], **params: Any) -> None:
        """Call an action for a widget; a failure becomes a notice."""
        self._desk.do(action, then=then, **params)

    def copy(self, text: str, what: str) -> None:
        self._shell.copy_to_clipboard(text)
        self._desk.notice.emit(f"copied {what}", False)

    def keep_draft(self, place: str, text: str) -> None:
        """Keep what is being written, so that it survives this console; written a moment after the last key."""
        self._drafts[place] = text
        if not self._saving:
            self._saving = True
            self._desk.spawn(self._save_drafts())

    def restore_draft(self, place: str, put: Callable[[str], None]) -> None:
        """Give back what was being written at a place, if anything."""

        def take(answer: dict[str, Any]) -> None:
            if answer["value"] and place not in self._drafts:
                put(answer["value"])

        if place in self._drafts:
            put(self._drafts[place])
        else:
            self._quietly("get_preference", take, key=f"draft:{place}")

    async def _save_drafts(self) -> None:
        await asyncio.sleep(DRAFT_DELAY_S)
        self._saving = False
        from backend.schema.errors import TektonError

        for place in list(self._drafts):
            text = self._drafts[place]
            if self._saved.get(place) != text:
                try:
                    await self._desk.call("put_preference", key=f"draft:{place}", value=text or None)
                except TektonError:
                    return  # a draft is kept here until the backend is back
                self._saved[place] = text

    def acknowledge(self, ids: list[int] | None) -> None:
        params: dict[str, Any] = {"all": True} if ids is None else {"ids": ids}
        self._desk.do("acknowledge_errors", **params)

    def acknowledge_all(self) -> None:
        count = self._stores.errors.unacknowledged
        if count:
            self._shell.push_screen(
                confirm("Acknowledge", f"This marks {count} errors as seen.", [], "Acknowledge"),
                lambda answer: self.acknowledge(None) if answer == "yes" else None,
            )

    def quit(self) -> None:
        """Ask what becomes of the fleet, then end the console."""
        live = [row.name for row in self._stores.fleet.live()]
        self._shell.push_screen(quit_dialog(live), self._quit)

    def _quit(self, answer: str | None) -> None:
        if answer == "leave":
            self._shell.leave()
        elif answer == "stop":
            if not self._desk.connected or self._stores.connection.stale:
                self._shell.leave()
                return
            self._desk.notice.emit("stopping the fleet…", False)
            self._desk.do("shutdown", then=lambda result: self._shell.leave(), stop_fleet=True)

"""Commands over the fleet: launch, stop, kill, restart, models. Asks first where something is lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tekton_tui.commands.room import Room
from tekton_tui.screens.dialogs import confirm, plan_dialog
from tekton_tui.wording import turn_words


class FleetCommands(Room):
    """What is done to specialists."""

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
            self._desk.do("launch", then=self._launched, ids=names)

    def _launched(self, answer: dict[str, Any]) -> None:
        """Say how it went and what can be done now."""
        self._report("launched", answer, hint="\nEnter on a row asks one of them, 3 asks all.")
        ids = [row["id"] for row in answer["results"] if row["ok"]]
        self._shell.in_pane("fleet", lambda pane: pane.show_launched(ids))

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
        verb = "Kill" if force else "Stop"
        live = [ai_id for ai_id in ids if self._stores.fleet.rows[ai_id].pid]
        if not live:
            who = (
                f"{self._stores.fleet.rows[ids[0]].name} does not run"
                if len(ids) == 1
                else "none of these runs"
            )
            self._desk.notice.emit(f"{who}: nothing to {verb.lower()}", False)
            return
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

    def _report(self, done: str, answer: dict[str, Any], hint: str = "") -> None:
        """Say how it went: failures one by one, successes in one line."""
        good = [row for row in answer["results"] if row["ok"]]
        for row in answer["results"]:
            if not row["ok"]:
                self._desk.notice.emit(
                    f"{row['id'].removesuffix('-ai')}: {row.get('message', 'failed')}", True
                )
        if good:
            names = ", ".join(row["id"].removesuffix("-ai") for row in good)
            self._desk.notice.emit(f"{done}: {names}{hint}", False)

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

    def choose_model(self, ids: list[str]) -> None:
        from tekton_tui.screens.models import ModelScreen

        self._shell.push_screen(ModelScreen(self._stores, self._desk, ids))

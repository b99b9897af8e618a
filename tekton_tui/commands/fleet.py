"""Commands on specialists: launch, stop, kill, restart, describe. Ask first where something would be lost."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from backend.schema.params import GetSpecialist, Kill, Launch, PullModel, Restart
from backend.schema.records import FIRST_QUESTIONS, STAND_IN, FleetPlan, LaunchResult, ModelCandidate
from backend.schema.results import LaunchReport, SpecialistCreated
from tekton_tui.commands.drafts import Drafts
from tekton_tui.commands.models import ModelCommands
from tekton_tui.commands.navigator import Navigator
from tekton_tui.commands.undo import Undo
from tekton_tui.formatting import turn_words
from tekton_tui.runtime.controller import Controller
from tekton_tui.stores import LiveTurn


class FleetCommands:
    """Starts and ends specialists; their states come as events, how it went as notices."""

    def __init__(
        self,
        controller: Controller,
        navigator: Navigator,
        models: ModelCommands,
        drafts: Drafts,
        undo: Undo,
    ) -> None:
        self._controller, self._navigator = controller, navigator
        self._models, self._drafts, self._undo = models, drafts, undo
        self._stores = controller.stores
        self.beginning = False
        """Whether a first team is on its way, or the model it needs."""

    def launch(self, names: Sequence[str]) -> None:
        """Show the launch plan of names, groups, `starter` or `all`; launch after a yes."""

        def planned(report: LaunchReport) -> None:
            plan = report.plan
            if plan is None:
                return
            if plan.items and all(item.code == "already_running" for item in plan.items):
                self._controller.notify("all of these run already")
                return
            self._navigator.confirm_launch(
                plan, self._provider_words(), lambda answer: self._answered(answer, names, plan)
            )

        shown = self._navigator.if_still_here("the launch plan", planned)
        self._controller.request(Launch(list(names), dry_run=True), shown)

    def begin(
        self,
        ids: Sequence[str],
        model: ModelCandidate | None,
        first: tuple[str, str] | None,
        weights: str = "",
        *,
        own: bool = False,
    ) -> None:
        """Launch without a further question, after taking another model if one is given; nothing while one is on its way.

        `first` is whom to go to when it runs, and a question that then waits in the composer; what is written meanwhile goes
        there too, and takes its place unless it is the operator's `own`. `weights` names the embedded model if it has to be
        fetched before.
        """
        whom = next((ai_id for ai_id in ids if first and ai_id.removesuffix("-ai") == first[0]), "")
        # until a conversation is expected nobody waits for one; `bool` says back what it is told
        comes: Callable[[bool], bool] = bool

        def launch() -> None:
            nonlocal comes
            self.beginning = True
            if whom:
                comes = self._navigator.expect_chat(whom)
            self._controller.request(Launch(list(ids)), begun, otherwise=failed)

        def failed() -> None:
            self.beginning = False
            comes(False)

        def begun(report: LaunchReport) -> None:
            self.beginning = False
            if first is None or whom not in {result.id for result in report.results if result.ok}:
                comes(False)
                self._launched(report)
                return
            # who came up is seen at once in the chat that opens; who did not has to be said
            self._report("launched", [result for result in report.results if not result.ok])
            self._offer_team(whom)
            self._drafts.offer(whom, first[1], show, own=own)

        def show() -> None:
            if comes(True):
                self._navigator.show_launched([whom])
                self._controller.notify(
                    "⏎ sends the question" + ("" if own else " · what you write takes its place")
                )
                self._navigator.open_chat(whom)
            else:
                self._controller.notify(
                    f"{whom.removesuffix('-ai')} runs: a first question waits in its chat (2)"
                )

        if self.beginning:
            self._controller.notify("it starts already")
        elif weights:
            self._fetch(weights, launch)
        elif model is None:
            launch()
        else:
            self._models.take(model, launch)

    def _offer_team(self, who: str) -> None:
        """Say once how all are asked, when the first answer is there."""

        def ended(turn: LiveTurn) -> None:
            if turn.ai_id != who or turn.code:
                return
            unsubscribe()
            if not turn.group and (live := len(self._stores.fleet.live())) > 1:
                self._controller.notify(f"esc, then 3: ask all {live} at once")

        unsubscribe = self._stores.turns.ended.subscribe(ended)

    def _answered(self, answer: str, names: Sequence[str], plan: FleetPlan) -> None:
        """Launch, or plan anew with another model or another group."""
        if answer == "yes":
            self._controller.request(Launch(list(names)), self._launched)
        elif answer == "fetch" and plan.missing_weights:
            self._fetch(
                plan.missing_weights,
                lambda: self._controller.request(Launch(list(names)), self._launched),
            )
        elif answer == "model":
            self._models.choose(lambda: self.launch(names))
        elif answer == "group" and plan.jobs:
            platform = self._stores.fleet.platform
            names_of = ", ".join(platform.starter) if platform is not None else "those named in fleet.starter"
            starter = ("starter", "Starter team", names_of)
            choices = [starter, *((job.name, job.title, ", ".join(job.members)) for job in plan.jobs)]
            self._navigator.choose("for which job", choices, lambda name: self.launch([name]))

    def _fetch(self, weights: str, then: Callable[[], None]) -> None:
        """Have the backend fetch the embedded model, then go on."""
        self._controller.notify("fetching the embedded model (93 MB); the team starts when it is here")
        self.beginning = True

        def ended(go_on: bool) -> None:
            self.beginning = False
            if go_on:
                then()

        self._controller.request(
            PullModel(weights, "embedded"), lambda _pulled: ended(True), otherwise=lambda: ended(False)
        )

    def _launched(self, report: LaunchReport) -> None:
        """Say how it went and what can be done now."""
        hint = "\nEnter on a row asks one of them, 3 asks all."
        platform = self._stores.fleet.platform
        if platform is not None and platform.provider.stand_in:
            hint += "\nTry: " + ", ".join(f"{who} “{words}”" for who, words in FIRST_QUESTIONS)
        self._report("launched", report.results, hint=hint)
        self._navigator.show_launched([result.id for result in report.results if result.ok])

    def new(self, name: str = "") -> None:
        """Show the form for a specialist of one's own, with a name if one is given."""
        self._navigator.open_new_specialist(name, self._created)

    def _created(self, made: SpecialistCreated) -> None:
        """Say where it was written, and go to its row once the backend has taken the file."""
        fleet = self._stores.fleet
        self._controller.notify(f"{made.name} is written: {made.where}")

        def look(ids: set[str]) -> None:
            if made.id not in fleet.rows:
                return
            unsubscribe()
            if self._navigator.show_created(made.id):
                self._controller.notify(f"⏎ starts {made.name}")

        unsubscribe = fleet.changed.subscribe(look)
        look({made.id})

    def stop(self, ids: Sequence[str]) -> None:
        """End specialists, after a yes to a question that names the answers that would be lost."""
        self._end(ids, force=False)

    def kill(self, ids: Sequence[str]) -> None:
        """End specialists at once, after a yes."""
        self._end(ids, force=True)

    def stop_all(self) -> None:
        """End all that run, after a yes."""
        self._end([row.id for row in self._stores.fleet.rows.values() if row.pid], force=False)

    def restart(self, ids: Sequence[str]) -> None:
        """End and launch specialists again, after a yes."""
        self._confirm_loss(
            ids,
            "Restart",
            "This stops and starts:",
            then=lambda: self._controller.request(
                Restart(list(ids)), lambda done: self._report("restarted", done.results)
            ),
        )

    def _end(self, ids: Sequence[str], *, force: bool) -> None:
        verb = "Kill" if force else "Stop"
        live = [ai_id for ai_id in ids if self._stores.fleet.rows[ai_id].pid]
        if not live:
            who = (
                f"{self._stores.fleet.rows[ids[0]].name} does not run"
                if len(ids) == 1
                else "none of these runs"
            )
            self._controller.notify(f"{who}: nothing to {verb.lower()}")
            return
        self._confirm_loss(live, verb, f"This {verb.lower()}s:", then=lambda: self._send_end(live, force))

    def _send_end(self, live: Sequence[str], force: bool) -> None:
        """Have specialists ended, and note that it was done here."""
        ended_here = self._stores.fleet.ended_here
        ended_here |= set(live)
        self._controller.request(
            Kill(list(live), force=force),
            lambda done: self._report("killed" if force else "stopped", done.results),
            otherwise=lambda: ended_here.difference_update(live),
        )

    def _confirm_loss(
        self, ids: Sequence[str], verb: str, question: str, *, then: Callable[[], None]
    ) -> None:
        """Call `then` after a yes; the question names what each would lose."""
        title = f"{verb} {self._stores.fleet.names(ids) if len(ids) == 1 else len(ids)}"
        self._navigator.confirm(title, question, [self._loss(ai_id) for ai_id in ids], verb, then)

    def _loss(self, ai_id: str) -> str:
        turns = self._stores.turns.of_specialist(ai_id)
        name = self._stores.fleet.rows[ai_id].name
        if turns:
            return f"{name}: loses an answer ({turn_words(turns[0])}, {turns[0].pieces} tok)"
        return f"{name}: loses nothing; its conversation is kept"

    def _report(self, done: str, results: Sequence[LaunchResult], hint: str = "") -> None:
        """Report failures one by one, successes in one sentence."""
        for result in results:
            if not result.ok:
                name = result.id.removesuffix("-ai")
                self._controller.notify(f"{name}: {result.message or 'failed'}", failed=True)
        if good := ", ".join(result.id.removesuffix("-ai") for result in results if result.ok):
            self._controller.notify(f"{done}: {good}{hint}")

    def _provider_words(self) -> str:
        platform = self._stores.fleet.platform
        if platform is None:
            return ""
        provider = platform.provider
        words = f"{provider.provider} · {provider.display or provider.model} · {provider.reason}."
        if provider.stand_in:
            words += f"\n{STAND_IN}"
        return words

    def clear_marks(self) -> None:
        """Unmark everybody; undo marks them again."""
        fleet = self._stores.fleet
        marked = sorted(fleet.marked)

        def back() -> None:
            for ai_id in set(marked) - fleet.marked:
                fleet.toggle_mark(ai_id)

        fleet.clear_marks()
        self._undo.offer("marks", back)

    def describe(self, ai_id: str) -> None:
        """Show all that is known of a specialist."""
        shown = self._navigator.if_still_here("the description", self._navigator.open_description)
        self._controller.request(GetSpecialist(ai_id), shown)

"""Commands on what answers: take another model for all specialists that name none."""

from __future__ import annotations

from collections.abc import Callable

from backend.schema.params import ListCandidates, SetAgentOption, UseModel
from backend.schema.records import ModelCandidate, ProviderChoice
from backend.schema.results import CandidateList
from tekton_tui.commands.navigator import Navigator
from tekton_tui.formatting import size
from tekton_tui.runtime.controller import Controller
from tekton_tui.safe_text import one_line

AUTO = "auto"


class ModelCommands:
    """Shows what could answer on this machine, and takes one of them; a paid one after a yes."""

    def __init__(self, controller: Controller, navigator: Navigator) -> None:
        self._controller, self._navigator = controller, navigator
        controller.stores.fleet.offered.subscribe(self._offered)

    def choose(self, then: Callable[[], None] | None = None) -> None:
        """Look for models and ask which is to answer; `then` is called when one was taken."""
        self._controller.notify("looking for models…")

        def show(found: CandidateList) -> None:
            self._show(found, then)

        self._controller.request(ListCandidates(), self._navigator.if_still_here("the list of models", show))

    def take(self, one: ModelCandidate, then: Callable[[], None] | None = None) -> None:
        """Take a model for all; before the first question that costs money, ask."""

        def use() -> None:
            self._use(UseModel(one.provider, one.model, one.chosen_by_address), then)

        if one.paid:
            what = [f"{one.provider} {one.display}: every question and its conversation are sent there"]
            self._navigator.confirm("Use a paid model", "Each question costs money:", what, "Use it", use)
        else:
            use()

    def options(self, ai_id: str) -> None:
        """Ask which option of an external agent is to be set, and to what."""
        row = self._controller.stores.fleet.rows.get(ai_id)
        agent, name = row.agent if row else None, row.name if row else ai_id
        if agent is None or not agent.settable:
            why = "nothing is known yet: it says it with its first conversation" if agent else (
                "it is no external agent that runs: m changes its model"
            )  # fmt: skip
            self._controller.notify(f"{name}: {why}", failed=True)
            return
        found = {one.id: one for one in agent.settable}

        def ask_value(option: str) -> None:
            one = found[option]
            known = [(each.id, each.name or each.id, each.about) for each in one.choices]
            self._navigator.choose(
                f"{name}: {one_line(one.name, 40)}, now {one_line(str(one.value), 40)}",
                known or [("true", "on", ""), ("false", "off", "")],
                lambda value: self._controller.request(
                    SetAgentOption(ai_id, option, value),
                    lambda done: self._controller.notify(f"{name}: {done.option} is {done.value}"),
                ),
            )

        choices = [(one.id, one.name, str(one.value)) for one in found.values()]
        self._navigator.choose(f"what is to be set at {name}", choices, ask_value)

    def _show(self, found: CandidateList, then: Callable[[], None] | None) -> None:
        usable = [one for one in found.candidates if one.usable]
        choices = [(AUTO, "the best one", "that is there, now and at every start")]
        for number, one in enumerate(usable):
            # what answers now says why it does; what could answer says what speaks for it
            here = found.current.means(one)
            marks = [f"answers now: {found.current.reason}".rstrip(": ")] if here else []
            marks += [size(one.size)] if one.size else []
            marks += ["paid"] if one.paid else []
            marks += ["a small stand-in"] if one.stand_in and "stand-in" not in one.why else []
            choices.append(
                (str(number), one.display or one.model, " · ".join(marks if here else [*marks, one.why]))
            )
        self._navigator.choose(
            f"which model answers · now {found.current.display or found.current.model}: {found.current.reason}",
            choices,
            lambda answer: (
                self._use(UseModel(provider=AUTO), then)
                if answer == AUTO
                else self.take(usable[int(answer)], then)
            ),
        )

    def _use(self, wish: UseModel, then: Callable[[], None] | None) -> None:
        def taken(choice: ProviderChoice) -> None:
            if then is not None:
                then()
            else:
                words = f"{choice.provider} {choice.display} answers from the next launch on"
                self._controller.notify(words)

        self._controller.request(wish, taken)

    def _offered(self, offer: ModelCandidate) -> None:
        words = f"{offer.provider} {offer.display} is there now and is not used yet: `:use` takes it"
        self._controller.notify(words)

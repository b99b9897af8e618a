"""What the operator can have done, by a key, a button, the palette or the command line alike.

A command asks first where something would be lost, then calls the backend; results come back as notices and as events.
Commands know the client's controller, the stores and a `Navigator`: no widgets, and not the app.
"""

from __future__ import annotations

from dataclasses import dataclass

from tekton_tui.commands.asks import AskCommands
from tekton_tui.commands.attention import AttentionCommands, ErrorCommands
from tekton_tui.commands.chat import ChatCommands
from tekton_tui.commands.console import ConsoleCommands
from tekton_tui.commands.drafts import Drafts
from tekton_tui.commands.fleet import FleetCommands
from tekton_tui.commands.models import ModelCommands
from tekton_tui.commands.navigator import Answer, Navigator
from tekton_tui.commands.sessions import ExportFormat, SessionCommands
from tekton_tui.commands.team import PipelineCommands, TeamCommands
from tekton_tui.commands.undo import Undo
from tekton_tui.runtime.controller import Controller

__all__ = ["Answer", "Commands", "ConsoleCommands", "ExportFormat", "Navigator"]


@dataclass(frozen=True)
class Commands:
    """All commands of one console, by what they act on."""

    controller: Controller
    navigator: Navigator
    console: ConsoleCommands
    fleet: FleetCommands
    chat: ChatCommands
    team: TeamCommands
    pipelines: PipelineCommands
    errors: ErrorCommands
    asks: AskCommands
    attention: AttentionCommands
    sessions: SessionCommands
    models: ModelCommands
    drafts: Drafts
    undo: Undo

    @classmethod
    def build(cls, controller: Controller, navigator: Navigator, console: ConsoleCommands) -> Commands:
        """Make the commands that call this controller and show what they show by this navigator."""
        path = console.preferences.path
        models = ModelCommands(controller, navigator)
        undo = Undo(controller)
        drafts = Drafts(controller, path and path.with_name("drafts.json"))
        return cls(
            controller,
            navigator,
            console,
            FleetCommands(controller, navigator, models, drafts, undo),
            ChatCommands(controller, navigator),
            TeamCommands(controller, navigator),
            PipelineCommands(controller),
            ErrorCommands(controller, navigator),
            AskCommands(controller, navigator, undo),
            AttentionCommands(controller, navigator, undo),
            SessionCommands(controller, navigator),
            models,
            drafts,
            undo,
        )

    def notify(self, text: str, *, failed: bool = False) -> None:
        """Show the operator a sentence."""
        self.controller.notify(text, failed=failed)

    def copy(self, text: str, what: str) -> None:
        """Copy a text and say `what` it was."""
        self.navigator.copy_to_clipboard(text)
        self.controller.notify(f"copied {what}")

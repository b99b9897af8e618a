"""What the operator can have done, from a key, a button, the palette or the command line alike.

Asks first where something is lost, then calls the backend; results come back as notices and events. Knows the app only
by the little it needs of it (`Shell`).
"""

from __future__ import annotations

from tekton_tui.commands.asking import AskCommands
from tekton_tui.commands.drafts import DraftCommands
from tekton_tui.commands.fleet import FleetCommands
from tekton_tui.commands.ledger import LedgerCommands
from tekton_tui.commands.room import Shell

__all__ = ["Commands", "Shell"]


class Commands(FleetCommands, AskCommands, LedgerCommands, DraftCommands):
    """The verbs of the console, each kind in its own file."""

"""Texts made into vectors by a specialist's provider: within the budget, booked like a turn, kept nowhere."""

from __future__ import annotations

from secrets import token_hex

from backend.memory import TurnStore
from backend.orchestration.turns.budgets import Budgets
from backend.schema.frames import EmbedResponse
from backend.schema.records import TurnOutcome
from backend.specialists.supervisor import Supervisor


class Embeddings:
    """Asks workers for vectors."""

    def __init__(self, fleet: Supervisor, budgets: Budgets, store: TurnStore) -> None:
        self._fleet, self._budgets, self._store = fleet, budgets, store

    async def embed(self, ai_id: str, texts: list[str], model: str = "") -> EmbedResponse:
        """Return the vectors of texts, by the specialist's own model or another one of its provider.

        Raises:
            TektonError: It does not run, is over budget, its provider makes no vectors, or failed.
        """
        await self._budgets.check(ai_id)
        made = await self._fleet.embed(ai_id, texts, model)
        outcome = TurnOutcome(f"e-{token_hex(8)}", ai_id, "", model=made.model, usage=made.usage)
        used = await self._budgets.priced(ai_id, outcome)
        if used is not None:
            await self._store.book(outcome.request_id, used)
            self._budgets.count(used)
        return made

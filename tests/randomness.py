"""How random the tests are: `make test` draws the same every time, `TEKTON_FUZZ=1` (`make fuzz`) something new.

A test that fails once in a hundred runs stops whoever changes something else; what is found at random belongs to a run
that looks for it. `TEKTON_SEED` repeats such a run.
"""

from __future__ import annotations

import os
import secrets

FUZZ = bool(os.environ.get("TEKTON_FUZZ"))


def first_seed() -> int:
    """Return the seed of a test that draws by itself, without Hypothesis."""
    return int(os.environ.get("TEKTON_SEED") or (secrets.randbits(32) if FUZZ else 27))

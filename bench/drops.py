"""A thousand WebSocket connections cut in the middle of live streams: what is lost, what comes twice, how fast it is back.

    python bench/drops.py [--drops 1000] [--streams 18]

Each token is numbered by its worker and each event by the platform, so loss and doubling are counted exactly.
Recovery is from the cut to the first event that had not come before. The suite runs the same with fewer drops.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from options import parser_for

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.gateway.dropping import Dropping
from tests.gateway.serving import start_backend


def main() -> None:
    parser = parser_for(__doc__)
    parser.add_argument("--drops", type=int, default=1_000)
    parser.add_argument("--streams", type=int, default=18)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        backend = start_backend(Path(root) / "home", launch=("all",))
        try:
            rows = backend.ask("GET", "/api/v1/specialists", params={"active_only": True})["specialists"]
            names = [row["name"] for row in rows[: options.streams]]
            dropping = Dropping(backend, names)
            asyncio.run(dropping.run(options.drops))
        finally:
            backend.stop()
    median, worst = dropping.quantile(0.5), dropping.quantile(0.99)
    print(f"{dropping.drops} drops during {len(names)} streams: {dropping.events:,} events came")
    print(f"lost {dropping.lost}, doubled {dropping.doubled}, resyncs {dropping.resyncs}")
    print(f"recovery p50 {median * 1000:.0f} ms, p99 {worst * 1000:.0f} ms (goal 1000)")
    sys.exit(1 if dropping.lost or dropping.doubled else 0)


if __name__ == "__main__":
    main()

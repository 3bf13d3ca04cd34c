"""Agent, broker and ingest killed again and again: what was kept on the device, and what arrived.

    python benchmarks/kills.py [--rounds 8] [--rate 500] [--records 250] [--broker nats] [--durability power]

A round kills the agent, the broker, the agent and the server (its broker dies with it), each with SIGKILL,
with so many records between two kills. Everything is the real thing: `edge-fleet serve` with its broker and
database, the agent's reporter, outbox and connection. Lost: records that the outbox had taken and that the
server does not hold at the end. Sent again: envelopes that went to a broker more often than once; the server
stores each once.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from kill_harness import Trial, rounds  # noqa: E402


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--rate", type=float, default=500, help="records a second")
    parser.add_argument("--records", type=int, default=250, help="between two kills")
    parser.add_argument("--broker", default="nats")
    parser.add_argument("--durability", default="", help="power or process; both when not given")
    options = parser.parse_args()
    head = ("durability", "kills agent/broker/server", "records kept", "envelopes sent", "stored")
    print("".join(f"{text:>{width}}" for text, width in zip(head, WIDTHS, strict=False)), end="")
    print(f"{'sent again':>12}{'lost':>6}{'twice':>7}{'gaps':>6}{'forks':>7}")
    for durability in [options.durability] if options.durability else ["power", "process"]:
        with (
            tempfile.TemporaryDirectory() as place,
            Trial(Path(place), options.rate, options.broker, durability) as trial,
        ):
            rounds(trial, options.rounds, options.records)
            found = trial.finish()
        kills = "/".join(str(found.kills[name]) for name in ("agent", "broker", "server"))
        row = (durability, kills, f"{found.kept:,}", f"{found.sent:,}", f"{found.stored:,}")
        print("".join(f"{text:>{width}}" for text, width in zip(row, WIDTHS, strict=False)), end="")
        again = found.sent - found.stored
        print(f"{again:>12}{found.lost:>6}{found.twice:>7}{found.gaps:>6}{found.refused:>7}", flush=True)
        if found.lost or found.twice:
            raise SystemExit("records were lost, or are there twice")


WIDTHS = (11, 27, 14, 16, 9)


if __name__ == "__main__":
    main()

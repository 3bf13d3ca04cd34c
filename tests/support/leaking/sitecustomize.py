"""A leak in whatever process `edge-agent run` is: what benchmarks/soak.py must notice.

PYTHONPATH=tests/support/leaking python benchmarks/soak.py --minutes 2      # ends with GROWS and exit code 1
"""

import sys
import threading
import time

KEPT: list[object] = []


def _leak() -> None:
    while True:
        KEPT.append(bytearray(b"x" * 100_000))
        KEPT.append(open(__file__))  # noqa: SIM115
        time.sleep(0.5)


if "run" in sys.orig_argv:
    threading.Thread(target=_leak, daemon=True).start()

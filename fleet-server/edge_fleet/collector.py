"""Python's collector of cycles, set for a server that makes and drops a hundred objects for each record.

By default it looks through the youngest objects whenever there are 700 more of them: at every fiftieth
record, while nearly all are gone by themselves as soon as their batch is stored. What was there at the
start - code and its tables, some hundred thousand objects - never goes and need not be looked through.
"""

from __future__ import annotations

import gc

THRESHOLDS = (20_000, 20, 50)  # a batch of thousands of records: measured at a sixth of ingest's time, before


def settle() -> None:
    """Set the collector; call it once, when everything that stays is there."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)

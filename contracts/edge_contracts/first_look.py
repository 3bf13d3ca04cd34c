"""The first look of msgspec at a kind of document, which no other thread may disturb.

While msgspec (0.22) is still looking at a struct, another thread that needs the same struct is given what is
there by then, and the process ends with SIGSEGV.
"""

from __future__ import annotations

import threading
from typing import Any

import msgspec

_LOOKING = threading.RLock()
_looked_at: set[Any] = set()


def ready(kind: Any) -> None:
    """To be called before anything is read as a kind."""
    if kind in _looked_at:
        return
    with _LOOKING:
        msgspec.json.Decoder(kind)  # looks at all that is in it, too
        _looked_at.add(kind)

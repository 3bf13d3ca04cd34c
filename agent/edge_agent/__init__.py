"""The agent: models on one device, as a daemon, as commands, and in process.

    from edge_agent import Model

    with Model("digits-1.0.0-raspberry-pi-5.bundle", trust="keys/public.pem") as model:
        scores = model(np.zeros((1, 64), np.float32))

`Model` is imported when it is asked for: a command that needs no numpy comes up without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge_agent.inference.model import Model

__all__ = ["Model"]


def __getattr__(name: str) -> object:
    if name == "Model":
        from edge_agent.inference.model import Model

        return Model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

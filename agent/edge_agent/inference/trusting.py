"""Which publishers' keys count for a bundle that is opened here and now: those named, else the device's."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from edge_agent.device.config import read_config, trusted_publishers
from edge_agent.device.home import Home
from edge_contracts.keys import TrustedKeys, read_public


def trusted_keys(named: Iterable[Path], home: Home) -> TrustedKeys | None:
    """The keys that count, or None when there are none to check with.

    Args:
        named: Files of public keys; when there are any, only these count.
        home: Of the agent, whose keys count otherwise.

    Raises:
        ContractError: A file holds no key.
        HomeInvalid: The home cannot be read.
    """
    keys = tuple(read_public(path) for path in named)
    if keys:
        return TrustedKeys.of(keys)
    config = read_config(home)
    known = trusted_publishers(home, config)
    return known if known.keys or config is not None else None

"""Waiting for a server that is away for a while: started again, or without its database for a moment."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

import click

from edge_fleet.errors import ServerUnreachable
from edge_fleet.remote import API

if TYPE_CHECKING:
    from edge_fleet.client import Client

AGAIN_S = 1.0

T = TypeVar("T")


def patiently(ask: Callable[[], T], until_s: float = math.inf) -> T:
    """What a server answers, as soon as it does; that it does not is said once.

    Args:
        until_s: How long it is waited for, by the monotonic clock.

    Raises:
        ServerUnreachable: It was away until then.
    """
    told = False
    while True:
        try:
            return ask()
        except ServerUnreachable as error:
            if time.monotonic() >= until_s:
                raise
            if not told:
                click.echo(f"{error}; it is waited for", err=True)
            told = True
            time.sleep(AGAIN_S)


def news(client: Client) -> Iterator[None]:
    """Once each time that something has changed on a server, and when it may have: after it was away."""
    while True:
        with suppress(ServerUnreachable):
            for line in client.lines(f"{API}/events"):
                if line.startswith("data:"):
                    yield None
        time.sleep(AGAIN_S)
        yield None

"""Which devices a simulated fleet has: how many of each kind, of which profiles. By flags or in a file.

devices: 200              # in all; those that are not broken are honest
every: 60                 # seconds between two windows of a device
profiles: [rpi5, x86-cpu] # in turns
broken: {forged: 2, silent: 10, drifts: 20}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import Field

from edge_fleet.errors import RequestInvalid
from edge_fleet.model import Frozen, Identifier, parse_object
from edge_fleet.rollouts.plan_file import read_plan_file
from edge_fleet.simulation.kinds import HONEST, KINDS

MOST = 200_000
EVERY_KIND = "all"


class Mix(Frozen):
    """A fleet to be simulated.

    Args:
        every: Seconds between two windows of a device.
        broken: How many of the devices are of each kind.
        inferences: Of each window.
    """

    devices: int = Field(default=10, ge=1, le=MOST)
    every: float = Field(default=10.0, gt=0.05, le=86_400)
    profiles: tuple[Identifier, ...] = Field(default=("x86-cpu",), min_length=1, max_length=50)
    broken: Mapping[str, int] = Field(default_factory=dict)
    inferences: int = Field(default=100, ge=0, le=1_000_000)

    def kinds(self) -> dict[str, int]:
        """How many devices of each kind, honest ones first; together they are `devices`.

        Raises:
            RequestInvalid: An unknown kind, or more broken devices than there are devices.
        """
        found: dict[str, int] = {}
        for name, count in self.broken.items():
            if name == HONEST or name not in (*KINDS, EVERY_KIND):
                raise RequestInvalid(
                    f"no kind {name!r:.80} of broken device; there are {', '.join(broken())}"
                )
            if count < 0:
                raise RequestInvalid(f"{name}:{count} is no number of devices")
            for one in broken() if name == EVERY_KIND else (name,):
                found[one] = count
        honest = self.devices - sum(found.values())
        if honest < 0:
            raise RequestInvalid(
                f"{sum(found.values())} devices are broken, but there are {self.devices} in all"
            )
        return {name: count for name, count in {HONEST: honest, **found}.items() if count}


def broken() -> list[str]:
    """Kinds of broken devices."""
    return [name for name in KINDS if name != HONEST]


def read_mix(path: Path | None, **stated: object) -> Mix:
    """What the command line says, over what a file says.

    Args:
        stated: Fields of `Mix`; None for what was not stated.

    Raises:
        RequestInvalid: The file cannot be read.
        FormatInvalid: A field that is not one, or has a wrong value.
    """
    document = read_plan_file(path) if path is not None else None
    given = {name: value for name, value in stated.items() if value is not None}
    what = document.what if document else "options"
    return parse_object(Mix, {**(document.raw if document else {}), **given}, what)


def parse_broken(texts: Sequence[str]) -> dict[str, int] | None:
    """`KIND:COUNT,...` as often as it is stated; None when it is not.

    Raises:
        RequestInvalid: It is not that.
    """
    found = {}
    for part in [part for text in texts for part in text.split(",") if part]:
        name, _, count = part.partition(":")
        if not (count.isascii() and count.isdigit()):
            raise RequestInvalid(f"--broken {part!r:.80} is not KIND:COUNT, such as forged:5 or all:1")
        found[name] = int(count)
    return found or None

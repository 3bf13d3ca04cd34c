"""A fleet in figures: what a dry run needs to know of it. Immutable.

    format = "edgefleet.fleet/1"
    [[classes]]
    profile = "arm-cpu"
    devices = 800
    labels = { site = "lab" }
    window_s = 60          # a device reports so often
    inferences = 120       # of each window
    errors = 0.002         # share without an answer under a good release
    between = 0.02         # how much devices differ: the intra-class correlation of their errors
    within = 0.05          # how much errors of a device come in bursts: that of a window

`edge-fleet rollout plan PLAN --simulate --recorded` makes one of what the server has stored, of the devices
that would get the plan's release; of the others it says how many there are, and why.

Of a fleet that somebody describes no device has a name: a term `device=cam-1` names nobody in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Literal

from pydantic import Field

from edge_contracts.errors import ContractError
from edge_contracts.model import require_format
from edge_contracts.profile import lineage
from edge_fleet.model import Frozen, Identifier, later, parse_object
from edge_fleet.rollouts import selector

FORMAT = "edgefleet.fleet/1"
MOST_CLASSES = 100


class DeviceClass(Frozen):
    """Devices of one profile that are much alike.

    Args:
        window_s: How often a device reports.
        inferences: Asked for in each window.
        errors: Share of them without an answer, under a good release and before it.
        between: Intra-class correlation of errors by device, 0 to 1: 0 when all have the same rate.
        within: The same of one window of a device: 0 when errors come one by one.
        uncertain, second: Shares of answers that go out as uncertain, and by the second model.
        labels_per_window, wrong: Labels that come back, and the share that says wrong.
        golden: Golden inputs that are run again in each window.
        latency_ms, latency_spread: Median, and standard deviation of the logarithm over inferences.
        latency_between: The same over devices.
        install_s: Median from the assignment to the confirmation.
        switch_s: The same for a bundle that was a shadow: nothing is downloaded.
        install_failures: Share of devices that fail to install a good release.
        silent: Share of devices that do not answer at all.
        archive_bytes: What an installation downloads.
        bundle: What tells the bundle that they get from others: classes of one bundle are judged together.
            "": it is that of the profile.
        named: Labels of the plan's stages, such as ring=canary, that name them, where the class was made for
            a plan; None: what they name follows from profile and labels.
    """

    profile: Identifier
    devices: int = Field(ge=1, le=1_000_000)
    labels: Mapping[str, str] = Field(default_factory=dict)
    window_s: float = Field(default=60.0, gt=0, le=86400)
    inferences: int = Field(default=100, ge=1, le=10_000_000)
    errors: float = Field(default=0.002, ge=0, lt=1)
    between: float = Field(default=0.02, ge=0, lt=1)
    within: float = Field(default=0.02, ge=0, lt=1)
    uncertain: float = Field(default=0.05, ge=0, lt=1)
    second: float = Field(default=0.0, ge=0, lt=1)
    labels_per_window: int = Field(default=0, ge=0, le=10_000_000)
    wrong: float = Field(default=0.05, ge=0, lt=1)
    golden: int = Field(default=10, ge=0, le=10_000)
    latency_ms: float = Field(default=10.0, gt=0)
    latency_spread: float = Field(default=0.25, ge=0.01, le=3)
    latency_between: float = Field(default=0.1, ge=0, le=3)
    install_s: float = Field(default=120.0, gt=0, le=86400 * 30)
    switch_s: float = Field(default=30.0, gt=0, le=86400 * 30)
    install_failures: float = Field(default=0.005, ge=0, lt=1)
    silent: float = Field(default=0.02, ge=0, lt=1)
    archive_bytes: int = Field(default=4_000_000, ge=0)
    bundle: str = later("")
    named: tuple[str, ...] | None = later(None)

    def is_named(self, terms: str) -> bool:
        """Whether the selector of a plan or of a stage names these devices; all are well."""
        if self.named is not None:
            return terms in self.named
        return selector.parse(terms).matches("", _lineage(self.profile), self.labels, selector.Health.OK)


class FleetDescription(Frozen):
    """A fleet as a dry run sees it.

    Args:
        without: Where it was made for one plan: why devices that the plan names get nothing, and how many do
            not; the classes are those that get it. None: of a plan it is not known whom it leaves out.
    """

    format: Literal["edgefleet.fleet/1"] = "edgefleet.fleet/1"
    classes: tuple[DeviceClass, ...] = Field(min_length=1, max_length=MOST_CLASSES)
    without: Mapping[str, int] | None = later(None)

    @property
    def devices(self) -> int:
        """All of them."""
        return sum(one.devices for one in self.classes)


def parse_fleet(raw: Any, what: str = "fleet description") -> FleetDescription:
    """Turn a parsed document into a description, or refuse on one line.

    Raises:
        FormatInvalid: An unknown key, a missing or wrong value.
        FormatTooNew: Another version of the format.
    """
    require_format(raw, FORMAT, what)
    return parse_object(FleetDescription, raw, what)


@lru_cache
def _lineage(profile: str) -> tuple[str, ...]:
    """A profile and those that it builds on, as far as they come with the distribution."""
    try:
        return lineage(profile)
    except ContractError:
        return (profile,)

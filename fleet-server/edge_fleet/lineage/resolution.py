"""Of a release's bundles, the one for a device, and why; or why it gets nothing. Pure.

Profile, runtime and driver are looked at in that order: the nearest profile of the device's lineage that
the release has a bundle for; the first artifact of it whose runtime the device has said to have; and,
where the fleet has stated which driver versions a runtime needs, whether the device's are in that range.
A device that has not yet said which runtimes and drivers it has is believed by its profile, as before
it said so: the trial on the device has the last word in any case.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from edge_contracts.manifest import Artifact

_NUMBERS = re.compile(r"\d+")


@dataclass(frozen=True)
class Offer:
    """A bundle of a release: for a profile, with artifacts in the order of preference."""

    digest: str
    profile: str
    artifacts: tuple[Artifact, ...]


@dataclass(frozen=True)
class Facts:
    """What a device has said of itself.

    Args:
        profile: Its lineage, nearest first.
        runtime: What its last window ran on, such as "litert 2.3.0"; "" when it has sent none.
        software: Versions by name from its last window: kernel, agent, runtime, drivers.
        counter: Largest release counter that it has confirmed.
        active: Digest of what it runs.
    """

    device: str
    profile: tuple[str, ...]
    runtime: str = ""
    software: Mapping[str, str] | None = None
    counter: int = 0
    active: str | None = None


@dataclass(frozen=True)
class Resolution:
    """What a device gets, and each step of how that was found.

    Args:
        bundle, artifact: None when it gets nothing.
        profile: Whose bundle it is, or would be if one of its artifacts ran there.
        why: One line for a person.
        steps: What was looked at, in order.
    """

    device: str
    bundle: str | None
    profile: str | None
    artifact: str | None
    why: str
    steps: tuple[str, ...]


@dataclass(frozen=True)
class Need:
    """The versions of some software that artifacts of a runtime need: at least, and below.

    Args:
        runtime: Of `Artifact.runtimes`.
        software: Of `Window.software`.
    """

    runtime: str
    software: str
    at_least: str = ""
    below: str = ""

    def __str__(self) -> str:
        """As a person reads it."""
        bounds = [f">= {self.at_least}"] * bool(self.at_least) + [f"< {self.below}"] * bool(self.below)
        return f"{self.software} {' and '.join(bounds)}"

    def holds(self, version: str) -> bool:
        """Whether a version is in the range."""
        number = version_key(version)
        return not (
            (self.at_least and number < version_key(self.at_least))
            or (self.below and number >= version_key(self.below))
        )


def version_key(text: str) -> tuple[int, ...]:
    """The numbers of a version, for comparing: 6.1.0-18-amd64 is (6, 1, 0, 18, 64)."""
    return tuple(int(number) for number in _NUMBERS.findall(text))


def resolve(
    offers: Sequence[Offer], counter: int, device: Facts, needs: Sequence[Need] = (), downgrade: bool = False
) -> Resolution:
    """What a device gets of a release."""
    steps: list[str] = []

    def nothing(why: str) -> Resolution:
        return Resolution(device.device, None, None, None, f"nothing: {why}", (*steps, why))

    by_profile = {offer.profile: offer for offer in offers}
    lineage = " > ".join(device.profile)
    nearest = next((name for name in device.profile if name in by_profile), None)
    if nearest is None:
        return nothing(f"no bundle for {lineage}; the release has {', '.join(sorted(by_profile)) or 'none'}")
    offer = by_profile[nearest]
    steps.append(f"profile: of {lineage} the nearest with a bundle is {nearest}")
    if device.counter > counter and not downgrade:
        return nothing(
            f"it has confirmed release {device.counter}, which is later than {counter}; "
            "a plan with permit_downgrade would include it"
        )
    refused: list[str] = []
    chosen: tuple[Artifact, str] | None = None
    for artifact in offer.artifacts:
        reasons = []
        for runtime in artifact.runtimes:
            why = _misfit(runtime, device, needs)
            if not why:
                chosen = artifact, runtime
                break
            reasons.append(why)
        if chosen:
            break
        refused.append(f"{artifact.id}: {'; '.join(reasons)}")
    steps += [f"artifact passed over, {text}" for text in refused]
    if chosen is None:
        why = f"no artifact of the bundle for {nearest} runs there: {' / '.join(refused)}"
        return replace(nothing(why), profile=nearest)
    artifact, runtime = chosen
    steps.append(f"runtime: {artifact.id} runs on {runtime}{_seen(runtime, device, needs)}")
    if device.active == offer.digest:
        steps.append("it runs this bundle already")
    why = f"the bundle for {nearest}, artifact {artifact.id} on {runtime}"
    if device.active == offer.digest:
        why += "; it runs it already"
    return Resolution(device.device, offer.digest, nearest, artifact.id, why, tuple(steps))


def _misfit(runtime: str, device: Facts, needs: Sequence[Need]) -> str:
    """Why a device cannot open what this runtime opens; "" when nothing is known against it."""
    for need in needs:
        if need.runtime != runtime:
            continue
        found = (device.software or {}).get(need.software)
        if found is None:
            if device.software:
                return f"{runtime} needs {need}, and the device reports no {need.software}"
            continue
        if not need.holds(found):
            return f"{runtime} needs {need}, the device has {found}"
    return ""


def _seen(runtime: str, device: Facts, needs: Sequence[Need]) -> str:
    if not device.software and not device.runtime:
        return "; the device has sent no window yet, so that its profile is believed"
    held = [
        f"{need} (has {(device.software or {})[need.software]})"
        for need in needs
        if need.runtime == runtime and need.software in (device.software or {})
    ]
    told = f"; its last window ran on {device.runtime}" if device.runtime else ""
    return told + (f"; {', '.join(held)}" if held else "")

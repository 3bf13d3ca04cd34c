"""What single devices contribute to a group, and how that is laid out for the gates. Pure.

Contributions never change: a device that reports contributes another one (`sums.py` subtracts what it was).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from edge_contracts.sketch import Drift
from edge_fleet.clumping import Scatter, counted
from edge_fleet.drifts import DeviceDrift, drifts_of_sums
from edge_fleet.evidence import BundleFacts, Laid
from edge_fleet.ledger import Beside, Frame, Ledger, Sum
from edge_fleet.panel import assemble
from edge_fleet.reading import asked
from edge_fleet.tally import Floats, Tally, together


@dataclass(frozen=True, slots=True)
class Own:
    """What a reached device contributes to its group.

    Args:
        new: Under the group's bundle, since it was assigned.
        earlier: The same device under the releases before, by bundle.
        shadow: Windows in which the bundle and another answered the same inputs.
        comparing: Whether the bundle answered anything as a shadow since the device was assigned.
    """

    bundle: str
    stage: int
    new: Sum
    earlier: Mapping[str, Sum]
    before: Tally | None
    shadow: Tally | None
    drift: DeviceDrift | None
    comparing: bool


@dataclass(frozen=True, slots=True)
class Other:
    """What a device that is not in the group contributes to it, until it is reached itself.

    Args:
        beside: Under the group's releases before, by bundle.
        from_stage: Of the same windows those since each stage of the group began.
    """

    beside: Mapping[str, Beside]
    from_stage: tuple[Tally | None, ...]
    shadow: Tally | None


def contribution(
    ledger: Ledger, stage: int, bundle: str, frame: Frame, facts: Mapping[str, BundleFacts]
) -> Own | Other | None:
    """What a device contributes to the group of a bundle; None: nothing.

    Args:
        stage: In which the device was reached, if it was.
    """
    shadow = ledger.shadows.get(bundle)
    if ledger.bundle != bundle:
        beside = {name: found for name, found in ledger.beside.items() if name in frame.previous}
        if not beside and shadow is None:
            return None
        from_stage = tuple(ledger.from_stage.get((bundle, begun)) for begun, _ in frame.begun)
        return Other(beside, from_stage, shadow)
    earlier = {name: found for name, found in ledger.sums.items() if name in frame.previous}
    drift = None
    if ledger.new.asked.windows:
        spread = [ledger.new.scatter, *(found.scatter for found in earlier.values())]
        drifts = drifts_of_sums(facts[bundle].baseline, ledger.new.scatter, spread)
        drift = DeviceDrift(ledger.device, drifts, _by_bundle(earlier, facts))
    before = together(found.tally for found in earlier.values())
    return Own(bundle, stage, ledger.new, earlier, before, shadow, drift, ledger.comparing)


def _by_bundle(earlier: Mapping[str, Sum], facts: Mapping[str, BundleFacts]) -> tuple[Drift, ...]:
    """Compare windows of several bundles, each with the baseline of its own."""
    return tuple(
        drift
        for bundle, found in sorted(earlier.items())
        if bundle in facts
        for drift in drifts_of_sums(facts[bundle].baseline, found.scatter, [found.scatter])
    )


def lay(stages: Sequence[int], parts: Mapping[str, Own | Other]) -> Laid:
    """What some devices contribute, under each other."""
    own: list[Own] = []
    others: list[Other] = []
    shadows: list[Tally | None] = []
    for device in sorted(parts):
        part = parts[device]
        shadows.append(part.shadow)
        if isinstance(part, Own):
            own.append(part)
        else:
            others.append(part)
    scatter = _scatter(own)
    return Laid(
        new=asked(one.new.asked for one in own),
        earlier=asked(found.asked for one in own for found in one.earlier.values()),
        others=asked(found.asked for one in others for found in one.beside.values()),
        live={key: counted(part) for key, part in scatter.items()} | _beside(others),
        scatter=scatter,
        per_device=tuple(one.drift for one in own if one.drift is not None),
        panel=assemble(one.new.tally for one in own),
        before=assemble(one.before for one in own),
        by_stage=tuple(assemble(one.new.tally for one in own if one.stage == stage) for stage in stages),
        beside=tuple(assemble(one.from_stage[n] for one in others) for n in range(len(stages))),
        shadow=assemble(shadows),
    )


def _scatter(own: Iterable[Own]) -> dict[tuple[str, str, str, int], Scatter]:
    """Of all devices of a group, of each release's windows."""
    found: dict[tuple[str, str, str, int], Scatter] = {}
    for one in own:
        for whose, bundle, scatter in (
            ("new", one.bundle, one.new.scatter),
            *(("earlier", bundle, of.scatter) for bundle, of in one.earlier.items()),
        ):
            for (name, bins), part in scatter.items():
                key = whose, bundle, name, bins
                found[key] = found[key] + part if key in found else part
    return found


def _beside(others: Iterable[Other]) -> dict[tuple[str, str, str, int], Floats]:
    found: dict[tuple[str, str, str, int], Floats] = {}
    for one in others:
        for bundle, beside in one.beside.items():
            for (name, bins), part in beside.live.items():
                key = "others", bundle, name, bins
                found[key] = found[key] + part if key in found else part
    return found

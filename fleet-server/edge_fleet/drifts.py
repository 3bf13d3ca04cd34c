"""Live numbers of some windows against the baseline of the bundle that made them. Pure.

Samples of one scene resemble each other: how certain a distance is, is said of as many samples as they are
worth (`clumping.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from edge_contracts.sketch import Baseline, Drift, ScalarBaseline, compare
from edge_fleet.clumping import Scatter, counted, design_effect, scatters
from edge_fleet.reading import Reading
from edge_fleet.sums import Numbers

DRIFT_SCALARS = 128  # as many as a window carries


@dataclass(frozen=True)
class Weighed(Drift):
    """A comparison of samples that resemble each other.

    Args:
        effective: How many independent samples they are worth.
    """

    effective: float = 0.0


@dataclass(frozen=True)
class DeviceDrift:
    """One device's live numbers against the baseline of the new bundle.

    Args:
        drifts: One per monitored number.
        before: The same under the release before, against its own baseline.
    """

    device: str
    drifts: tuple[Drift, ...]
    before: tuple[Drift, ...]


def drifts_of(
    baseline: Baseline, readings: Iterable[Reading], before: Iterable[Reading] | None = None
) -> tuple[Drift, ...]:
    """Compare the pooled counts of some windows with the baseline of the bundle that made them.

    Counts with another number of bins than the baseline are left out: whoever made them does not
    speak of this baseline, and no evidence is better than wrong evidence.

    Args:
        before: Windows of the release before: with them samples count for as much as their windows agree.
    """
    kept = list(readings)
    known: Mapping[tuple[str, str, int], Scatter] = {}
    if before is not None:
        known = scatters((r.bundle, r.scalars) for r in (*kept, *before))
    drifts = []
    for scalar in baseline.scalars[:DRIFT_SCALARS]:
        bins = len(scalar.counts)
        rows = [r.scalars[scalar.name] for r in kept if len(r.scalars.get(scalar.name, ())) == bins]
        if rows:
            parts = [part for (_, name, size), part in known.items() if (name, size) == (scalar.name, bins)]
            drifts.append(thinned(scalar, [sum(column) for column in zip(*rows, strict=True)], parts))
    return tuple(drifts)


def drifts_of_sums(
    baseline: Baseline,
    own: Mapping[tuple[str, int], Scatter],
    scatter: Sequence[Mapping[tuple[str, int], Scatter]],
) -> tuple[Drift, ...]:
    """As `drifts_of`, of sums by name and number of bins.

    Args:
        scatter: Of the windows that say how far samples resemble each other, each around its own mean.
    """
    drifts = []
    for scalar in baseline.scalars[:DRIFT_SCALARS]:
        key = scalar.name, len(scalar.counts)
        if key in own:
            parts = [part[key] for part in scatter if key in part]
            drifts.append(thinned(scalar, [int(count) for count in counted(own[key])[1:]], parts))
    return tuple(drifts)


def drifts_of_counts(
    baseline: Baseline,
    live: Numbers,
    which: str,
    bundle: str,
    scatter: Numbers | None = None,
    of: Collection[str] = ("new", "earlier"),
) -> tuple[Drift, ...]:
    """As `drifts_of`, of counts that are summed already.

    Args:
        of: Whose windows say how far samples resemble each other.
    """
    found = []
    for scalar in baseline.scalars[:DRIFT_SCALARS]:
        counts = live.get((which, bundle, scalar.name, len(scalar.counts)))
        if counts is not None and counts[0]:
            parts = [
                part
                for (whose, _, name, size), part in (scatter or {}).items()
                if (name, size) == (scalar.name, len(scalar.counts)) and whose in of
            ]
            found.append(thinned(scalar, [int(count) for count in counts[1:]], parts))
    return tuple(found)


def thinned(scalar: ScalarBaseline, counts: Sequence[int], scatter: Iterable[Scatter]) -> Weighed:
    """Compare counts with a baseline; how certain that is, is said of as many samples as they are worth."""
    found, effect = compare(scalar, counts), design_effect(scatter)
    worth = found if effect <= 1 else compare(scalar, [round(count / effect) for count in counts])
    return Weighed(
        found.name, found.distance, worth.p_value, found.samples, worth.exceeds, found.samples / effect
    )

"""One class of device, drawn: how its devices are, and what they would report. Pure but for the draws.

Shares are drawn in two steps. A device has a rate of its own, beta with the mean of its class and the
intra-class correlation `between`; a stretch of windows has a rate around that, beta with the
correlation of its windows. So windows of one device depend on each other, and inferences of one
window even more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edge_contracts.sketch import bin_index
from edge_fleet.panel import Floats, Histogram, Panel, Rows
from edge_fleet.rollouts.plan import RolloutPlan
from edge_fleet.simulation.defects import Defect, Kind
from edge_fleet.simulation.description import DeviceClass

MARKS = 12  # 2^11 windows: a day and a half of minutes
BEFORE_S = 86400.0  # the release before has been seen for a day
LATENCY_BINS = 32


@dataclass(frozen=True)
class Drawn:
    """What some devices would report; rows are devices, columns are 1, 2, 4, ... windows.

    Args:
        install_s: From the assignment to an answer; infinite for a silent device.
        fails: Whether it does not keep the release, and whether that is the release's fault.
        counts: Under the new release, by name as in `panel.COUNTED`.
        before, control: Under the one before: a day, and while the rollout runs.
        latency: Log of the median of each device, new and before.
    """

    names: tuple[str, ...]
    install_s: Floats
    fails: Rows
    blamed: Rows
    counts: Mapping[str, Floats]
    before: Mapping[str, Floats]
    control: Mapping[str, Floats]
    latency: Histogram | None
    latency_before: Histogram | None

    def panel(self, rows: Rows, windows: Rows) -> Panel:
        """What these devices have reported after so many windows each."""
        return _panel(self.names, self.counts, self.latency, rows, windows)

    def panel_before(self, rows: Rows) -> Panel:
        """What they reported under the release before."""
        picked = {name: values[rows] for name, values in self.before.items()}
        histogram = self.latency_before
        return Panel(
            tuple(self.names[row] for row in rows),
            picked,
            lambda _name: _picked(histogram, rows, np.zeros(len(rows), dtype=np.intp)),
        )

    def panel_beside(self, rows: Rows, windows: Rows) -> Panel:
        """What devices that run the release before have reported meanwhile, after so many windows."""
        return _panel(self.names, self.control, None, rows, windows)


# What is drawn for a gate: the name of what is bad, or LATENCY; gates that are not here are not simulated.
LATENCY, CONTROL = "latency", "control"
SIMULATED: Mapping[str, str] = {
    "install_success": "",
    "error_rate": "failed",
    "abstain_rate": "uncertain",
    "fallback_rate": "second",
    "live_accuracy": "wrong",
    "golden_agreement": "golden_off",
    "latency_p95": LATENCY,
    "latency_p99": LATENCY,
    "latency_p95_ms": LATENCY,
    "latency_p99_ms": LATENCY,
}


def needed(plan: RolloutPlan) -> frozenset[str]:
    """What a plan's gates look at."""
    wanted = {SIMULATED[name] for name in plan.gates if name in SIMULATED}
    if any(gate.against == "control" for gate in plan.gates.values()):
        wanted.add(CONTROL)
    return frozenset(wanted | {"failed"})


def draw(
    of: DeviceClass, prefix: str, defect: Defect, needs: frozenset[str], random: np.random.Generator
) -> Drawn:
    """Draw the devices of a class under a release with a defect.

    Args:
        needs: From `needed`: what nobody looks at is not drawn.
    """
    control = CONTROL in needs
    n = of.devices
    hit = (random.random(n) < defect.on).astype(np.float64)
    windows = np.diff(2.0 ** np.arange(MARKS), prepend=0.0)  # of each stretch between two marks
    day = np.array([max(1.0, BEFORE_S / of.window_s)])
    rates = (
        ("failed", "attempts", of.errors, float(of.inferences), Kind.ERRORS),
        ("uncertain", "answered", of.uncertain, float(of.inferences), Kind.UNCERTAIN),
        ("second", "answered", of.second, float(of.inferences), Kind.SECOND),
        ("wrong", "labelled", of.wrong, float(of.labels_per_window), Kind.WRONG),
        ("golden_off", "golden", 0.0, float(of.golden), Kind.GOLDEN),
    )
    counts: dict[str, Floats] = {"windows": np.tile(windows.cumsum(), (n, 1))}
    before: dict[str, Floats] = {"windows": np.tile(day, (n, 1))}
    beside: dict[str, Floats] = {"windows": counts["windows"]}
    for bad, total, mean, each, kind in rates:
        if bad not in needs:
            continue
        own = _rates(mean, of.between, n, random)
        worse = own + hit * defect.adds(kind) * (1 - own)
        counts[total] = np.tile(each * windows.cumsum(), (n, 1))
        counts[bad] = _stretches(worse, windows, each, of.within, random).cumsum(axis=1)
        before[total] = np.tile(each * day, (n, 1))
        before[bad] = _stretches(own, day, each, of.within, random)
        beside[total] = counts[total]
        if control:
            beside[bad] = _stretches(own, windows, each, of.within, random).cumsum(axis=1)
    latency = latency_before = None
    if LATENCY in needs:
        median = np.log(of.latency_ms) + of.latency_between * random.standard_normal(n)
        slower = median + hit * math.log1p(defect.adds(Kind.LATENCY))
        bins = _latency_bins(of, defect)
        latency = _latencies(slower, windows, of, bins, random)
        latency_before = _latencies(median, day, of, bins, random)
    broken = random.random(n) < hit * defect.adds(Kind.INSTALL)
    unlucky = random.random(n) < of.install_failures
    install_s = of.install_s * np.exp(0.4 * random.standard_normal(n))
    install_s[random.random(n) < of.silent] = np.inf
    return Drawn(
        tuple(f"{prefix}-{i:06}" for i in range(n)),
        install_s,
        (broken | unlucky).astype(np.intp),
        broken.astype(np.intp),
        counts,
        before,
        beside if control else {},
        latency,
        latency_before,
    )


def together(parts: Sequence[Drawn]) -> Drawn:
    """The devices of several classes as one, in the order given: they get one bundle."""
    if len(parts) == 1:
        return parts[0]
    every = np.concatenate
    return Drawn(
        tuple(name for part in parts for name in part.names),
        every([part.install_s for part in parts]),
        every([part.fails for part in parts]),
        every([part.blamed for part in parts]),
        {name: every([part.counts[name] for part in parts]) for name in parts[0].counts},
        {name: every([part.before[name] for part in parts]) for name in parts[0].before},
        {name: every([part.control[name] for part in parts]) for name in parts[0].control},
        _binned_alike([part.latency for part in parts]),
        _binned_alike([part.latency_before for part in parts]),
    )


def _binned_alike(parts: Sequence[Histogram | None]) -> Histogram | None:
    found = [part for part in parts if part is not None]
    if not found:
        return None
    bins = np.unique(np.concatenate([part.bins for part in found]))
    laid = [np.zeros((*part.counts.shape[:2], len(bins))) for part in found]
    for counts, part in zip(laid, found, strict=True):
        counts[:, :, np.searchsorted(bins, part.bins)] = part.counts
    return Histogram(bins, np.concatenate(laid))


def _rates(mean: float, correlation: float, n: int, random: np.random.Generator) -> Floats:
    """Rates of devices or stretches: beta with this mean and intra-class correlation."""
    if mean <= 0 or correlation <= 0:
        return np.full(n, max(0.0, mean))
    size = 1 / correlation - 1
    return random.beta(mean * size, (1 - mean) * size, n)


def _stretches(
    rates: Floats, windows: Floats, each: float, within: float, random: np.random.Generator
) -> Floats:
    """Bad ones of each stretch of windows of each device.

    The mean of w windows whose rates are correlated by `within` inside and not between has a variance w
    times smaller: a beta with the correlation `within / (w - (w - 1) within)`.
    """
    if each <= 0:
        return np.zeros((len(rates), len(windows)))
    rates = np.clip(rates, 0.0, 1.0)[:, None]
    trials = np.maximum(1, np.round(each * windows)).astype(np.int64)[None, :]
    if within > 0:
        shared = within / (windows - (windows - 1) * within)
        size = 1 / shared - 1
        inside = np.clip(rates, 1e-9, 1 - 1e-9)
        drawn = random.beta(inside * size, (1 - inside) * size)
        rates = np.where((rates <= 0) | (rates >= 1), rates, drawn)
    bad: Floats = random.binomial(np.broadcast_to(trials, (len(rates), len(windows))), rates).astype(
        np.float64
    )
    return bad


def _latency_bins(of: DeviceClass, defect: Defect) -> Floats:
    """Bins of a sketch from the fast to the slow end, a handful."""
    reach = 3.5 * math.hypot(of.latency_spread, of.latency_between) + 0.01
    low = math.log(of.latency_ms) - reach
    high = math.log(of.latency_ms) + reach + math.log1p(defect.adds(Kind.LATENCY))
    return np.unique([bin_index(math.exp(x)) for x in np.linspace(low, high, LATENCY_BINS)]).astype(
        np.float64
    )


def _latencies(
    median: Floats, windows: Floats, of: DeviceClass, bins: Floats, random: np.random.Generator
) -> Histogram:
    """Counts by bin; inferences of a device are alike, what its windows do to them is in its median."""
    edges = bins * math.log(1.02 / 0.98)  # upper edges, natural logarithms of milliseconds
    below = _normal((edges[None, :] - median[:, None]) / of.latency_spread)
    below[:, -1] = 1.0
    shares = np.maximum(np.diff(below, prepend=0.0, axis=1), 0.0)
    shares /= shares.sum(axis=1, keepdims=True)
    trials = np.maximum(1, np.round(of.inferences * windows)).astype(np.int64)
    drawn = random.multinomial(np.broadcast_to(trials, (len(median), len(trials))), shares[:, None, :])
    return Histogram(bins, drawn.cumsum(axis=1).astype(np.float64))


def _normal(z: Floats) -> Floats:
    """The distribution function of a standard normal, to 1e-7 (Abramowitz and Stegun 26.2.17)."""
    t = 1 / (1 + 0.2316419 * np.abs(z))
    poly = t * (0.319381530 + t * (-0.356563782 + t * (1.781477937 + t * (-1.821255978 + t * 1.330274429))))
    tail = np.exp(-z * z / 2) / math.sqrt(2 * math.pi) * poly
    share: Floats = np.where(z >= 0, 1 - tail, tail)
    return share


def _panel(
    names: tuple[str, ...],
    counts: Mapping[str, Floats],
    latency: Histogram | None,
    rows: Rows,
    windows: Rows,
) -> Panel:
    """The panel of devices that have reported so many windows, at least one each."""
    last = np.minimum(np.log2(windows).astype(np.intp), MARKS - 1)
    marks = int(last.max()) + 1 if len(last) else 0
    reached = np.arange(marks)[None, :] <= last[:, None]
    picked = {}
    for name, values in counts.items():
        at = np.where(reached, values[rows, :marks], np.nan)
        picked[name] = np.concatenate([at, values[rows, last][:, None]], axis=1)

    def histogram(_name: str) -> Histogram:
        found = _picked(latency, rows, last)
        assert latency is not None
        at = np.where(reached[:, :, None], latency.counts[rows, :marks], np.nan)
        return Histogram(found.bins, np.concatenate([at, found.counts], axis=1))

    return Panel(tuple(names[row] for row in rows), picked, histogram)


def _picked(latency: Histogram | None, rows: Rows, last: Rows) -> Histogram:
    assert latency is not None, "latency was not drawn"
    return Histogram(latency.bins, latency.counts[rows, last][:, None, :])

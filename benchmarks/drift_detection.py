"""Drift found on the device: false alarms of a device-month, and how soon a change is found beside peers.

    PEERS_PYTHON=PYTHON python benchmarks/drift_detection.py    PYTHON has evidently and alibi-detect

A device watches six numbers of its inputs and outputs; windows last a minute. Without any change, alarms are
counted over months, at a rate high enough to count. Then the world changes, and the minutes until the first
alarm are told: ours at the shipped rate, the peers' Kolmogorov-Smirnov test on the same samples, window by
window, at the level that gives the same rate. The peers need an environment of their own (their numpy).
Last, for a device that is asked a hundred times a second, what is lost where one sample in eight is counted,
as of the moments of large inputs (`edge_agent.telemetry.thinning`). --thinning tells nothing else.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

import drift_worlds  # noqa: E402

from edge_agent.drift.monitor import Monitor  # noqa: E402
from edge_agent.drift.schedule import MONTH_S, PER_MONTH  # noqa: E402
from edge_agent.telemetry.thinning import Thinning  # noqa: E402
from edge_contracts.features import make_baseline  # noqa: E402
from edge_contracts.manifest import Manifest  # noqa: E402
from edge_contracts.messages import ScalarCounts, Window  # noqa: E402
from edge_contracts.sketch import ALPHA, Baseline  # noqa: E402
from edge_convert.drift import critical  # noqa: E402
from edge_convert.terminal import table  # noqa: E402

NUMBERS = 6
SAMPLES = 1000  # of the baseline
MONTHS = float(os.environ.get("EDGEFLEET_MONTHS", "2"))
RUNS = int(os.environ.get("EDGEFLEET_RUNS", "9"))
COUNTED_RATE = 10.0  # false alarms a month, for a level a hundred times the shipped one
WINDOW_S = 60.0
PER_MINUTE = 60
HORIZON = 600  # windows after a change that a detector is given
SIZES = (PER_MINUTE, 6000, 60_000)  # samples in a window whose cost is told: 1, 100 and 1,000 a second
WIDE = (PER_MINUTE, 6000, 86_400)  # the last is a day at one a second
REFERENCES = (
    1000,
    10_000,
    100_000,
)  # samples that alibi-detect keeps; a baseline here is counts, whatever its samples
Floats = NDArray[np.float64]
Change = Callable[[Floats], Floats]
CHANGES: dict[str, Change] = {
    "+0.5 sd": lambda x: x + 0.5,
    "+0.75 sd": lambda x: x + 0.75,
    "+1 sd": lambda x: x + 1.0,
    "sd x1.6": lambda x: 1.6 * x,
    "a third at +3": lambda x: x + 3.0 * (np.arange(x.shape[-1]) % 3 == 0),
}
FLOOD = 100.0  # samples a second, of which one in eight is enough
FLOOD_CHANGES: dict[str, Change] = {
    "+0.4 sd": lambda x: x + 0.4,
    "+0.45 sd": lambda x: x + 0.45,
    **CHANGES,
}
PEERS = """
import json, resource, sys, warnings
from time import process_time, perf_counter
warnings.simplefilter("ignore")
import numpy as np
job = json.load(open(sys.argv[1]))
held = np.load(sys.argv[2])
base, level = held["base"], job["level"]
result = {}
def runs(name, drifted, cap):
    found, spent, asked = {}, 0.0, 0
    for change in job["changes"]:
        delays = []
        for run in range(job["runs"]):
            delay = None
            for n, values in enumerate(held[f"{change}/{run}"][:cap]):
                before = process_time()
                hit = drifted(values)
                spent += process_time() - before
                asked += 1
                if hit:
                    delay = n + 1
                    break
            delays.append(delay)
        found[change] = delays
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    result[name] = {"delays": found, "us": 1e6 * spent / asked, "rss": rss, "cap": cap or job["horizon"]}
def costs(name, drifted, most):
    found = {}
    for size in job["sizes"]:
        windows = held[f"calm/{size}"][:most]
        before = process_time()
        for values in windows:
            drifted(values)
        found[str(size)] = 1e6 * (process_time() - before) / len(windows)
    result[name]["by_size"] = found
try:
    from alibi_detect.cd import KSDrift
    detector = KSDrift(base.astype(np.float32)[:, None], p_val=level)
    verdict = lambda v: detector.predict(v.astype(np.float32)[:, None])["data"]["is_drift"]
    runs("alibi-detect", lambda v: bool(verdict(v)), None)
    costs("alibi-detect", verdict, 200)
    found = {}
    for reference in job["references"]:
        random = np.random.default_rng(15)
        wide = KSDrift(random.standard_normal((reference, job["numbers"])).astype(np.float32), p_val=level)
        for size in job["wide"]:
            windows = random.standard_normal((5, size, job["numbers"])).astype(np.float32)
            before = process_time()
            for values in windows:
                wide.predict(values)
            found[f"{reference}/{size}"] = 1e6 * (process_time() - before) / len(windows)
    result["alibi-detect"]["by_reference"] = found
except ImportError as error:
    result["alibi-detect"] = str(error)
try:
    import pandas as pd
    from evidently import Report
    from evidently.metrics import ValueDrift
    report = Report([ValueDrift(column="x", method="ks", threshold=level)])
    frame = pd.DataFrame({"x": base})
    p = lambda v: report.run(pd.DataFrame({"x": v}), frame).dict()["metrics"][0]["value"]
    runs("evidently", lambda v: bool(p(v) < level), job["evidently_cap"])
    costs("evidently", p, 20)
except ImportError as error:
    result["evidently"] = str(error)
print(json.dumps(result))
"""


def main() -> None:
    """Print the tables."""
    if "--thinning" in sys.argv[1:]:
        _print_thinning()
        return
    rows = []
    for rate, repeat in ((0.1, 1), (1.0, 1), (10.0, 1), (100.0, 1), (10.0, 20)):
        stated, found = _false_alarms(rate, repeat)
        frames = "independent" if repeat == 1 else f"the same {repeat} times"
        rows.append((f"{rate:g}", f"{rate * WINDOW_S:g}", frames, f"{stated:.1f}", f"{found:.1f}"))
    print(
        f"false alarms a device-month, over {MONTHS:g} months each, {NUMBERS} numbers, baseline of {SAMPLES}"
    )
    print(table(("inferences/s", "in a window", "samples", "stated at most", "found"), rows))
    ours, ours_us, level, worlds, base = _delays()
    worlds |= {f"calm/{size}": np.random.default_rng(13).standard_normal((200, size)) for size in SIZES}
    peers = _peers(level, worlds, base)
    print(
        f"\nminutes from a change to its alarm, median of {RUNS}; one number, {PER_MINUTE} a minute, "
        f"{PER_MONTH:g} false alarms a month each"
    )
    head = ("detector", *CHANGES, "us a window")
    lines = [("edge-agent", *(_shown(ours[c]) for c in CHANGES), f"{ours_us:.0f}")]
    for name, result in peers.items():
        if isinstance(result, str):
            lines.append((f"{name}: {result}", *("" for _ in CHANGES), ""))
            continue
        shown = [_shown(result["delays"][c], result["cap"]) for c in CHANGES]
        lines.append((name, *shown, f"{result['us']:.0f}"))
    print(table(head, lines))
    print("\nprocessor microseconds of one calm window of one number; ratios to ours with counting")
    _print_costs(worlds, peers)
    _print_costs_of_all(peers.get("alibi-detect"))
    print()
    _print_thinning()


def _print_thinning() -> None:
    """What thinning loses, for samples that are independent and for a scene that stays a while."""
    rows = []
    for repeat in (1, 20, 200):
        for is_thinned in (False, True):
            thinning = Thinning() if is_thinned else None
            stated, found = _false_alarms(FLOOD, repeat, thinning)
            delays = [_shown(_flooded(change, repeat, is_thinned)) for change in FLOOD_CHANGES.values()]
            frames = "independent" if repeat == 1 else f"the same {repeat} times"
            rows.append(
                (frames, "thinned" if is_thinned else "all", f"{stated:.1f}", f"{found:.1f}", *delays)
            )
    print(
        f"{FLOOD:g} samples a second, all counted or thinned: false alarms a month as above, "
        f"then minutes from a change to its alarm, median of {RUNS}, {PER_MONTH:g} false alarms a month"
    )
    print(table(("samples", "counted", "stated at most", "found", *FLOOD_CHANGES), rows))


def _flooded(change: Change, repeat: int, is_thinned: bool) -> list[int | None]:
    """Windows from a change to its alarm, in each run."""
    random = np.random.default_rng(14)
    delays: list[int | None] = []
    for run in range(RUNS):
        manifest, _ = _manifest(random, ALPHA, 1)
        monitor = Monitor(manifest, drift_worlds.BUNDLE, "float32", PER_MONTH)
        thinning = Thinning() if is_thinned else None
        calm = _stream(random, manifest, FLOOD, repeat, thinning)
        for _ in range(60 + run * 7):
            monitor.add(next(calm))
        changed = _stream(random, manifest, FLOOD, repeat, thinning, change)
        alarms = (any(one.began for one in monitor.add(next(changed))) for _ in range(HORIZON))
        delays.append(next((n + 1 for n, is_alarm in enumerate(alarms) if is_alarm), None))
    return delays


def _manifest(random: np.random.Generator, alarm: float, numbers: int) -> tuple[Manifest, Floats]:
    values = random.standard_normal((numbers, SAMPLES))
    names = [f"{'input' if n % 2 else 'output'}:x{n}:mean" for n in range(numbers)]
    made = make_baseline(dict(zip(names, values, strict=True)))
    scalars = tuple(s.model_copy(update={"critical": critical(s, alarm)}) for s in made.scalars)
    baseline = Baseline(samples=SAMPLES, scalars=scalars)
    return drift_worlds.manifest().model_copy(update={"baseline": baseline}), values[0]


def _window(manifest: Manifest, values: Floats, inferences: int | None = None) -> Window:
    """A minute's window.

    Args:
        values: Shape (numbers, samples).
        inferences: As many as samples, unless some are not counted.
    """
    counts = tuple(
        ScalarCounts(
            name=s.name,
            counts=tuple(
                np.bincount(np.searchsorted(s.edges, row, side="right"), minlength=len(s.counts)).tolist()
            ),
        )
        for s, row in zip(manifest.baseline.scalars, values, strict=True)
    )
    return Window(
        bundle=drift_worlds.BUNDLE,
        artifact="int8",
        runtime="litert",
        start_ms=0,
        end_ms=0,
        duration_ms=int(WINDOW_S * 1000),
        inferences=values.shape[1] if inferences is None else inferences,
        scalars=counts,
        lineup=None,
    )


def _stream(
    random: np.random.Generator,
    manifest: Manifest,
    rate: float,
    repeat: int,
    thinning: Thinning | None = None,
    change: Change = lambda values: values,
) -> Iterator[Window]:
    """Windows for ever, without any change or with one."""
    numbers, count = len(manifest.baseline.scalars), round(rate * WINDOW_S)
    while True:
        drawn = change(random.standard_normal((numbers, -(-count // repeat))))
        values = np.repeat(drawn, repeat, axis=1)[:, :count]
        if thinning is not None:
            values = values[:, [thinning() for _ in range(count)]]
            thinning.begin(WINDOW_S)
        yield _window(manifest, values, count)


def _false_alarms(rate: float, repeat: int, thinning: Thinning | None = None) -> tuple[float, float]:
    """Of a month: what the schedule states, and what is found."""
    random = np.random.default_rng(11)
    alarms = windows = 0
    stated = 0.0
    lives = 20  # devices with baselines of their own: one unlucky baseline would tell for all
    for _ in range(lives):
        manifest, _ = _manifest(random, 100 * ALPHA, NUMBERS)
        monitor = Monitor(manifest, drift_worlds.BUNDLE, "float32", COUNTED_RATE)
        stated = monitor.schedule.per_month
        stream = _stream(random, manifest, rate, repeat, thinning)
        for _ in range(round(MONTHS * MONTH_S / WINDOW_S / lives)):
            windows += 1
            alarms += sum(change.began for change in monitor.add(next(stream)))
    return stated, alarms * MONTH_S / (windows * WINDOW_S)


def _delays() -> tuple[dict[str, list[int | None]], float, float, dict[str, Floats], Floats]:
    """Windows until an alarm of ours; microseconds a window; the peers' level; the same samples for them."""
    random = np.random.default_rng(12)
    manifest, base = _manifest(random, ALPHA, 1)
    worlds: dict[str, Floats] = {}
    delays: dict[str, list[int | None]] = {}
    spent, asked = 0.0, 0
    for name, change in CHANGES.items():
        delays[name] = []
        for run in range(RUNS):
            monitor = Monitor(manifest, drift_worlds.BUNDLE, "float32", PER_MONTH)
            calm = _stream(random, manifest, PER_MINUTE / WINDOW_S, 1)
            for _ in range(60 + run * 7):  # the change comes at another place of the spans in each run
                monitor.add(next(calm))
            changed = change(random.standard_normal((HORIZON, PER_MINUTE)))
            worlds[f"{name}/{run}"] = changed
            delay = None
            for n, values in enumerate(changed):
                window = _window(manifest, values[np.newaxis])
                before = process_time()
                changes = monitor.add(window)
                spent += process_time() - before
                asked += 1
                if any(one.began for one in changes):
                    delay = n + 1
                    break
            delays[name].append(delay)
    level = PER_MONTH / (MONTH_S / WINDOW_S)  # each window is one comparison of theirs
    return delays, 1e6 * spent / asked, level, worlds, base


def _peers(level: float, worlds: dict[str, Floats], base: Floats) -> dict[str, dict[str, Any] | str]:
    """What the peers find, in an environment of their own."""
    python = os.environ.get("PEERS_PYTHON", sys.executable)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        np.savez(place / "worlds.npz", base=base, **worlds)  # type: ignore[arg-type]
        job = {
            "changes": list(CHANGES),
            "runs": RUNS,
            "level": level,
            "horizon": HORIZON,
            "evidently_cap": 60,
            "sizes": list(SIZES),
            "references": list(REFERENCES),
            "wide": list(WIDE),
            "numbers": NUMBERS,
        }
        (place / "job.json").write_text(json.dumps(job))
        (place / "peers.py").write_text(PEERS)
        command = [python, str(place / "peers.py"), str(place / "job.json"), str(place / "worlds.npz")]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            return {"peers": done.stderr.strip().splitlines()[-1]}
        return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def _print_costs(worlds: dict[str, Floats], peers: dict[str, dict[str, Any] | str]) -> None:
    """What judging a window costs, by how many samples it holds; everybody begins with the same array."""
    manifest, _ = _manifest(np.random.default_rng(12), ALPHA, 1)
    rows = []
    for size in SIZES:
        arrays = worlds[f"calm/{size}"]
        before = process_time()
        windows = [_window(manifest, values[np.newaxis]) for values in arrays]
        counting_us = 1e6 * (process_time() - before) / len(arrays)
        monitor = Monitor(manifest, drift_worlds.BUNDLE, "float32", PER_MONTH)
        before = process_time()
        for window in windows:
            monitor.add(window)
        judging_us = 1e6 * (process_time() - before) / len(arrays)
        ours = counting_us + judging_us
        cells = [str(size), f"{judging_us:.0f}", f"{ours:.0f}"]
        for result in peers.values():
            us = None if isinstance(result, str) else result["by_size"][str(size)]
            cells += ["", ""] if us is None else [f"{us:.0f}", f"{us / ours:.0f}"]
        rows.append(tuple(cells))
    named = [cell for name in peers for cell in (name, "ratio")]
    print(table(("samples", "ours, judging", "with counting", *named), rows))


def _print_costs_of_all(peer: dict[str, Any] | str | None) -> None:
    """The same for all numbers of a device at once, by how many samples a peer keeps to compare with."""
    print(f"\nprocessor microseconds of one calm window of {NUMBERS} numbers, alibi-detect by its reference")
    rows = []
    for size in WIDE:
        random = np.random.default_rng(16)
        manifest, _ = _manifest(random, ALPHA, NUMBERS)
        monitor = Monitor(manifest, drift_worlds.BUNDLE, "float32", PER_MONTH)
        counting = judging = 0.0
        runs = 60
        for _ in range(runs):
            values = random.standard_normal((NUMBERS, size))
            before = process_time()
            window = _window(manifest, values)
            between = process_time()
            monitor.add(window)
            counting += between - before
            judging += process_time() - between
        ours = 1e6 * (counting + judging) / runs
        cells = [str(size), f"{1e6 * judging / runs:.0f}", f"{ours:.0f}"]
        for reference in REFERENCES:
            us = peer["by_reference"][f"{reference}/{size}"] if isinstance(peer, dict) else None
            cells += (
                ["", "", ""]
                if us is None
                else [f"{us:.0f}", f"{us / ours:.0f}", f"{us * runs / (1e6 * judging):.0f}"]
            )
        rows.append(tuple(cells))
    named = [cell for size in REFERENCES for cell in (f"of {size}", "ratio", "to judging")]
    print(table(("samples", "ours, judging", "with counting", *named), rows))


def _shown(delays: list[int | None], cap: int = HORIZON) -> str:
    middle = median(delay if delay is not None else cap + 1 for delay in delays)
    return f"{middle:g}" if middle <= cap else f"> {cap}"


if __name__ == "__main__":
    main()

"""What knowing when not to trust itself costs, and what it catches.

    python benchmarks/doubt_overhead.py [--rounds N] [--splits N]

First table: microseconds of one inference in rounds that take turns, so that a busy neighbour slows all:
the session alone; with its window's counts, as before there was any doubt; with confidence, ladder and
counts; and with answers remembered for labels and an A/B hash on top. "added" are medians of differences
within a round.

Second table, where ../shared/data is: keywords with their labels. Temperature and threshold are found by
the converter's own code (at most 5 % wrong answers, with 95 % confidence) on two thirds of the samples, the
others are answered: by each model alone, withheld below its threshold, and by the ladder that asks the
other model about what the first is unsure of. Medians and quartiles over splits; the lineup itself answers
the first split, and must come to the same.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

import agent_bundles  # noqa: E402

from edge_agent.doubt.confidence import ConfidenceRule  # noqa: E402
from edge_agent.doubt.feedback import FeedbackBook  # noqa: E402
from edge_agent.doubt.ladder import ASKS_SECOND, VERDICTS, Verdict, find  # noqa: E402
from edge_agent.doubt.lineup import Experiment, Lineup, Members  # noqa: E402
from edge_agent.inference.request import Request  # noqa: E402
from edge_agent.inference.serving import Serving  # noqa: E402
from edge_agent.inference.session import Session  # noqa: E402
from edge_contracts.bundle import open_bundle  # noqa: E402
from edge_contracts.lineup import Role  # noqa: E402
from edge_contracts.manifest import Confidence  # noqa: E402
from edge_convert.measures.confidence import abstain, fit_temperature  # noqa: E402
from edge_convert.measures.metrics import FLOAT_FLOOR, logits, softmax  # noqa: E402

DATA = ROOT.parent / "shared" / "data"
KEYWORDS = ("kws_dscnn_int8_ref.tflite", "kws_dscnn_float32.tflite")
SCALE, ZERO_POINT = 0.5847029089927673, 83  # of the keyword features
TARGET = 0.05  # share of wrong answers
FITTED = 2  # thirds of the samples
ROUND_S = 0.02
Floats = NDArray[np.float64]


def main() -> None:
    """Measure and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=41)
    parser.add_argument("--splits", type=int, default=40)
    arguments = parser.parse_args()
    titles = ("session", "counted", "doubt", "added", "labels+A/B", "added")
    print(f"{'microseconds':30} " + " ".join(f"{title:>10}" for title in titles))
    with tempfile.TemporaryDirectory() as scratch:
        for name, content in subjects():
            print(f"{name:30} {cost_of(content, Path(scratch), arguments.rounds)}")
        if DATA.exists():
            print()
            keywords(Path(scratch), arguments.splits)


def subjects() -> list[tuple[str, bytes]]:
    """Models with few classes and with many."""
    found = [("tiny float32, 3 classes", agent_bundles.build())]
    for name, classes in (
        (KEYWORDS[0], 12),
        ("ic_resnet8_int8_ref.tflite", 10),
        ("vww_mobilenetv1_int8_ref.tflite", 2),
    ):
        path = DATA / "models" / name
        if path.exists():
            found.append((f"{path.stem[:16]}, {classes} classes", agent_bundles.around(path.read_bytes())))
    many = DATA / "coral" / "mobilenet_v1_0.25_128_quant.tflite"
    if many.exists():
        found.append(("mobilenet_v1, 1001 classes", agent_bundles.around(many.read_bytes())))
    return found


def opened(content: bytes, scratch: Path, stated: Confidence, role: Role = "active") -> Serving:
    """A model with a calibration."""
    bundle = open_bundle(content)
    folder = scratch / bundle.digest[-16:]
    if not folder.exists():
        bundle.extract(folder)
    artifact = bundle.manifest.artifacts[0].id
    manifest = bundle.manifest.model_copy(update={"confidence": {artifact: stated}})
    return Serving.begin(bundle.digest, Session.open(folder, manifest), False, role)


def cost_of(content: bytes, scratch: Path, rounds: int) -> str:
    """One row of the first table."""
    stated = Confidence(
        scores="probabilities", floor=1e-6, temperature=1.3, abstain_below=0.0, risk_of="error", samples=1
    )
    active, arm_b = (opened(content, scratch, stated, role) for role in ("active", "arm-b"))
    spec = active.session.manifest.inputs[0]
    low, high = spec.value_range or (0, 1)
    x = np.random.default_rng(0).uniform(low, high, spec.shape).astype(spec.dtype)
    plain, full = Lineup(), Lineup(FeedbackBook())
    full.change(Members(experiment=Experiment("benchmark", arm_b, 0)))  # nobody draws it: the hash alone
    bare, named = Request({spec.name: x}), Request({spec.name: x}, origin="request-1", routing_key="client-1")
    sides: list[Callable[[], Any]] = [
        lambda: active.session.infer(bare.inputs),
        lambda: active.infer(bare.inputs),
        lambda: plain.answer(active, bare),
        lambda: full.answer(active, named),
    ]
    count = max(3, int(ROUND_S / max(timed(sides[3], 20), 1e-6)))
    taken = [[timed(side, count) * 1e6 for side in sides] for _ in range(rounds)]
    medians = [statistics.median(row[side] for row in taken) for side in range(4)]
    doubt, labels = (statistics.median(row[side] - row[1] for row in taken) for side in (2, 3))
    figures = (medians[0], medians[1], medians[2], doubt, medians[3], labels)
    return " ".join(f"{figure:10.1f}" for figure in figures)


def timed(call: Callable[[], Any], count: int) -> float:
    """Seconds of one call, over `count` calls."""
    start = perf_counter()
    for _ in range(count):
        call()
    return (perf_counter() - start) / count


@dataclass(frozen=True, eq=False)
class Model:
    """One keyword model and its answers to every sample."""

    content: bytes
    scores: Floats
    floor: float


@dataclass(frozen=True)
class Outcome:
    """What came of one split.

    Args:
        accuracy: Of all answers, were they all given.
        coverage: Share that went out unmarked.
        answered: Accuracy of those.
        caught: Share of the first model's errors that did not go out unmarked as they were.
        asked: Share for which the second model was asked.
    """

    accuracy: float
    coverage: float
    answered: float
    caught: float
    asked: float = 0.0


def keywords(scratch: Path, splits: int) -> None:
    """Print the second table."""
    with np.load(DATA / "kws" / "evaluation.npz") as arrays:
        x = ((arrays["x"].astype(np.float32) - ZERO_POINT) * SCALE).astype(np.float32)
        y = arrays["y"].astype(int)
    small, large = (keyword_model(name, scratch, x) for name in KEYWORDS)
    rng = np.random.default_rng(0)
    found: dict[str, list[Outcome]] = {}
    without = 0
    for _ in range(splits):
        order = rng.permutation(len(y))
        fitted, told = order[: FITTED * len(y) // 3], order[FITTED * len(y) // 3 :]
        first, second = (calibrated(model, fitted, y) for model in (small, large))
        if first is None or second is None:
            without += 1
            continue
        rows = {
            "int8 alone": judge(small, None, first, None, told, y),
            "float32 alone": judge(large, None, second, None, told, y),
            "int8, then float32": judge(small, large, first, second, told, y),
        }
        if not any(found.values()):
            really = by_lineup(small, large, first, second, x[told], y[told], scratch)
            if really != rows["int8, then float32"]:
                raise SystemExit(f"the lineup came to {really}, expected {rows['int8, then float32']}")
        for name, outcome in rows.items():
            found.setdefault(name, []).append(outcome)
    print(
        f"keywords, {len(y)} labelled samples, {splits - without} splits"
        + (f" ({without} more had too few errors or samples for a threshold)" if without else "")
    )
    columns = " ".join(f"{title:>20}" for title in ("coverage", "accuracy of those", "errors caught"))
    print(f"{'who answers':20} {'all':>8} {columns} {'asked 2nd':>10}")
    for name, outcomes in found.items():
        fields = (
            spread([getattr(o, field) for o in outcomes]) for field in ("coverage", "answered", "caught")
        )
        accuracy, asked = (statistics.median(getattr(o, f) for o in outcomes) for f in ("accuracy", "asked"))
        print(f"{name:20} {accuracy:8.1%} {' '.join(f'{text:>20}' for text in fields)} {asked:10.1%}")


def spread(values: list[float]) -> str:
    """Median and quartiles."""
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    return f"{middle:.1%} ({low:.1%}-{high:.1%})"


def keyword_model(name: str, scratch: Path, x: NDArray[Any]) -> Model:
    """A model and its answers."""
    content = agent_bundles.around((DATA / "models" / name).read_bytes())
    bundle = open_bundle(content)
    folder = scratch / name
    bundle.extract(folder)
    session = Session.open(folder, bundle.manifest)
    scale = session.artifact.outputs[0].scale
    answer = session.infer({bundle.manifest.inputs[0].name: x})
    session.close()
    scores = answer.outputs[bundle.manifest.outputs[0].name].astype(np.float64)
    return Model(content, scores, FLOAT_FLOOR if scale is None else scale / 2)


def calibrated(model: Model, rows: NDArray[np.intp], y: NDArray[Any]) -> Confidence | None:
    """Temperature and threshold as the converter finds them; None where it finds no threshold."""
    z = logits(model.scores[rows], True, model.floor)
    temperature = fit_temperature(z, np.eye(z.shape[1])[y[rows]])
    right = model.scores[rows].argmax(axis=1) == y[rows]
    threshold = abstain(softmax(z / temperature).max(axis=1), right, TARGET)
    if threshold is None:
        return None
    return Confidence(
        scores="probabilities",
        floor=model.floor,
        temperature=temperature,
        abstain_below=threshold.below,
        coverage=threshold.coverage,
        risk=threshold.risk,
        risk_of="error",
        samples=len(rows),
    )


def judge(
    first: Model,
    second: Model | None,
    stated: Confidence,
    other: Confidence | None,
    rows: NDArray[np.intp],
    y: NDArray[Any],
) -> Outcome:
    """The ladder's own tables over answers that are there already."""
    marked, given, asked = [], [], 0
    mine = ConfidenceRule("scores", stated)
    theirs = None if other is None else ConfidenceRule("scores", other)
    for row in rows:
        answer = first.scores[row : row + 1]
        found = find(mine, mine({"scores": answer}))
        verdict = VERDICTS[found, None]
        if second is not None and theirs is not None and found in ASKS_SECOND:
            asked += 1
            again = second.scores[row : row + 1]
            verdict = VERDICTS[found, find(theirs, theirs({"scores": again}))]
            if verdict in (Verdict.SECOND, Verdict.UNCERTAIN_SECOND):
                answer = again
        marked.append(verdict in (Verdict.UNCERTAIN_FIRST, Verdict.UNCERTAIN_SECOND))
        given.append(int(answer.argmax()))
    wrong = first.scores[rows].argmax(axis=1) != y[rows]
    return outcome(np.array(marked), np.array(given), wrong, y[rows], asked)


def outcome(
    marked: NDArray[np.bool_], given: NDArray[np.intp], wrong: NDArray[np.bool_], y: NDArray[Any], asked: int
) -> Outcome:
    """Shares of counts."""
    right, out = given == y, ~marked
    caught = wrong & (marked | right)
    return Outcome(
        float((~wrong).mean()),
        float(out.mean()),
        float(right[out].mean()),
        float(caught.sum() / max(1, wrong.sum())),
        asked / len(y),
    )


def by_lineup(
    small: Model,
    large: Model,
    first: Confidence,
    second: Confidence,
    x: NDArray[Any],
    y: NDArray[Any],
    scratch: Path,
) -> Outcome:
    """The same by the real thing: sessions, lineup, counts."""
    active = opened(small.content, scratch, first)
    other = opened(large.content, scratch, second, "second")
    lineup = Lineup()
    lineup.change(Members(other))
    marked, given, wrong = [], [], []
    for row in range(len(y)):
        settled = lineup.answer(active, Request({"x": x[row : row + 1]}))
        output = settled.serving.session.manifest.outputs[0].name
        marked.append(settled.uncertain)
        given.append(int(settled.answer.outputs[output].argmax()))
        wrong.append(int(active.session.infer({"x": x[row : row + 1]}).outputs[output].argmax()) != y[row])
    counted = other.totals.answered
    lineup.change(Members())
    active.session.close()
    return outcome(np.array(marked), np.array(given), np.array(wrong), y, counted)


if __name__ == "__main__":
    main()

"""What golden inputs catch: the choice for coverage beside the sixteen surest samples, on four real models.

Every row is one way to wire an input wrongly on a device, or a healthy device with other kernels. Both
gates judge the same int8 artifact with the agent's own comparison. "surest" is what bundles carried
before: the samples that the source is surest of, with a fixed limit of 10 dB.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from conversion_cases import Case, cases, converted

from edge_agent.inference.golden import GoldenResult, compare
from edge_contracts.arrays import read_npz
from edge_contracts.bundle import Bundle
from edge_contracts.manifest import Binding, Golden
from edge_convert.binding import encode
from edge_convert.engine import LiteRtEngine, run
from edge_convert.graph import Array
from edge_convert.terminal import table

Wiring = Callable[[Binding, Array], Array]  # samples to the codes that a device feeds


def codes_of(scale: float = 1.0, shift: int = 0) -> Wiring:
    """The right codes, or those of a wrong scale or zero point."""

    def wired(binding: Binding, samples: Array) -> Array:
        wrong = binding.model_copy(
            update={"scale": (binding.scale or 1.0) * scale, "zero_point": binding.zero_point + shift}
        )
        return encode(wrong, samples)

    return wired


def moved(move: Callable[[Array], Array]) -> Wiring:
    """The right codes of samples whose elements are in other places."""
    return lambda binding, samples: encode(
        binding, np.ascontiguousarray(move(samples)).reshape(samples.shape)
    )


PICTURES = {
    "colours reversed": moved(lambda x: x[..., ::-1]),
    "channels first": moved(lambda x: x.transpose(0, 3, 1, 2)),
}
PLANES = {"rows and columns swapped": moved(lambda x: np.swapaxes(x, 1, 2))}
ALL = {
    "scale doubled": codes_of(2.0),
    "scale halved": codes_of(0.5),
    "scale a tenth off": codes_of(1.1),
    "unsigned for signed": codes_of(shift=128),
    "zero point 10 off": codes_of(shift=10),
    "zero point 1 off": codes_of(shift=1),
}


def main() -> None:
    """Print the table."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for case in cases():
            bundle, _ = converted(case, "arm-cpu", Path(folder))
            rows += _rows(case, bundle)
    print(
        table(("model", "device", "surest: agree", "dB", "verdict", "coverage: agree", "dB", "verdict"), rows)
    )


def _rows(case: Case, bundle: Bundle) -> list[tuple[str, ...]]:
    (artifact,) = bundle.manifest.artifacts
    (into,), (out,) = artifact.inputs, artifact.outputs
    content = bundle.contents[artifact.files[0].path]
    ours, other = (LiteRtEngine(content, delegate=delegate) for delegate in (True, False))
    arrays = read_npz(bundle.contents[bundle.manifest.golden.file.path])
    chosen = next(values for name, values in arrays.items() if name.startswith("input/"))
    surest = _surest(case.calibration, run(ours, {into.tensor: encode(into, case.calibration)})[out.tensor])
    limits = bundle.manifest.golden
    before = limits.model_copy(update={"kinds": (), "min_sqnr_db": 10.0, "count": len(surest)})

    def judged(engine: LiteRtEngine, wiring: Wiring, samples: Array, by: Golden) -> GoldenResult:
        right, wrong = (
            {
                "y": (
                    run(one, {into.tensor: how(into, samples)})[out.tensor].astype(np.float64)
                    - out.zero_point
                )
            }
            for one, how in ((ours, codes_of()), (engine, wiring))
        )
        return compare(right, wrong, bundle.manifest.task, by)

    faults: dict[str, Wiring] = dict(ALL)
    if case.calibration.ndim == 4:
        faults = PLANES | faults
    if case.calibration.shape[-1] == 3:
        faults = PICTURES | faults
    devices = [("healthy, other kernels", other, codes_of())]
    devices += [(name, ours, wiring) for name, wiring in faults.items()]
    rows = []
    for name, engine, wiring in devices:
        cells: list[str] = []
        for samples, by in ((surest, before), (chosen, limits)):
            result = judged(engine, wiring, samples, by)
            ratio = "equal" if result.sqnr_db == np.inf else f"{result.sqnr_db:.1f}"
            cells += [f"{result.agree}/{result.total}", ratio, "passes" if result.passed else "refused"]
        rows.append((case.name.split(" (")[0], name, *cells))
    return rows


def _surest(samples: Array, codes: Array) -> Array:
    """Sixteen samples, the surest of each class in turn; of a model without classes evenly spread ones."""
    scores = codes.reshape(len(codes), -1).astype(np.float64)
    if scores.shape[1] > 100:
        return np.asarray(samples[np.unique(np.linspace(0, len(samples) - 1, 16).round().astype(int))])
    two = np.sort(scores, axis=1)[:, -2:]
    order = np.argsort(two[:, 0] - two[:, 1], kind="stable")
    winners = scores.argmax(axis=1)
    place = np.zeros(len(samples), int)
    for winner in np.unique(winners):
        members = order[winners[order] == winner]
        place[members] = np.arange(len(members))
    return np.asarray(samples[np.sort(np.lexsort((two[:, 0] - two[:, 1], place))[:16])])


if __name__ == "__main__":
    main()

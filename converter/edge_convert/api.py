"""`edge_convert.convert(...)`: a build from Python, with arrays where the command line has files."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from edge_contracts.arrays import write_npz
from edge_contracts.manifest import Task
from edge_convert.budget import Budget
from edge_convert.build import BuildOptions, build
from edge_convert.data import ONLY_INPUT
from edge_convert.errors import SourceInvalid
from edge_convert.fixed_inputs import FixedInputs, parse
from edge_convert.gates import Limits
from edge_convert.graph import Array
from edge_convert.measures.assessment import ABSTAIN_RISK
from edge_convert.measures.robustness import Mode
from edge_convert.preference import Prefer
from edge_convert.results import BuildResult
from edge_convert.searches import Amount
from edge_convert.terminal import Step, silent

Data = Path | str | Array | Mapping[str, Array]
DEFAULT_LIMITS = Limits()


def convert(
    model: Path | str,
    *,
    profiles: Sequence[str],
    name: str,
    version: str,
    calibration: Data,
    sign_key: Path | str,
    output: Path | str,
    evaluation: Data | None = None,
    recipe: str = "auto",
    prune: Amount | None = None,
    prefer: Prefer = "balanced",
    time_budget_s: float = 60.0,
    limits: Limits = DEFAULT_LIMITS,
    task: Task | None = None,
    labels: Path | str | Sequence[str] | None = None,
    color_order: Literal["", "RGB", "BGR"] = "",
    processing: Path | str | None = None,
    robustness: Mode = "basic",
    abstain_risk: float = ABSTAIN_RISK,
    signature: str = "",
    input_shapes: Sequence[int] | Mapping[str, int | Sequence[int]] = (),
    input_values: Mapping[str, float | Sequence[float]] | None = None,
    step: Step = silent,
) -> BuildResult:
    """Convert a model for each profile, judge the result, and sign what passes.

    Args:
        model: The source file, or a SavedModel folder.
        profiles: Names of device profiles, or paths of .toml files.
        calibration: An .npz file, or what is in one: an array [n, ...] in the model's own input space, or
            arrays by input name.
        sign_key: A publisher's private.pem.
        output: Folder for bundles and reports; it changes only when the build is through.
        evaluation: Like calibration; a mapping may hold labels under "y".
        recipe: "auto" to search, or the name of the only recipe to try.
        prune: "auto", "none" or a share of the channels; None leaves it to the recipe.
        time_budget_s: For the search; `math.inf` tries everything.
        robustness: "off", "basic" (corrupted inputs), or "attack", which needs the extra [robustness].
        abstain_risk: Wrong share allowed among answers above the abstain threshold.
        input_shapes: Of inputs that the source leaves open: the only input's shape, or by name a shape or
            the size of an axis.
        input_values: Of inputs that become constants, by name.
        labels: Class names, or a text file with one a line.
        processing: TOML file that says how bytes become inputs and outputs answers (docs/inputs.md).
        signature: Which function of a SavedModel; "" for its only one, or "serving_default".
        step: Told what is being done.

    Returns:
        What was found out; `passed` says whether every profile has its bundle.

    Raises:
        ContractError, ConvertError: The inputs were refused.
        OSError: The output folder cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix="edge-convert-") as scratch:
        folder = Path(scratch)
        options = BuildOptions(
            model=Path(model),
            profiles=profiles,
            name=name,
            version=version,
            calibration=_as_file(calibration, folder / "calibration.npz"),
            evaluation=None if evaluation is None else _as_file(evaluation, folder / "evaluation.npz"),
            sign_key=Path(sign_key),
            output=Path(output),
            recipe=recipe,
            prune=prune,
            prefer=prefer,
            limits=limits,
            task=task,
            labels=_as_names(labels, folder / "labels.txt"),
            color_order=color_order,
            processing=None if processing is None else Path(processing),
            robustness=robustness,
            abstain_risk=abstain_risk,
            signature=signature,
            fixed=_fixed(input_shapes, input_values or {}),
        )
        return build(options, step, Budget(time_budget_s))


def _fixed(
    shapes: Sequence[int] | Mapping[str, int | Sequence[int]], values: Mapping[str, float | Sequence[float]]
) -> FixedInputs:
    """As the command line's options say it.

    Raises:
        SourceInvalid: A size that is none.
    """

    def listed(value: float | Sequence[float]) -> str:
        return ",".join(repr(v) for v in np.ravel(value).tolist())

    named = dict(shapes) if isinstance(shapes, Mapping) else {}
    options = [f"{name}={listed(value)}" for name, value in named.items()]
    if not isinstance(shapes, Mapping) and len(shapes):
        options = [listed(shapes)]
    try:
        return parse(options, [f"{name}={listed(value)}" for name, value in values.items()])
    except ValueError as error:
        raise SourceInvalid(str(error)) from None


def _as_file(data: Data, path: Path) -> Path:
    if isinstance(data, Path | str):
        return Path(data)
    path.write_bytes(write_npz(data if isinstance(data, Mapping) else {ONLY_INPUT: data}))
    return path


def _as_names(labels: Path | str | Sequence[str] | None, path: Path) -> Path | None:
    if labels is None or isinstance(labels, Path | str):
        return None if labels is None else Path(labels)
    path.write_text("".join(f"{label}\n" for label in labels), encoding="utf-8")
    return path

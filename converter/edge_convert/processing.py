"""The file of `build --processing`: how bytes become inputs, what is checked, how outputs become answers.

The rules themselves are `edge_contracts.processing`'s. Here the file is read, and held to what is known
of the model: its tensors, its labels, and the calibration samples, which must be what the rules make.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edge_contracts.input_rules import Schema, constant
from edge_contracts.manifest import TensorSpec
from edge_contracts.model import parse_object
from edge_contracts.processing import Classes, Picture, Processing, Table
from edge_contracts.processing_fit import classes_of, misfit_of_answer
from edge_convert.data import ONLY_INPUT, InputPort
from edge_convert.errors import DataInvalid
from edge_convert.graph import Array
from edge_convert.measures.task import read_labels

# What a rule can make must hold what calibration saw, up to a resampling filter's overshoot, and must not
# be many times as wide: 0..255 beside 0..1 is a forgotten divisor. Half as wide may be dim pictures, or
# -1..1 beside 0..1: that is said, and not refused.
OVERSHOOT, MIN_SHARE, USUAL_SHARE = 0.02, 0.1, 0.75


def read(path: Path, ports: Sequence[InputPort]) -> Processing:
    """Read and validate a file.

    Args:
        ports: The model's inputs; its only one may be called "x", as in data files.

    Raises:
        DataInvalid: It cannot be read, or is no TOML.
        FormatInvalid: A key is unknown, or a rule breaks its own.
    """
    try:
        raw: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataInvalid(f"cannot read {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataInvalid(f"{path.name} is not TOML: {error}") from None
    said = parse_object(Processing, raw, path.name)
    if len(ports) == 1 and set(said.inputs) == {ONLY_INPUT}:
        said = said.model_copy(update={"inputs": {ports[0].name: said.inputs[ONLY_INPUT]}})
    return said


def check(said: Processing, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> None:
    """See that a file speaks of this model, before any work is done for it.

    Args:
        inputs, outputs: Of the contract, without the rules.

    Raises:
        DataInvalid: It names an input that is not there, or reads outputs that are not so.
    """
    known = [spec.name for spec in inputs]
    for name in said.inputs:
        if name not in known:
            raise DataInvalid(
                f"--processing names the input {name!r}; the model has {', '.join(map(repr, known))}"
            )
    if said.interpret is not None:
        has_picture = any(len(spec.shape) == 4 and spec.layout for spec in inputs)
        why = misfit_of_answer(said.interpret, {spec.name: spec.shape for spec in outputs}, has_picture)
        if why:
            raise DataInvalid(f"--processing: interpret, {said.interpret.kind}: {why}")


def labels(path: Path, said: Processing | None, outputs: Mapping[str, tuple[int, ...]]) -> tuple[str, ...]:
    """A detector's class names, one a line.

    Raises:
        DataInvalid: The model is no detector by its rules, or has another number of classes.
    """
    rule = None if said is None else said.interpret
    if rule is None or isinstance(rule, Classes):
        raise DataInvalid("--labels are for a classifier, or for boxes that --processing explains")
    return read_labels(path, classes_of(rule, dict(outputs)))


def applied(
    said: Processing | None, specs: tuple[TensorSpec, ...], calibration: Mapping[str, Array]
) -> tuple[TensorSpec, ...]:
    """The contract's inputs with their rules.

    Args:
        calibration: Samples by input name.

    Raises:
        DataInvalid: A rule does not fit its tensor, or makes other values than calibration has.
        FormatInvalid: A rule does not fit its tensor.
    """
    made = []
    for spec in specs:
        rules = None if said is None else said.inputs.get(spec.name)
        if rules is None:
            made.append(spec)
            continue
        fields = spec.model_dump() | {"prepare": rules.prepare, "checks": rules.checks}
        ruled = parse_object(TensorSpec, fields, "--processing")
        _check_samples(ruled, calibration[spec.name])
        made.append(ruled)
    return tuple(made)


def doubts(specs: Sequence[TensorSpec]) -> list[str]:
    """What is odd about rules that fit, one sentence each."""
    found = []
    for spec in specs:
        if not isinstance(spec.prepare, Picture) or spec.value_range is None:
            continue
        low, high = spec.prepare.span()
        seen_low, seen_high = spec.value_range
        if seen_high - seen_low < USUAL_SHARE * (high - low):
            found.append(
                f"pixels become {low:.4g} to {high:.4g} by --processing, but calibration only saw "
                f"{seen_low:.4g} to {seen_high:.4g} of {spec.name!r}; check divisor, mean and std"
            )
    return found


def _check_samples(spec: TensorSpec, samples: Array) -> None:
    """Hold calibration samples to the rules: the golden inputs will be some of them."""
    if isinstance(spec.prepare, Picture):
        _check_span(spec, spec.prepare, samples)
    if isinstance(spec.prepare, Table) and spec.prepare.outside == "refuse":
        _refuse(spec, Schema(spec.prepare, spec.dtype).outside(samples), "outside the table's columns")
    if spec.checks is not None and spec.checks.constant == "refuse":
        _refuse(spec, constant(samples, spec.checks.constant_within), "constant, and that is refused")


def _refuse(spec: TensorSpec, wrong: Array, what: str) -> None:
    if wrong.any():
        raise DataInvalid(
            f"--processing: {int(wrong.sum())} of {len(wrong)} calibration samples of {spec.name!r} are "
            f"{what}; the first is sample {int(np.argmax(wrong))}"
        )


def _check_span(spec: TensorSpec, rule: Picture, samples: Array) -> None:
    low, high = rule.span()
    found_low, found_high = float(samples.min()), float(samples.max())
    room = OVERSHOOT * (high - low)
    holds = low - room <= found_low and found_high <= high + room
    if holds and found_high - found_low >= MIN_SHARE * (high - low):
        return
    raise DataInvalid(
        f"--processing: pixels become {low:.4g} to {high:.4g}, the calibration samples of {spec.name!r} are "
        f"{found_low:.4g} to {found_high:.4g}; check divisor, mean and std against the training"
    )

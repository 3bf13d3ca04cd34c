"""`edge-convert build`: options in, a build's result out; what it does is `build.py`'s matter."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import click

from edge_contracts.model import ID_PATTERN, VERSION_PATTERN
from edge_convert import printing
from edge_convert.budget import Budget
from edge_convert.fixed_inputs import FixedInputs
from edge_convert.interrupt import ended_by_hand
from edge_convert.options import (
    PATH,
    input_shape_option,
    input_value_option,
    json_option,
    matching,
    print_json,
    signature_option,
    tracking_uri_option,
)
from edge_convert.terminal import progress


def _prune_amount(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> str | float | None:
    if value is None or re.fullmatch(r"none|auto|lossless|step-[1-9]\d?", value):
        return value
    try:
        share = float(value)
    except ValueError:
        share = -1.0
    if not 0 <= share < 1:
        raise click.BadParameter(
            f"{value!r}: expected auto, none, lossless, step-1 ... or a share from 0 to below 1",
            context,
            parameter,
        )
    return share


@click.command()
@click.argument("model", type=PATH)
@click.option("--profile", "profile_names", multiple=True, required=True, help="Class of device; repeatable.")
@click.option(
    "--name",
    required=True,
    callback=matching(ID_PATTERN, "1 to 64 of A-Z a-z 0-9 _ -"),
    help="Name of the model.",
)
@click.option(
    "--version",
    required=True,
    callback=matching(VERSION_PATTERN, "1 to 64 of A-Z a-z 0-9 . _ + -, beginning with a letter or digit"),
    help="Version of the model.",
)
@click.option(
    "--calibration", type=PATH, required=True, help=".npz with x: typical inputs, no labels needed."
)
@click.option("--evaluation", type=PATH, help=".npz with x and y: decides what is kept.")
@click.option(
    "--max-drop",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    help="Points of accuracy (R2, AUC, mAP) that may be lost.",
)
@click.option(
    "--max-slice-drop",
    type=click.FloatRange(min=0),
    default=5.0,
    show_default=True,
    help="Points that any class or slice may lose; one too small to tell is not judged, with a warning.",
)
@click.option(
    "--judge-by",
    type=click.Choice(["estimate", "interval"]),
    default="estimate",
    show_default=True,
    help="What --max-drop is held against: the drop itself, or the far end of its 95 % interval.",
)
@click.option(
    "--min-agreement",
    type=click.FloatRange(0, 1),
    default=0.90,
    show_default=True,
    help="Share of samples that must keep their class (classification).",
)
@click.option(
    "--min-sqnr",
    type=float,
    default=15.0,
    show_default=True,
    help="Smallest signal-to-noise ratio of other outputs, decibels.",
)
@click.option(
    "--latency-gate",
    type=click.Choice(["auto", "on", "off"]),
    default="auto",
    show_default=True,
    help="Not slower than the source on this host; auto does not judge noise, nor another runtime.",
)
@click.option(
    "--max-latency-ratio",
    type=click.FloatRange(min=0, min_open=True),
    default=1.10,
    show_default=True,
    help="Tolerance of that gate.",
)
@click.option(
    "--recipe",
    default="auto",
    show_default=True,
    help="auto searches over recipes, pruning and precisions; or one by name (edge-convert recipes).",
)
@click.option(
    "--prefer",
    type=click.Choice(["balanced", "accuracy", "speed", "size"]),
    default="balanced",
    show_default=True,
    help="Which of those that pass is best; balanced: half the time is worth half of what the gates allow, "
    "and 15 % of it 6 dB less noise, up to the time of int8 throughout.",
)
@click.option(
    "--time-budget",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    help="Seconds for the search; it then goes on with the best so far, as it does on Ctrl-C.",
)
@click.option(
    "--prune",
    callback=_prune_amount,
    help="auto, none, lossless, the name of a step as the report gives it, or a share of the channels.  "
    "[default: auto, none with a recipe by name]",
)
@click.option(
    "--distill",
    "distill_steps",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Steps for which the source teaches each form that pruning loses on; 1000 take a minute or two for "
    "a small model. Needs the extra [torch].",
)
@click.option(
    "--allow-stride-hoist",
    "stride_hoist",
    is_flag=True,
    help="Let pruning move a stride to an earlier layer; needs --distill.",
)
@click.option(
    "--task",
    type=click.Choice(["classification", "regression", "detection", "reconstruction", "other"]),
    help="What the model does; told from its outputs when not given.",
)
@click.option(
    "--robustness",
    type=click.Choice(["off", "basic", "attack"]),
    default="basic",
    show_default=True,
    help="Corrupted inputs, source against artifact (seconds); attack adds HopSkipJump (a minute or so).",
)
@click.option(
    "--max-robustness-drop",
    type=click.FloatRange(min=0),
    help="Points that may be lost under the worst corruption; not judged when not given.",
)
@click.option(
    "--abstain-risk",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.05,
    show_default=True,
    help="Wrong share of the answers above the abstain threshold, which goes into the bundle.",
)
@signature_option
@tracking_uri_option
@click.option(
    "--mlflow-log", is_flag=True, help="Log bundles, report, figures and lineage to a run in MLflow."
)
@click.option("--mlflow-experiment", default="", help="Of that run; by default that of the source's own run.")
@click.option("--mlflow-register", default="", help="Registered model that the bundles become a version of.")
@click.option("--labels", type=PATH, help="Class names, one a line; they go into the bundle.")
@click.option(
    "--processing",
    type=PATH,
    help="TOML: how a JPEG, a WAV file or a table becomes an input, what is checked, how outputs become "
    "labels or boxes (docs/inputs.md). It goes into the bundle, and the device follows it.",
)
@input_shape_option
@input_value_option
@click.option("--color-order", type=click.Choice(["RGB", "BGR"]), help="Of picture inputs; for the contract.")
@click.option(
    "--verify-arm",
    is_flag=True,
    help="Run ARM artifacts on emulated CPUs (edge-convert arm-userland): the same answers, and their cost.",
)
@click.option("--sign-key", type=PATH, required=True, help="private.pem of edge-convert keygen.")
@click.option("--output", type=PATH, required=True, help="Folder for bundles and the report.")
@json_option
def build(
    model: Path,
    profile_names: tuple[str, ...],
    name: str,
    version: str,
    calibration: Path,
    evaluation: Path | None,
    max_drop: float,
    max_slice_drop: float,
    judge_by: str,
    min_agreement: float,
    min_sqnr: float,
    latency_gate: str,
    max_latency_ratio: float,
    recipe: str,
    prefer: str,
    time_budget: float,
    prune: str | float | None,
    distill_steps: int,
    stride_hoist: bool,
    task: str | None,
    robustness: str,
    max_robustness_drop: float | None,
    abstain_risk: float,
    labels: Path | None,
    processing: Path | None,
    shapes: FixedInputs,
    values: FixedInputs,
    signature: str,
    tracking_uri: str,
    mlflow_log: bool,
    mlflow_experiment: str,
    mlflow_register: str,
    color_order: str | None,
    verify_arm: bool,
    sign_key: Path,
    output: Path,
    as_json: bool,
) -> int:
    """Convert MODEL for each profile, judge the result, and sign what passes.

    MODEL is a file (.onnx .tflite .keras .h5 .pt2), a SavedModel folder, or a model in MLflow:
    models:/NAME/VERSION, models:/NAME@ALIAS, runs:/RUN_ID/PATH.

    By default the best is searched for: int8 by several recipes, float forms, smaller and smaller forms of
    the graph. The report shows everything that was tried and which candidates no other one beats.

    Writes OUTPUT/NAME-VERSION-PROFILE.bundle for every profile whose gates pass, and report.json and
    report.html in any case. Exits with 1 when a profile got no bundle; the others keep theirs.

    Data files are .npz: x is float32 in the model's own input space (several inputs by their tensor
    names instead), y are class numbers, or the right values (regression), or 1 for an anomaly
    (reconstruction); boxes and box_classes are for detection; slice or slice_NAME says to which group
    each sample belongs (docs/evidence.md). Without --evaluation a fifth of the calibration samples is
    kept back to measure on.

    \b
    Examples:
      edge-convert build model.onnx --profile arm-cpu --profile coral-usb --name digits --version 1.0 \\
          --calibration calibration.npz --evaluation evaluation.npz \\
          --sign-key keys/private.pem --output out
      edge-convert build model.tflite --profile intel-npu --name anomalies --version 3 \\
          --calibration x.npz --min-sqnr 25 --sign-key keys/private.pem --output out
    """
    from edge_convert import report
    from edge_convert.build import BuildOptions
    from edge_convert.build import build as convert
    from edge_convert.gates import Limits
    from edge_convert.provenance.registry import Logging, at_hand, log

    if not mlflow_log and (mlflow_experiment or mlflow_register):
        raise click.UsageError("--mlflow-experiment and --mlflow-register go with --mlflow-log")
    options = BuildOptions(
        model=model,
        profiles=profile_names,
        name=name,
        version=version,
        calibration=calibration,
        evaluation=evaluation,
        limits=Limits(
            max_drop,
            min_agreement,
            min_sqnr,
            max_latency_ratio,
            latency_gate,  # type: ignore[arg-type]
            max_slice_drop,
            judge_by,  # type: ignore[arg-type]
            max_robustness_drop,
        ),
        recipe=recipe,
        prefer=prefer,  # type: ignore[arg-type]
        prune=prune,
        distill_steps=distill_steps,
        stride_hoist=stride_hoist,
        task=task,  # type: ignore[arg-type]
        labels=labels,
        robustness=robustness,  # type: ignore[arg-type]
        abstain_risk=abstain_risk,
        processing=processing,
        color_order=color_order or "",  # type: ignore[arg-type]
        fixed=shapes | values,
        signature=signature,
        verify_arm=verify_arm,
        sign_key=sign_key,
        output=output,
    )
    budget = Budget(time_budget)
    with at_hand(model, tracking_uri) as fetched:
        options = replace(options, model=fetched.path, origin=fetched.origin)
        with progress(f"building {name} {version}", lambda: budget.share) as step, ended_by_hand(budget):
            result = convert(options, step, budget)
        if mlflow_log:
            where = Logging(mlflow_experiment, mlflow_register)
            logged = log(result, output, fetched, where, tracking_uri)
            click.echo(f"MLflow run {logged.run}", err=True)
    if as_json:
        print_json(report.as_json(result))
    else:
        click.echo(printing.build_text(result, output))
        for line in printing.failures(result):
            click.echo(f"edge-convert: {line}", err=True)
    return 0 if result.passed else 1

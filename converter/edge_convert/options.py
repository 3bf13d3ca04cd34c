"""What the commands of edge-convert share: types of options, and printing for programs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import click

from edge_convert.fixed_inputs import FixedInputs, parse

PATH = click.Path(path_type=Path)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")


def print_json(document: Any) -> None:
    """Print a document for a program."""
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))


def _parsed_shapes(context: click.Context, parameter: click.Parameter, texts: tuple[str, ...]) -> Any:
    return _fixed_inputs(context, parameter, shapes=texts)


def _parsed_values(context: click.Context, parameter: click.Parameter, texts: tuple[str, ...]) -> Any:
    return _fixed_inputs(context, parameter, values=texts)


def _fixed_inputs(
    context: click.Context,
    parameter: click.Parameter,
    shapes: tuple[str, ...] = (),
    values: tuple[str, ...] = (),
) -> FixedInputs:
    try:
        return parse(shapes, values)
    except ValueError as error:
        raise click.BadParameter(str(error), context, parameter) from None


input_shape_option = click.option(
    "--input-shape",
    "shapes",
    multiple=True,
    callback=_parsed_shapes,
    help="Size of an input that is open: 1,3,224,224 or INPUT=1,3,224,224 or AXIS=224; repeatable.",
)
input_value_option = click.option(
    "--input-value",
    "values",
    multiple=True,
    callback=_parsed_values,
    help="INPUT=NUMBER makes an input a constant (a sampling rate, say); ONNX only; repeatable.",
)
signature_option = click.option(
    "--signature", default="", help="Function of a SavedModel, when it has several and no serving_default."
)
tracking_uri_option = click.option(
    "--mlflow-tracking-uri",
    "tracking_uri",
    envvar="MLFLOW_TRACKING_URI",
    default="",
    help="MLflow that models:/ and runs:/ are fetched from; MLFLOW_TRACKING_URI when not given.",
)


def matching(pattern: str, expected: str) -> Any:
    """An option's callback that refuses what does not match, saying what was expected."""

    def check(context: click.Context, parameter: click.Parameter, value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise click.BadParameter(f"{value!r}: expected {expected}", context, parameter)
        return value

    return check

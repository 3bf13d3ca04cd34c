"""`edge-agent explain`: what one answer rests on, printed, and for a picture drawn over it."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from edge_agent.errors import AgentError
from edge_agent.finite import Finite

REGIONS = 5
FEATURES = 10  # a person reads no more; --json has them all


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--input",
    "inputs",
    required=True,
    type=click.Path(path_type=Path),
    help="What to explain the answer to: .npz, or a picture, sound or table that the bundle takes.",
)
@click.option(
    "--row",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Which sample of a file that holds several.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="Where to draw the map of a picture  [default: the input's name with .explained.png, here].",
)
@click.option("--trust", multiple=True, type=click.Path(path_type=Path), help="As for infer.")
@click.option("--home", type=click.Path(path_type=Path), help="Folder of the agent.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--threads", type=click.IntRange(1, 256), default=1, show_default=True, help="CPU threads.")
@click.option("--timeout", "timeout_s", type=Finite(min=0, min_open=True), default=600.0, show_default=True)
def explain(
    bundle: Path,
    inputs: Path,
    row: int,
    output: Path | None,
    trust: tuple[Path, ...],
    home: Path | None,
    as_json: bool,
    threads: int,
    timeout_s: float,
) -> None:
    """Show what a bundle's answer to one input rests on.

    Of a picture each part is covered with what is usual in the bundle's golden inputs, and the map of how
    much the answer falls is drawn over it: red speaks for the answer, blue against. Of a vector or a table
    each feature is replaced by its values in the golden inputs. This is about the model, not about the world.
    """
    from edge_agent.device.home import Home, default_home
    from edge_agent.inference.isolation import run_child
    from edge_agent.inference.trusting import trusted_keys
    from edge_agent.input.files import require_readers
    from edge_agent.runtimes.choice import choose, options
    from edge_contracts.bundle import open_bundle
    from edge_contracts.signing import verify

    require_readers(inputs)
    trusted = trusted_keys(trust, Home(home) if home is not None else default_home())
    opened = open_bundle(bundle)
    if trusted is not None:
        verify(opened, trusted)
    else:
        click.echo("signature not checked: give --trust KEY or enrol the device", err=True)
    choice = choose(options(opened.manifest))
    with tempfile.TemporaryDirectory(prefix="edge-agent-") as scratch:
        opened.extract(Path(scratch) / "bundle")
        job = {"kind": "explain", "folder": str(Path(scratch) / "bundle"), "option": asdict(choice.option)}
        told = run_child(job | {"threads": threads, "input": str(inputs), "row": row}, timeout_s)
    place = output or Path(f"{inputs.stem}.explained.png")
    found = _drawn(told, opened.manifest, inputs, row, place)
    if output is not None and not any("picture" in part for part in found["inputs"].values()):
        click.echo(f"{output} is not written: the input is no picture that a map could be drawn on", err=True)
    if as_json:
        click.echo(json.dumps(found, allow_nan=False))
    else:
        click.echo(_as_text(found))


def _drawn(told: dict[str, Any], manifest: Any, inputs: Path, row: int, place: Path) -> dict[str, Any]:
    """What was found, with the regions of maps, which are drawn."""
    import numpy as np

    from edge_agent.explain.drawing import drawn, picture_of, regions
    from edge_agent.input.view import View
    from edge_contracts.arrays import read_npz

    view = None if told["view"] is None else View(**told["view"])
    result: dict[str, Any] = {key: told[key] for key in ("watched", "figure", "runtime")} | {"inputs": {}}
    for spec in manifest.inputs:
        part = told["inputs"][spec.name]
        if "heat" in part:
            heat = np.array(part["heat"])
            tensor = None
            if inputs.suffix.lower() == ".npz":
                arrays = read_npz(inputs)
                tensor = arrays.get(spec.name, arrays.get("x"))
            shown = picture_of(inputs, spec, None if tensor is None else tensor[row])
            target = place if len(manifest.inputs) == 1 else place.with_stem(f"{place.stem}.{spec.name}")
            try:
                target.write_bytes(drawn(shown, heat, view))
            except OSError as error:
                raise AgentError(f"cannot write {target}: {error.strerror}") from None
            strongest = [asdict(region) for region in regions(heat, view, REGIONS)]
            result["inputs"][spec.name] = part | {"regions": strongest, "picture": str(target)}
        else:
            order = np.argsort(-np.abs(part["falls"]), kind="stable").tolist()
            listed = [{"feature": part["features"][i], "fall": part["falls"][i]} for i in order]
            result["inputs"][spec.name] = {"features": listed}
    return result


def _as_text(found: dict[str, Any]) -> str:
    """What a person reads: the parts that matter most, and by how much the answer falls without each."""
    lines = [f"watched: {found['watched']}, {abs(found['figure']):.4f}; how much it falls without"]
    for name, part in found["inputs"].items():
        if "regions" in part:
            parts = f"{len(part['heat'])} x {len(part['heat'][0])} parts"
            lines.append(f"{name}: the strongest of {parts}, in shares of the picture's sides")
            for one in part["regions"]:
                where = f"{one['left']:.2f} {one['top']:.2f} to {one['right']:.2f} {one['bottom']:.2f}"
                lines.append(f"  {one['fall']:+.4f}  {where}")
            lines.append(f"map: {part['picture']}")
        else:
            lines.append(f"{name}: the strongest of {len(part['features'])} features")
            lines += [f"  {one['fall']:+.4f}  {one['feature']}" for one in part["features"][:FEATURES]]
    return "\n".join(lines)

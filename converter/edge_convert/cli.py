"""edge-convert at the command line: parse, call one function, print, map errors to exit codes.

0 done; 1 refused; 2 wrong usage or a missing extra. What takes long to import is imported late,
so that `--help` is quick and works without the converter's extra.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from edge_contracts.errors import ContractError
from edge_contracts.model import ID_PATTERN, VERSION_PATTERN
from edge_convert import printing
from edge_convert.errors import ConvertError
from edge_convert.terminal import progress, table

DONE, REFUSED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130
# Import names of what `edgefleet[converter]` brings; any other missing module is a fault of ours.
EXTRA = frozenset({"ai_edge_litert", "flatbuffers", "numpy", "onnx", "openvino", "rich"})

PATH = click.Path(path_type=Path)


def main() -> None:
    """The console script."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Carry a command line out; every foreseen failure is one line on stderr.

    Returns:
        The exit code.
    """
    try:
        code = edge_convert.main(args=list(arguments), prog_name="edge-convert", standalone_mode=False)
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else "edge-convert"
        return _fail(f"{error.format_message()} (see {where} --help)", WRONG_USAGE)
    except click.Abort:
        return _fail("stopped", INTERRUPTED)
    except ModuleNotFoundError as error:
        missing = (error.name or "").split(".")[0]
        if missing not in EXTRA:
            raise
        return _fail(f"{missing} is not installed: pip install 'edgefleet[converter]'", WRONG_USAGE)
    except BrokenPipeError:
        sys.stderr.close()  # nobody reads on: say nothing more, not even at exit
        return REFUSED
    except (ContractError, ConvertError) as error:
        return _fail(str(error), REFUSED)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _fail(f"{where}{error.strerror or error}", REFUSED)
    return code if isinstance(code, int) else DONE


def _fail(message: str, code: int) -> int:
    line = " ".join(message.split())
    click.echo(f"edge-convert: {line}", err=True)
    return code


def _print_json(document: Any) -> None:
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))


def _matching(pattern: str, expected: str) -> Any:
    def check(context: click.Context, parameter: click.Parameter, value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise click.BadParameter(f"{value!r}: expected {expected}", context, parameter)
        return value

    return check


def _prune_amount(context: click.Context, parameter: click.Parameter, value: str) -> str | float:
    if value in ("none", "auto"):
        return value
    try:
        share = float(value)
    except ValueError:
        share = -1.0
    if not 0 <= share < 1:
        raise click.BadParameter(
            f"{value!r}: expected auto, none or a share from 0 to below 1", context, parameter
        )
    return share


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="edgefleet", prog_name="edge-convert")
def edge_convert() -> None:
    """Turn a trained model into the smallest, fastest artifact that a device can run, and sign it.

    \b
    A first conversion:
      edge-convert keygen --output keys
      edge-convert inspect model.onnx --profile raspberry-pi-5
      edge-convert build model.onnx --profile raspberry-pi-5 --name digits --version 1 \\
          --calibration calibration.npz --evaluation evaluation.npz \\
          --sign-key keys/private.pem --output out
      edge-convert verify out/digits-1-raspberry-pi-5.bundle --trust keys/public.pem

    Exit codes: 0 done, 1 refused, 2 wrong usage or a missing extra.
    """


@edge_convert.group(invoke_without_command=True)
@json_option
@click.pass_context
def profiles(context: click.Context, as_json: bool) -> None:
    """List the device profiles, or show one: what a class of device can run.

    \b
    Examples:
      edge-convert profiles
      edge-convert profiles show coral-usb
      edge-convert profiles show ./my-board.toml
    """
    if context.invoked_subcommand is not None:
        return
    from edge_contracts.profile import builtin_names, load_profile

    loaded = [load_profile(name) for name in builtin_names()]
    if as_json:
        _print_json([profile.model_dump(mode="json") for profile in loaded])
        return
    rows = [
        (p.name, p.title, p.target, ", ".join(p.precisions), p.accelerator.kind if p.accelerator else "-")
        for p in loaded
    ]
    click.echo(table(("name", "device", "target", "precisions", "accelerator"), rows))


@profiles.command()
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> None:
    """Show one profile by NAME, or from a file that ends in .toml, with what it inherits filled in."""
    from edge_contracts.profile import lineage, load_profile

    profile = load_profile(name)
    document = profile.model_dump(mode="json")
    if as_json:
        _print_json(document)
        return
    rows = [(key, _plain(value)) for key, value in document.items() if key not in ("format", "extends")]
    rows.insert(2, ("extends", " -> ".join(lineage(name)[1:]) or "-"))
    click.echo(table(("key", "value"), rows))


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {_plain(v)}" for k, v in value.items()) or "-"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "-" if value in (None, "") else str(value)


@edge_convert.command()
@click.argument("model", type=PATH)
@click.option("--profile", "profile_names", multiple=True, help="Judge the fit on this profile; repeatable.")
@json_option
def inspect(model: Path, profile_names: tuple[str, ...], as_json: bool) -> None:
    """Show what is in MODEL (.onnx or .tflite), and what would run where on a profile.

    \b
    Examples:
      edge-convert inspect model.onnx
      edge-convert inspect model.tflite --profile coral-usb --profile raspberry-pi-4
    """
    from dataclasses import asdict

    from edge_contracts.profile import load_profile

    loaded = [load_profile(name) for name in profile_names]
    from edge_convert import inspect as inspection
    from edge_convert.source import read_source

    source = read_source(model)
    found = inspection.contents(source)
    fits = [inspection.fit(source.graph, profile) for profile in loaded]
    if as_json:
        _print_json({**asdict(found), "profiles": [asdict(fit) for fit in fits]})
        return
    click.echo(printing.contents_text(found))
    for fit in fits:
        click.echo("\n" + printing.fit_text(fit))


@edge_convert.command()
@click.argument("model", type=PATH)
@click.option("--profile", "profile_names", multiple=True, required=True, help="Class of device; repeatable.")
@click.option(
    "--name",
    required=True,
    callback=_matching(ID_PATTERN, "1 to 64 of A-Z a-z 0-9 _ -"),
    help="Name of the model.",
)
@click.option(
    "--version",
    required=True,
    callback=_matching(VERSION_PATTERN, "1 to 64 of A-Z a-z 0-9 . _ + -, beginning with a letter or digit"),
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
    help="Points of accuracy that may be lost.",
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
    "--prune",
    callback=_prune_amount,
    default="none",
    show_default=True,
    help="auto, none, or the share of the channels to remove (0 removes dead ones only).",
)
@click.option(
    "--task",
    type=click.Choice(["classification", "detection", "reconstruction", "other"]),
    help="What the model does; told from its outputs when not given.",
)
@click.option("--labels", type=PATH, help="Class names, one a line; they go into the bundle.")
@click.option("--color-order", type=click.Choice(["RGB", "BGR"]), help="Of picture inputs; for the contract.")
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
    min_agreement: float,
    min_sqnr: float,
    latency_gate: str,
    max_latency_ratio: float,
    prune: str | float,
    task: str | None,
    labels: Path | None,
    color_order: str | None,
    sign_key: Path,
    output: Path,
    as_json: bool,
) -> int:
    """Convert MODEL for each profile, judge the result, and sign what passes.

    Writes OUTPUT/NAME-VERSION-PROFILE.bundle for every profile whose gates pass, and report.json and
    report.html in any case. Exits with 1 when a profile got no bundle; the others keep theirs.

    Data files are .npz: x is float32 in the model's own input space (several inputs by their tensor
    names instead), y are class numbers. Without --evaluation a fifth of the calibration samples is
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

    options = BuildOptions(
        model=model,
        profiles=profile_names,
        name=name,
        version=version,
        calibration=calibration,
        evaluation=evaluation,
        limits=Limits(max_drop, min_agreement, min_sqnr, max_latency_ratio, latency_gate),  # type: ignore[arg-type]
        prune=prune,  # type: ignore[arg-type]
        task=task,  # type: ignore[arg-type]
        labels=labels,
        color_order=color_order or "",  # type: ignore[arg-type]
        sign_key=sign_key,
        output=output,
    )
    with progress(f"building {name} {version}") as step:
        result = convert(options, step)
    if as_json:
        _print_json(report.as_json(result))
    else:
        click.echo(printing.build_text(result, output))
        for line in printing.failures(result):
            click.echo(f"edge-convert: {line}", err=True)
    return DONE if result.passed else REFUSED


@edge_convert.command()
@click.argument("bundle", type=PATH)
@click.option(
    "--trust",
    type=PATH,
    multiple=True,
    required=True,
    help="public.pem of a publisher whose signature counts; repeatable.",
)
@json_option
def verify(bundle: Path, trust: tuple[Path, ...], as_json: bool) -> None:
    """Check every digest and the signature of BUNDLE, and show what it holds.

    \b
    Example:
      edge-convert verify out/digits-1-arm-cpu.bundle --trust keys/public.pem
    """
    from edge_contracts.bundle import open_bundle
    from edge_contracts.keys import TrustedKeys, read_public
    from edge_contracts.signing import verify as verify_signature

    trusted = TrustedKeys.of(read_public(path) for path in trust)
    verified = verify_signature(open_bundle(bundle), trusted)
    manifest = verified.manifest
    if as_json:
        document = {"digest": verified.digest, "signed_by": verified.key_id}
        _print_json({**document, "manifest": manifest.model_dump(mode="json")})
        return
    click.echo(printing.verified_text(verified))


@edge_convert.command()
@click.argument("contestant", metavar="BUNDLE_OR_MODEL", type=PATH)
@click.option("--against", type=PATH, help="Another model or bundle; ratios refer to it.")
@click.option("--rounds", type=click.IntRange(min=2), default=21, show_default=True)
@json_option
def benchmark(contestant: Path, against: Path | None, rounds: int, as_json: bool) -> None:
    """Time a bundle's artifacts or a model on this host, one thread, batch 1, in interleaved rounds.

    \b
    Examples:
      edge-convert benchmark out/digits-1-x86-cpu.bundle --against model.onnx
      edge-convert benchmark int8.tflite --against float32.tflite --json
    """
    from dataclasses import asdict

    from edge_convert import benchmark as timing

    entrants = timing.open_contestants(contestant)
    reference = 0
    if against is not None:
        reference = len(entrants)
        entrants += timing.open_contestants(against)
    with progress("timing") as step:
        step(f"timing {len(entrants)} models")
        timings = timing.compare(entrants, reference, rounds)
    if as_json:
        _print_json([asdict(t) for t in timings])
        return
    click.echo(printing.timings_text(timings))
    click.echo(f"ratio: median over {rounds} rounds, to {timings[reference].name}")


@edge_convert.command()
@click.option("--output", type=PATH, required=True, help="Folder for private.pem and public.pem.")
@json_option
def keygen(output: Path, as_json: bool) -> None:
    """Make a publisher's Ed25519 key pair: private.pem (mode 0600) and public.pem.

    Keys are never overwritten. Keep private.pem off the server and off the devices; give public.pem
    to whoever must trust your bundles.

    \b
    Example:
      edge-convert keygen --output keys
    """
    from edge_contracts.errors import KeyInvalid
    from edge_contracts.keys import PrivateKey, write_private

    private, public = output / "private.pem", output / "public.pem"
    if public.exists():
        raise KeyInvalid(f"{public} is there already; keys are not overwritten, choose another folder")
    output.mkdir(parents=True, exist_ok=True)
    key = PrivateKey.generate()
    write_private(key, private)
    public.write_bytes(key.public.pem)
    if as_json:
        paths = {"private": str(private), "public": str(public)}
        _print_json({"key_id": key.public.key_id, **paths})
        return
    click.echo(
        f"key {key.public.key_id}\n{private} (keep it secret)\n{public} (give it to who must trust you)"
    )

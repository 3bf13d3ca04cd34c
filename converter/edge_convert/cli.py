"""edge-convert at the command line: parse, call one function, print, map errors to exit codes.

0 done; 1 refused; 2 wrong usage or a missing extra. What takes long to import is imported late,
so that `--help` is quick and works without the converter's extra.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from edge_contracts.errors import ContractError
from edge_convert import printing
from edge_convert.arm_cli import arm_userland, verify_arm
from edge_convert.build_cli import build
from edge_convert.errors import ConvertError
from edge_convert.fixed_inputs import FixedInputs
from edge_convert.keys_cli import keys
from edge_convert.options import (
    PATH,
    input_shape_option,
    input_value_option,
    json_option,
    print_json,
    signature_option,
    tracking_uri_option,
)
from edge_convert.profiles_cli import profiles
from edge_convert.sbom_cli import sbom
from edge_convert.terminal import progress, table

DONE, REFUSED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130
# Import names of what `edgefleet[converter]` brings; any other missing module is a fault of ours.
EXTRA = frozenset(
    {"ai_edge_litert", "flatbuffers", "numpy", "onnx", "openvino", "rich", "threadpoolctl", "yaml"}
)
# ... and what other extras bring
EXTRA_OF = {
    "PIL": "robustness",
    "art": "robustness",
    "h5py": "tf",
    "keras": "tf",
    "mlflow": "mlflow",
    "tensorflow": "tf",
    "onnxscript": "torch",
    "torch": "torch",
}


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
        if missing not in EXTRA and missing not in EXTRA_OF:
            raise
        extra = EXTRA_OF.get(missing, "converter")
        return _fail(f"{missing} is not installed: pip install 'edgefleet[{extra}]'", WRONG_USAGE)
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


@edge_convert.command()
@click.argument("model", type=PATH)
@tracking_uri_option
@click.option("--profile", "profile_names", multiple=True, help="Judge the fit on this profile; repeatable.")
@input_shape_option
@input_value_option
@signature_option
@json_option
def inspect(
    model: Path,
    tracking_uri: str,
    profile_names: tuple[str, ...],
    shapes: FixedInputs,
    values: FixedInputs,
    signature: str,
    as_json: bool,
) -> None:
    """Show what is in MODEL, and what would run where on a profile.

    MODEL is a file (.onnx .tflite .keras .h5 .pt2), a SavedModel folder, or a model in MLflow:
    models:/NAME/VERSION, models:/NAME@ALIAS, runs:/RUN_ID/PATH. A .bundle is shown with its tensor contract
    and its rules, whoever signed it.

    \b
    Examples:
      edge-convert inspect model.onnx
      edge-convert inspect model.tflite --profile coral-usb --profile raspberry-pi-4
      edge-convert inspect detector.onnx --input-shape 1,3,320,320
      edge-convert inspect out/digits-1-raspberry-pi-5.bundle
    """
    from dataclasses import asdict

    from edge_contracts.bundle import SUFFIX
    from edge_contracts.profile import load_profile

    if model.suffix == SUFFIX:
        return _inspect_bundle(model, as_json)
    loaded = [load_profile(name) for name in profile_names]
    from edge_convert import inspect as inspection
    from edge_convert.provenance.registry import at_hand
    from edge_convert.source import read_source

    with at_hand(model, tracking_uri) as fetched:
        source = read_source(fetched.path, shapes | values, signature)
    found = inspection.contents(source)
    fits = [inspection.fit_source(source, profile) for profile in loaded]
    if as_json:
        profiles = [{**fit.summary_fields(), "fit": fit.row_fields()} for fit in fits]
        print_json({**asdict(found), "profiles": profiles})
        return
    click.echo(printing.contents_text(found))
    for fit in fits:
        click.echo("\n" + printing.fit_text(fit))


def _inspect_bundle(bundle: Path, as_json: bool) -> None:
    from edge_contracts.bundle import open_bundle

    opened = open_bundle(bundle)
    if as_json:
        print_json({"digest": opened.digest, "manifest": opened.manifest.model_dump(mode="json")})
        return
    signed_by = "not checked; edge-convert verify does"
    click.echo(printing.manifest_text(opened.manifest, opened.digest, signed_by))


@edge_convert.command()
@json_option
def recipes(as_json: bool) -> None:
    """List the recipes: ways to compress that build can try one by one or search among.

    \b
    Example:
      edge-convert recipes
    """
    from edge_convert import recipe

    known = [recipe.load(name) for name in recipe.names()]
    if as_json:
        print_json([one.model_dump(mode="json") for one in known])
        return
    click.echo(table(("name", "precision", "what it does"), [(r.name, r.precision, r.title) for r in known]))


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
        print_json({**document, "manifest": manifest.model_dump(mode="json")})
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
        print_json([asdict(t) for t in timings])
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
        print_json({"key_id": key.public.key_id, **paths})
        return
    click.echo(
        f"key {key.public.key_id}\n{private} (keep it secret)\n{public} (give it to who must trust you)"
    )


for _command in (keys, profiles, build, arm_userland, verify_arm, sbom):
    edge_convert.add_command(_command)

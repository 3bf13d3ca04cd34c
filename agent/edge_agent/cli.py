"""The command `edge-agent`: parses, calls one function, prints, maps errors to exit codes.

0 done, 1 refused, 2 wrong usage or a missing part of the installation.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any, NoReturn, cast

import click

from edge_agent.device.address_space import require_address_space
from edge_agent.device.home import Home, default_home
from edge_agent.docstrings import restore_for_help
from edge_agent.errors import AgentError, HomeLocked
from edge_agent.examples import taught
from edge_contracts.errors import ContractError, MissingExtra

_HOME = click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the agent [default: $EDGE_AGENT_HOME or ~/.edgefleet/agent].",
)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
# numpy's threads are for matrices, of which there are none here: each takes address space, and where there is
# too little of it the library ends the process by a signal
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
_EXTRA = frozenset({"httptools", "numpy", "paho", "psutil", "openvino", "ai_edge_litert", "tflite_runtime"})


# Commands in modules of their own: the daemon has the others' options and imports not in memory.
_ELSEWHERE = {
    "explain": "edge_agent.explain.command",
    "feedback": "edge_agent.doubt.cli",
    "infer": "edge_agent.inference.infer",
    "keys": "edge_agent.device.key_cli",
    "lineup": "edge_agent.doubt.cli",
    "quarantine": "edge_agent.guard.command",
    "review": "edge_agent.doubt.cli",
    "run": "edge_agent.run_cli",
    "trust": "edge_agent.trust_cli",
}


_GROUPS = frozenset({"keys", "lineup", "quarantine", "review", "trust"})  # alone they show their help


class _Refusals(click.Group):
    """Loads a command when it is asked for; turns what is refused into one line and an exit code."""

    def main(self, *args: Any, **extra: Any) -> Any:
        restore_for_help(_GROUPS)
        return super().main(*args, **extra)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *_ELSEWHERE])

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name in _ELSEWHERE:
            found = cast(click.Command, getattr(importlib.import_module(_ELSEWHERE[name]), name))
            return taught(found, name)
        return super().get_command(ctx, name)

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        try:
            return super().make_context(*args, **extra)
        except click.UsageError as error:
            _wrong_usage(error)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            _wrong_usage(error)
        except MissingExtra as error:
            _refuse(error, 2)
        except (AgentError, ContractError) as error:
            _refuse(error, 1)
        except PermissionError as error:
            if error.filename is None:
                raise
            _refuse(f"{error.filename}: {error.strerror}; run this as the agent's user, or see its mode", 1)
        except MemoryError as error:
            _refuse(str(error) or "there is no memory left for this; what was stored before counts", 1)
        except ModuleNotFoundError as error:
            if (error.name or "").split(".")[0] not in _EXTRA:
                raise
            _refuse(f"this command needs {error.name}; pip install 'edgefleet[agent]'", 2)
        except ImportError as error:  # it is there and does not load: no memory, or for another machine
            _refuse(f"a part of this program does not load: {str(error).strip().splitlines()[-1]}", 1)


@click.group(cls=_Refusals, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="edgefleet")
def main() -> None:
    """Run models on this device: infer, install, update, go back, report."""


@main.command()
@click.option("--server", required=True, help="Address of the fleet server, such as https://fleet.example.")
@click.option("--token", required=True, help="One-time token from edge-fleet token create.")
@click.option(
    "--profile", required=True, help="Device profile: a name (edge-convert profiles) or a .toml file."
)
@click.option("--name", help="Device id to ask for; the server gives one otherwise.")
@click.option(
    "--label", "labels", multiple=True, metavar="KEY=VALUE", help="A label of the device; repeatable."
)
@click.option(
    "--ca", type=click.Path(path_type=Path, dir_okay=False, exists=True), help="PEM of the server's own CA."
)
@click.option("--force", is_flag=True, help="Leave the fleet that the device belongs to.")
@click.option(
    "--encrypt-models",
    is_flag=True,
    help="Keep models encrypted on the disk with a key of this device, from the next bundle on.",
)
@_HOME
@_JSON
def enroll(
    server: str,
    token: str,
    profile: str,
    name: str | None,
    labels: tuple[str, ...],
    ca: Path | None,
    force: bool,
    encrypt_models: bool,
    home: Path | None,
    as_json: bool,
) -> None:
    """Join a fleet: make a key, show the token, learn whom to trust."""
    from edge_agent.device.enrol import enrol
    from edge_agent.sealed import make_key

    place = _place(home)
    with place.locked():
        if encrypt_models:
            make_key(place.folder)
        config = enrol(
            place, server, token, profile, name, _labels(labels), ca.read_text() if ca else "", force
        )
    shown = {
        "device": config.device,
        "fleet": config.fleet,
        "profile": config.lineage[0],
        "public_key": config.public_key,
        "publishers": len(config.publisher_keys),
        "home": str(place.folder),
    }
    text = f"enrolled as {config.device} in fleet {config.fleet}; start it with: edge-agent run"
    if not config.publisher_keys:
        text += "\nno publisher is trusted yet; trust one with: edge-agent trust PUBLIC_KEY"
    click.echo(json.dumps(shown) if as_json else text)


@main.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--trust",
    type=click.Path(path_type=Path),
    help="Publisher's public key; this device trusts it from now on.",
)
@click.option(
    "--encrypt-models",
    is_flag=True,
    help="Keep models encrypted on the disk with a key of this device, from the next bundle on.",
)
@_HOME
@_JSON
def install(bundle: Path, trust: Path | None, encrypt_models: bool, home: Path | None, as_json: bool) -> None:
    """Install a bundle at the device itself, with the same checks as an update.

    A bundle from a file has no release counter: it is never refused as a downgrade.
    """
    require_address_space()
    from edge_agent.device import config
    from edge_agent.sealed import make_key
    from edge_agent.updates import local, orders
    from edge_contracts.keys import read_public

    place = _place(home)
    key = read_public(trust) if trust is not None else None
    before = config.trusted_publishers(place, config.read_config(place))
    keys = before.plus(key) if key is not None else before
    local.open_for(place, bundle, keys)
    if encrypt_models:
        place.make()
        make_key(place.folder)
    try:
        with place.locked():
            if key is not None:  # before the bundle counts: untrusted it would not verify at the next start
                config.trust(place, key)
            local.install(place, bundle, keys)
    except HomeLocked:
        said = orders.give(place, "install", bundle, (key.base64,) if key is not None else ())
        click.echo(said, err=True)
    _show_status(place, as_json)


@main.command()
@_HOME
@_JSON
def rollback(home: Path | None, as_json: bool) -> None:
    """Go back to the last good bundle."""
    from edge_agent.updates import local, orders

    place = _place(home)
    try:
        with place.locked():
            local.roll_back(place)
    except HomeLocked:
        click.echo(orders.give(place, "rollback"), err=True)
    _show_status(place, as_json)


@main.command()
@_HOME
@_JSON
def status(home: Path | None, as_json: bool) -> None:
    """Where the device stands."""
    _show_status(_place(home), as_json)


@main.command()
@_HOME
@_JSON
def doctor(home: Path | None, as_json: bool) -> None:
    """Check everything that the agent needs; exit code 1 when something is wrong."""
    from edge_agent.device.doctor import examine
    from edge_agent.device.finding import as_text

    findings = examine(_place(home))
    click.echo(json.dumps([vars(f) for f in findings]) if as_json else as_text(findings))
    if any(finding.is_wrong for finding in findings):
        sys.exit(1)


taught(main, "")


def _place(home: Path | None) -> Home:
    return Home(home) if home is not None else default_home()


def _show_status(place: Home, as_json: bool) -> None:
    from time import time

    from edge_agent.device.page import as_text
    from edge_agent.device.status import read_status

    found = read_status(place)
    click.echo(json.dumps(found) if as_json else as_text(found, time()))


def _labels(pairs: tuple[str, ...]) -> dict[str, str]:
    labels = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise click.UsageError(f"--label {pair!r} is not KEY=VALUE")
        labels[key] = value
    return labels


def _wrong_usage(error: click.UsageError) -> NoReturn:
    """One line and where help is; a command without any argument shows its help, as ever."""
    if isinstance(error, getattr(click.exceptions, "NoArgsIsHelpError", ())):  # from click 8.2 on
        raise error
    where = error.ctx.command_path if error.ctx is not None else "edge-agent"
    _refuse(f"{error.format_message()} (see {where} --help)", 2)


def _refuse(error: object, code: int) -> NoReturn:
    click.echo(f"edge-agent: {' '.join(str(error).split())}", err=True)
    sys.exit(code)

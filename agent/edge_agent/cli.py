"""The command `edge-agent`: parses, calls one function, prints, maps errors to exit codes.

0 done, 1 refused, 2 wrong usage or a missing part of the installation.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from edge_agent.device.home import Home, default_home
from edge_agent.doubt.cli import feedback, lineup, review
from edge_agent.errors import AgentError, HomeLocked
from edge_agent.explain.command import explain
from edge_agent.finite import Finite
from edge_agent.guard.command import quarantine
from edge_agent.inference.infer import infer
from edge_agent.telemetry.reporting import Reporting, reporting_options
from edge_agent.trust_cli import trust
from edge_contracts.errors import ContractError, MissingExtra

_HOME = click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the agent [default: $EDGE_AGENT_HOME or ~/.edgefleet/agent].",
)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
_EXTRA = frozenset({"httptools", "numpy", "paho", "psutil", "openvino", "ai_edge_litert", "tflite_runtime"})


class _Refusals(click.Group):
    """Turns what is refused into one line and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except MissingExtra as error:
            _refuse(error, 2)
        except (AgentError, ContractError) as error:
            _refuse(error, 1)
        except ModuleNotFoundError as error:
            if (error.name or "").split(".")[0] not in _EXTRA:
                raise
            _refuse(f"this command needs {error.name}; pip install 'edgefleet[agent]'", 2)
        return None


@click.group(cls=_Refusals, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="edgefleet")
def main() -> None:
    """Run models on this device: infer, install, update, go back, report."""


main.add_command(infer)
main.add_command(explain)
for _command in (feedback, lineup, quarantine, review):
    main.add_command(_command)
main.add_command(trust)


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
@click.option(
    "--input",
    "inputs",
    type=click.Path(path_type=Path),
    help="Folder of files to answer: .npz, .npy, and what the bundle's contract takes (.jpg .png .wav .csv).",
)
@click.option(
    "--source",
    "stream",
    metavar="WHAT",
    help="Instead of --input: /dev/video0 or the rtsp:// or http:// address of a camera, a video file, a "
    "named pipe, or - for arrays and pictures on the standard input (docs/inputs.md). Videos need "
    "the extra [camera].",
)
@click.option("--rate", type=Finite(min=0, min_open=True), help="At most so many inputs a second.")
@click.option("--loop", is_flag=True, help="Begin again when all inputs are answered.")
@click.option("--once", is_flag=True, help="Stop when all inputs are answered.")
@click.option(
    "--answers", type=click.Path(path_type=Path, dir_okay=False), help="Append answers, one JSON a line."
)
@click.option(
    "--serve",
    metavar="HOST:PORT",
    help="Answer applications by HTTP: the Open Inference Protocol v2 (KServe), such as 127.0.0.1:8080. "
    "They show the token in HOME/serve.token, which is made at the first use.",
)
@click.option(
    "--serve-exposed",
    is_flag=True,
    help="Let --serve take an address that other machines reach; token and inputs then travel unencrypted.",
)
@click.option(
    "--socket",
    "socket_path",
    type=click.Path(path_type=Path),
    help="Answer applications over a Unix socket; owner and group may use it (0660), without a token.",
)
@click.option("--socket-group", default="", help="Group that may use --socket, by name.")
@click.option(
    "--mqtt-inference",
    metavar="HOST[:PORT]",
    help="Answer applications over a local MQTT broker, port 1883 unless given: requests on "
    "PREFIX/v2/models/NAME/infer, replies on their response topic or below it on infer/reply.",
)
@click.option(
    "--mqtt-inference-login",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File with one line USER:PASSWORD for that broker, mode 0600.",
)
@click.option(
    "--mqtt-inference-prefix",
    default="edge-agent",
    show_default=True,
    help="First levels of the topics; another one for each agent at the same broker.",
)
@click.option(
    "--max-waiting",
    type=click.IntRange(1, 65536),
    default=64,
    show_default=True,
    help="Requests that may wait; beyond, they are refused (queue-full). One client may hold half.",
)
@click.option(
    "--max-rate",
    type=Finite(min=0, min_open=True),
    help="Requests a second of one client; beyond, they are refused (rate-limited).",
)
@click.option(
    "--window",
    "window_s",
    type=Finite(min=0.1),
    default=60.0,
    show_default=True,
    help="Seconds of a telemetry window.",
)
@click.option(
    "--hello",
    "hello_s",
    type=Finite(min=0.5),
    default=60.0,
    show_default=True,
    help="Seconds between two hellos to the server.",
)
@click.option(
    "--health-window",
    "health_s",
    type=Finite(min=0),
    default=300.0,
    show_default=True,
    help="Seconds that a new model is on trial with live inputs.",
)
@click.option(
    "--health-inferences",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    help="Inferences that a trial needs at least.",
)
@click.option(
    "--download-hours",
    metavar="HH:MM-HH:MM",
    help="Local time of day in which updates are downloaded, such as 01:30-05:00.",
)
@click.option(
    "--download-per-day", "day_mb", type=Finite(min=0), help="Megabytes that downloads may use a day."
)
@click.option(
    "--download-per-month", "month_mb", type=Finite(min=0), help="Megabytes that downloads may use a month."
)
@click.option(
    "--drift-alarms",
    type=Finite(min=0),
    default=0.1,
    show_default=True,
    help="False alarms of drift that a month may have: more find it sooner, 0 watches for none.",
)
@click.option("--threads", type=click.IntRange(1, 256), default=1, show_default=True, help="CPU threads.")
@click.option(
    "--isolate",
    is_flag=True,
    help="Keep the runtime in a child process even on a CPU: a crash or a hang then costs one inference "
    "and not the agent, for about 60 MB of memory. An accelerator's runtime always is in one.",
)
@reporting_options
@click.option(
    "--golden-hours",
    type=Finite(min=0, min_open=True),
    default=24.0,
    show_default=True,
    help="Ask the golden inputs again after so many hours, one at a time while nothing waits; "
    "they are always asked before a model answers.",
)
@click.option("--log-json", is_flag=True, help="Log one JSON object a line.")
@click.option("--verbose", is_flag=True, help="Log more.")
@_HOME
def run(
    inputs: Path | None,
    stream: str | None,
    rate: float | None,
    loop: bool,
    once: bool,
    answers: Path | None,
    serve: str | None,
    serve_exposed: bool,
    socket_path: Path | None,
    socket_group: str,
    mqtt_inference: str | None,
    mqtt_inference_login: Path | None,
    mqtt_inference_prefix: str,
    max_waiting: int,
    max_rate: float | None,
    window_s: float,
    hello_s: float,
    health_s: float,
    health_inferences: int,
    download_hours: str | None,
    day_mb: float | None,
    month_mb: float | None,
    drift_alarms: float,
    threads: int,
    isolate: bool,
    reporting: Reporting,
    golden_hours: float,
    log_json: bool,
    verbose: bool,
    home: Path | None,
) -> None:
    """The daemon: answer inputs, take updates, report."""
    from contextlib import ExitStack

    from edge_agent.agent import Agent, Settings, agent_version
    from edge_agent.device.service import Service
    from edge_agent.inference.answer_log import AnswerLog
    from edge_agent.inference.engine import Source
    from edge_agent.inference.request_queue import QueueLimits
    from edge_agent.inference.source import FolderSource
    from edge_agent.input.sources import is_live, opened_source
    from edge_agent.logs import set_up
    from edge_agent.updates.budget import DataRules, parse_hours
    from edge_agent.updates.health import Rules

    if inputs is not None and stream is not None:
        raise click.UsageError("--input and --source are two sources; give one")
    if once and (loop or (inputs is None and (stream is None or is_live(stream)))):
        raise click.UsageError("--once needs an --input or --source that ends, and does not go with --loop")
    set_up(log_json, verbose)
    place = _place(home)
    source: Source | None = FolderSource(inputs, loop, rate) if inputs is not None else None
    settings = Settings(
        window_s=window_s,
        hello_s=hello_s,
        health=Rules(health_s, health_inferences),
        downloads=DataRules(
            _bytes(day_mb), _bytes(month_mb), parse_hours(download_hours) if download_hours else None
        ),
        threads=threads,
        isolate=isolate,
        reporting=reporting,
        golden_s=golden_hours * 3600,
        drift_alarms=drift_alarms,
        settled_s=(2.0 + 2 / (rate or 10)) if once else None,
        requests=QueueLimits(requests=max_waiting, rate_per_s=max_rate),
    )
    with place.locked(), AnswerLog.opened(answers) as answer_log, ExitStack() as doors:
        if stream is not None:
            source = doors.enter_context(opened_source(stream, loop, rate))
        answered = answer_log.write if answer_log else None
        agent = Agent(place, settings, source, answered, service=Service.here())
        if serve or socket_path:
            from edge_agent.doubt.feedback_api import feedback_route
            from edge_agent.serving.doors import Doors, opened, parse_address
            from edge_agent.telemetry.metrics_api import metrics_route

            address = parse_address(serve) if serve else None
            wanted = Doors(place.serve_token, address, serve_exposed, socket_path, socket_group)
            more = [feedback_route(agent.feedback), metrics_route(agent.witness.metrics)]
            doors.enter_context(opened(wanted, agent.engine, agent_version(), more))
        if mqtt_inference:
            from edge_agent.serving.mqtt_door import BrokerPlace, mqtt_opened

            broker = BrokerPlace.parse(mqtt_inference, mqtt_inference_login)
            doors.enter_context(mqtt_opened(broker, mqtt_inference_prefix, agent.engine))
        agent.stop_on_signals()
        agent.run()


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


def _bytes(megabytes: float | None) -> int | None:
    return None if megabytes is None else int(megabytes * 1e6)


def _refuse(error: object, code: int) -> None:
    click.echo(f"edge-agent: {' '.join(str(error).split())}", err=True)
    sys.exit(code)

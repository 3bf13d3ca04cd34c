"""The options of `edge-agent run` that let applications in: by HTTP, a Unix socket and MQTT.

Light to import: the command line needs it for every `--help`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_agent.option_group import as_one

if TYPE_CHECKING:
    from edge_agent.agent import Agent
    from edge_agent.device.home import Home


@dataclass(frozen=True)
class Ways:
    """How applications reach the agent; see the options.

    Args:
        serve: HOST:PORT of HTTP, None for none.
        mqtt_inference: HOST[:PORT] of a broker, None for none.
    """

    serve: str | None
    serve_exposed: bool
    serve_cert: Path | None
    serve_key: Path | None
    socket_path: Path | None
    socket_group: str
    mqtt_inference: str | None
    mqtt_inference_login: Path | None
    mqtt_inference_prefix: str

    def __post_init__(self) -> None:
        """Refuse what does not go together."""
        if (self.serve_cert or self.serve_key) and not (self.serve and self.serve_cert):
            raise click.UsageError("--serve-cert and --serve-key are for --serve HOST:PORT, and go together")

    @property
    def tls(self) -> tuple[Path, Path] | None:
        """Files of the certificate and its key."""
        return (self.serve_cert, self.serve_key or self.serve_cert) if self.serve_cert else None


@contextmanager
def opened_ways(ways: Ways, home: Home, agent: Agent) -> Iterator[None]:
    """Let applications in until the block ends.

    Raises:
        ListenRefused: An address, a path or a broker that cannot be served on, or should not.
    """
    with ExitStack() as doors:
        if ways.tls or home.serve_tls.exists():
            from edge_agent.serving.tls import note_served

            note_served(home, *(ways.tls or (None, None)))
        if ways.serve or ways.socket_path:
            _open_http(ways, home, agent, doors)
        if ways.mqtt_inference:
            from edge_agent.serving.mqtt_door import BrokerPlace, mqtt_opened

            broker = BrokerPlace.parse(ways.mqtt_inference, ways.mqtt_inference_login)
            doors.enter_context(mqtt_opened(broker, ways.mqtt_inference_prefix, agent.engine))
        yield


def _open_http(ways: Ways, home: Home, agent: Agent, doors: ExitStack) -> None:
    from edge_agent.doubt.feedback_api import feedback_route
    from edge_agent.serving.doors import Doors, opened, parse_address
    from edge_agent.snapshot import agent_version
    from edge_agent.telemetry.metrics_api import metrics_route

    address = parse_address(ways.serve) if ways.serve else None
    wanted = Doors(
        home.serve_token, address, ways.serve_exposed, ways.socket_path, ways.socket_group, ways.tls
    )
    more = [feedback_route(agent.feedback), metrics_route(agent.witness.metrics)]
    doors.enter_context(opened(wanted, agent.engine, agent_version(), more))


_OPTIONS = (
    click.option(
        "--serve",
        metavar="HOST:PORT",
        help="Answer applications by HTTP: the Open Inference Protocol v2 (KServe), such as 127.0.0.1:8080. "
        "They show the token in HOME/serve.token, which is made at the first use.",
    ),
    click.option(
        "--serve-exposed",
        is_flag=True,
        help="Let --serve take an address that other machines reach without --serve-cert; token and inputs "
        "then travel unencrypted.",
    ),
    click.option(
        "--serve-cert",
        type=click.Path(path_type=Path, dir_okay=False),
        help="PEM of a certificate (and of those above it) for --serve: then it speaks TLS 1.2 or later, and "
        "may take an address that other machines reach. Renewed files are taken without a restart.",
    ),
    click.option(
        "--serve-key",
        type=click.Path(path_type=Path, dir_okay=False),
        help="PEM of the private key of --serve-cert, if it is not in the same file.",
    ),
    click.option(
        "--socket",
        "socket_path",
        type=click.Path(path_type=Path),
        help="Answer applications over a Unix socket; owner and group may use it (0660), without a token.",
    ),
    click.option("--socket-group", default="", help="Group that may use --socket, by name."),
    click.option(
        "--mqtt-inference",
        metavar="HOST[:PORT]",
        help="Answer applications over a local MQTT broker, port 1883 unless given: requests on "
        "PREFIX/v2/models/NAME/infer (tensors) or .../answer (a picture, WAV or CSV file; labels come back), "
        "replies on their response topic or below the request's on /reply.",
    ),
    click.option(
        "--mqtt-inference-login",
        type=click.Path(path_type=Path, dir_okay=False),
        help="File with one line USER:PASSWORD for that broker, mode 0600.",
    ),
    click.option(
        "--mqtt-inference-prefix",
        default="edge-agent",
        show_default=True,
        help="First levels of the topics; another one for each agent at the same broker.",
    ),
)

serving_options = as_one("ways", Ways, _OPTIONS)

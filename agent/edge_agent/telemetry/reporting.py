"""The options of `edge-agent run` that say what is told, to whom, and how safely it is kept.

Light to import: the command line needs it for every `--help`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import click

from edge_agent.finite import Finite
from edge_agent.option_group import as_one


@dataclass(frozen=True)
class Reporting:
    """How telemetry is kept and who else hears of it.

    Args:
        durability: "power" or "process", as `outbox_file.Durability`.
        metrics: HOST:PORT of the metrics' page, "" for none.
        home_assistant: URL of Home Assistant's broker, "" for none.
        privacy_epsilon, privacy_day_epsilon, privacy_contribution: As `privacy.Rules`; None for exact counts.
    """

    durability: str = "power"
    metrics: str = ""
    home_assistant: str = field(default="", repr=False)  # may hold a password
    privacy_epsilon: float | None = None
    privacy_day_epsilon: float | None = None
    privacy_contribution: int = 1

    def __post_init__(self) -> None:
        """Refuse what does not go together."""
        if (self.privacy_epsilon is None) != (self.privacy_day_epsilon is None):
            raise click.UsageError("--privacy-epsilon and --privacy-day-epsilon go together")


_OPTIONS = (
    click.option(
        "--durability",
        type=click.Choice(["power", "process"]),
        default=Reporting.durability,
        show_default=True,
        help="What telemetry survives once it is kept: a power cut (each window is synced to the disk), or "
        "only the death of this process (30 s may be lost in a power cut; spares a flash card). What was "
        "sent survives both.",
    ),
    click.option(
        "--metrics",
        default="",
        metavar="HOST:PORT",
        help="Answer Prometheus there, at /metrics; a loopback address, such as 127.0.0.1:9105.",
    ),
    click.option(
        "--home-assistant",
        default="",
        envvar="EDGE_AGENT_HOME_ASSISTANT",
        metavar="URL",
        help="Show the device in Home Assistant, by MQTT discovery on its broker: "
        "mqtt://[USER:PASSWORD@]HOST[:PORT]. In the environment (EDGE_AGENT_HOME_ASSISTANT) the password "
        "is not seen in the list of processes.",
    ),
    click.option(
        "--privacy-epsilon",
        type=Finite(min=0, min_open=True),
        help="Differential privacy: add noise to the counts of each window that leaves, at this cost. Take "
        "long windows (--window 3600). Needs edgefleet[privacy].",
    ),
    click.option(
        "--privacy-day-epsilon",
        type=Finite(min=0, min_open=True),
        help="What the windows of a day may cost together; then none leaves until tomorrow.",
    ),
    click.option(
        "--privacy-contribution",
        type=click.IntRange(min=1),
        default=Reporting.privacy_contribution,
        show_default=True,
        help="In how many inferences of one window the same person may be.",
    ),
)

reporting_options = as_one("reporting", Reporting, _OPTIONS)

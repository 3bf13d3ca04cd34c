"""`edge-agent run`: the command line of the daemon. What it does is `agent.py`'s."""

from __future__ import annotations

from pathlib import Path

import click

from edge_agent.device.address_space import require_address_space
from edge_agent.device.home import Home, default_home
from edge_agent.finite import Finite
from edge_agent.telemetry.reporting import Reporting, reporting_options
from edge_agent.ways import Ways, opened_ways, serving_options


@click.command()
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
@click.option("--once", is_flag=True, help="Stop when all inputs are answered; exit code 1 if none could be.")
@click.option(
    "--answers", type=click.Path(path_type=Path, dir_okay=False), help="Append answers, one JSON a line."
)
@serving_options
@click.option(
    "--max-waiting",
    type=click.IntRange(1, 65536),
    default=64,
    show_default=True,
    help="Requests that may wait; beyond, they are refused (queue-full). One user or address may hold half.",
)
@click.option(
    "--max-rate",
    type=Finite(min=0, min_open=True),
    help="Requests a second of one client (a user at the socket, an address elsewhere, or a name under it); "
    "beyond, they are refused (rate-limited).",
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
    "--media-folder",
    "media",
    type=click.Path(path_type=Path),
    help="Where sticks are mounted: newer bundles with a release note there are installed.",
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
@click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the agent [default: $EDGE_AGENT_HOME or ~/.edgefleet/agent].",
)
def run(
    inputs: Path | None,
    stream: str | None,
    rate: float | None,
    loop: bool,
    once: bool,
    answers: Path | None,
    ways: Ways,
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
    media: Path | None,
    threads: int,
    isolate: bool,
    reporting: Reporting,
    golden_hours: float,
    log_json: bool,
    verbose: bool,
    home: Path | None,
) -> None:
    """The daemon: answer inputs, take updates, report."""
    require_address_space()
    from contextlib import ExitStack

    from edge_agent.agent import Agent
    from edge_agent.device.service import Service
    from edge_agent.inference.answer_log import AnswerLog
    from edge_agent.inference.request_queue import QueueLimits
    from edge_agent.inference.source import FolderSource, Source
    from edge_agent.inference.tally import Tally
    from edge_agent.input.sources import is_live, opened_source
    from edge_agent.logs import set_up
    from edge_agent.settings import Settings
    from edge_agent.updates.budget import DataRules, parse_hours
    from edge_agent.updates.health import Rules

    if inputs is not None and stream is not None:
        raise click.UsageError("--input and --source are two sources; give one")
    if once and (loop or (inputs is None and (stream is None or is_live(stream)))):
        raise click.UsageError("--once needs an --input or --source that ends, and does not go with --loop")
    set_up(log_json, verbose)
    place = Home(home) if home is not None else default_home()
    source: Source | None = FolderSource(inputs, loop, rate) if inputs is not None else None
    settings = Settings(
        window_s=window_s,
        hello_s=hello_s,
        health=Rules(health_s, health_inferences),
        downloads=DataRules(
            _bytes(day_mb), _bytes(month_mb), parse_hours(download_hours) if download_hours else None
        ),
        media=media,
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
        tally = Tally(source, str(inputs or stream), answered) if once and source is not None else None
        if tally is not None:
            source, answered = tally, tally.answered
        agent = Agent(place, settings, source, answered, service=Service.here())
        doors.enter_context(opened_ways(ways, place, agent))
        agent.stop_on_signals()
        agent.run()
        if tally is not None:
            tally.require_answers()


def _bytes(megabytes: float | None) -> int | None:
    return None if megabytes is None else int(megabytes * 1e6)

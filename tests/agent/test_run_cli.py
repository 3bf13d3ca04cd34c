"""The command line of the daemon: what it takes when nothing is said, and what does not go together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from edge_agent.run_cli import run
from edge_agent.settings import Settings


def test_what_nobody_says_is_what_the_agent_does_by_itself() -> None:
    told: dict[str | None, Any] = {option.name: option.default for option in run.params}
    own = Settings()
    assert {name: told[name] for name in ("window_s", "hello_s", "threads", "drift_alarms")} == {
        "window_s": own.window_s,
        "hello_s": own.hello_s,
        "threads": own.threads,
        "drift_alarms": own.drift_alarms,
    }
    assert (told["health_s"], told["health_inferences"]) == (own.health.window_s, own.health.inferences)
    assert told["golden_hours"] * 3600 == own.golden_s
    assert told["max_waiting"] == own.requests.requests
    assert told["durability"] == own.reporting.durability


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--input", "x", "--source", "-"], "--input and --source are two sources"),
        (["--once"], "--once needs an --input or --source that ends"),
        (["--once", "--input", "x", "--loop"], "--once needs an --input or --source that ends"),
        (["--once", "--source", "/dev/video0"], "--once needs an --input or --source that ends"),
        (["--serve", "127.0.0.1:0", "--serve-key", "k"], "--serve-cert and --serve-key are for --serve"),
        (["--serve-cert", "c"], "--serve-cert and --serve-key are for --serve"),
        (["--privacy-epsilon", "1"], "--privacy-epsilon and --privacy-day-epsilon go together"),
        (["--privacy-day-epsilon", "1"], "--privacy-epsilon and --privacy-day-epsilon go together"),
    ],
    ids=" ".join,
)
def test_what_does_not_go_together_is_wrong_usage(options: list[str], message: str, tmp_path: Path) -> None:
    told = CliRunner().invoke(run, [*options, "--home", str(tmp_path / "home")])
    assert told.exit_code == 2 and message in told.stderr
    assert not (tmp_path / "home").exists()

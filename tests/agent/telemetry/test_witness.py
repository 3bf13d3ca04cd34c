"""What the daemon shows of itself: the file of its standing, and the metrics of a daemon that runs."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
from agent_bundles import build
from agent_fleet import free_port, until
from click.testing import CliRunner
from message_examples import BUNDLE, WINDOW
from own_mounts import mounted
from prometheus_client.parser import text_string_to_metric_families
from standings import MODEL

from edge_agent.cli import main
from edge_agent.device.home import Home
from edge_agent.telemetry import standing
from edge_agent.telemetry.reporting import Reporting
from edge_agent.telemetry.witness import WRITE_S, Facts, Witness
from edge_contracts.keys import PrivateKey
from edge_contracts.messages import Event

FACTS = Facts(MODEL, 1, False, True, True, "", 0, 0, 5, 2, 300, 0)


def witness(tmp_path: Path, facts: list[Facts]) -> Witness:
    home = Home(tmp_path)
    home.make()
    return Witness(home, Reporting(), "0.1.0", "cam-1", "plant", lambda: facts[-1])


def test_it_writes_where_the_agent_stands_and_when_that_changes(tmp_path: Path) -> None:
    facts = [FACTS]
    shown = witness(tmp_path, facts)
    shown.tick(0.0)
    first = standing.read(Home(tmp_path))
    assert first is not None
    assert (first.device, first.model, first.waiting, first.link_up) == ("cam-1", MODEL, 2, True)
    (tmp_path / "standing.json").unlink()
    shown.tick(10.0)
    assert standing.read(Home(tmp_path)) is None, "nothing new: the disk is spared"
    facts.append(Facts(MODEL, 1, False, True, False, "no route", 0, 0, 5, 2, 300, 0))
    shown.tick(20.0)
    second = standing.read(Home(tmp_path))
    assert second is not None
    assert second.link_reason == "no route"
    facts.append(Facts(MODEL, 1, False, True, False, "refused", 7, 1, 5, 2, 300, 0))
    shown.tick(22.0)
    third = standing.read(Home(tmp_path))
    assert third is not None
    assert (third.link_reason, third.refused_since_ms, third.refusals) == ("refused", 7, 1)
    (tmp_path / "standing.json").unlink()
    shown.tick(23.0 + WRITE_S)
    assert standing.read(Home(tmp_path)) is not None


def test_news_that_could_not_be_written_are_written_as_soon_as_they_can(tmp_path: Path) -> None:
    shown = witness(tmp_path, [FACTS])
    (tmp_path / "standing.json.new").mkdir()
    shown.tick(0.0)
    assert standing.read(Home(tmp_path)) is None
    (tmp_path / "standing.json.new").rmdir()
    shown.tick(10.0)
    assert standing.read(Home(tmp_path)) is not None


def test_a_full_disk_still_shows_where_the_agent_stands(tmp_path: Path) -> None:
    """The block that the file has is written over."""
    write = (
        "import sys; from pathlib import Path; from edge_agent.device.home import Home; "
        "from edge_agent.telemetry import standing; home = Home(Path(sys.argv[1])); "
        "new = lambda waiting: standing.Standing(time_ms=1, started_ms=1, agent='0.1.0', waiting=waiting); "
        "print(standing.write(home, new(1))); junk = (home.folder / 'junk').open('wb', 0)\n"
        "try:\n"
        "    while True: junk.write(bytes(1024))\n"
        "except OSError: pass\n"
        "print(standing.write(home, new(2)))\n"
        "print(standing.read(home).waiting, sorted(home.folder.iterdir()))"
    )
    small = 'mount -t tmpfs -o size=64k none "$AT"'
    done = mounted(small, tmp_path, sys.executable, "-c", write, str(tmp_path))
    left = [tmp_path / name for name in ("junk", "standing.json")]
    assert done.stdout.splitlines() == ["True", "True", f"2 {left}"], done.stderr


def test_it_names_the_last_alarm_and_what_drifts(tmp_path: Path) -> None:
    shown = witness(tmp_path, [FACTS])
    shown.take(WINDOW.model_copy(update={"bundle": BUNDLE}))
    shown.tick(0.0)
    calm = standing.read(Home(tmp_path))
    assert calm is not None
    assert (calm.drifting, calm.alarm, calm.answered) == ((), "", 3)
    shown.take(WINDOW.model_copy(update={"bundle": BUNDLE, "drifting": ("data-drift",)}))
    shown.take(Event(name="golden-mismatch", time_ms=9, code="golden-mismatch", detail="2 of 8"))
    shown.tick(10.0)
    now = standing.read(Home(tmp_path))
    assert now is not None
    assert (now.drifting, now.alarm, now.answered) == (("data-drift",), "golden-mismatch: 2 of 8", 6)


def test_a_file_that_is_damaged_is_no_news(tmp_path: Path) -> None:
    (tmp_path / "standing.json").write_bytes(b"{")
    assert standing.read(Home(tmp_path)) is None


def test_a_daemon_shows_itself_to_prometheus_and_to_a_technician(tmp_path: Path) -> None:
    key = PrivateKey.generate()
    (tmp_path / "key.pem").write_bytes(key.public.pem)
    (tmp_path / "m.bundle").write_bytes(build("float32", key=key, version="2"))
    home, inputs = tmp_path / "home", tmp_path / "inputs"
    inputs.mkdir()
    x = np.random.default_rng(3).uniform(-2, 2, (50, 4)).astype(np.float32)
    np.savez(inputs / "x.npz", x=x)
    arguments = [
        "install",
        str(tmp_path / "m.bundle"),
        "--trust",
        str(tmp_path / "key.pem"),
        "--home",
        str(home),
    ]
    assert CliRunner().invoke(main, arguments).exit_code == 0
    address = f"127.0.0.1:{free_port()}"
    run = [sys.executable, "-c", "from edge_agent.cli import main; main()", "run", "--home", str(home)]
    run += ["--input", str(inputs), "--loop", "--rate", "100", "--window", "0.5", "--metrics", address]
    with (tmp_path / "log").open("wb") as log, subprocess.Popen(run, stderr=log) as daemon:
        try:

            def answered() -> float:
                try:
                    with urllib.request.urlopen(f"http://{address}/metrics", timeout=5) as answer:
                        text = answer.read().decode()
                except OSError:
                    return 0
                found = {family.name: family.samples for family in text_string_to_metric_families(text)}
                return float(sum(sample.value for sample in found.get("edgefleet_inferences", ())))

            until(lambda: answered() > 50, "metrics count answers")
            until(
                lambda: (
                    json.loads(CliRunner().invoke(main, ["status", "--json", "--home", str(home)]).output)[
                        "standing"
                    ]["model"]["version"]
                    == "2"
                ),
                "the standing names the model",
            )
            page = CliRunner().invoke(main, ["status", "--home", str(home)]).output
        finally:
            os.kill(daemon.pid, signal.SIGTERM)
            daemon.wait(20)
    assert page.splitlines()[0] == "this device: all is well"
    assert re.search(r"agent +process \d+, since .*, version ", page)
    after = CliRunner().invoke(main, ["status", "--home", str(home)]).output
    assert after.splitlines()[0] == "this device: NEEDS ATTENTION"
    assert "the agent is not running" in after
